/* SNS and PayPal: what is signed was put together here by hand, with a key and a certificate of the
 * test's own; every change to it is refused, and so is every URL that is not the provider's. */
#include "recipe_util.h"
#include "torture.h"

#include <unistd.h>

#include "weir/base/cert.h"
#include "weir/base/pubkey.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/verify.h"
#include "weir/run/metric.h"

#define TOPIC   "arn:aws:sns:eu-west-1:17:mail"
#define SNS_URL "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-17.pem"
#define PP_URL  "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-17"

static struct {
	struct keypair *key, *other;
	struct metric_registry *metrics;
	struct cert_store *certs;
	char ca_file[40];
} rig;

static void certify(const struct keypair *k, usec_t from, usec_t until, struct buf *out)
{
	buf_init(out, 8192);
	assert_int_equal(cert_self_signed(k, "signing.example", from, until, out), ERR_OK);
}

static int setup(void **state)
{
	usec_t now = clock_wall();
	struct buf pem;
	int fd;

	(void)state;
	assert_int_equal(keypair_new(PUBKEY_RSA, &rig.key), ERR_OK);
	assert_int_equal(keypair_new(PUBKEY_RSA, &rig.other), ERR_OK);
	assert_int_equal(metric_registry_new(&rig.metrics), ERR_OK);
	certify(rig.key, now - USEC_PER_SEC, now + 3600 * USEC_PER_SEC, &pem);
	snprintf(rig.ca_file, sizeof(rig.ca_file), "/tmp/weir-test-ca-XXXXXX");
	fd = mkstemp(rig.ca_file);
	assert_int_equal(write(fd, pem.ptr, pem.len), pem.len);
	close(fd);
	assert_int_equal(cert_store_new(&(struct cert_store_options){.metrics = rig.metrics,
	                                                             .ca_file = rig.ca_file},
	                                &rig.certs),
	                 ERR_OK);
	assert_int_equal(cert_store_put(rig.certs, STR(SNS_URL), false, buf_str(&pem), NULL),
	                 ERR_OK);
	assert_int_equal(cert_store_put(rig.certs, STR(PP_URL), true, buf_str(&pem), NULL), ERR_OK);
	buf_done(&pem);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(rig.ca_file);
	cert_store_free(rig.certs);
	metric_registry_free(rig.metrics);
	keypair_free(rig.key);
	keypair_free(rig.other);
	return 0;
}

static struct verify_result result;

static enum verify_verdict verify(const struct tools *set, const struct recipe_request *req)
{
	static struct recipe_input input;
	enum verify_verdict v;

	recipe_input_init(&input);
	recipe_input_bind(&input, tools_at(set, 0)->recipe, req);
	v = verify_request_by(&input, rig.certs, &result);
	recipe_input_done(&input);
	return v;
}

static void sign(struct keypair *k, enum digest_algo hash, const char *content, char out[600])
{
	struct str text = str_of(content);
	struct buf raw, b;

	buf_init(&raw, 1024);
	buf_init(&b, 600);
	assert_int_equal(keypair_sign(k, hash, &text, 1, &raw), ERR_OK);
	assert_int_equal(base64_encode(&b, raw.ptr, raw.len, false), ERR_OK);
	snprintf(out, 600, "%s", b.ptr);
	buf_done(&raw);
	buf_done(&b);
}

/* ---- SNS ---- */

#define ISO "2024-11-15T21:12:01.000Z" /* NOW */
#define PLAIN                                                                          \
	"Message\nhe said \"x\"\nMessageId\nm-1\nTimestamp\n" ISO "\nTopicArn\n" TOPIC \
	"\nType\nNotification\n"

struct sns {
	const char *type, *more, *version, *content, *topic, *url, *stamp;
	enum digest_algo hash;
	struct keypair *key;
};

#define OR(value, otherwise) ((value) ? (value) : (otherwise))

/* What is not given is as it should be. */
static enum verify_verdict sns(const struct sns *s)
{
	static struct tools *set;
	char sig[600], body[4000];
	struct made m;

