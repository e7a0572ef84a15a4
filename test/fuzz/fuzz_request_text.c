/* Saved requests that weir verify reads: whatever the text is, what comes of it lies inside it. */
#include <stdint.h>
#include <stdlib.h>

#include "weir/cli/request_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct str whole, struct str s)
{
	if (s.len && (s.ptr < whole.ptr || s.ptr + s.len > whole.ptr + whole.len))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str whole = str_n(data, size);
	struct request_text r;
	struct err_info info;

	if (request_text_parse(whole, &r, &info) != ERR_OK)
		return 0;
	check_inside(whole, r.method);
	check_inside(whole, r.target);
	check_inside(whole, r.body);
	for (size_t i = 0; i < r.header_count; i++) {
		check_inside(whole, r.headers[i].name);
		check_inside(whole, r.headers[i].value);
		if (!str_is_token(r.headers[i].name))
			abort();
	}
	return 0;
}
