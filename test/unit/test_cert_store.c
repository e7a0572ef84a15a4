/* The store of certificates with a real client against a server of the test's own: one fetch for
 * all who wait, a renewal nobody waits for, and what is kept and not asked for after a failure. */
#include "http_peer.h"

#include <time.h>

#include "weir/base/cert.h"
#include "weir/base/pubkey.h"
#include "weir/io/http_client.h"
#include "weir/io/resolver.h"
#include "weir/receive/cert_store.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define HOUR     (3600 * USEC_PER_SEC)
#define PATIENCE (20 * USEC_PER_SEC)

static usec_t ahead; /* of the real clock */
static char pem[4096], url[64];

static struct {
	struct loop *loop;
	struct resolver *resolver;
	struct http_client *http;
	struct metric_registry *metrics;
	struct cert_store *store;
	struct loop_timer tick;
	usec_t give_up;
} rig;

static struct {
	int n;
	enum err last;
} told;

static usec_t real(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * USEC_PER_SEC + t.tv_nsec / 1000;
}

static usec_t mono(void)
{
	return real() + ahead;
}

/* /good and, from the second request on, nothing of use at /once. */
static bool answer(int fd, const char *request, const char *body)
{
	static int asked;

	(void)body;
	if (peer_is(request, "/once") && asked++ > 0)
		peer_reply(fd, 500, "", "no");
	else
		peer_reply(fd, 200, "", pem);
	return true;
}

static void on_tick(void *arg)
{
	(void)arg;
	loop_stop(rig.loop);
}

/* Turns the loop until so many requests came and so many who waited were told, and looks. */
static void turn(int requests, int tells)
{
	rig.give_up = real() + PATIENCE;
	do {
		loop_timer_set(&rig.tick, USEC_PER_MSEC);
		assert_int_equal(loop_run(rig.loop), ERR_OK);
	} while (
	    (peer.seen->requests < requests || told.n < tells || http_client_active(rig.http)) &&
	    real() < rig.give_up);
	assert_int_equal(peer.seen->requests, requests);
	assert_int_equal(told.n, tells);
}

static void on_cert(void *arg, enum err e)
{
	(void)arg;
	told.n++;
	told.last = e;
}

static enum err open_rig(void)
{
	struct http_client_options o = {.max_active = 8};
	struct cert_store_options c = {.http = NULL};
	enum err e;

	ahead = 0;
	told.n = 0;
	clock_set_source(mono, NULL);
	memset(&rig, 0, sizeof(rig));
	e = loop_new(&rig.loop);
	if (e == ERR_OK)
		e = resolver_new(rig.loop, &rig.resolver);
	if (e == ERR_OK)
		e = loop_timer_init(&rig.tick, rig.loop, on_tick, NULL);
	o.resolver = rig.resolver;
	if (e == ERR_OK)
		e = http_client_new(rig.loop, &o, &rig.http);
	if (e == ERR_OK)
		e = metric_registry_new(&rig.metrics);
	c.http = rig.http;
	c.metrics = rig.metrics;
	return e == ERR_OK ? cert_store_new(&c, &rig.store) : e;
}

static void close_rig(void)
{
	http_client_free(rig.http);
	cert_store_free(rig.store);
	metric_registry_free(rig.metrics);
	loop_timer_done(&rig.tick);
	resolver_free(rig.resolver);
	loop_free(rig.loop);
	clock_set_source(NULL, NULL);
}

static int setup(void **state)
{
	(void)state;
	peer_forget();
	return open_rig() == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	close_rig();
	return 0;
}

static struct str at(const char *path)
{
	snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", peer.port, path);
	return str_of(url);
}

static void test_renewal(void **state)
{
	struct cert_wait waits[3] = {{.fn = on_cert}, {.fn = on_cert}, {.fn = on_cert}};
	struct str u = at("/good");
	struct pubkey *key;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(cert_store_wait(rig.store, u, false, &waits[i]), ERR_OK);
	assert_int_equal(cert_store_waiting(rig.store), 3);
	turn(1, 3);
	assert_int_equal(told.last, ERR_OK);
	assert_int_equal(cert_store_waiting(rig.store), 0);
	ahead = 22 * HOUR;
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	turn(1, 3);
	ahead = 23 * HOUR + HOUR / 2; /* time to renew it, behind the back of who uses it */
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	turn(2, 3);
	ahead = 46 * HOUR;
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	turn(2, 3);
	ahead = 48 * HOUR;
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_NOTFOUND);
}