	if (!set)
		set = one_tool("\"preset\":\"ses\",\"secrets\":[\"arn:aws:sns:x:1:y\",\"" TOPIC
		               "\"]");
	sign(s->key ? s->key : rig.key, s->hash, OR(s->content, PLAIN), sig);
	snprintf(body, sizeof(body),
	         "{\"Type\":\"%s\",\"MessageId\":\"m-1\",\"TopicArn\":\"%s\",\"Message\":"
	         "\"he said \\\"\\u0078\\\"\",\"Timestamp\":\"%s\",\"SignatureVersion\":\"%s\","
	         "%s\"Signature\":\"%s\",\"SigningCertURL\":\"%s\"}",
	         OR(s->type, "Notification"), OR(s->topic, TOPIC), OR(s->stamp, ISO),
	         OR(s->version, "2"), OR(s->more, ""), sig, OR(s->url, SNS_URL));
	made_init(&m, body);
	return verify(set, &m.req);
}

#define CHANGED(...) sns(&(struct sns){__VA_ARGS__})

static void test_sns(void **state)
{
	(void)state;
	assert_int_equal(CHANGED(.more = ""), VERIFY_OK);
	assert_int_equal(result.secret, 1);
	assert_int_equal(CHANGED(.hash = DIGEST_SHA1, .version = "1"), VERIFY_OK);
	assert_int_equal(CHANGED(.hash = DIGEST_SHA1), VERIFY_WRONG);
	assert_int_equal(CHANGED(.version = "1"), VERIFY_WRONG);
	assert_int_equal(CHANGED(.version = "3"), VERIFY_ENCODING);
	assert_int_equal(CHANGED(.key = rig.other), VERIFY_WRONG);
	assert_int_equal(CHANGED(.topic = "arn:aws:sns:x:1:y"), VERIFY_WRONG);
	assert_int_equal(CHANGED(.type = "Confirmation"), VERIFY_ENCODING);
	assert_int_equal(CHANGED(.stamp = "2024-11-15T21:12:01.001Z"), VERIFY_WRONG);
	assert_int_equal(CHANGED(.stamp = "yesterday"), VERIFY_TS_MALFORMED);
	/* Unknown members are not signed, the subject is, where there is one. */
	assert_int_equal(CHANGED(.more = "\"Subject\":null,\"X\":1,"), VERIFY_OK);
	assert_int_equal(CHANGED(.more = "\"Subject\":\"s\","), VERIFY_WRONG);
	assert_int_equal(
	    CHANGED(.more = "\"Subject\":\"s\",",
	            .content = "Message\nhe said \"x\"\nMessageId\nm-1\nSubject\ns\nTimestamp\n" ISO
	                       "\nTopicArn\n" TOPIC "\nType\nNotification\n"),
	    VERIFY_OK);
}

static void test_sns_time(void **state)
{
	(void)state;
	assert_int_equal(CHANGED(.stamp = "2024-11-15T20:07:01.000Z"), VERIFY_WRONG);
	assert_int_equal(CHANGED(.stamp = "2024-11-15T20:07:00.999Z"), VERIFY_STALE);
	assert_int_equal(result.age, 3900 * USEC_PER_SEC + 1000);
	assert_int_equal(CHANGED(.stamp = "2024-11-15T21:17:01.000Z"), VERIFY_WRONG);
	assert_int_equal(CHANGED(.stamp = "2024-11-15T21:17:01.001Z"), VERIFY_FUTURE);
	/* What a stranger writes tells nothing of the clocks. */
	assert_false(result.timed);
}

#define PLAIN_AT(stamp)                                                                  \
	"Message\nhe said \"x\"\nMessageId\nm-1\nTimestamp\n" stamp "\nTopicArn\n" TOPIC \
	"\nType\nNotification\n"
#define SNS_AT(when, by) CHANGED(.stamp = when, .content = PLAIN_AT(when), .key = by)

