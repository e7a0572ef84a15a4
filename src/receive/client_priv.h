/* Whose request it is, where proxies stand in between. */
#ifndef WEIR_RECEIVE_CLIENT_PRIV_H
#define WEIR_RECEIVE_CLIENT_PRIV_H

#include <stddef.h>

#include "weir/base/err.h"
#include "weir/base/ip.h"
#include "weir/base/str.h"

struct http_header;

/* The rightmost address of X-Forwarded-For (all such headers in order) that is no trusted proxy's,
 * where `peer` is one; the leftmost where all are. Without the header, or where `peer` is no
 * trusted proxy, `peer`. What stands left of the address that counts may be anything: others wrote
 * it. ERR_INVAL: what a trusted proxy wrote, or passed on as written by one, is no address.
 * *ret_text is the address as written, without a port; it lies in `peer` or in the headers. */
enum err client_find(const struct http_header *headers, size_t n, struct str peer,
                     const struct ip_net *trusted, size_t trusted_n, struct ip_addr *ret,
                     struct str *ret_text) MUST_CHECK;

#endif
