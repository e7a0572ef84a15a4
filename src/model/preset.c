/* Presets are data in the very language of TOOLS_FILE: what can be said here, a user can say too.
 * Facts were checked against the providers' documentation and SDKs; where a provider's times are
 * not a replay guard (Jira and Sentry repeat or do not sign them), none is enforced. */
#include "preset_priv.h"

#include <string.h>

/* Standard Webhooks signs "id.timestamp.body"; several signatures, space-separated, where a sender
 * rotates its key. GitHub, GitLab, Sentry and Linear put the type into a header; what the body says
 * of the action stays in the body. */
const struct preset presets[] = {
    {"github", "{\"sig\": \"header:x-hub-signature-256\", \"parse\": \"plain:sha256=\","
               " \"id\": \"header:x-github-delivery\", \"type\": \"header:x-github-event\"}"},
    {"gitlab", "{\"scheme\": \"token\", \"sig\": \"header:x-gitlab-token\","
               " \"id\": [\"header:idempotency-key\", \"header:webhook-id\"],"
               " \"type\": \"header:x-gitlab-event\"}"},
    /* With GitLab's signing token instead of its secret token. Whether the token is the key itself
     * or has the form of Standard Webhooks is not written down, so both are tried. */
    {"gitlab-signing", "{\"sig\": \"header:webhook-signature\", \"parse\": \"list( ,v1,)\","
                       " \"enc\": \"base64\", \"keys\": \"whsec-or-raw\","
                       " \"signed\": \"{header:webhook-id}.{ts}.{body}\","
                       " \"ts\": \"header:webhook-timestamp s\","
                       " \"id\": [\"header:idempotency-key\", \"header:webhook-id\"],"
                       " \"type\": \"header:x-gitlab-event\"}"},
    {"bitbucket", "{\"sig\": \"header:x-hub-signature\", \"parse\": \"plain:sha256=\","
                  " \"id\": \"header:x-request-uuid\", \"type\": \"header:x-event-key\"}"},
    {"jira", "{\"sig\": \"header:x-hub-signature\", \"parse\": \"method\","
             " \"hash\": [\"sha256\", \"sha512\", \"sha1\"],"
             " \"id\": \"header:x-atlassian-webhook-identifier\","
             " \"type\": \"json:webhookEvent\"}"},
    {"stripe", "{\"sig\": \"header:stripe-signature\", \"parse\": \"kv(,v1)\","
               " \"signed\": \"{sig:t}.{body}\", \"ts\": \"sig:t s\","
               " \"id\": \"json:id\", \"type\": \"json:type\"}"},
    {"slack", "{\"sig\": \"header:x-slack-signature\", \"parse\": \"plain:v0=\","
              " \"signed\": \"v0:{ts}:{body}\", \"ts\": \"header:x-slack-request-timestamp s\","
              " \"id\": \"json:event_id\", \"type\": [\"json:event.type\", \"json:type\"]}"},
    {"shopify", "{\"sig\": [\"header:x-shopify-hmac-sha256\", \"header:shopify-hmac-sha256\"],"
                " \"enc\": \"base64\","
                " \"id\": [\"header:x-shopify-event-id\", \"header:shopify-event-id\","
                " \"header:x-shopify-webhook-id\", \"header:shopify-webhook-id\"],"
                " \"type\": [\"header:x-shopify-topic\", \"header:shopify-topic\"]}"},
    {"standard-webhooks",
     "{\"sig\": \"header:webhook-signature\", \"parse\": \"list( ,v1,)\", \"enc\": \"base64\","
     " \"keys\": \"whsec\", \"signed\": \"{header:webhook-id}.{ts}.{body}\","
     " \"ts\": \"header:webhook-timestamp s\","
     " \"id\": \"header:webhook-id\", \"type\": \"json:type\"}"},
    {"svix", "{\"sig\": \"header:svix-signature\", \"parse\": \"list( ,v1,)\", \"enc\": \"base64\","
             " \"keys\": \"whsec\", \"signed\": \"{header:svix-id}.{ts}.{body}\","
             " \"ts\": \"header:svix-timestamp s\","
             " \"id\": \"header:svix-id\", \"type\": \"json:type\"}"},
    {"linear", "{\"sig\": \"header:linear-signature\", \"ts\": \"json:webhookTimestamp ms\","
               " \"past\": 60, \"future\": 60,"
               " \"id\": \"header:linear-delivery\", \"type\": \"header:linear-event\"}"},
    {"sentry", "{\"sig\": \"header:sentry-hook-signature\","
               " \"id\": \"header:request-id\", \"type\": \"header:sentry-hook-resource\"}"},
};

const size_t preset_count = sizeof(presets) / sizeof(presets[0]);

const struct preset *preset_find(const char *name)
{
	for (size_t i = 0; i < preset_count; i++)
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
	return NULL;
}

const char *preset_names(void)
{
	return "github, gitlab, gitlab-signing, bitbucket, jira, stripe, slack, shopify, "
	       "standard-webhooks, svix, linear, sentry";
}