/* How far the clocks are apart shows also by what is refused for it. */
static void test_sns_skew(void **state)
{
	(void)state;
	assert_int_equal(SNS_AT("2024-11-15T21:11:01.000Z", rig.key), VERIFY_OK);
	assert_true(result.timed);
	assert_int_equal(result.skew, 60 * USEC_PER_SEC);
	assert_int_equal(SNS_AT("2024-11-15T21:13:01.500Z", rig.key), VERIFY_OK);
	assert_int_equal(result.skew, -60500 * USEC_PER_MSEC);
	assert_int_equal(SNS_AT("2024-11-15T19:12:01.000Z", rig.key), VERIFY_STALE);
	assert_true(result.timed);
	assert_int_equal(result.skew, 7200 * USEC_PER_SEC);
	assert_int_equal(result.age, 7200 * USEC_PER_SEC);
	assert_int_equal(SNS_AT("2024-11-15T23:12:01.000Z", rig.key), VERIFY_FUTURE);
	assert_true(result.timed);
	assert_int_equal(result.skew, -7200 * USEC_PER_SEC);
	assert_int_equal(SNS_AT("2024-11-15T21:11:01.000Z", rig.other), VERIFY_WRONG);
	assert_false(result.timed);
	assert_int_equal(SNS_AT("2024-11-15T19:12:01.000Z", rig.other), VERIFY_STALE);
	assert_false(result.timed);
}

#define CONFIRMATION(type)                                                                 \
	"Message\nhe said \"x\"\nMessageId\nm-1\nSubscribeURL\nhttps://u\nTimestamp\n" ISO \
	"\nToken\ntok\nTopicArn\n" TOPIC "\nType\n" type "\n"

static void test_sns_confirmations(void **state)
{
	static const char both[] = "\"SubscribeURL\":\"https://u\",\"Token\":\"tok\",";

	(void)state;
	assert_int_equal(CHANGED(.type = "SubscriptionConfirmation", .more = both,
	                         .content = CONFIRMATION("SubscriptionConfirmation")),
	                 VERIFY_OK);
	assert_int_equal(CHANGED(.type = "UnsubscribeConfirmation", .more = both,
	                         .content = CONFIRMATION("UnsubscribeConfirmation")),
	                 VERIFY_OK);
	assert_int_equal(CHANGED(.type = "SubscriptionConfirmation",
	                         .more = "\"SubscribeURL\":\"https://v\",\"Token\":\"tok\",",
	                         .content = CONFIRMATION("SubscriptionConfirmation")),
	                 VERIFY_WRONG);
	assert_int_equal(CHANGED(.type = "SubscriptionConfirmation",
	                         .more = "\"SubscribeURL\":\"https://u\",",
	                         .content = CONFIRMATION("SubscriptionConfirmation")),
	                 VERIFY_PART_MISSING);
	assert_int_equal(CHANGED(.type = "Notification", .more = both,
	                         .content = CONFIRMATION("SubscriptionConfirmation")),
	                 VERIFY_WRONG);
}

