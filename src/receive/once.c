/* Memory decides first, also between requests that come at the same time; then Redis, where each
 * token is a key with its body's digest: SET NX GET either takes it or tells whose it is. Without
 * Redis memory alone decides: another process may take the token for another body then, which is
 * what it is to be without Redis.
 *
 * A claim that came to nothing is given back, so that a refusal burns no token. */
#include "weir/receive/once.h"

#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/base/digest.h"
#include "weir/base/list.h"
#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"

#define KEY_MAX_LEN 512

struct once {
	struct redis *redis;
	char *prefix;         /* owned */
	struct map *by_token; /* of struct token */
	struct list age;
};

struct token {
	struct list_node node;
	struct once_key key;
	usec_t until, age; /* `until`: monotonic */
	unsigned users;    /* claims that are not settled */
	bool accepted;
	bool known; /* nobody else has it, as far as can be told */
	bool ours;  /* it was this process that wrote it into Redis */
};

struct claim {
	struct once *s;
	struct once_key key;
	once_fn fn;
	void *arg;
};

static struct str token_of(const struct once_key *k)
{
	return str_n(k->token, sizeof(k->token));
}

enum err once_key_make(struct str tool, struct str token, struct str body, struct once_key *ret)
{
	struct str parts[] = {tool, str_n("", 1), token};
	uint8_t of_token[DIGEST_MAX_LEN], of_body[DIGEST_MAX_LEN];
	enum err e = digest_parts(DIGEST_SHA256, parts, 3, of_token);

	if (e == ERR_OK)
		e = digest_parts(DIGEST_SHA256, &body, 1, of_body);
	if (e != ERR_OK)
		return e;
	memcpy(ret->token, of_token, sizeof(ret->token));
	memcpy(ret->body, of_body, sizeof(ret->body));
	return ERR_OK;
}

enum err once_new(const struct once_options *o, struct once **ret)
{
	struct once *s = mem_zalloc(sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	s->redis = o->redis;
	s->prefix = mem_strdup(o->prefix ? o->prefix : "");
	list_init(&s->age);
	if (!s->prefix || map_new(&s->by_token) != ERR_OK) {
		mem_free(s->prefix);
		mem_free(s);
		return ERR_NOMEM;
	}
	*ret = s;
	return ERR_OK;
}

static void drop(struct once *s, struct token *t)
{
	map_remove(s->by_token, token_of(&t->key));
	list_remove(&s->age, &t->node);
	mem_free(t);
}

void once_free(struct once *s)
{
	struct list_node *n;

	if (!s)
		return;
	while ((n = list_front(&s->age)))
		drop(s, container_of(n, struct token, node));
	map_free(s->by_token, NULL);
	mem_free(s->prefix);
	mem_free(s);
}

size_t once_count(const struct once *s)
{
	return s->age.count;
}

/* ---- memory ---- */

static void expire(struct once *s, usec_t now)
{
	struct list_node *n;

	while ((n = list_front(&s->age))) {
		struct token *t = container_of(n, struct token, node);

		if (t->users || (now < t->until && s->age.count < ONCE_MAX))
			return;
		drop(s, t);
	}
}

static struct token *find(struct once *s, const struct once_key *k)
{
	return map_get(s->by_token, token_of(k));
}

static enum err add(struct once *s, const struct once_key *k, usec_t age, struct token **ret)
{
	struct token *t = mem_zalloc(sizeof(*t));
	enum err e;

	if (!t)
		return ERR_NOMEM;
	t->key = *k;
	t->age = age;
	t->until = clock_mono() + age;
	e = map_add(s->by_token, token_of(k), t);
	if (e != ERR_OK) {
		mem_free(t);
		return e;
	}
	list_push_back(&s->age, &t->node);
	*ret = t;
	return ERR_OK;
}

/* ---- Redis ---- */

static enum err redis_name(const struct once *s, const struct once_key *k, char out[KEY_MAX_LEN])
{
	char hex[2 * ONCE_KEY_LEN + 1];
	int n;

