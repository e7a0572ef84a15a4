/* Where Redis forbids CONFIG (managed ones do, or an ACL), INFO still tells two of the settings;
 * the others are unknown then, which is said, for not to know is not to be safe. */
#include "weir/app/durability_rules.h"

#include <stdio.h>
#include <string.h>

#include "weir/io/pg.h"
#include "weir/io/redis.h"

#define DURABILITY_RULE(code, server, setting, want, loss, remedy) \
	{server, setting, want, loss, remedy},
const struct durability_rule durability_rules[DURABILITY_COUNT] = {
    DURABILITY_SETTINGS(DURABILITY_RULE)};

const struct str durability_config_argv[DURABILITY_CONFIG_ARGC] = {
    {"CONFIG", 6},
    {"GET", 3},
    {"appendonly", 10},
    {"appendfsync", 11},
    {"no-appendfsync-on-rewrite", 25},
    {"maxmemory-policy", 16},
    {"min-replicas-to-write", 21},
};

/* In the order of the settings from synchronous_commit on. */
const char durability_pg_sql[] =
    "SELECT current_setting('synchronous_commit'), current_setting('fsync'),"
    " current_setting('full_page_writes'),"
    " CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END,"
    " current_setting('transaction_read_only')";

const char *durability_verdict_name(enum durability_verdict v)
{
	return v == DURABILITY_SAFE ? "safe" : v == DURABILITY_UNSAFE ? "unsafe" : "unknown";
}

static void set(struct durability_finding *f, enum durability_verdict v, struct str value)
{
	f->verdict = v;
	snprintf(f->value, sizeof(f->value), "%.*s",
	         (int)(value.len < sizeof(f->value) ? value.len : sizeof(f->value) - 1),
	         value.ptr ? value.ptr : "");
}

/* `value` NULL: not told. */
static void judge(struct durability_finding *findings, enum durability_setting s, struct str value,
                  const char *why)
{
	struct str want = str_of(durability_rules[s].want);

	if (!value.ptr)
		set(&findings[s], DURABILITY_UNKNOWN, str_of(why));
	else
		set(&findings[s], str_eq(value, want) ? DURABILITY_SAFE : DURABILITY_UNSAFE, value);
}

/* ---- Redis ---- */

static struct str config_value(const struct redis_reply *config, const char *name)
{
	for (size_t i = 0; config && i + 1 < config->count; i += 2)
		if (str_eq(config->items[i]->str, str_of(name)))
			return config->items[i + 1]->str;
	return STR_NONE;
}

/* The value behind "name:" at the start of a line. */
static struct str info_value(struct str info, const char *name)
{
	struct str line;

	while ((line = str_split(&info, '\n')).ptr) {
		struct str value = line, key = str_split(&value, ':');

		if (!value.ptr || !str_eq(key, str_of(name)))
			continue;
		if (value.len && value.ptr[value.len - 1] == '\r')
			value.len--;
		return value;
	}
	return STR_NONE;
}

static struct str first_told(struct str a, struct str b)
{
	return a.ptr ? a : b;
}

static struct str yes_or_no(struct str flag)
{
	return !flag.ptr ? STR_NONE : str_eq(flag, STR("1")) ? STR("yes") : STR("no");
}

/* Of no matter without replicas. Redis cannot promise a replica to be complete; what it can is to
 * take no writes while none is near. */
static void judge_replicas(struct durability_finding *f, struct str replicas, struct str least,
                           const char *why)
{
	int64_t n;

	if (str_eq(replicas, STR("0")))
		set(f, DURABILITY_SAFE, STR("of no matter without replicas"));
	else if (!replicas.ptr || !least.ptr || str_to_int(least, 0, INT64_MAX, &n) != ERR_OK)
		set(f, DURABILITY_UNKNOWN, str_of(why));
	else
		set(f, n > 0 ? DURABILITY_SAFE : DURABILITY_UNSAFE, least);
}