static void test_sns_urls(void **state)
{
	static const char *const bad[] = {
	    "http://sns.eu-west-1.amazonaws.com/a.pem",
	    "https://sns.eu-west-1.amazonaws.com/a.crt",
	    "https://sns.eu-west-1.amazonaws.com/a.pem?x=.pem",
	    "https://sns.eu-west-1.amazonaws.com/a.pem#.pem",
	    "https://sns.eu-west-1.amazonaws.com:443/a.pem",
	    "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
	    "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
	    "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
	    "https://sns.s3-eu-west-1.amazonaws.com/a.pem",
	    "https://sns.s3.amazonaws.com/a.pem",
	    "https://sns.amazonaws.com/a.pem",
	    "https://x.sns.eu-west-1.amazonaws.com/a.pem",
	    "https://SNS.eu-west-1.amazonaws.com/a.pem",
	    "https://sns.eu-west-1.amazonaws.com\\\\@evil.example/a.pem",
	    "https://sns.eu-west-1.amazonaws.com/../a.pem",
	    "https://sns.eu-west-1.amazonaws.com/%2e%2e/a.pem",
	    " https://sns.eu-west-1.amazonaws.com/a.pem",
	    "https:///a.pem",
	    "https://sns.eu-west-1.amazonaws.com",
	    "file:///etc/passwd.pem",
	    "x",
	};
	static const char *const fine[] = {
	    "https://sns.us-gov-west-1.amazonaws.com/b.pem",
	    "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0.pem",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum verify_verdict v = CHANGED(.url = bad[i]);

		if (v != VERIFY_CERT_URL)
			fail_msg("%s: %s", bad[i], verify_reason(v));
	}
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		assert_int_equal(CHANGED(.url = fine[i]), VERIFY_CERT);
		assert_int_equal(result.cert_url.len, strlen(fine[i]));
	}
	/* What is wrong besides is found first: nothing is fetched for it. */
	assert_int_equal(CHANGED(.url = fine[0], .topic = "arn:x"), VERIFY_WRONG);
	assert_int_equal(
	    CHANGED(.url = fine[0], .topic = "arn:x", .stamp = "2020-11-15T21:17:01.001Z"),
	    VERIFY_STALE);
	/* But for the time: only with the certificate does it show whose clock is wrong. */
	assert_int_equal(CHANGED(.url = fine[0], .stamp = "2020-11-15T21:17:01.001Z"), VERIFY_CERT);
	assert_int_equal(result.cert_url.len, strlen(fine[0]));
	assert_false(result.timed);
}

/* ---- PayPal ---- */

#define BODY    "{\"id\":\"WH-1\",\"event_type\":\"X\"}"
#define PP_TEXT "t-1|" ISO "|WEBHOOK-2|%lu"

static uint32_t crc32_slow(const char *s)
{
	uint32_t crc = 0xffffffff;

	for (; *s; s++) {
		crc ^= (unsigned char)*s;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
	}
	return ~crc;
}

static void paypal_request(struct made *m, struct keypair *k, char sig[600])
{
	char content[200];

	snprintf(content, sizeof(content), PP_TEXT, (unsigned long)crc32_slow(BODY));
	sign(k, DIGEST_SHA256, content, sig);
	made_init(m, BODY);
	made_header(m, "PAYPAL-TRANSMISSION-SIG", sig);
	made_header(m, "PAYPAL-TRANSMISSION-ID", "t-1");
	made_header(m, "PAYPAL-TRANSMISSION-TIME", ISO);
	made_header(m, "PAYPAL-AUTH-ALGO", "SHA256withRSA");
	made_header(m, "PAYPAL-CERT-URL", PP_URL);
}

