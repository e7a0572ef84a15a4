/* X-Forwarded-For as anybody may write it, a line a header; the first line is the peer. What is
 * found is an address, and it stands in what was given. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/receive/client_priv.h"
#include "weir/io/http_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_n(data, size), peer = str_split(&rest, '\n'), text, bad;
	struct http_header headers[16];
	struct ip_net trusted[3], net;
	struct ip_addr a, again;
	size_t n = 0, count;

	if (ip_nets_parse(STR("10.0.0.0/8,fd00::/8,127.0.0.1"), trusted, 3, &count, &bad) != ERR_OK)
		abort();
	while (rest.ptr && n < 16)
		headers[n++] = (struct http_header){STR("x-forwarded-for"), str_split(&rest, '\n')};
	if (ip_net_parse(peer, &net) == ERR_OK && (net.bits > 128 || !ip_net_has(&net, &net.addr)))
		if (net.bits >= 96) /* "::/0" holds no IPv4 address, not even its own */
			abort();
	if (client_find(headers, n, peer, trusted, count, &a, &text) != ERR_OK)
		return 0;
	if (text.ptr < (const char *)data || text.ptr + text.len > (const char *)data + size)
		abort();
	if (ip_parse(text, &again) != ERR_OK || memcmp(&a, &again, sizeof(a)) != 0)
		abort();
	return 0;
}
