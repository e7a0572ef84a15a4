/* X.509 certificates in PEM, as providers publish them for the keys of their signatures. */
#ifndef WEIR_BASE_CERT_H
#define WEIR_BASE_CERT_H

#include <stdbool.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct keypair;

/* Is the first certificate of `pem` one to be trusted at `now`? Its dates must fit. `chain`: it
 * must also descend from an authority of `ca_file` (NULL or "": of the system), by way of the
 * others in `pem`. *ret_until is when it ends. ERR_INVAL: it is no certificate; ERR_DENIED, with a
 * text. */
enum err cert_judge(struct str pem, usec_t now, bool chain, const char *ca_file, usec_t *ret_until,
                    struct err_info *info) MUST_CHECK;

/* A certificate for the pair's key, signed by itself, added to `out` as PEM; for tests and
 * throw-away keys. */
enum err cert_self_signed(const struct keypair *k, const char *name, usec_t from, usec_t until,
                          struct buf *out) MUST_CHECK;

#endif