static void test_paypal(void **state)
{
	static const char *const values[] = {"AAAA", "t-2", "2024-11-15T21:12:02.000Z",
	                                     "SHA1withRSA", "https://api.paypal.com/v1/x"};
	static const enum verify_verdict wants[] = {VERIFY_WRONG, VERIFY_WRONG, VERIFY_WRONG,
	                                            VERIFY_ENCODING, VERIFY_CERT_URL};
	struct tools *set =
	    one_tool("\"preset\":\"paypal\",\"secrets\":[\"WEBHOOK-1\",\"WEBHOOK-2\"]");
	struct tools *others = one_tool("\"preset\":\"paypal\",\"secrets\":[\"WEBHOOK-1\"]");
	char sig[600];
	struct made m;

	(void)state;
	assert_int_equal(crc32_slow("123456789"), 0xcbf43926);
	paypal_request(&m, rig.key, sig);
	assert_int_equal(verify(set, &m.req), VERIFY_OK);
	assert_int_equal(result.secret, 1);
	assert_int_equal(verify(others, &m.req), VERIFY_WRONG);
	for (size_t i = 0; i < 5; i++) {
		struct http_header kept = m.headers[i];

		m.headers[i].value = str_of(values[i]);
		assert_int_equal(verify(set, &m.req), wants[i]);
		m.headers[i] = (struct http_header){STR("X"), STR("y")};
		if (verify(set, &m.req) != (i == 0   ? VERIFY_MISSING
		                            : i == 2 ? VERIFY_PART_MISSING
		                                     : VERIFY_PART_MISSING))
			fail_msg("without header %zu", i);
		m.headers[i] = kept;
		made_header(&m, "x", "");
		m.headers[5] = kept; /* twice */
		assert_int_equal(verify(set, &m.req), VERIFY_DOUBLED);
		m.req.header_count--;
	}
	m.req.body = STR(BODY " ");
	assert_int_equal(verify(set, &m.req), VERIFY_WRONG);
	m.req.body = STR("");
	assert_int_equal(verify(set, &m.req), VERIFY_WRONG);
	m.req.body = STR(BODY);
	m.req.now = NOW + 73 * 3600 * USEC_PER_SEC;
	assert_int_equal(verify(set, &m.req), VERIFY_OK);
	assert_true(result.timed);
	assert_int_equal(result.skew, 73 * 3600 * USEC_PER_SEC);
	m.req.now++;
	assert_int_equal(verify(set, &m.req), VERIFY_STALE);
	assert_true(result.timed);
	assert_int_equal(result.skew, 73 * 3600 * USEC_PER_SEC + 1);
	m.req.body = STR(BODY " ");
	assert_int_equal(verify(set, &m.req), VERIFY_STALE);
	assert_false(result.timed);
	m.req.body = STR(BODY);
	m.req.now = NOW - 100 * USEC_PER_SEC;
	assert_int_equal(verify(set, &m.req), VERIFY_OK);
	assert_int_equal(result.skew, -100 * USEC_PER_SEC);
	m.req.now = NOW;
	for (size_t i = 0; i < strlen(sig); i++) {
		sig[i] ^= 1;
		assert_int_not_equal(verify(set, &m.req), VERIFY_OK);
		sig[i] ^= 1;
	}
	paypal_request(&m, rig.other, sig);
	assert_int_equal(verify(set, &m.req), VERIFY_WRONG);
	tools_unref(set);
	tools_unref(others);
}

/* ---- certificates ---- */

static void test_cert_dates(void **state)
{
	usec_t now = clock_wall() / USEC_PER_SEC * USEC_PER_SEC, until = 0;
	struct err_info info = {0};
	struct buf pem;

	(void)state;
	certify(rig.other, now, now + 60 * USEC_PER_SEC, &pem);
	assert_int_equal(cert_judge(buf_str(&pem), now + USEC_PER_SEC, false, NULL, &until, &info),
	                 ERR_OK);
	assert_int_equal(until, now + 60 * USEC_PER_SEC);
	assert_int_equal(cert_judge(buf_str(&pem), now - USEC_PER_SEC, false, NULL, &until, &info),
	                 ERR_DENIED);
	assert_non_null(strstr(info.text, "not valid yet"));
	assert_int_equal(
	    cert_judge(buf_str(&pem), now + 61 * USEC_PER_SEC, false, NULL, &until, &info),
	    ERR_DENIED);
	assert_non_null(strstr(info.text, "expired"));
	/* Nobody that is known signed it. */
	assert_int_equal(
	    cert_judge(buf_str(&pem), now + USEC_PER_SEC, true, rig.ca_file, &until, &info),
	    ERR_DENIED);
	assert_non_null(strstr(info.text, "not trusted"));
	assert_int_equal(cert_judge(buf_str(&pem), now + USEC_PER_SEC, true, "", &until, &info),
	                 ERR_DENIED);
	pem.len -= 40;
	assert_int_equal(cert_judge(buf_str(&pem), now + USEC_PER_SEC, false, NULL, &until, &info),
	                 ERR_INVAL);
	assert_int_equal(cert_judge(STR(""), now, false, NULL, &until, &info), ERR_INVAL);
	buf_done(&pem);
}

