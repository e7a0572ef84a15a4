/* Addresses, networks, and who a request is from behind proxies. */
#include "torture.h"

#include "../../src/receive/client_priv.h"
#include "weir/base/ip.h"
#include "weir/io/http_server.h"

static struct ip_addr addr(const char *s)
{
	struct ip_addr a;

	if (ip_parse(str_of(s), &a) != ERR_OK)
		fail_msg("%s", s);
	return a;
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {"",          "1.2.3",     "1.2.3.4.5", "01.2.3.4x",
	                                  "256.1.1.1", "fe80::1%1", "::1::",     "[::1]",
	                                  "1.2.3.4:5", "unknown",   " 1.2.3.4"};
	struct ip_addr a, b = addr("192.0.2.1"), c = addr("::ffff:192.0.2.1");

	(void)state;
	assert_memory_equal(&b, &c, sizeof(b));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ip_parse(str_of(bad[i]), &a), ERR_INVAL);
	assert_int_equal(ip_parse(STR("1.2.3.4\0"), &a), ERR_INVAL);
}

static void test_networks(void **state)
{
	static const struct {
		const char *net, *in, *out;
	} rows[] = {
	    {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
	    {"192.0.2.128/25", "192.0.2.128", "192.0.2.127"},
	    {"192.0.2.7", "192.0.2.7", "192.0.2.6"},
	    {"0.0.0.0/0", "255.1.2.3", "2001:db8::1"},
	    {"::/0", "2001:db8::1", "192.0.2.1"},
	    {"::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"},
	    {"2001:db8:8000::/33", "2001:db8:8000::1", "2001:db8:7fff::1"},
	    {"2001:db8::1/128", "2001:db8::1", "2001:db8::2"},
	};
	static const char *const bad[] = {"10.0.0.1/8",     "10.0.0.0/33", "10.0.0.0/",
	                                  "10.0.0.0/-1",    "/8",          "",
	                                  "2001:db8::1/32", "::/129",      "192.0.2.129/25"};
	struct ip_net n;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ip_addr in = addr(rows[i].in), out = addr(rows[i].out);

		assert_int_equal(ip_net_parse(str_of(rows[i].net), &n), ERR_OK);
		if (!ip_net_has(&n, &in) || ip_net_has(&n, &out))
			fail_msg("%s", rows[i].net);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (ip_net_parse(str_of(bad[i]), &n) != ERR_INVAL)
			fail_msg("%s", bad[i]);
}

static void test_lists(void **state)
{
	struct ip_net nets[2];
	struct str bad;
	size_t n = 9;

	(void)state;
	assert_int_equal(ip_nets_parse(STR_NONE, nets, 2, &n, &bad), ERR_OK);
	assert_int_equal(n, 0);
	assert_int_equal(ip_nets_parse(STR(" 10.0.0.0/8 ,::1"), nets, 2, &n, &bad), ERR_OK);
	assert_int_equal(n, 2);
	assert_int_equal(ip_nets_parse(STR("::1,::2,::3"), nets, 2, &n, &bad), ERR_TOOBIG);
	assert_int_equal(ip_nets_parse(STR("::1,x"), nets, 2, &n, &bad), ERR_INVAL);
	assert_true(str_eq(bad, STR("x")));
	assert_int_equal(ip_nets_parse(STR("::1,"), nets, 2, &n, &bad), ERR_INVAL);
}

/* Trusted are 10.0.0.0/8 and fd00::/8. `lines` are X-Forwarded-For headers, "|" between them. */
static void finds(const char *peer, const char *lines, const char *expected)
{
	struct http_header headers[8] = {{STR("Host"), STR("x")}};
	struct str rest = str_of(lines), text, bad;
	struct ip_net trusted[2];
	struct ip_addr a, wanted;
	size_t n = 1, count;
	enum err e;

	assert_int_equal(ip_nets_parse(STR("10.0.0.0/8,fd00::/8"), trusted, 2, &count, &bad),
	                 ERR_OK);
	while (lines && rest.ptr)
		headers[n++] = (struct http_header){STR("X-Forwarded-For"), str_split(&rest, '|')};
	e = client_find(headers, n, str_of(peer), trusted, count, &a, &text);
	if (!expected) {
		if (e != ERR_INVAL)
			fail_msg("%s took %s as %.*s", peer, lines, (int)text.len, text.ptr);
		return;
	}
	if (e != ERR_OK)
		fail_msg("%s refused %s", peer, lines);
	wanted = addr(expected);
	assert_memory_equal(&a, &wanted, sizeof(a));
	if (!str_eq(text, str_of(expected)))
		fail_msg("%.*s is not %s", (int)text.len, text.ptr, expected);
}

static void test_forwarded_for(void **state)
{
	(void)state;
	finds("192.0.2.1", NULL, "192.0.2.1");
	finds("10.0.0.1", NULL, "10.0.0.1");
	/* Who is no proxy may write what it likes. */
	finds("192.0.2.1", "203.0.113.9", "192.0.2.1");
	finds("192.0.2.1", "!!", "192.0.2.1");
	finds("10.0.0.1", "203.0.113.9", "203.0.113.9");
	finds("10.0.0.1", "203.0.113.9, 10.9.9.9", "203.0.113.9");
	finds("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.9.9.9,fd00::7", "203.0.113.9");
	finds("10.0.0.1", "forged|203.0.113.9|10.9.9.9", "203.0.113.9");
	finds("10.0.0.1", "203.0.113.9|10.9.9.9", "203.0.113.9");
	finds("10.0.0.1", "10.2.2.2, 10.3.3.3", "10.2.2.2");
	finds("10.0.0.1", "203.0.113.9:4711", "203.0.113.9");
	finds("10.0.0.1", "2001:db8::9", "2001:db8::9");
	finds("10.0.0.1", "[2001:db8::9]:443, [fd00::1]", "2001:db8::9");
	finds("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9");
	/* What a trusted proxy wrote must be right; what stands left of the client need not. */
	finds("10.0.0.1", "<script>, 203.0.113.9", "203.0.113.9");
	finds("10.0.0.1", "", NULL);
	finds("10.0.0.1", "unknown", NULL);
	finds("10.0.0.1", "203.0.113.9,", NULL);
	finds("10.0.0.1", "unknown, 10.0.0.2", NULL);
	finds("10.0.0.1", "[2001:db8::9", NULL);
	finds("10.0.0.1", "[2001:db8::9]x", NULL);
	finds("10.0.0.1", "203.0.113.9|,", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses), cmocka_unit_test(test_networks),
	    cmocka_unit_test(test_lists), cmocka_unit_test(test_forwarded_for)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