static void test_renewal_fails(void **state)
{
	struct cert_wait w = {.fn = on_cert}, again = {.fn = on_cert};
	struct str u = at("/once");
	struct pubkey *key;

	(void)state;
	assert_int_equal(cert_store_wait(rig.store, u, false, &w), ERR_OK);
	turn(1, 1);
	ahead = 23 * HOUR + HOUR / 2;
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	turn(2, 1);
	/* It is good until its day is over, and not asked for at every request. */
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	turn(2, 1);
	ahead += CERT_STORE_FAILED;
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_OK);
	turn(3, 1);
	ahead = 24 * HOUR + 1;
	assert_int_equal(cert_store_find(rig.store, u, false, &key), ERR_NOTFOUND);
	assert_int_equal(cert_store_wait(rig.store, u, false, &w), ERR_OK);
	turn(4, 2);
	assert_int_equal(told.last, ERR_UNAVAILABLE);
	assert_int_equal(cert_store_wait(rig.store, u, false, &again), ERR_UNAVAILABLE);
}

static void test_bounds(void **state)
{
	static struct cert_wait waits[CERT_STORE_MAX_WAITING + 1];
	int other = 0;

	(void)state;
	for (int i = 0; i < CERT_STORE_MAX_FETCHES + 1; i++) {
		char path[20];

		snprintf(path, sizeof(path), "/hang%d", i);
		waits[i].fn = on_cert;
		assert_int_equal(cert_store_wait(rig.store, at(path), false, &waits[i]),
		                 i < CERT_STORE_MAX_FETCHES ? ERR_OK : ERR_FULL);
		other = i;
	}
	for (int i = other; i < CERT_STORE_MAX_WAITING; i++) {
		waits[i].fn = on_cert;
		assert_int_equal(cert_store_wait(rig.store, at("/hang0"), false, &waits[i]),
		                 ERR_OK);
	}
	assert_int_equal(cert_store_wait(rig.store, at("/hang0"), false, &waits[other + 1]),
	                 ERR_FULL);
	/* Who still waits at the end is told. */
	http_client_free(rig.http);
	rig.http = NULL;
	assert_int_equal(told.n, CERT_STORE_MAX_WAITING);
	assert_int_equal(told.last, ERR_CANCELLED);
}

static void scenario_fetch(void)
{
	struct cert_wait w = {.fn = on_cert};
	struct pubkey *key;

	if (open_rig() == ERR_OK && cert_store_wait(rig.store, at("/good"), false, &w) == ERR_OK) {
		rig.give_up = real() + PATIENCE;
		while (told.n == 0 && real() < rig.give_up) {
			loop_timer_set(&rig.tick, USEC_PER_MSEC);
			(void)!loop_run(rig.loop);
		}
		assert_int_equal(told.n, 1);
		if (told.last == ERR_OK)
			assert_int_equal(cert_store_find(rig.store, at("/good"), false, &key),
			                 ERR_OK);
	}
	close_rig();
}

static int start(void **state)
{
	struct keypair *k;
	struct buf b;

	(void)state;
	buf_init(&b, sizeof(pem) - 1);
	assert_int_equal(keypair_new(PUBKEY_RSA, &k), ERR_OK);
	assert_int_equal(
	    cert_self_signed(k, "x", clock_wall() - HOUR, clock_wall() + 100 * HOUR, &b), ERR_OK);
	memcpy(pem, b.ptr, b.len + 1);
	buf_done(&b);
	keypair_free(k);
	peer.answer = answer;
	peer_start();
	return 0;
}

static int stop(void **state)
{
	(void)state;
	peer_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_renewal, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_renewal_fails, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
	};
	const struct torture torture[] = {TORTURE(scenario_fetch)};

	return TESTS_OR_TORTURE_BETWEEN(tests, torture, start, stop);
}