static void test_store(void **state)
{
	struct cert_wait w = {.fn = NULL};
	struct err_info info = {0};
	struct cert_store *s;
	struct pubkey *key;
	struct keypair *ed;
	struct buf pem;

	(void)state;
	certify(rig.other, clock_wall() - USEC_PER_SEC, clock_wall() + 60 * USEC_PER_SEC, &pem);
	assert_int_equal(cert_store_new(&(struct cert_store_options){.metrics = rig.metrics}, &s),
	                 ERR_OK);
	assert_int_equal(cert_store_find(s, STR("https://a/"), false, &key), ERR_NOTFOUND);
	assert_int_equal(cert_store_wait(s, STR("https://a/"), false, &w), ERR_UNAVAILABLE);
	assert_int_equal(cert_store_put(s, STR("https://a/"), false, buf_str(&pem), &info), ERR_OK);
	assert_int_equal(cert_store_find(s, STR("https://a/"), false, &key), ERR_OK);
	/* One that needs no chain is not one that has it. */
	assert_int_equal(cert_store_find(s, STR("https://a/"), true, &key), ERR_NOTFOUND);
	assert_int_equal(cert_store_put(s, STR("https://a/"), true, buf_str(&pem), &info),
	                 ERR_DENIED);
	for (int i = 0; i < 2 * CERT_STORE_MAX; i++) {
		char url[40];

		snprintf(url, sizeof(url), "https://h%d/", i);
		assert_int_equal(cert_store_put(s, str_of(url), false, buf_str(&pem), &info),
		                 ERR_OK);
		assert_int_equal(cert_store_find(s, str_of(url), false, &key), ERR_OK);
	}
	assert_int_equal(cert_store_find(s, STR("https://a/"), false, &key), ERR_NOTFOUND);
	buf_done(&pem);
	assert_int_equal(keypair_new(PUBKEY_ED25519, &ed), ERR_OK);
	certify(ed, clock_wall() - USEC_PER_SEC, clock_wall() + 60 * USEC_PER_SEC, &pem);
	info.text[0] = '\0';
	assert_int_equal(cert_store_put(s, STR("https://e/"), false, buf_str(&pem), &info),
	                 ERR_INVAL);
	assert_non_null(strstr(info.text, "no RSA key"));
	keypair_free(ed);
	buf_done(&pem);
	cert_store_free(s);
}

/* ---- pins ---- */

static void test_pins(void **state)
{
	static const char *const patterns[] = {
	    "a",    "a.b:1", "*.example.com", "127.0.0.1:8443", "{region}", "",     "A.example",
	    "a..b", "a.b:",  "a:x",           "https://a",      "{x}.b",    "a*.b", "a.b:123456",
	    "a/b",  "a@b"};
	const struct pin pin = {.hosts = {{"a.*.example:8443", 16}, {"b.example", 9}},
	                        .host_count = 2,
	                        .prefix = {"/x/", 3},
	                        .query = true};

	(void)state;
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		if (pin_is_pattern(str_of(patterns[i])) != (i < 5))
			fail_msg("\"%s\"", patterns[i]);
	assert_true(pin_allows(&pin, STR("https://b.example/x/?Action=C&T=arn:aws:1,2%20+")));
	assert_true(pin_allows(&pin, STR("https://a.q-1.example:8443/x/y")));
	assert_false(pin_allows(&pin, STR("https://a.q-1.example/x/y")));
	assert_false(pin_allows(&pin, STR("https://a.q.r.example:8443/x/y")));
	assert_false(pin_allows(&pin, STR("https://a..example:8443/x/y")));
	assert_false(pin_allows(&pin, STR("https://b.example:443/x/")));
	assert_false(pin_allows(&pin, STR("https://b.example/x")));
	assert_false(pin_allows(&pin, STR("https://b.example/x/?a b")));
	assert_false(pin_allows(&pin, STR("https://b.example/x/?a#b")));
	assert_false(pin_allows(&pin, STR("https://b.example/x/\0y")));
	assert_false(pin_allows(&pin, STR("")));
	assert_false(pin_allows(&(struct pin){.host_count = 0}, STR("https://b.example/x/")));
}

