/* Delivery reports: what the ready mappings read from events as the providers send them, what is
 * left out, and that a wrong mapping is refused with the member's name. */
#include "torture.h"

#include <jansson.h>

#include "weir/model/event.h"
#include "weir/model/recipient.h"
#include "weir/model/tool.h"
#include "weir/pipeline/recipient_reports.h"
#include "weir/run/metric.h"

#define RECEIVED (1800000000 * USEC_PER_SEC)

static struct recipient_map *map_of(const char *text)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
	struct err_info info = {0};
	struct recipient_map *m = NULL;

	assert_non_null(v);
	if (recipient_map_compile(v, NULL, &m, &info) != ERR_OK)
		fail_msg("%s: %s", text, info.text);
	json_decref(v);
	return m;
}

/* "status soft? message_id time address…", or the outcome's word. */
static void render(char *out, size_t size, const struct recipient_reports *r,
                   enum recipient_outcome o)
{
	int n;

	if (!r) {
		snprintf(out, size, "%s", recipient_outcome_word(o));
		return;
	}
	n = snprintf(out, size, "%s%s %.*s %lld", recipient_status_word(r->list[0].status),
	             r->list[0].soft ? " soft" : "", (int)r->list[0].message_id.len,
	             r->list[0].message_id.ptr, (long long)(r->list[0].at / 1000));
	for (size_t i = 0; i < r->n; i++) {
		assert_int_equal(r->list[i].status, r->list[0].status);
		assert_int_equal(r->list[i].recipient_id, 0);
		n += snprintf(out + n, size - (size_t)n, " %.*s", (int)r->list[i].address.len,
		              r->list[i].address.ptr);
	}
}

static void reads_body(const char *map, struct str body, const char *expected)
{
	struct recipient_map *m = map_of(map);
	struct event_view v = {.body = body, .received = RECEIVED};
	enum recipient_outcome outcome = RECIPIENT_OUTCOMES;
	struct recipient_reports *reports = NULL;
	struct recipient_reader *r;
	char got[2048];

	assert_int_equal(recipient_reader_new(&r), ERR_OK);
	assert_int_equal(recipient_read(r, m, &v, &reports, &outcome), ERR_OK);
	assert_int_equal(outcome == RECIPIENT_READ, reports != NULL);
	render(got, sizeof(got), reports, outcome);
	if (strcmp(got, expected) != 0)
		fail_msg("%.*s\ngave     %s\nexpected %s", (int)body.len, body.ptr, got, expected);
	recipient_reports_free(reports);
	recipient_reader_free(r);
	recipient_map_free(m);
}

static void reads(const char *map, const char *body, const char *expected)
{
	reads_body(map, str_of(body), expected);
}

static void test_sendgrid(void **state)
{
#define SG(event, more)                                                                  \
	"{\"email\":\"Ada@Example.com\",\"timestamp\":1700000000,\"event\":\"" event     \
	"\",\"sg_event_id\":\"e\",\"sg_message_id\":\"14c5d75ce93.dfd.64b469.filter0001" \
	".16648.5515E0B88.0\"" more "}"
#define SG_IS(status) status " 14c5d75ce93 1700000000000 ada@example.com"
	(void)state;
	reads("\"sendgrid\"", SG("processed", ""), SG_IS("queued"));
	reads("\"sendgrid\"", SG("deferred", ",\"attempt\":\"5\""), SG_IS("deferred"));
	reads("\"sendgrid\"", SG("delivered", ",\"response\":\"250 OK\""), SG_IS("delivered"));
	reads("\"sendgrid\"", SG("open", ""), SG_IS("opened"));
	reads("\"sendgrid\"", SG("click", ",\"url\":\"https://e.x\""), SG_IS("clicked"));
	reads("\"sendgrid\"", SG("bounce", ",\"type\":\"bounce\""), SG_IS("bounced"));
	reads("\"sendgrid\"", SG("bounce", ",\"type\":\"blocked\""), SG_IS("bounced soft"));
	reads("\"sendgrid\"", SG("dropped", ",\"reason\":\"Bounced Address\""), SG_IS("failed"));
	reads("\"sendgrid\"", SG("spamreport", ""), SG_IS("complained"));
	reads("\"sendgrid\"", SG("unsubscribe", ""), SG_IS("unsubscribed"));
	reads("\"sendgrid\"", SG("group_unsubscribe", ""), SG_IS("unsubscribed"));
	reads("\"sendgrid\"", SG("group_resubscribe", ""), "other");
	reads("\"sendgrid\"", SG("account_status_change", ""), "other");
}

