/* Amazon SNS, "Verifying the signatures of Amazon SNS messages". Both kinds of confirmation are
 * signed with their token and URL. */
#include "weir/model/builtin.h"

#include "weir/model/recipe.h"

struct field {
	const char *name;
	enum recipe_sns_source source;
	bool optional;
};

static const struct field notification[] = {
    {"Message", SNS_MESSAGE, false}, {"MessageId", SNS_MESSAGE_ID, false},
    {"Subject", SNS_SUBJECT, true},  {"Timestamp", SNS_TIMESTAMP, false},
    {"TopicArn", SNS_TOPIC, false},  {"Type", SNS_TYPE, false},
};
static const struct field confirmation[] = {
    {"Message", SNS_MESSAGE, false},
    {"MessageId", SNS_MESSAGE_ID, false},
    {"SubscribeURL", SNS_SUBSCRIBE_URL, false},
    {"Timestamp", SNS_TIMESTAMP, false},
    {"Token", SNS_TOKEN, false},
    {"TopicArn", SNS_TOPIC, false},
    {"Type", SNS_TYPE, false},
};
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static enum err add_fields(struct recipe_input *in, const struct field *list, size_t n,
                           struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		struct str value;
		enum err e = recipe_fetch(in, &in->recipe->built[list[i].source], STR_NONE, &value);

		if (e == ERR_NOTFOUND && list[i].optional)
			continue;
		if (e != ERR_OK)
			return e;
		buf_add_cstr(out, list[i].name);
		buf_add_char(out, '\n');
		buf_add_str(out, value);
		buf_add_char(out, '\n');
	}
	return out->err ? ERR_NOMEM : ERR_OK;
}

enum err builtin_sns(struct recipe_input *in, struct buf *out, enum digest_algo *ret)
{
	const struct recipe_source *built = in->recipe->built;
	struct str type, version;
	enum err e = recipe_fetch(in, &built[SNS_VERSION], STR_NONE, &version);

	if (e == ERR_OK)
		e = recipe_fetch(in, &built[SNS_TYPE], STR_NONE, &type);
	if (e != ERR_OK)
		return e;
	if (str_eq(version, STR("1")))
		*ret = DIGEST_SHA1;
	else if (str_eq(version, STR("2")))
		*ret = DIGEST_SHA256;
	else
		return ERR_INVAL;
	if (str_eq(type, STR("Notification")))
		return add_fields(in, notification, COUNT(notification), out);
	if (str_eq(type, STR("SubscriptionConfirmation")) ||
	    str_eq(type, STR("UnsubscribeConfirmation")))
		return add_fields(in, confirmation, COUNT(confirmation), out);
	return ERR_INVAL;
}
