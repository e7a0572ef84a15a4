/* A stream read of 500 entries is some 12,000 reply objects. They live in an arena that is emptied
 * before the next reply, so that they cost an addition each and not an allocation.
 *
 * hiredis has no bound: a length alone makes it wait for that many bytes, and keep them. So the
 * bytes fed since the last whole reply are counted here, and the arena is bounded as well. */
#include "weir/io/redis_reader.h"

#include <hiredis/read.h>
#include <hiredis/sds.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/io/redis.h"

#define CHUNK_BYTES   (64 * 1024)
#define KEPT_BYTES    (1024 * 1024) /* kept from reply to reply */
#define REPLY_BYTES   ((size_t)256 * 1024 * 1024)
#define MAX_ELEMENTS  (16 * 1024 * 1024)
#define ARENA_SHARE   2 /* the arena's bound, in units of the reply's */
#define READER_UNUSED (256 * 1024)
#define LETTERS       ('z' - 'a' + 1)

struct chunk {
	struct chunk *next; /* owned */
	size_t used, size;
	_Alignas(16) char bytes[];
};

struct redis_reader {
	redisReader *parser;  /* owned */
	struct chunk *chunks; /* owned; the first one is being filled */
	size_t total;         /* bytes of all chunks */
	size_t first;         /* bytes of the first chunk, where there is none */
	size_t fed;           /* bytes since the last whole reply */
	size_t max;           /* of one reply */
	bool starved;         /* there was no memory; else hiredis was told so for the bound */
	/* Strings of one small letter, which half of a stream's strings are: made once. */
	struct redis_reply letters[LETTERS];
	char letter_text[LETTERS];
};

static void arena_free(struct redis_reader *r)
{
	while (r->chunks) {
		struct chunk *next = r->chunks->next;

		mem_free(r->chunks);
		r->chunks = next;
	}
	r->total = 0;
}

/* Several chunks make place for one of their size, so that replies of one kind soon fit into what
 * is there. */
static void arena_reset(struct redis_reader *r)
{
	size_t total = r->total;

	if (!r->chunks)
		return;
	r->chunks->used = 0;
	if (!r->chunks->next && total <= KEPT_BYTES)
		return;
	arena_free(r);
	r->first = total < KEPT_BYTES ? total : KEPT_BYTES;
}

static struct chunk *arena_grow(struct redis_reader *r, size_t need)
{
	/* Doubling the chunks keeps their number small for large replies. */
	size_t size = r->total ? r->total : r->first;
	struct chunk *c;

	if (size > 16 * 1024 * 1024)
		size = 16 * 1024 * 1024;
	if (size < need)
		size = need;
	/* Small items take many times what they take on the wire. */
	if (r->total + size > r->max * ARENA_SHARE)
		return NULL;
	c = mem_alloc(sizeof(*c) + size);
	if (!c) {
		r->starved = true;
		return NULL;
	}
	c->next = r->chunks;
	c->used = 0;
	c->size = size;
	r->chunks = c;
	r->total += size;
	return c;
}

static void *arena_take(struct redis_reader *r, size_t need)
{
	struct chunk *c = r->chunks;
	void *p;

	need = (need + 15) & ~(size_t)15;
	if (!c || c->size - c->used < need)
		c = arena_grow(r, need);
	if (!c)
		return NULL;
	p = c->bytes + c->used;
	c->used += need;
	return p;
}

static void hang_into_parent(const redisReadTask *task, const struct redis_reply *o)
{
	if (task->parent)
		((struct redis_reply *)task->parent->obj)->items[task->idx] = o;
}

static struct redis_reply *add(const redisReadTask *task, enum redis_type type, size_t extra)
{
	struct redis_reply *o = arena_take(task->privdata, sizeof(*o) + extra);

	if (!o)
		return NULL;
	*o = (struct redis_reply){.type = type};
	hang_into_parent(task, o);
	return o;
}

static void letters_init(struct redis_reader *r)
{
	for (size_t i = 0; i < LETTERS; i++) {
		r->letter_text[i] = (char)('a' + i);
		r->letters[i] =
		    (struct redis_reply){.type = REDIS_STRING, .str = {&r->letter_text[i], 1}};
	}
}