static void test_mailgun(void **state)
{
#define MG(event, more)                                                                     \
	"{\"signature\":{\"token\":\"t\",\"timestamp\":\"1\",\"signature\":\"s\"},"         \
	"\"event-data\":{\"event\":\"" event "\",\"timestamp\":1700000000.254181,\"id\":"   \
	"\"i\",\"recipient\":\"bob@example.com\"" more ",\"message\":{\"headers\":{\"to\":" \
	"\"Bob <bob@example.com>\",\"message-id\":\"2013.1@mg.example\"}}}}"
#define MG_IS(status) status " 2013.1@mg.example 1700000000254 bob@example.com"
	(void)state;
	reads("\"mailgun\"", MG("accepted", ""), MG_IS("queued"));
	reads("\"mailgun\"", MG("delivered", ""), MG_IS("delivered"));
	reads("\"mailgun\"", MG("opened", ""), MG_IS("opened"));
	reads("\"mailgun\"", MG("clicked", ""), MG_IS("clicked"));
	reads("\"mailgun\"", MG("failed", ",\"severity\":\"temporary\""), MG_IS("deferred"));
	reads("\"mailgun\"", MG("failed", ",\"severity\":\"permanent\""), MG_IS("bounced"));
	reads("\"mailgun\"", MG("failed", ""), MG_IS("failed"));
	reads("\"mailgun\"", MG("rejected", ""), MG_IS("failed"));
	reads("\"mailgun\"", MG("complained", ""), MG_IS("complained"));
	reads("\"mailgun\"", MG("unsubscribed", ""), MG_IS("unsubscribed"));
	reads("\"mailgun\"", MG("stored", ""), "other");
}

static void test_postmark(void **state)
{
#define PM(type, who, when, more)                                                         \
	"{\"RecordType\":\"" type "\",\"MessageID\":\"883953f4-6105\"," who ":\"C@d.ex\"" \
	",\"" when "\":\"2023-11-14T22:13:20.9070259Z\"" more "}"
#define PM_IS(status) status " 883953f4-6105 1700000000907 c@d.ex"
	(void)state;
	reads("\"postmark\"", PM("Delivery", "\"Recipient\"", "DeliveredAt", ""),
	      PM_IS("delivered"));
	reads("\"postmark\"", PM("Open", "\"Recipient\"", "ReceivedAt", ",\"FirstOpen\":true"),
	      PM_IS("opened"));
	reads("\"postmark\"", PM("Click", "\"Recipient\"", "ReceivedAt", ""), PM_IS("clicked"));
	reads("\"postmark\"", PM("Bounce", "\"Email\"", "BouncedAt", ",\"Type\":\"HardBounce\""),
	      PM_IS("bounced"));
	reads("\"postmark\"", PM("Bounce", "\"Email\"", "BouncedAt", ",\"Type\":\"SoftBounce\""),
	      PM_IS("deferred"));
	reads("\"postmark\"", PM("Bounce", "\"Email\"", "BouncedAt", ",\"Type\":\"Transient\""),
	      PM_IS("deferred"));
	reads("\"postmark\"", PM("Bounce", "\"Email\"", "BouncedAt", ",\"Type\":\"DnsError\""),
	      PM_IS("bounced soft"));
	reads("\"postmark\"", PM("Bounce", "\"Email\"", "BouncedAt", ",\"Type\":\"AutoResponder\""),
	      "other");
	reads("\"postmark\"", PM("SpamComplaint", "\"Email\"", "BouncedAt", ""),
	      PM_IS("complained"));
	reads("\"postmark\"",
	      PM("SubscriptionChange", "\"Recipient\"", "ChangedAt", ",\"SuppressSending\":true"),
	      PM_IS("unsubscribed"));
	reads("\"postmark\"",
	      PM("SubscriptionChange", "\"Recipient\"", "ChangedAt", ",\"SuppressSending\":false"),
	      "other");
	reads("\"postmark\"", PM("SMTPApiError", "\"Email\"", "BouncedAt", ""), PM_IS("failed"));
}