	hex_encode(k->token, sizeof(k->token), hex);
	n = snprintf(out, KEY_MAX_LEN, "%swebhook_once:%s", s->prefix, hex);
	return n > 0 && n < KEY_MAX_LEN ? ERR_OK : ERR_TOOBIG;
}

static void on_ignored(void *arg, enum err e, const struct redis_reply *reply)
{
	(void)arg;
	(void)e;
	(void)reply;
}

/* Whether it arrives does not matter: what is kept too long is kept for its body. */
static void give_back(struct once *s, const struct once_key *k)
{
	char name[KEY_MAX_LEN];
	struct str argv[2] = {STR("DEL"), STR_NONE};

	if (!s->redis || redis_name(s, k, name) != ERR_OK)
		return;
	argv[1] = str_of(name);
	(void)!redis_submit(s->redis, argv, 2, 0, on_ignored, NULL);
}

static enum err set(struct once *s, const struct token *t, bool only_new, redis_reply_fn fn,
                    void *arg)
{
	char name[KEY_MAX_LEN], ms[24];
	struct str argv[7] = {STR("SET"), STR_NONE, str_n(t->key.body, sizeof(t->key.body)),
	                      STR("PX"),  STR_NONE, STR("NX"),
	                      STR("GET")};
	enum err e = redis_name(s, &t->key, name);

	if (e != ERR_OK)
		return e;
	snprintf(ms, sizeof(ms), "%lld", (long long)(t->age / USEC_PER_MSEC + 1));
	argv[1] = str_of(name);
	argv[4] = str_of(ms);
	return redis_submit(s->redis, argv, only_new ? 7 : 5, 0, fn, arg);
}

static void on_set(void *arg, enum err e, const struct redis_reply *reply)
{
	struct claim *c = arg;
	struct token *t = find(c->s, &c->key);
	struct str body = str_n(c->key.body, sizeof(c->key.body));
	enum err found = e == ERR_CANCELLED ? e : ERR_OK;

	if (e == ERR_OK && reply->type == REDIS_STRING && !str_eq(reply->str, body))
		found = ERR_CONFLICT;
	if (t && e == ERR_OK && reply->type == REDIS_NIL)
		t->ours = true;
	if (t && found == ERR_OK)
		t->known = true;
	if (t && found != ERR_OK && --t->users == 0)
		drop(c->s, t);
	c->fn(c->arg, found);
	mem_free(c);
}

/* ERR_OK: Redis is not asked. Of two claims at once each asks: the answer is the same. */
static enum err ask(struct once *s, struct token *t, once_fn fn, void *arg)
{
	struct claim *c;

	if (!s->redis || !redis_up(s->redis))
		return ERR_OK;
	c = mem_alloc(sizeof(*c));
	if (!c)
		return ERR_NOMEM;
	*c = (struct claim){s, t->key, fn, arg};
	if (set(s, t, true, on_set, c) == ERR_OK)
		return ERR_AGAIN;
	mem_free(c);
	return ERR_OK;
}

/* ---- claims ---- */

enum err once_claim(struct once *s, const struct once_key *k, usec_t age, once_fn fn, void *arg)
{
	usec_t now = clock_mono();
	struct token *t = find(s, k);
	enum err e;

	if (t && !t->users && now >= t->until) {
		drop(s, t);
		t = NULL;
	}
	if (t && !digest_equal(t->key.body, k->body, sizeof(k->body)))
		return ERR_CONFLICT;
	if (!t) {
		expire(s, now);
		e = add(s, k, age, &t);
		if (e != ERR_OK)
			return e;
	}
	t->users++;
	e = t->known ? ERR_OK : ask(s, t, fn, arg);
	t->known |= e == ERR_OK;
	if (e == ERR_NOMEM && --t->users == 0)
		drop(s, t);
	return e;
}

void once_settle(struct once *s, const struct once_key *k, bool accepted)
{
	struct token *t = find(s, k);

	if (!t)
		return;
	t->users--;
	if (accepted && !t->accepted) {
		t->accepted = true;
		/* The process whose it is in Redis may give it back. */
		if (!t->ours && s->redis && redis_up(s->redis))
			(void)!set(s, t, false, on_ignored, NULL);
		return;
	}
	if (accepted || t->accepted || t->users)
		return;
	if (t->ours)
		give_back(s, k);
	drop(s, t);
}