static void *on_reader_string(const redisReadTask *task, char *text, size_t len)
{
	enum redis_type type = task->type == REDIS_REPLY_STATUS  ? REDIS_STATUS
	                       : task->type == REDIS_REPLY_ERROR ? REDIS_ERROR
	                                                         : REDIS_STRING;
	struct redis_reply *o;
	char *copy;

	if (type == REDIS_STRING && len == 1 && *text >= 'a' && *text <= 'z') {
		o = &((struct redis_reader *)task->privdata)->letters[*text - 'a'];
		hang_into_parent(task, o);
		return o;
	}
	o = arena_take(task->privdata, sizeof(*o) + len);
	if (!o)
		return NULL;
	copy = (char *)(o + 1);
	memcpy(copy, text, len);
	*o = (struct redis_reply){.type = type, .str = {copy, len}};
	hang_into_parent(task, o);
	return o;
}

static void *on_reader_array(const redisReadTask *task, int elements)
{
	struct redis_reply *o;
	size_t n = elements > 0 ? (size_t)elements : 0;

	if (n > MAX_ELEMENTS)
		return NULL;
	o = add(task, REDIS_ARRAY, n * sizeof(o->items[0]));
	if (!o)
		return NULL;
	o->count = n;
	o->items = (const struct redis_reply **)(void *)(o + 1);
	return o;
}

static void *on_reader_integer(const redisReadTask *task, long long value)
{
	struct redis_reply *o = add(task, REDIS_INTEGER, 0);

	if (o)
		o->integer = value;
	return o;
}

static void *on_reader_nil(const redisReadTask *task)
{
	return add(task, REDIS_NIL, 0);
}

/* The arena owns the objects. */
static void on_reader_free(void *object)
{
	(void)object;
}

static redisReplyObjectFunctions functions = {
    .createString = on_reader_string,
    .createArray = on_reader_array,
    .createInteger = on_reader_integer,
    .createNil = on_reader_nil,
    .freeObject = on_reader_free,
};

enum err redis_reader_new(size_t max_bytes, struct redis_reader **ret)
{
	struct redis_reader *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->parser = redisReaderCreateWithFunctions(&functions);
	if (!r->parser) {
		mem_free(r);
		return ERR_NOMEM;
	}
	letters_init(r);
	r->first = CHUNK_BYTES;
	r->max = max_bytes ? max_bytes : REPLY_BYTES;
	r->parser->privdata = r;
	r->parser->maxbuf = READER_UNUSED;
	*ret = r;
	return ERR_OK;
}

void redis_reader_free(struct redis_reader *r)
{
	if (!r)
		return;
	redisReaderFree(r->parser);
	arena_free(r);
	mem_free(r);
}

/* redisReaderFeed() without its copy: bytes are read to where hiredis looks for them. As it does, a
 * large buffer is given up when it is empty. */
enum err redis_reader_space(struct redis_reader *r, size_t most, char **ret)
{
	redisReader *p = r->parser;
	sds wide;

	if (p->len == 0 && p->buf && sdsavail(p->buf) > READER_UNUSED) {
		sdsfree(p->buf);
		p->buf = NULL;
	}
	if (!p->buf) {
		p->buf = sdsempty();
		p->pos = 0;
	}
	wide = p->buf ? sdsMakeRoomFor(p->buf, most) : NULL;
	if (!wide)
		return ERR_NOMEM;
	p->buf = wide;
	*ret = wide + p->len;
	return ERR_OK;
}

enum err redis_reader_filled(struct redis_reader *r, size_t len)
{
	redisReader *p = r->parser;

	if (len > r->max || r->fed > r->max - len)
		return ERR_TOOBIG;
	r->fed += len;
	sdsIncrLen(p->buf, (int)len);
	p->len += len;
	return ERR_OK;
}

enum err redis_reader_feed(struct redis_reader *r, const void *p, size_t len)
{
	char *at;
	enum err e = redis_reader_space(r, len, &at);

	if (e != ERR_OK)
		return e;
	memcpy(at, p, len);
	return redis_reader_filled(r, len);
}

enum err redis_reader_next(struct redis_reader *r, const struct redis_reply **ret)
{
	void *reply = NULL;

	/* ridx is -1 between replies: what the arena holds was the reply told before. */
	if (r->parser->ridx == -1)
		arena_reset(r);
	if (redisReaderGetReply(r->parser, &reply) != REDIS_OK) {
		if (r->parser->err != REDIS_ERR_OOM)
			return ERR_PROTO;
		return r->starved ? ERR_NOMEM : ERR_TOOBIG;
	}
	if (!reply)
		return ERR_AGAIN;
	r->fed = r->parser->len - r->parser->pos;
	*ret = reply;
	return ERR_OK;
}

const char *redis_reader_error(const struct redis_reader *r)
{
	return r->parser->errstr;
}
