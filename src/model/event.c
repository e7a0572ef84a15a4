/* An event is one block: the struct and behind it the bytes of all its slices, so that making one
 * costs one allocation and freeing one a single call, whatever its source. */
#include "weir/model/event.h"

#include <endian.h>

#include "weir/base/bump.h"
#include "weir/base/digest.h"
#include "weir/model/recipient.h"
#include "weir/model/tool.h"

#define SHA256_LEN 32

static const struct str nul = {"", 1};

static enum err key_of_id(const struct event_view *v, uint8_t out[SHA256_LEN])
{
	const struct str parts[] = {v->tool, nul, v->type, nul, v->id, nul};

	return digest_parts(DIGEST_SHA256, parts, sizeof(parts) / sizeof(parts[0]), out);
}

static bool has_content(const struct event_view *v)
{
	return v->content.len == EVENT_CONTENT_LEN;
}

static enum err key_of_body(const struct event_view *v, uint8_t out[SHA256_LEN])
{
	uint8_t body[SHA256_LEN];
	const struct str parts[] = {v->tool, nul, v->type,
	                            nul,     nul, {(const char *)body, SHA256_LEN}};
	enum err e = ERR_OK;

	if (has_content(v))
		memcpy(body, v->content.ptr, SHA256_LEN);
	else
		e = digest_parts(DIGEST_SHA256, &v->body, 1, body);
	if (e != ERR_OK)
		return e;
	return digest_parts(DIGEST_SHA256, parts, sizeof(parts) / sizeof(parts[0]), out);
}

enum err event_key(const struct event_view *v, uint8_t out[EVENT_KEY_LEN], bool *ret_windowed)
{
	uint8_t digest[SHA256_LEN];
	bool windowed = v->id.len == 0;
	enum err e = windowed ? key_of_body(v, digest) : key_of_id(v, digest);

	if (e != ERR_OK)
		return e;
	memcpy(out, digest, EVENT_KEY_LEN);
	*ret_windowed = windowed;
	return ERR_OK;
}

/* ---- the body's hash ---- */

static uint64_t load_le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

void event_content_key(const struct event *e, uint8_t out[EVENT_KEY_LEN])
{
	uint64_t half[2];

	memcpy(half, e->key, sizeof(half));
	half[0] ^= htole64(e->body_hash);
	half[1] ^= htole64(fold(e->body_hash ^ 0x2545f4914f6cdd1d, 0x9e3779b97f4a7c15));
	memcpy(out, half, sizeof(half));
}

/* ---- life ---- */

static struct str copy(char **cursor, struct str s)
{
	struct str to = {*cursor, s.len};

	if (s.len > 0)
		memcpy(*cursor, s.ptr, s.len);
	*cursor += s.len;
	return to;
}

/* Only has to tell two bodies of one event apart, so no cryptographic hash, which would cost more
 * than all the rest of storing it. Each step waits for the multiplication before it; copying the
 * body in that time costs nothing. */
static struct str copy_and_hash(char **cursor, struct str body, uint64_t *ret_hash)
{
	const uint64_t k0 = 0x9e3779b97f4a7c15, k1 = 0xd1b54a32d192ed03, k2 = 0x8cb92ba72f3d8dd7;
	uint64_t h = k0 ^ (uint64_t)body.len;
	uint8_t tail[16] = {0};
	const char *p = body.ptr;
	char *to = *cursor;
	size_t left = body.len;

	for (; left >= 16; p += 16, to += 16, left -= 16) {
		memcpy(to, p, 16);
		h = fold(load_le64(p) ^ k1, load_le64(p + 8) ^ h);
	}
	if (left > 0) {
		memcpy(tail, p, left);
		memcpy(to, p, left);
	}
	h = fold(load_le64(tail) ^ k2, load_le64(tail + 8) ^ h);
	*ret_hash = fold(h ^ k1, k0);
	*cursor = to + left;
	return str_n(*cursor - body.len, body.len);
}

enum err event_make(const struct event_view *v, struct event **ret)
{
	size_t bytes = v->tool.len + v->type.len + v->id.len + v->headers.len +
	               v->content_type.len + v->traceparent.len + v->body.len + v->envelope.len +
	               v->content.len;
	struct event *e = bump_alloc(sizeof(*e) + bytes);
	char *cursor = (char *)(e + 1);
	enum err err;

	if (!e)
		return ERR_NOMEM;
	*e = (struct event){.refs = 1, .size = sizeof(*e) + bytes};
	e->view.uid = v->uid;
	e->view.received = v->received;
	e->view.dedup_window = v->dedup_window;
	e->view.marks = v->marks;
	e->view.tool = copy(&cursor, v->tool);
	e->view.type = copy(&cursor, v->type);
	e->view.id = copy(&cursor, v->id);
	e->view.headers = copy(&cursor, v->headers);
	e->view.content_type = copy(&cursor, v->content_type);
	e->view.traceparent = copy(&cursor, v->traceparent);
	e->view.body = has_content(v) ? copy(&cursor, v->body)
	                              : copy_and_hash(&cursor, v->body, &e->body_hash);
	e->view.envelope = copy(&cursor, v->envelope);
	e->view.content = copy(&cursor, v->content);
	if (has_content(v))
		e->body_hash = load_le64(v->content.ptr);
	err = event_key(&e->view, e->key, &e->windowed);
	if (err != ERR_OK) {
		bump_free(e);
		return err;
	}
	*ret = e;
	return ERR_OK;
}

struct event *event_ref(struct event *e)
{
	e->refs++;
	return e;
}

void event_unref(struct event *e)
{
	if (!e || --e->refs > 0)
		return;
	recipient_reports_free(e->reports);
	tool_unref(e->tool);
	bump_free(e);
}
