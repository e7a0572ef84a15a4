/* What is kept of a tool's definition: a text for people, in which no secret stands; which secrets
 * it has, told apart by fingerprints; and what it takes to read secrets again whose files change.
 */
#include <string.h>
#include <sys/stat.h>

#include "weir/base/buf.h"
#include "weir/base/digest.h"
#include "weir/base/mem.h"

#include "tool_priv.h"

#define SOURCE_MAX (1024 * 1024)
#define MASK       "***"

/* ---- for people ---- */

/* A secret that is written into the definition, as a string or as {"value"}. */
static enum err mask(json_t *list_or_object, const char *name, size_t i, json_t *v)
{
	json_t *masked;
	bool ok;

	if (json_is_object(v) && !json_object_get(v, "value"))
		return ERR_OK;
	masked = json_string(MASK);
	if (!masked)
		return ERR_NOMEM;
	if (json_is_object(v))
		ok = json_object_set_new(v, "value", masked) == 0;
	else if (name)
		ok = json_object_set_new(list_or_object, name, masked) == 0;
	else
		ok = json_array_set_new(list_or_object, i, masked) == 0;
	return ok ? ERR_OK : ERR_NOMEM;
}

static enum err mask_all(json_t *o)
{
	json_t *list = json_object_get(o, "secrets"), *token = json_object_get(o, "verify_token");
	enum err e = token ? mask(o, "verify_token", 0, token) : ERR_OK;

	for (size_t i = 0; i < json_array_size(list) && e == ERR_OK; i++)
		e = mask(list, NULL, i, json_array_get(list, i));
	return e;
}

static int on_json_text(const char *p, size_t n, void *arg)
{
	return buf_add(arg, p, n) == ERR_OK ? 0 : -1;
}

enum err tool_keep_source(struct tool *t, const json_t *object)
{
	json_t *copy = json_deep_copy(object);
	enum err e = copy ? mask_all(copy) : ERR_NOMEM;
	struct buf out;

	buf_init(&out, SOURCE_MAX);
	if (e == ERR_OK && json_dump_callback(copy, on_json_text, &out, JSON_COMPACT) != 0)
		e = out.err == ERR_OK ? ERR_NOMEM : out.err;
	json_decref(copy);
	if (e == ERR_OK)
		t->source = buf_take(&out, &(size_t){0});
	else
		buf_done(&out);
	if (e == ERR_OK && t->file_count)
		t->definition = json_incref((json_t *)(uintptr_t)object);
	return e == ERR_OK && !t->source ? ERR_NOMEM : e;
}

void tool_source_done(struct tool *t)
{
	for (size_t i = 0; i < t->file_count; i++)
		mem_free(t->files[i].path);
	json_decref(t->definition);
	mem_free(t->source);
	mem_free(t->stale);
}

/* ---- fingerprints ---- */

/* 32 bits: enough to tell a tool's secrets apart, too few to prove a guess. The text in front keeps
 * them from being looked up in tables of hashes. */
enum err tool_fingerprint(struct tool *t, size_t i, struct str secret)
{
	struct str parts[] = {STR("weir secret fingerprint: "), secret};
	uint8_t digest[DIGEST_MAX_LEN];
	enum err e = digest_parts(DIGEST_SHA256, parts, 2, digest);

	if (e != ERR_OK || i >= TOOL_MAX_SECRETS)
		return e;
	hex_encode(digest, (TOOL_FINGERPRINT - 1) / 2, t->fingerprints[i]);
	t->secret_count = i + 1;
	return ERR_OK;
}

/* ---- files ---- */

static struct tool_stamp stamp_of(const struct stat *st)
{
	return (struct tool_stamp){
	    .device = (uint64_t)st->st_dev,
	    .inode = (uint64_t)st->st_ino,
	    .size = (uint64_t)st->st_size,
	    .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
	    .ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec};
}

enum err tool_note_file(struct tool *t, const char *path, int fd)
{
	struct tool_file *f = &t->files[t->file_count];
	struct stat st;

	if (t->file_count == TOOL_MAX_FILES || fstat(fd, &st) != 0)
		return ERR_OK;
	f->path = mem_strdup(path);
	if (!f->path)
		return ERR_NOMEM;
	f->stamp = stamp_of(&st);
	t->file_count++;
	return ERR_OK;
}

void tool_file_look(const struct tool_file *f, struct tool_stamp *ret)
{
	struct stat st;

	*ret = stat(f->path, &st) == 0 ? stamp_of(&st) : (struct tool_stamp){.size = 0};
}

bool tool_stamp_equal(const struct tool_stamp *a, const struct tool_stamp *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

enum err tool_refresh(const struct tool *t, const char *label, bool literals, struct tool **ret,
                      struct err_info *info)
{
	struct loader l = {.label = label, .info = info, .no_literals = !literals};

	memcpy(l.id, t->id.ptr, t->id.len);
	return t->definition ? tool_compile(&l, t->definition, ret) : ERR_INVAL;
}
