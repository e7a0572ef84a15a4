/* What Redis's error replies mean, in one table: the code for those who asked, whether the
 * connection is of any use still, and a sentence for whoever reads the log. Texts are matched by
 * their first word, which is all that Redis promises about them. */
#include <stdio.h>

#include "redis_priv.h"
#include "weir/run/log.h"

#define LOG_AGAIN (60 * USEC_PER_SEC) /* the same trouble of the same connection */

struct meaning {
	const char *prefix;
	enum redis_trouble trouble;
	enum err err;
	bool drop; /* connect anew: it serves again elsewhere, or only after another greeting */
	const char *text;
};

static const struct meaning meanings[] = {
    {"OOM ", REDIS_TROUBLE_OOM, ERR_FULL, false,
     "maxmemory is reached: it takes nothing new until the queue is drained or maxmemory raised"},
    {"LOADING ", REDIS_TROUBLE_LOADING, ERR_UNAVAILABLE, true, "it is still reading its data"},
    {"MISCONF ", REDIS_TROUBLE_MISCONF, ERR_UNAVAILABLE, false,
     "it cannot write its snapshot or append-only file: look at its log and its disk"},
    {"READONLY ", REDIS_TROUBLE_READONLY, ERR_UNAVAILABLE, true,
     "it is a replica: REDIS_ADDR must lead to the primary"},
    {"BUSY ", REDIS_TROUBLE_BUSY, ERR_UNAVAILABLE, false,
     "a script runs for too long there; SCRIPT KILL ends it"},
    {"MASTERDOWN ", REDIS_TROUBLE_MASTERDOWN, ERR_UNAVAILABLE, true,
     "it is a replica that lost its primary"},
    {"CLUSTERDOWN ", REDIS_TROUBLE_CLUSTERDOWN, ERR_UNAVAILABLE, false,
     "the cluster does not serve"},
    {"TRYAGAIN ", REDIS_TROUBLE_CLUSTERDOWN, ERR_UNAVAILABLE, false, "the cluster moves slots"},
    {"NOREPLICAS ", REDIS_TROUBLE_NOREPLICAS, ERR_UNAVAILABLE, false,
     "it has fewer replicas than min-replicas-to-write wants"},
    {"UNBLOCKED ", REDIS_TROUBLE_UNBLOCKED, ERR_UNAVAILABLE, false,
     "a waiting read was ended: the stream was deleted, or the server became a replica"},
    {"NOAUTH ", REDIS_TROUBLE_NOAUTH, ERR_DENIED, true,
     "it wants a password: set REDIS_PASSWORD, and REDIS_USERNAME for a user of its own"},
    {"WRONGPASS ", REDIS_TROUBLE_WRONGPASS, ERR_DENIED, false,
     "REDIS_USERNAME or REDIS_PASSWORD is wrong"},
    {"ERR AUTH ", REDIS_TROUBLE_WRONGPASS, ERR_DENIED, false,
     "it has no password: REDIS_PASSWORD must be empty"},
    {"NOPERM ", REDIS_TROUBLE_NOPERM, ERR_DENIED, false,
     "the user of REDIS_USERNAME lacks a permission"},
    {"NOGROUP ", REDIS_TROUBLE_NOGROUP, ERR_NOTABLE, false,
     "the consumer group is gone (FLUSHALL, DEL or XGROUP DESTROY?); it is made anew"},
    {"NOSCRIPT ", REDIS_TROUBLE_OTHER, ERR_NOTABLE, false, "it forgot a script"},
    {"ERR max number of clients", REDIS_TROUBLE_MAXCLIENTS, ERR_UNAVAILABLE, true,
     "it has as many clients as maxclients allows"},
    {"ERR DB index is out of range", REDIS_TROUBLE_OTHER, ERR_NOTFOUND, true,
     "it has no database of the number REDIS_DB"},
};

static const struct meaning busy_group = {"BUSYGROUP ", REDIS_TROUBLE_NONE, ERR_CONFLICT, false,
                                          "the group exists"};
static const struct meaning other = {"", REDIS_TROUBLE_OTHER, ERR_INVAL, false,
                                     "it refuses a command"};

#define TROUBLE_NAME(code, name) name,
static const char *const names[] = {REDIS_TROUBLES(TROUBLE_NAME)};

const char *redis_trouble_name(enum redis_trouble t)
{
	return names[t];
}

uint64_t redis_troubles(const struct redis *r, enum redis_trouble t)
{
	return r->troubles[t].count;
}

static const struct meaning *meaning_of(struct str text)
{
	if (str_starts(text, str_of(busy_group.prefix)))
		return &busy_group;
	for (size_t i = 0; i < sizeof(meanings) / sizeof(*meanings); i++)
		if (str_starts(text, str_of(meanings[i].prefix)))
			return &meanings[i];
	return &other;
}

/* Once for the first of its kind and then once a minute, however many commands meet it: a server in
 * trouble must not fill the log. While connecting, redis_lose() tells. */
static void report(struct redis *r, const struct meaning *m)
{
	struct redis_trouble_log *l = &r->troubles[m->trouble];
	usec_t now = loop_now(r->loop);

	l->unlogged++;
	if (r->state != REDIS_UP || now < l->log_again)
		return;
	log_warn(LOG_REDIS, "Redis refuses a command", LOG_STR("connection", r->o.name),
	         LOG_STR("kind", names[m->trouble]), LOG_STR("detail", r->last_error),
	         LOG_STR("meaning", m->text), LOG_INT("times", l->unlogged));
	l->unlogged = 0;
	l->log_again = now + LOG_AGAIN;
}

enum err redis_note_error(struct redis *r, struct str text)
{
	const struct meaning *m = meaning_of(text);

	snprintf(r->last_error, sizeof(r->last_error), "%.*s", (int)text.len, text.ptr);
	r->meaning = m->text;
	r->drop = r->drop || m->drop;
	if (m->trouble == REDIS_TROUBLE_NONE)
		return m->err;
	r->troubles[m->trouble].count++;
	report(r, m);
	return m->err;
}

void redis_note_loss(struct redis *r, enum redis_trouble t)
{
	r->troubles[t].count++;
}