void durability_judge_redis(const struct redis_reply *config, struct str info, const char *why,
                            struct durability_finding findings[DURABILITY_COUNT])
{
	judge(findings, DURABILITY_APPENDONLY,
	      first_told(config_value(config, "appendonly"),
	                 yes_or_no(info_value(info, "aof_enabled"))),
	      why);
	judge(findings, DURABILITY_APPENDFSYNC, config_value(config, "appendfsync"), why);
	judge(findings, DURABILITY_FSYNC_ON_REWRITE,
	      config_value(config, "no-appendfsync-on-rewrite"), why);
	judge(findings, DURABILITY_MAXMEMORY_POLICY,
	      first_told(config_value(config, "maxmemory-policy"),
	                 info_value(info, "maxmemory_policy")),
	      why);
	judge(findings, DURABILITY_AOF_WRITE, info_value(info, "aof_last_write_status"), why);
	judge(findings, DURABILITY_ROLE, info_value(info, "role"), why);
	judge_replicas(&findings[DURABILITY_MIN_REPLICAS], info_value(info, "connected_slaves"),
	               config_value(config, "min-replicas-to-write"), why);
}

/* ---- Postgres ---- */

void durability_judge_pg(const struct pg_result *row, const char *why,
                         struct durability_finding findings[DURABILITY_COUNT])
{
	for (int s = DURABILITY_SYNCHRONOUS_COMMIT; s < DURABILITY_SCHEMA; s++) {
		size_t col = (size_t)(s - DURABILITY_SYNCHRONOUS_COMMIT);
		struct str value = row ? pg_value(row, 0, col) : STR_NONE;

		judge(findings, (enum durability_setting)s, value, why);
		/* Stricter than on. */
		if (s == DURABILITY_SYNCHRONOUS_COMMIT && str_eq(value, STR("remote_apply")))
			findings[s].verdict = DURABILITY_SAFE;
	}
}

static struct str last_of(struct str list)
{
	struct str last = STR_NONE;

	while (list.ptr)
		last = str_split(&list, ',');
	return last;
}

void durability_judge_schema(enum migrate_state s, const struct migration *set, struct str applied,
                             struct durability_finding *ret)
{
	struct str last = last_of(applied);

	if (!last.len)
		last = STR("none");
	ret->verdict = s == MIGRATE_CURRENT ? DURABILITY_SAFE : DURABILITY_UNSAFE;
	snprintf(ret->value, sizeof(ret->value), "%s: it is at %.*s, this weir at %s",
	         migrate_state_name(s), (int)(last.len < 32 ? last.len : 32), last.ptr,
	         migrate_last(set));
}

/* ---- all of it ---- */

enum durability_verdict
durability_overall(const struct durability_finding findings[DURABILITY_COUNT], bool redis, bool pg)
{
	enum durability_verdict worst = DURABILITY_SAFE;

	for (int s = 0; s < DURABILITY_COUNT; s++) {
		enum durability_verdict v = findings[s].verdict;

		if (s < DURABILITY_SYNCHRONOUS_COMMIT ? !redis : !pg)
			continue;
		if (v == DURABILITY_UNSAFE)
			return v;
		if (v == DURABILITY_UNKNOWN)
			worst = v;
	}
	return worst;
}

void durability_print(const struct durability_finding *f, enum durability_setting s,
                      struct buf *out)
{
	const struct durability_rule *r = &durability_rules[s];

	switch (f->verdict) {
	case DURABILITY_SAFE:
		buf_addf(out, "%s: %s is %s", r->server, r->setting, f->value);
		return;
	case DURABILITY_UNSAFE:
		buf_addf(out, "%s: %s is %s, not %s: %s. To do: %s", r->server, r->setting,
		         f->value, r->want, r->loss, r->remedy);
		return;
	case DURABILITY_UNKNOWN:
		buf_addf(out,
		         "%s: %s is not known (%s); it should be %s, otherwise %s. To do: let "
		         "weir's user read it%s",
		         r->server, r->setting, f->value, r->want, r->loss,
		         s < DURABILITY_SYNCHRONOUS_COMMIT ? " (ACL: +info +config|get)" : "");
		return;
	}
}
