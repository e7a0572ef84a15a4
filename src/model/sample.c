/* Small bodies in each provider's manner, for send-test, bench and tests. All names and numbers in
 * them are made up. */
#include <string.h>

#include "preset_priv.h"

#define JSON "application/json"

static const struct sample samples[] = {
    {"github", "issues", JSON,
     "{\"action\":\"opened\",\"issue\":{\"number\":17,\"title\":\"The gate sticks in "
     "winter\",\"state\":\"open\",\"labels\":[{\"name\":\"bug\"}]},"
     "\"repository\":{\"id\":4711,\"full_name\":\"mill/weir\",\"private\":false},"
     "\"sender\":{\"login\":\"miller\",\"id\":12}}"},
    {"gitlab", "Push Hook", JSON,
     "{\"object_kind\":\"push\",\"ref\":\"refs/heads/main\",\"checkout_sha\":"
     "\"2f1c9be0a4d6478b93c5e17f0a8d3b6c5e4f7a90\",\"user_username\":\"miller\","
     "\"project\":{\"id\":8,\"path_with_namespace\":\"mill/weir\"},\"total_commits_count\":1}"},
    {"gitlab-signing", "Push Hook", JSON,
     "{\"object_kind\":\"push\",\"ref\":\"refs/heads/main\",\"checkout_sha\":"
     "\"2f1c9be0a4d6478b93c5e17f0a8d3b6c5e4f7a90\",\"user_username\":\"miller\","
     "\"project\":{\"id\":8,\"path_with_namespace\":\"mill/weir\"},\"total_commits_count\":1}"},
    {"bitbucket", "repo:push", JSON,
     "{\"push\":{\"changes\":[{\"new\":{\"type\":\"branch\",\"name\":\"main\"},\"created\":false,"
     "\"forced\":false}]},\"repository\":{\"full_name\":\"mill/weir\"},"
     "\"actor\":{\"display_name\":\"Miller\"}}"},
    {"jira", "jira:issue_created", JSON,
     "{\"timestamp\":%MS%,\"webhookEvent\":\"%TYPE%\",\"issue\":{\"id\":\"10017\",\"key\":"
     "\"MILL-17\",\"fields\":{\"summary\":\"Grease the axle\",\"priority\":{\"name\":\"High\"}}}}"},
    {"stripe", "invoice.paid", JSON,
     "{\"id\":\"%ID%\",\"object\":\"event\",\"type\":\"%TYPE%\",\"created\":%S%,\"livemode\":false,"
     "\"data\":{\"object\":{\"id\":\"in_17\",\"object\":\"invoice\",\"amount_paid\":4200,"
     "\"currency\":\"eur\"}}}"},
    {"slack", "app_mention", JSON,
     "{\"type\":\"event_callback\",\"event_id\":\"%ID%\",\"event_time\":%S%,\"team_id\":\"T17\","
     "\"event\":{\"type\":\"%TYPE%\",\"user\":\"U12\",\"text\":\"how high is the water?\","
     "\"channel\":\"C8\"}}"},
    {"shopify", "orders/create", JSON,
     "{\"id\":820017,\"email\":\"ada@example.com\",\"total_price\":\"42.00\",\"currency\":\"EUR\","
     "\"line_items\":[{\"id\":1,\"title\":\"Flour, 1 kg\",\"quantity\":3}]}"},
    {"standard-webhooks", "contact.created", JSON,
     "{\"type\":\"%TYPE%\",\"timestamp\":\"%ISO%\",\"data\":{\"id\":\"c_17\",\"name\":\"Ada\"}}"},
    {"svix", "invoice.created", JSON,
     "{\"type\":\"%TYPE%\",\"data\":{\"id\":\"i_17\",\"total\":4200}}"},
    {"linear", "Issue", JSON,
     "{\"action\":\"create\",\"type\":\"%TYPE%\",\"webhookTimestamp\":%MS%,\"data\":{\"id\":\"%ID%"
     "\","
     "\"title\":\"Dredge the pond\",\"priority\":2}}"},
    {"sentry", "issue", JSON,
     "{\"action\":\"created\",\"data\":{\"issue\":{\"id\":\"1170\",\"title\":\"wheel stopped\","
     "\"level\":\"error\"}},\"installation\":{\"uuid\":\"%ID%\"}}"},
    {"", "test.event", JSON,
     "{\"id\":\"%ID%\",\"type\":\"%TYPE%\",\"timestamp\":\"%ISO%\",\"data\":{\"water_cm\":117}}"},
};

const struct sample *sample_find(const char *preset)
{
	size_t i = 0;

	while (samples[i].preset[0] && strcmp(samples[i].preset, preset) != 0)
		i++;
	return &samples[i];
}