static void test_resend(void **state)
{
#define RS(type, more)                                                                     \
	"{\"type\":\"" type "\",\"created_at\":\"2023-11-14T22:13:20.126Z\",\"data\":{"    \
	"\"created_at\":\"2023-11-14 22:13:19.894719+00\",\"email_id\":\"56761188-7520\"," \
	"\"from\":\"A <a@b.c>\",\"to\":[\"Dot <d@e.ex>\",\"E@f.ex\"],\"subject\":\"s\"" more "}}"
#define RS_IS(status) status " 56761188-7520 1700000000126 d@e.ex e@f.ex"
	(void)state;
	reads("\"resend\"", RS("email.scheduled", ""), RS_IS("queued"));
	reads("\"resend\"", RS("email.sent", ""), RS_IS("sent"));
	reads("\"resend\"", RS("email.delivery_delayed", ""), RS_IS("deferred"));
	reads("\"resend\"", RS("email.delivered", ""), RS_IS("delivered"));
	reads("\"resend\"", RS("email.opened", ""), RS_IS("opened"));
	reads("\"resend\"", RS("email.clicked", ""), RS_IS("clicked"));
	reads("\"resend\"", RS("email.bounced", ""), RS_IS("bounced"));
	reads("\"resend\"", RS("email.bounced", ",\"bounce\":{\"type\":\"Transient\"}"),
	      RS_IS("bounced soft"));
	reads("\"resend\"", RS("email.failed", ""), RS_IS("failed"));
	reads("\"resend\"", RS("email.complained", ""), RS_IS("complained"));
	reads("\"resend\"", RS("contact.created", ""), "other");
}

static void test_twilio(void **state)
{
#define TW(status)                                                                    \
	"SmsSid=SM17&SmsStatus=" status "&MessageStatus=" status "&To=%2B15558675310" \
	"&MessageSid=SM17&AccountSid=AC1&From=%2B15017122661&ApiVersion=2010-04-01"
#define TW_IS(status) status " SM17 1800000000000 +15558675310"
	(void)state;
	reads("\"twilio\"", TW("accepted"), TW_IS("queued"));
	reads("\"twilio\"", TW("queued"), TW_IS("queued"));
	reads("\"twilio\"", TW("sending"), TW_IS("sent"));
	reads("\"twilio\"", TW("sent"), TW_IS("sent"));
	reads("\"twilio\"", TW("delivered"), TW_IS("delivered"));
	reads("\"twilio\"", TW("read"), TW_IS("opened"));
	reads("\"twilio\"", TW("undelivered"), TW_IS("bounced"));
	reads("\"twilio\"", TW("failed"), TW_IS("failed"));
	reads("\"twilio\"", TW("canceled"), TW_IS("failed"));
	reads("\"twilio\"", TW("receiving"), "other");
	reads("\"twilio\"", "SmsSid=SM18&SmsStatus=sent&To=whatsapp%3A%2B1555",
	      "sent SM18 1800000000000 whatsapp:+1555");
	reads("\"twilio\"", "{\"MessageSid\":\"SM17\"}", "no_status");
}

