/* What the audit makes of answers, whole ones and such as a server would hardly give. */
#include "torture.h"

#include "weir/app/durability_rules.h"
#include "weir/io/redis.h"

#define SAFE_INFO                                                                     \
	"# Persistence\r\naof_enabled:1\r\naof_last_write_status:ok\r\n"              \
	"# Memory\r\nmaxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\n" \
	"connected_slaves:0\r\n"

static struct durability_finding found[DURABILITY_COUNT];

/* A reply to CONFIG GET from pairs; ends with NULL. */
static const struct redis_reply *config(const char *const *pairs)
{
	static struct redis_reply parts[32], whole;
	static const struct redis_reply *items[32];

	whole = (struct redis_reply){.type = REDIS_ARRAY, .items = items};
	for (; pairs[whole.count]; whole.count++) {
		parts[whole.count] =
		    (struct redis_reply){.type = REDIS_STRING, .str = str_of(pairs[whole.count])};
		items[whole.count] = &parts[whole.count];
	}
	return &whole;
}

static const char *const safe_pairs[] = {"appendonly",
                                         "yes",
                                         "appendfsync",
                                         "always",
                                         "no-appendfsync-on-rewrite",
                                         "no",
                                         "maxmemory-policy",
                                         "noeviction",
                                         "min-replicas-to-write",
                                         "0",
                                         NULL};

static void assert_finding(enum durability_setting s, enum durability_verdict v, const char *value)
{
	assert_int_equal(found[s].verdict, v);
	assert_string_equal(found[s].value, value);
}

static void test_safe(void **state)
{
	(void)state;
	durability_judge_redis(config(safe_pairs), STR(SAFE_INFO), "", found);
	for (int s = 0; s < DURABILITY_SYNCHRONOUS_COMMIT; s++)
		assert_int_equal(found[s].verdict, DURABILITY_SAFE);
	assert_finding(DURABILITY_APPENDFSYNC, DURABILITY_SAFE, "always");
	durability_judge_pg(NULL, "refused", found);
	found[DURABILITY_SCHEMA].verdict = DURABILITY_SAFE;
	assert_int_equal(durability_overall(found, true, false), DURABILITY_SAFE);
	assert_int_equal(durability_overall(found, true, true), DURABILITY_UNKNOWN);
	assert_int_equal(durability_overall(found, false, false), DURABILITY_SAFE);
}

static void test_unsafe(void **state)
{
	static const char *const pairs[] = {"appendfsync", "everysec", "min-replicas-to-write",
	                                    "0",           "orphan",   NULL};
	(void)state;
	durability_judge_redis(
	    config(pairs),
	    STR("aof_enabled:0\nrole:slave\nconnected_slaves:2\naof_last_write_status:err"),
	    "silence", found);
	assert_finding(DURABILITY_APPENDONLY, DURABILITY_UNSAFE, "no");
	assert_finding(DURABILITY_APPENDFSYNC, DURABILITY_UNSAFE, "everysec");
	assert_finding(DURABILITY_FSYNC_ON_REWRITE, DURABILITY_UNKNOWN, "silence");
	assert_finding(DURABILITY_MAXMEMORY_POLICY, DURABILITY_UNKNOWN, "silence");
	assert_finding(DURABILITY_ROLE, DURABILITY_UNSAFE, "slave");
	assert_finding(DURABILITY_MIN_REPLICAS, DURABILITY_UNSAFE, "0");
	assert_finding(DURABILITY_AOF_WRITE, DURABILITY_UNSAFE, "err");
	assert_int_equal(durability_overall(found, true, false), DURABILITY_UNSAFE);
}

/* Neither is answered; and INFO with lines that are no pairs, or only begin like one. */
static void test_unknown(void **state)
{
	(void)state;
	durability_judge_redis(NULL, STR_NONE, "NOPERM", found);
	for (int s = 0; s < DURABILITY_SYNCHRONOUS_COMMIT; s++)
		assert_finding((enum durability_setting)s, DURABILITY_UNKNOWN, "NOPERM");
	durability_judge_redis(NULL, STR("role\r\nrolex:master\r\n:master\r\n\r\nrole:"), "?",
	                       found);
	assert_finding(DURABILITY_ROLE, DURABILITY_UNSAFE, "");
	assert_finding(DURABILITY_MIN_REPLICAS, DURABILITY_UNKNOWN, "?");
	durability_judge_pg(NULL, "permission denied", found);
	assert_finding(DURABILITY_FSYNC, DURABILITY_UNKNOWN, "permission denied");
}

static void test_schema(void **state)
{
	static const struct migration set[] = {
	    {"0001", "a", ""}, {"0004", "d", ""}, {NULL, NULL, NULL}};
	struct durability_finding f;

	(void)state;
	durability_judge_schema(MIGRATE_CURRENT, set, STR("0001,0004"), &f);
	assert_int_equal(f.verdict, DURABILITY_SAFE);
	assert_string_equal(f.value, "current: it is at 0004, this weir at 0004");
	durability_judge_schema(MIGRATE_OLDER, set, STR(""), &f);
	assert_int_equal(f.verdict, DURABILITY_UNSAFE);
	assert_string_equal(f.value, "older: it is at none, this weir at 0004");
	durability_judge_schema(MIGRATE_NEWER, set + 2, STR("0001,0009"), &f);
	assert_string_equal(f.value, "newer: it is at 0009, this weir at none");
}

static void test_print(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	durability_print(&(struct durability_finding){DURABILITY_UNSAFE, "everysec"},
	                 DURABILITY_APPENDFSYNC, &b);
	assert_string_equal(b.ptr,
	                    "redis: appendfsync is everysec, not always: a crash of the machine "
	                    "loses the last seconds of answered events. To do: CONFIG SET "
	                    "appendfsync always, and in redis.conf");
	buf_reset(&b);
	durability_print(&(struct durability_finding){DURABILITY_SAFE, "on"}, DURABILITY_FSYNC, &b);
	assert_string_equal(b.ptr, "postgres: fsync is on");
	buf_reset(&b);
	durability_print(&(struct durability_finding){DURABILITY_UNKNOWN, "NOPERM"},
	                 DURABILITY_APPENDONLY, &b);
	assert_true(strstr(b.ptr, "redis: appendonly is not known (NOPERM); it should be yes"));
	assert_true(strstr(b.ptr, "To do: let weir's user read it (ACL: +info +config|get)"));
	assert_string_equal(durability_verdict_name(DURABILITY_UNKNOWN), "unknown");
	buf_done(&b);
}

static void scenario_rules(void)
{
	struct buf b;

	durability_judge_redis(config(safe_pairs), STR(SAFE_INFO), "", found);
	buf_init(&b, 4096);
	durability_print(&found[0], DURABILITY_APPENDONLY, &b);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_safe),    cmocka_unit_test(test_unsafe),
	    cmocka_unit_test(test_unknown), cmocka_unit_test(test_schema),
	    cmocka_unit_test(test_print),
	};
	const struct torture torture[] = {TORTURE(scenario_rules)};

	return TESTS_OR_TORTURE(tests, torture);
}
