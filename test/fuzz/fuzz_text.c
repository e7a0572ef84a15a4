/* The parsers and encoders of base over any bytes: what they accept must come back the same from
 * their counterpart, and a JSON string must be what jansson reads. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "weir/base/buf.h"
#include "weir/base/digest.h"
#include "weir/base/id.h"
#include "weir/base/mem.h"
#include "weir/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_settings(struct str s)
{
	int64_t i;
	uint64_t u;
	double d;
	bool b;
	struct buf again;

	buf_init(&again, 100);
	if (!str_to_int(s, INT64_MIN, INT64_MAX, &i)) {
		buf_add_int(&again, i);
		must(!str_to_int(buf_str(&again), i, i, &i));
		must(!str_to_double(s, &d) || s.len >= 128);
	}
	if (!str_to_usec(s, USEC_PER_MSEC, &i))
		must(i >= 0);
	if (!str_to_size(s, &u))
		must(s.len > 0);
	(void)!str_to_bool(s, &b);
	buf_done(&again);
}

static void check_hex(struct str s)
{
	uint8_t *bytes = mem_alloc(s.len);
	char *text = mem_alloc(s.len + 1);
	size_t len;

	if (bytes && text && !hex_decode(s, bytes, s.len, &len)) {
		hex_encode(bytes, len, text);
		must(str_ieq(str_of(text), s));
	}
	mem_free(bytes);
	mem_free(text);
}

static void check_base64(struct str s, bool url)
{
	uint8_t *bytes = mem_alloc(s.len), *back = mem_alloc(s.len);
	size_t len, back_len;
	struct buf text;

	buf_init(&text, s.len + 4);
	if (bytes && back && !base64_decode(s, url, bytes, s.len, &len)) {
		must(!base64_encode(&text, bytes, len, url));
		must(!base64_decode(buf_str(&text), url, back, s.len, &back_len));
		must(str_eq(str_n(bytes, len), str_n(back, back_len)));
	}
	buf_done(&text);
	mem_free(bytes);
	mem_free(back);
}

static void check_uuid(struct str s)
{
	char text[UUID_TEXT_LEN + 1];
	struct uuid u;

	if (uuid_parse(s, &u))
		return;
	uuid_format(&u, text);
	must(str_ieq(str_of(text), s));
}

static void check_json(struct str s)
{
	struct buf out;
	json_t *read;

	buf_init(&out, s.len * 6 + 2);
	must(!buf_add_json(&out, s));
	must(str_is_utf8(buf_str(&out)));
	read = json_loadb(out.ptr, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	must(read != NULL);
	if (str_is_utf8(s))
		must(str_eq(str_n(json_string_value(read), json_string_length(read)), s));
	json_decref(read);
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* An exact copy, so that a read past the end is seen. */
	char *copy = mem_alloc(size);
	struct str s = {copy, size};

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	check_settings(s);
	check_hex(s);
	check_base64(s, false);
	check_base64(s, true);
	check_uuid(s);
	check_json(s);
	mem_free(copy);
	return 0;
}