static void test_ses(void **state)
{
#define SES(type, more)                                                              \
	"{\"eventType\":\"" type "\",\"mail\":{\"timestamp\":\"2023-11-14T22:13:10." \
	"000Z\",\"messageId\":\"0100-000\",\"destination\":[\"r@x.ex\",\"S@x.ex\"]}" more "}"
#define SES_PART(name, list) ",\"" name "\":{" list ",\"timestamp\":\"2023-11-14T22:13:20.000Z\"}"
#define SES_BOUNCE(kind)                                                             \
	SES("Bounce", SES_PART("bounce", "\"bounceType\":\"" kind                    \
	                                 "\",\"bouncedRecipients\":[{\"emailAddress" \
	                                 "\":\"S@x.ex\",\"action\":\"failed\"}]"))
	(void)state;
	reads("\"ses\"", SES("Send", ",\"send\":{}"), "sent 0100-000 1699999990000 r@x.ex s@x.ex");
	reads("\"ses\"", SES("Delivery", SES_PART("delivery", "\"recipients\":[\"r@x.ex\"]")),
	      "delivered 0100-000 1700000000000 r@x.ex");
	reads("\"ses\"",
	      SES("DeliveryDelay", SES_PART("deliveryDelay", "\"delayedRecipients\":[{"
	                                                     "\"emailAddress\":\"r@x.ex\"}]")),
	      "deferred 0100-000 1700000000000 r@x.ex");
	reads("\"ses\"", SES("Open", SES_PART("open", "\"ipAddress\":\"1\"")),
	      "opened 0100-000 1700000000000 r@x.ex s@x.ex");
	reads("\"ses\"", SES("Click", SES_PART("click", "\"link\":\"l\"")),
	      "clicked 0100-000 1700000000000 r@x.ex s@x.ex");
	reads("\"ses\"", SES_BOUNCE("Permanent"), "bounced 0100-000 1700000000000 s@x.ex");
	reads("\"ses\"", SES_BOUNCE("Transient"), "bounced soft 0100-000 1700000000000 s@x.ex");
	reads("\"ses\"", SES_BOUNCE("Undetermined"), "bounced soft 0100-000 1700000000000 s@x.ex");
	reads("\"ses\"",
	      SES("Complaint", SES_PART("complaint", "\"complainedRecipients\":[{"
	                                             "\"emailAddress\":\"r@x.ex\"}]")),
	      "complained 0100-000 1700000000000 r@x.ex");
	reads("\"ses\"", SES("Reject", ",\"reject\":{\"reason\":\"Bad content\"}"),
	      "failed 0100-000 1699999990000 r@x.ex s@x.ex");
	reads("\"ses\"", SES("Rendering Failure", ""),
	      "failed 0100-000 1699999990000 r@x.ex s@x.ex");
	/* in SNS's envelope, by the older name */
	reads("\"ses\"",
	      "{\"Type\":\"Notification\",\"MessageId\":\"22\",\"Message\":\"{\\\"notificationType"
	      "\\\":\\\"Delivery\\\",\\\"mail\\\":{\\\"messageId\\\":\\\"m1\\\"},\\\"delivery"
	      "\\\":{\\\"timestamp\\\":\\\"2023-11-14T22:13:20Z\\\",\\\"recipients\\\":"
	      "[\\\"\\u0041@x.ex\\\"]}}\"}",
	      "delivered m1 1700000000000 a@x.ex");
	reads("\"ses\"", "{\"Type\":\"SubscriptionConfirmation\",\"Message\":\"You have chosen\"}",
	      "unreadable");
}

#define OWN                                                                   \
	"{\"message_id\":\"json:m\",\"address\":[\"json:a[].x\",\"json:b\"]," \
	"\"status\":\"json:s\",\"time\":[\"json:t ms\",\"json:u s\"],"        \
	"\"words\":{\"d\":\"delivered\",\"n\":null,\"7\":\"sent\",\"true\":\"opened\"}}"

static void test_left_out(void **state)
{
	(void)state;
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"x\",\"t\":1700000000001}",
	      "delivered 1 1700000000001 x");
	reads(OWN, "{\"s\":7,\"m\":2,\"b\":3}", "sent 2 1800000000000 3");
	reads(OWN, "{\"s\":true,\"m\":\" <2> \",\"b\":\" N <X@Y> \"}",
	      "opened 2 1800000000000 x@y");
	reads(OWN, "", "unreadable");
	reads(OWN, "{\"s\":\"d\"", "unreadable");
	reads(OWN, "[]", "no_status");
	reads(OWN, "{\"s\":{},\"m\":\"1\",\"b\":\"x\"}", "no_status");
	reads(OWN, "{\"s\":\"n\",\"m\":\"1\",\"b\":\"x\"}", "other");
	reads(OWN, "{\"s\":\"D\",\"m\":\"1\",\"b\":\"x\"}", "other");
	reads(OWN, "{\"s\":\"d\",\"b\":\"x\"}", "no_message_id");
	reads(OWN, "{\"s\":\"d\",\"m\":\"\",\"b\":\"x\"}", "no_message_id");
	reads(OWN, "{\"s\":\"d\",\"m\":\"a\\u0000\",\"b\":\"x\"}", "no_message_id");
	reads(OWN, "{\"s\":\"d\",\"m\":\"<>\",\"b\":\"x\"}", "no_message_id");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\"}", "no_address");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"a\\nb\"}", "no_address");
	/* of an array what is no address is left out; an empty one leaves the next source */
	reads(OWN,
	      "{\"s\":\"d\",\"m\":\"1\",\"a\":[{\"x\":\"1\"},7,null,{\"x\":\"\"},{\"x\":[]},"
	      "{\"x\":\"\\u00e4\"}],\"b\":\"x\"}",
	      "delivered 1 1800000000000 1 \xc3\xa4");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"a\":[],\"b\":\"x\"}", "delivered 1 1800000000000 x");
	/* times that cannot be */
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"x\",\"t\":17}", "delivered 1 1800000000000 x");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"x\",\"t\":1800086400000}",
	      "delivered 1 1800086400000 x");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"x\",\"t\":1800086400001}",
	      "delivered 1 1800000000000 x");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"x\",\"t\":\"soon\",\"u\":1700000000}",
	      "delivered 1 1700000000000 x");
	reads(OWN, "{\"s\":\"d\",\"m\":\"1\",\"b\":\"x\",\"t\":1e30}",
	      "delivered 1 1800000000000 x");
	reads("\"twilio\"", "MessageStatus=sent&MessageSid=%ff&To=1", "no_message_id");
	reads("\"twilio\"", "MessageStatus=sent&MessageSid=1&To=%zz", "no_address");
}

