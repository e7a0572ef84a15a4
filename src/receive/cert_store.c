/* An entry is a URL: with a key, being fetched, or failed. The oldest one that nobody waits for
 * makes room for another, failed ones before good ones, so that made-up URLs push no certificate
 * out. */
#include "weir/receive/cert_store.h"

#include "weir/base/buf.h"
#include "weir/base/cert.h"
#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/base/pubkey.h"
#include "weir/io/http_client.h"
#include "weir/model/pin.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define NAME_MAX_LEN (PIN_MAX_URL + 2)

struct cert_store {
	struct cert_store_options o;
	char *ca_file; /* owned */
	struct map *by_name;
	struct list age; /* of entries, the oldest in front */
	size_t fetches, waiting;
	struct metric *fetched, *failed;
};

struct entry {
	struct list_node node;
	struct cert_store *store;
	struct str name;    /* "0" or "1" for the chain, and the URL; owned, NUL-terminated */
	struct pubkey *key; /* owned; NULL: failed, or not here yet */
	usec_t fresh_until; /* monotonic: of the key */
	usec_t again;       /* monotonic: after a failure, when to ask again */
	usec_t valid_until; /* wall clock: the certificate's own end */
	bool fetching;
	struct list waits; /* of struct cert_wait */
};

static const struct metric_spec fetches_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_certificate_fetches_total",
    .help = "Certificates of signatures that were fetched, by outcome.",
    .labels = {"outcome"},
};

enum err cert_store_new(const struct cert_store_options *o, struct cert_store **ret)
{
	struct cert_store *s = mem_zalloc(sizeof(*s));
	struct metric_family *f = metric_family(o->metrics, &fetches_spec);

	if (!s)
		return ERR_NOMEM;
	s->o = *o;
	s->ca_file = mem_strdup(o->ca_file ? o->ca_file : "");
	list_init(&s->age);
	if (!s->ca_file || map_new(&s->by_name) != ERR_OK) {
		mem_free(s->ca_file);
		mem_free(s);
		return ERR_NOMEM;
	}
	s->fetched = metric_of(f, "ok", NULL, NULL);
	s->failed = metric_of(f, "failed", NULL, NULL);
	*ret = s;
	return ERR_OK;
}

static void drop(struct entry *e)
{
	struct cert_store *s = e->store;

	map_remove(s->by_name, e->name);
	list_remove(&s->age, &e->node);
	pubkey_free(e->key);
	mem_free((char *)(uintptr_t)e->name.ptr);
	mem_free(e);
}

void cert_store_free(struct cert_store *s)
{
	struct list_node *n;

	if (!s)
		return;
	while ((n = list_front(&s->age)))
		drop(container_of(n, struct entry, node));
	map_free(s->by_name, NULL);
	mem_free(s->ca_file);
	mem_free(s);
}

size_t cert_store_waiting(const struct cert_store *s)
{
	return s->waiting;
}

/* ---- entries ---- */

static struct str name_of(struct str url, bool chain, char out[NAME_MAX_LEN])
{
	if (url.len > PIN_MAX_URL)
		return STR_NONE;
	out[0] = chain ? '1' : '0';
	memcpy(out + 1, url.ptr, url.len);
	return str_n(out, url.len + 1);
}

static struct entry *find(struct cert_store *s, struct str url, bool chain)
{
	char name[NAME_MAX_LEN];
	struct str key = name_of(url, chain, name);

	return key.ptr ? map_get(s->by_name, key) : NULL;
}

static bool make_room(struct cert_store *s)
{
	struct entry *victim = NULL;

	if (map_count(s->by_name) < CERT_STORE_MAX)
		return true;
	list_for_each (&s->age, n) {
		struct entry *e = container_of(n, struct entry, node);

		if (!e->fetching && (!victim || (victim->key && !e->key)))
			victim = e;
	}
	if (victim)
		drop(victim);
	return victim != NULL;
}

static enum err make(struct cert_store *s, struct str url, bool chain, struct entry **ret)
{
	char text[NAME_MAX_LEN];
	struct str name = name_of(url, chain, text);
	struct entry *e;

	if (!name.ptr)
		return ERR_INVAL;
	if (!make_room(s))
		return ERR_FULL;
	e = mem_zalloc(sizeof(*e));
	if (!e)
		return ERR_NOMEM;
	e->store = s;
	e->name = str_n(mem_dup(name.ptr, name.len), name.len);
	list_init(&e->waits);
	if (!e->name.ptr || map_add(s->by_name, e->name, e) != ERR_OK) {
		mem_free((char *)(uintptr_t)e->name.ptr);
		mem_free(e);
		return ERR_NOMEM;
	}
	list_push_back(&s->age, &e->node);
	*ret = e;
	return ERR_OK;
}

static struct str url_of(const struct entry *e)
{
	return str_n(e->name.ptr + 1, e->name.len - 1);
}

static bool is_good(const struct entry *e)
{
	return e->key && clock_mono() < e->fresh_until && clock_wall() < e->valid_until;
}

static bool may_ask(const struct entry *e)
{
	return !e->fetching && clock_mono() >= e->again;
}

/* ---- a certificate that came ---- */

