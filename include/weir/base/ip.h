/* Addresses and networks of IPv4 and IPv6. An IPv4 address is kept as its v4-mapped IPv6 one, so
 * that both spellings of it are equal. */
#ifndef WEIR_BASE_IP_H
#define WEIR_BASE_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct ip_addr {
	uint8_t bytes[16];
};

struct ip_net {
	struct ip_addr addr; /* no bit set behind the first `bits` */
	unsigned bits; /* 0 … 128; an IPv4 network's count from the mapped address's start */
};

/* "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"; no zones, no ports. ERR_INVAL. */
enum err ip_parse(struct str s, struct ip_addr *ret) MUST_CHECK;
/* "10.0.0.0/8", "2001:db8::/32", or an address, which is a network of one. ERR_INVAL also where
 * bits are set behind the prefix: it would be unclear what was meant. */
enum err ip_net_parse(struct str s, struct ip_net *ret) MUST_CHECK;
/* IPv6 networks hold no IPv4 address, "::/0" neither. */
bool ip_net_has(const struct ip_net *n, const struct ip_addr *a);
bool ip_nets_have(const struct ip_net *list, size_t n, const struct ip_addr *a);
/* Networks with commas between; blanks around them do not matter, nor does an empty text. At most
 * `space`, else ERR_TOOBIG. `*ret_bad` is the item that is none (ERR_INVAL). */
enum err ip_nets_parse(struct str list, struct ip_net *nets, size_t space, size_t *ret_n,
                       struct str *ret_bad) MUST_CHECK;

#endif