static void test_bounds(void **state)
{
	char body[RECIPIENT_MAX_REPORTS * 12 + 2000], long_id[1200], expected[1300];
	struct recipient_map *m = map_of("{\"message_id\":\"json:m\",\"address\":\"json:a[]\","
	                                 "\"status\":\"json:s\",\"words\":{\"d\":\"sent\"}}");
	struct event_view v = {.received = RECEIVED};
	struct recipient_reports *reports = NULL;
	enum recipient_outcome outcome;
	struct recipient_reader *r;
	int n = snprintf(body, sizeof(body), "{\"s\":\"d\",\"m\":\"1\",\"a\":[0");

	(void)state;
	for (int i = 1; i < RECIPIENT_MAX_REPORTS + 100; i++)
		n += snprintf(body + n, sizeof(body) - (size_t)n, ",\"a%d\"", i);
	snprintf(body + n, sizeof(body) - (size_t)n, "]}");
	v.body = str_of(body);
	assert_int_equal(recipient_reader_new(&r), ERR_OK);
	assert_int_equal(recipient_read(r, m, &v, &reports, &outcome), ERR_OK);
	assert_int_equal(reports->n, RECIPIENT_MAX_REPORTS);
	recipient_reports_free(reports);
	recipient_reader_free(r);
	recipient_map_free(m);

	memset(long_id, 'x', RECIPIENT_MESSAGE_ID_MAX + 1);
	long_id[RECIPIENT_MESSAGE_ID_MAX + 1] = '\0';
	snprintf(body, sizeof(body), "{\"s\":\"d\",\"b\":\"x\",\"m\":\"%s\"}", long_id);
	reads(OWN, body, "no_message_id");
	long_id[RECIPIENT_MESSAGE_ID_MAX] = '\0';
	snprintf(body, sizeof(body), "{\"s\":\"d\",\"b\":\"x\",\"m\":\"%s\"}", long_id);
	snprintf(expected, sizeof(expected), "delivered %s 1800000000000 x", long_id);
	reads(OWN, body, expected);
}

static void refused(const char *map, const char *expected)
{
	char text[2000];
	struct err_info info = {0};
	struct tools *set = NULL;

	snprintf(text, sizeof(text),
	         "{\"tools\":[{\"id\":\"t\",\"auth\":\"none\",\"recipient\":%s}]}", map);
	if (tools_parse(str_of(text), "f.json", &set, &info) == ERR_OK)
		fail_msg("accepted: %s", map);
	if (strncmp(info.text, "f.json:1: tool \"t\": ", 20) != 0 || !strstr(info.text, expected))
		fail_msg("%s gave \"%s\", not \"%s\"", map, info.text, expected);
}

