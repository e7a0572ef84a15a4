/* The keys of certificates that requests name by URL (SNS, PayPal): fetched once, however many
 * requests wait for one, kept for a day and renewed before it is over, so that nobody waits for a
 * second one; not asked for again for some seconds where they could not be had.
 * Whether a URL may be fetched at all is the recipe's pin, which is asked before. */
#ifndef WEIR_RECEIVE_CERT_STORE_H
#define WEIR_RECEIVE_CERT_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/list.h"
#include "weir/base/str.h"

struct cert_store;
struct http_client;
struct metric_registry;
struct pubkey;

#define CERT_STORE_MAX         64 /* certificates, and URLs that failed */
#define CERT_STORE_MAX_WAITING 256
#define CERT_STORE_MAX_FETCHES 8
#define CERT_STORE_MAX_BYTES   (64 * 1024)
#define CERT_STORE_DEADLINE    (3 * USEC_PER_SEC)
#define CERT_STORE_KEEP        (24 * 3600 * USEC_PER_SEC)
#define CERT_STORE_RENEW       (3600 * USEC_PER_SEC) /* so long before it is over */
#define CERT_STORE_FAILED      (10 * USEC_PER_SEC)

struct cert_store_options {
	struct http_client *http;        /* borrowed; NULL: nothing is fetched */
	struct metric_registry *metrics; /* borrowed */
	const char *ca_file;             /* copied; of chains; NULL or "": the system's */
};

enum err cert_store_new(const struct cert_store_options *o, struct cert_store **ret) MUST_CHECK;
/* After http_client_free(), which tells who still waits. NULL is fine. */
void cert_store_free(struct cert_store *s);

/* The certificate's RSA key; borrowed until the next call. `chain`: see cert_judge(). ERR_NOTFOUND:
 * it is not here, cert_store_wait() may get it; ERR_NOMEM. */
enum err cert_store_find(struct cert_store *s, struct str url, bool chain,
                         struct pubkey **ret) MUST_CHECK;

/* Embedded in its owner; must stay until `fn` was called. */
struct cert_wait {
	struct list_node node;
	void (*fn)(void *arg, enum err e); /* ERR_OK: it is here now. Exactly once, from the loop */
	void *arg;
};

/* Fetches it, or waits with others who want it. Not ERR_OK: `fn` will not be called;
 * ERR_UNAVAILABLE (it failed moments ago, or there is no client), ERR_FULL, ERR_NOMEM. */
enum err cert_store_wait(struct cert_store *s, struct str url, bool chain,
                         struct cert_wait *w) MUST_CHECK;

/* What a fetch does with what came: judges a certificate and keeps it. ERR_INVAL, ERR_DENIED, with
 * a text; ERR_NOMEM. */
enum err cert_store_put(struct cert_store *s, struct str url, bool chain, struct str pem,
                        struct err_info *info) MUST_CHECK;

size_t cert_store_waiting(const struct cert_store *s);

#endif