static enum err take(struct entry *e, struct str pem, struct err_info *info)
{
	struct cert_store *s = e->store;
	struct pubkey *key = NULL;
	usec_t until = 0;
	enum err err =
	    cert_judge(pem, clock_wall(), e->name.ptr[0] == '1', s->ca_file, &until, info);

	if (err == ERR_OK)
		err = pubkey_new(PUBKEY_RSA, PUBKEY_CERT, pem, &key);
	if (err == ERR_INVAL && info && !info->text[0])
		return err_set(info, err, "its key is no RSA key of at least %d bits",
		               PUBKEY_MIN_RSA_BITS);
	if (err != ERR_OK)
		return err;
	pubkey_free(e->key);
	e->key = key;
	e->valid_until = until;
	e->fresh_until = clock_mono() + CERT_STORE_KEEP;
	return ERR_OK;
}

enum err cert_store_put(struct cert_store *s, struct str url, bool chain, struct str pem,
                        struct err_info *info)
{
	struct entry *e = find(s, url, chain);
	bool fresh = !e;
	enum err err = e ? ERR_OK : make(s, url, chain, &e);

	if (err == ERR_OK)
		err = take(e, pem, info);
	if (err != ERR_OK && fresh && e)
		drop(e);
	return err;
}

/* ---- fetching ---- */

/* A request that was told may ask for another certificate at once, so the list is taken first. */
static void tell(struct entry *e, enum err err)
{
	struct cert_store *s = e->store;
	struct list_node *n;
	struct list waits;

	list_init(&waits);
	while ((n = list_pop_front(&e->waits)))
		list_push_back(&waits, n);
	while ((n = list_pop_front(&waits))) {
		struct cert_wait *w = container_of(n, struct cert_wait, node);

		s->waiting--;
		w->fn(w->arg, err);
	}
}

static void fail(struct entry *e, enum err err, const char *why)
{
	struct cert_store *s = e->store;

	e->again = clock_mono() + CERT_STORE_FAILED;
	if (!is_good(e)) {
		pubkey_free(e->key);
		e->key = NULL;
	}
	if (err == ERR_CANCELLED)
		return;
	metric_inc(s->failed);
	log_warn(LOG_RECEIVE, "a certificate could not be had", LOG_SLICE("url", url_of(e)),
	         LOG_STR("err", err_name(err)), LOG_STR("why", why));
}

static void on_answer(void *arg, enum err err, const struct http_response *res)
{
	struct entry *e = arg;
	struct cert_store *s = e->store;
	struct err_info info = {0};

	s->fetches--;
	e->fetching = false;
	if (err == ERR_OK && res->status == 200) {
		err = take(e, res->body, &info);
	} else if (err == ERR_OK) {
		err = ERR_UNAVAILABLE;
		(void)err_set(&info, err, "it was answered with status %d", res->status);
	} else {
		(void)err_set(&info, err, "%s", res->text);
	}
	if (err == ERR_OK) {
		metric_inc(s->fetched);
		log_info(LOG_RECEIVE, "certificate fetched", LOG_SLICE("url", url_of(e)));
	} else {
		fail(e, err, info.text);
	}
	tell(e, err);
}

static enum err fetch(struct entry *e)
{
	struct cert_store *s = e->store;
	struct http_request_spec spec = {
	    .method = "GET", .timeout = CERT_STORE_DEADLINE, .max_answer = CERT_STORE_MAX_BYTES};
	char url[PIN_MAX_URL + 1];
	enum err err;

	if (!s->o.http)
		return ERR_UNAVAILABLE;
	if (s->fetches == CERT_STORE_MAX_FETCHES)
		return ERR_FULL;
	memcpy(url, e->name.ptr + 1, e->name.len - 1);
	url[e->name.len - 1] = '\0';
	spec.url = url;
	err = http_client_submit(s->o.http, &spec, on_answer, e, NULL);
	if (err != ERR_OK)
		return err == ERR_INVAL ? ERR_UNAVAILABLE : err;
	s->fetches++;
	e->fetching = true;
	return ERR_OK;
}

enum err cert_store_find(struct cert_store *s, struct str url, bool chain, struct pubkey **ret)
{
	struct entry *e = find(s, url, chain);

	if (!e || !is_good(e))
		return ERR_NOTFOUND;
	if (clock_mono() >= e->fresh_until - CERT_STORE_RENEW && may_ask(e))
		(void)!fetch(e); /* in vain, as long as this one is good */
	*ret = e->key;
	return ERR_OK;
}

enum err cert_store_wait(struct cert_store *s, struct str url, bool chain, struct cert_wait *w)
{
	struct entry *e = find(s, url, chain);
	bool fresh = !e;
	enum err err = ERR_OK;

	if (s->waiting == CERT_STORE_MAX_WAITING)
		return ERR_FULL;
	if (e && !e->fetching && !may_ask(e))
		return ERR_UNAVAILABLE;
	if (!e)
		err = make(s, url, chain, &e);
	if (err == ERR_OK && !e->fetching)
		err = fetch(e);
	if (err != ERR_OK) {
		if (fresh && e)
			drop(e);
		return err;
	}
	list_push_back(&e->waits, &w->node);
	s->waiting++;
	return ERR_OK;
}
