/* The C library reads addresses; prefixes are ours. */
#include "weir/base/ip.h"

#include <arpa/inet.h>

#define MAPPED_BITS 96

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_mapped(const struct ip_addr *a)
{
	return memcmp(a->bytes, mapped, sizeof(mapped)) == 0;
}

enum err ip_parse(struct str s, struct ip_addr *ret)
{
	char text[INET6_ADDRSTRLEN];
	struct ip_addr a;

	if (s.len == 0 || s.len >= sizeof(text) || memchr(s.ptr, '\0', s.len))
		return ERR_INVAL;
	memcpy(text, s.ptr, s.len);
	text[s.len] = '\0';
	if (memchr(text, ':', s.len)) {
		if (inet_pton(AF_INET6, text, a.bytes) != 1)
			return ERR_INVAL;
	} else {
		memcpy(a.bytes, mapped, sizeof(mapped));
		if (inet_pton(AF_INET, text, a.bytes + sizeof(mapped)) != 1)
			return ERR_INVAL;
	}
	*ret = a;
	return ERR_OK;
}

/* The first `bits` of both. */
static bool prefix_equal(const struct ip_addr *a, const struct ip_addr *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(a->bytes, b->bytes, bytes) != 0)
		return false;
	return rest == 0 || ((a->bytes[bytes] ^ b->bytes[bytes]) >> (8 - rest)) == 0;
}

static bool is_clean(const struct ip_net *n)
{
	static const uint8_t zero[16];

	if (n->bits % 8 && (uint8_t)(n->addr.bytes[n->bits / 8] << n->bits % 8) != 0)
		return false;
	return memcmp(n->addr.bytes + (n->bits + 7) / 8, zero, 16 - (n->bits + 7) / 8) == 0;
}

enum err ip_net_parse(struct str s, struct ip_net *ret)
{
	struct str bits = s, addr = str_split(&bits, '/');
	unsigned start = addr.len && memchr(addr.ptr, ':', addr.len) ? 0 : MAPPED_BITS;
	struct ip_net n;
	int64_t v = 128 - start;

	if (ip_parse(addr, &n.addr) != ERR_OK)
		return ERR_INVAL;
	if (bits.ptr && str_to_int(bits, 0, 128 - start, &v) != ERR_OK)
		return ERR_INVAL;
	n.bits = start + (unsigned)v;
	if (!is_clean(&n))
		return ERR_INVAL;
	*ret = n;
	return ERR_OK;
}

bool ip_net_has(const struct ip_net *n, const struct ip_addr *a)
{
	if (n->bits < MAPPED_BITS && is_mapped(a))
		return false;
	return prefix_equal(&n->addr, a, n->bits);
}

bool ip_nets_have(const struct ip_net *list, size_t n, const struct ip_addr *a)
{
	for (size_t i = 0; i < n; i++)
		if (ip_net_has(&list[i], a))
			return true;
	return false;
}

enum err ip_nets_parse(struct str list, struct ip_net *nets, size_t space, size_t *ret_n,
                       struct str *ret_bad)
{
	size_t n = 0;

	if (str_trim(list).len == 0)
		list = STR_NONE;
	while (list.ptr) {
		struct str item = str_trim(str_split(&list, ','));

		if (n == space)
			return ERR_TOOBIG;
		if (ip_net_parse(item, &nets[n]) != ERR_OK) {
			*ret_bad = item;
			return ERR_INVAL;
		}
		n++;
	}
	*ret_n = n;
	return ERR_OK;
}