static void test_refused(void **state)
{
#define REST "\"address\":\"json:a\",\"status\":\"json:s\""
	(void)state;
	refused("3", "recipient: must be an object, or the name");
	refused("[]", "recipient: must be an object");
	refused("\"sendgird\"", "recipient: there is no \"sendgird\"; there are mailgun, postmark");
	refused("{\"preset\":1}", "recipient.preset: must be the name");
	refused("{\"preset\":\"x\"}", "recipient.preset: there is no \"x\"");
	refused("{}", "recipient.message_id: is needed");
	refused("{\"message_id\":\"json:m\"}", "recipient.address: is needed");
	refused("{\"message_id\":\"json:m\",\"address\":\"json:a\"}",
	        "recipient.status: is needed");
	refused("{\"message_id\":\"json:m\"," REST "}", "recipient.words: is needed");
	refused("{\"message_id\":\"json:m\"," REST ",\"words\":{}}", "recipient.words: is needed");
	refused("{\"message_id\":\"json:m\"," REST ",\"words\":{\"a\":null}}",
	        "recipient.words: none of them leads");
	refused("{\"message_id\":\"json:m\"," REST ",\"words\":{\"a\":\"gone\"}}",
	        "recipient.words: \"a\" must be queued, sent, deferred,");
	refused("{\"message_id\":\"json:m\"," REST ",\"words\":{\"a\":3}}", "words: \"a\" must be");
	refused("{\"message_id\":\"json:m\"," REST ",\"words\":{\"\":\"sent\"}}", "1 to 128 bytes");
	refused("{\"message_id\":\"m\"}", "recipient.message_id: \"m\" is no source; it must be");
	refused("{\"message_id\":\"header:m\"}", "recipient.message_id: \"header:m\" is no source");
	refused("{\"message_id\":\"form:\"}", "recipient.message_id: \"form:\" is no source");
	refused("{\"message_id\":[]}", "recipient.message_id: must name a source");
	refused("{\"message_id\":[3]}", "recipient.message_id: must be a source");
	refused("{\"message_id\":\"json:\"}", "recipient.message_id: \"\" is no JSON path");
	refused("{\"message_id\":\"json:a..b\"}", "\"a..b\" is no JSON path");
	refused("{\"message_id\":\"json:a[]\"}", "\"a[]\": only an address may be all of an array");
	refused("{\"message_id\":\"json:m\",\"address\":\"json:a[]b\"}",
	        "behind [] stands nothing");
	refused("{\"message_id\":\"json:m\",\"address\":\"json:a[].b[]\"}", "behind [] stands");
	refused("{\"message_id\":\"json:m\",\"address\":\"json:[]\"}", "is no JSON path");
	refused("{\"preset\":\"ses\",\"in\":\"form:x\"}", "recipient.in: must be a source json:");
	refused("{\"preset\":\"ses\",\"time\":\"json:t\"}", "recipient.time: must be SOURCE UNIT");
	refused("{\"preset\":\"ses\",\"time\":\"json:t h\"}",
	        "recipient.time: must be SOURCE UNIT");
	refused("{\"preset\":\"ses\",\"message_id_until\":\"\"}",
	        "recipient.message_id_until: must");
	refused("{\"preset\":\"ses\",\"state\":\"json:s\"}", "recipient.state: no such member; a");
}

static void test_preset_changed(void **state)
{
	(void)state;
	reads("{\"preset\":\"twilio\",\"words\":{\"read\":null,\"gone\":\"failed\"}}",
	      "MessageStatus=read&MessageSid=1&To=2", "other");
	reads("{\"preset\":\"twilio\",\"words\":{\"read\":null,\"gone\":\"failed\"}}",
	      "MessageStatus=gone&MessageSid=1&To=2", "failed 1 1800000000000 2");
	reads("{\"preset\":\"sendgrid\",\"message_id_until\":null,\"time\":null}",
	      "{\"event\":\"open\",\"sg_message_id\":\"a.b\",\"email\":\"e\",\"timestamp\":"
	      "1700000000}",
	      "opened a.b 1800000000000 e");
}

/* What a tool's mapping is: none, its own, and none although there is one of its name. */
static void test_tools(void **state)
{
	const char *text = "{\"tools\":[{\"id\":\"a\",\"auth\":\"none\"},"
	                   "{\"id\":\"b\",\"auth\":\"none\",\"recipient\":\"ses\"},"
	                   "{\"id\":\"c\",\"auth\":\"none\",\"recipient\":null}]}";
	struct err_info info = {0};
	struct tools *set;

	(void)state;
	assert_int_equal(tools_parse(str_of(text), "f", &set, &info), ERR_OK);
	assert_null(tools_at(set, 0)->recipient);
	assert_non_null(tools_at(set, 1)->recipient);
	assert_null(tools_at(set, 2)->recipient);
	tools_unref(set);
}

static void scenario_map(void)
{
	const char *text = "{\"tools\":[{\"id\":\"b\",\"auth\":\"none\",\"recipient\":"
	                   "{\"preset\":\"ses\",\"words\":{\"x\":\"sent\"}}}]}";
	struct err_info info = {0};
	struct tools *set;

	if (tools_parse(str_of(text), "f", &set, &info) == ERR_OK)
		tools_unref(set);
}