/* ---- loading ---- */

static void refused(const char *recipe, const char *want)
{
	char text[800];
	struct err_info info = {0};
	struct tools *set;

	snprintf(text, sizeof(text),
	         "{\"tools\":[{\"id\":\"t\",\"secrets\":[\"k\"],\"recipe\":{%s}}]}", recipe);
	assert_int_equal(tools_parse(str_of(text), "f", &set, &info), ERR_INVAL);
	if (!strstr(info.text, want))
		fail_msg("%s", info.text);
}

#define FETCH "\"when\":\"json:a\",\"fetch\":\"json:u\""

static void test_loading(void **state)
{
	(void)state;
	refused("\"scheme\":\"builtin:sns\",\"cert_hosts\":[]", "cert_hosts: must be a list");
	refused("\"scheme\":\"builtin:sns\",\"cert_hosts\":[\"https://x\"]", "must hold HOST");
	refused("\"scheme\":\"builtin:sns\",\"ts\":\"json:x s\"", "ts: has no meaning");
	refused("\"scheme\":\"hmac\",\"sig\":\"header:x\",\"cert_hosts\":[\"x\"]",
	        "cert_hosts: has no meaning");
	refused("\"sig\":\"header:x\",\"once\":\"json:t\"", "once: needs the member ts");
	refused("\"sig\":\"header:x\",\"ts\":\"header:t s\",\"enforce\":false,\"once\":\"json:t\"",
	        "once: needs the member ts");
	refused("\"sig\":\"header:x\",\"ts\":\"json:t s\",\"once\":1", "once: must be a source");
	refused("\"sig\":\"header:x\",\"hand\":[{" FETCH ",\"verify\":false,\"hosts\":[\"h\"]}]",
	        "fetch needs \"verify\": true");
	refused("\"sig\":\"header:x\",\"hand\":[{" FETCH ",\"verify\":true}]", "fetch needs hosts");
	refused("\"sig\":\"header:x\",\"hand\":[{" FETCH ",\"verify\":true,\"hosts\":[\"H\"]}]",
	        "must hold HOST");
	refused("\"sig\":\"header:x\",\"hand\":[{\"when\":\"json:a\",\"verify\":true,\"hosts\":"
	        "[\"h\"]}]",
	        "hosts has no meaning without fetch");
	/* A topic's name is nothing that only the sender knows. */
	refused("\"scheme\":\"builtin:sns\",\"hand\":[{\"when\":\"json:a\",\"verify\":true,"
	        "\"body\":\"{hmac:json:b}\"}]",
	        "{hmac:...} needs a shared secret");
}

static void scenario_certified(void)
{
	struct metric_registry *metrics;
	struct cert_store *s = NULL;
	struct pubkey *key;

	if (metric_registry_new(&metrics) != ERR_OK)
		return;
	if (cert_store_new(&(struct cert_store_options){.metrics = metrics}, &s) == ERR_OK) {
		struct cert_wait w = {.fn = NULL};

		(void)!cert_store_put(s, STR("https://a/"), false, STR("x"), NULL);
		(void)!cert_store_wait(s, STR("https://a/"), false, &w);
		(void)!cert_store_find(s, STR("https://a/"), false, &key);
	}
	cert_store_free(s);
	metric_registry_free(metrics);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sns),
	    cmocka_unit_test(test_sns_time),
	    cmocka_unit_test(test_sns_skew),
	    cmocka_unit_test(test_sns_urls),
	    cmocka_unit_test(test_sns_confirmations),
	    cmocka_unit_test(test_paypal),
	    cmocka_unit_test(test_cert_dates),
	    cmocka_unit_test(test_store),
	    cmocka_unit_test(test_pins),
	    cmocka_unit_test(test_loading),
	};
	const struct torture torture[] = {TORTURE(scenario_certified)};

	return TESTS_OR_TORTURE_BETWEEN(tests, torture, setup, teardown);
}