/* A report is read, or memory was short: never a part of it, never an outcome instead. */
static void scenario_read(void)
{
	static const char *const body =
	    "{\"Message\":\"{\\\"eventType\\\":\\\"S\\\\u0065nd\\\",\\\"mail\\\":{\\\"messageId"
	    "\\\":\\\"\\\\u0041\\\",\\\"destination\\\":[\\\"\\\\u0042\\\",\\\"c\\\"]}}\"}";
	struct event_view v = {.body = str_of(body), .received = RECEIVED};
	json_t *name = json_string("ses");
	struct recipient_map *m = NULL;
	struct recipient_reader *r = NULL;
	struct recipient_reports *reports = NULL;
	enum recipient_outcome outcome;

	if (name && recipient_map_compile(name, NULL, &m, NULL) == ERR_OK &&
	    recipient_reader_new(&r) == ERR_OK) {
		enum err e = recipient_read(r, m, &v, &reports, &outcome);

		assert_true(e == ERR_NOMEM || (e == ERR_OK && reports && reports->n == 2));
	}
	recipient_reports_free(reports);
	recipient_reader_free(r);
	recipient_map_free(m);
	json_decref(name);
}

static const struct recipient_map *present_map(void *arg, struct str tool)
{
	(void)tool;
	return arg;
}

static struct event *report_of(struct tool *held, const char *body)
{
	struct event *e;

	assert_int_equal(event_make(&(struct event_view){.tool = STR("mail"),
	                                                 .type = STR("t"),
	                                                 .received = RECEIVED,
	                                                 .body = str_of(body)},
	                            &e),
	                 ERR_OK);
	e->tool = held ? tool_ref(held) : NULL;
	return e;
}

/* An event that holds its tool is read by that, and not by what the tool is now; in a run of events
 * of one name, too. */
static void test_held_tool(void **state)
{
	static const char *const map = "{\"message_id\":\"json:m\",\"address\":\"json:a\","
	                               "\"status\":\"json:s\",\"words\":{\"x\":\"%s\"}}";
	static const char *const body = "{\"m\":\"1\",\"a\":\"b\",\"s\":\"x\"}";
	static const enum recipient_status expected[] = {RECIPIENT_SENT, RECIPIENT_OPENED,
	                                                 RECIPIENT_CLICKED, RECIPIENT_SENT};
	const char *const words[] = {"sent", "opened", "clicked"};
	struct recipient_map *maps[3];
	struct tool old = {.refs = 1}, older = {.refs = 1};
	struct recipient_reports_reader *r;
	struct metric_registry *metrics;
	struct event *events[4];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char text[256];

		snprintf(text, sizeof(text), map, words[i]);
		maps[i] = map_of(text);
	}
	old.recipient = maps[1];
	older.recipient = maps[2];
	events[0] = report_of(NULL, body);
	events[1] = report_of(&old, body);
	events[2] = report_of(&older, body);
	events[3] = report_of(NULL, body);
	assert_int_equal(metric_registry_new(&metrics), ERR_OK);
	assert_int_equal(recipient_reports_reader_new(
	                     metrics, &(struct recipient_maps){present_map, maps[0]}, &r),
	                 ERR_OK);
	assert_int_equal(recipient_reports_read(r, events, 4), ERR_OK);
	for (size_t i = 0; i < 4; i++) {
		assert_non_null(events[i]->reports);
		assert_int_equal(events[i]->reports->list[0].status, expected[i]);
		event_unref(events[i]);
	}
	assert_int_equal(old.refs, 1);
	assert_int_equal(older.refs, 1);
	recipient_reports_reader_free(r);
	metric_registry_free(metrics);
	for (size_t i = 0; i < 3; i++)
		recipient_map_free(maps[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sendgrid), cmocka_unit_test(test_mailgun),
	    cmocka_unit_test(test_postmark), cmocka_unit_test(test_resend),
	    cmocka_unit_test(test_twilio),   cmocka_unit_test(test_ses),
	    cmocka_unit_test(test_left_out), cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_refused),  cmocka_unit_test(test_preset_changed),
	    cmocka_unit_test(test_tools),    cmocka_unit_test(test_held_tool),
	};
	const struct torture torture[] = {TORTURE(scenario_map), TORTURE(scenario_read)};

	return TESTS_OR_TORTURE(tests, torture);
}
