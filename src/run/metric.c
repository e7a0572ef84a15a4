/* Counting must cost one addition, so callers keep their children, and a child's label text is
 * rendered once, at first sight. That text is also its key: escaping is injective, so two children
 * never render alike, whatever bytes the values held.
 *
 * Cardinality is bounded twice. Of one combination of the leading labels at most `max_children`
 * values of the last one are kept apart (a chatty tool does not hide the others' event types), and
 * a family as a whole stops at FAMILY_FACTOR times that. Callers put the label that senders choose
 * last. What has no room counts into "other"; what has no memory counts into nothing.
 */
#include "weir/run/metric.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"

enum {
	DEFAULT_MAX_CHILDREN = 200,
	FAMILY_FACTOR = 20,
	MAX_COLLECTORS = 16,
	VALUE_MAX = 128, /* bytes of a label value, before escaping */
	/* Three names, three values in which every byte is escaped. */
	LABELS_MAX = METRIC_MAX_LABELS * (64 + 2 * VALUE_MAX),
};

const double METRIC_SECONDS[] = {.001, .0025, .005, .01, .025, .05, .1, .25,
                                 .5,   1,     2.5,  5,   10,   30,  60};
const size_t METRIC_SECONDS_COUNT = sizeof(METRIC_SECONDS) / sizeof(METRIC_SECONDS[0]);

struct metric {
	struct metric_family *family; /* borrowed; NULL: counts into nothing */
	struct metric *next;          /* in order of creation */
	char *labels;                 /* owned; a="x",b="y" */
	double value;                 /* a histogram's sum */
	uint64_t count;
	size_t hit;         /* the bucket of the observation before */
	uint64_t buckets[]; /* not cumulative; the last is +Inf */
};

struct metric_family {
	struct metric_registry *registry; /* borrowed; NULL: without children */
	struct metric_family *next;
	struct metric_spec spec;
	size_t label_count;
	struct metric *first; /* owned */
	struct metric **tail;
	size_t children;
	struct map *by_labels; /* owned; to struct metric */
	struct map *prefixes;  /* owned; leading labels to an owned size_t: children with them */
};

struct collector {
	void (*fn)(void *arg);
	void *arg;
};

struct metric_registry {
	struct metric_family *first; /* owned */
	struct metric_family **tail;
	struct map *by_name; /* owned; to struct metric_family */
	struct collector collectors[MAX_COLLECTORS];
	size_t collector_count;
};

static struct metric nothing;
static struct metric_family no_family;

/* --- families --- */

static void family_free(struct metric_family *f)
{
	struct metric *m, *next;

	for (m = f->first; m; m = next) {
		next = m->next;
		mem_free(m->labels);
		mem_free(m);
	}
	map_free(f->by_labels, NULL);
	map_free(f->prefixes, mem_free);
	mem_free(f);
}

static bool same_labels(const struct metric_spec *a, const struct metric_spec *b)
{
	for (size_t i = 0; i < METRIC_MAX_LABELS; i++) {
		if (!a->labels[i] || !b->labels[i])
			return a->labels[i] == b->labels[i];
		if (strcmp(a->labels[i], b->labels[i]) != 0)
			return false;
	}
	return true;
}

static struct metric_family *family_new(const struct metric_spec *spec)
{
	struct metric_family *f = mem_zalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->spec = *spec;
	f->tail = &f->first;
	while (f->label_count < METRIC_MAX_LABELS && spec->labels[f->label_count])
		f->label_count++;
	if (spec->type == METRIC_HISTOGRAM && !spec->buckets) {
		f->spec.buckets = METRIC_SECONDS;
		f->spec.bucket_count = METRIC_SECONDS_COUNT;
	}
	if (spec->max_children == 0)
		f->spec.max_children = DEFAULT_MAX_CHILDREN;
	if (map_new(&f->by_labels) != ERR_OK || map_new(&f->prefixes) != ERR_OK) {
		family_free(f);
		return NULL;
	}
	return f;
}

struct metric_family *metric_family(struct metric_registry *r, const struct metric_spec *spec)
{
	struct metric_family *f = map_get(r->by_name, str_of(spec->name));

	if (f) {
		if (f->spec.type == spec->type && same_labels(&f->spec, spec))
			return f;
		log_error(LOG_APP, "a metric was declared twice and differently",
		          LOG_STR("name", spec->name));
		return &no_family;
	}
	f = family_new(spec);
	if (!f)
		return &no_family;
	if (map_add(r->by_name, str_of(spec->name), f) != ERR_OK) {
		family_free(f);
		return &no_family;
	}
	f->registry = r;
	*r->tail = f;
	r->tail = &f->next;
	return f;
}

/* --- label text --- */

struct label_text {
	char text[LABELS_MAX];
	size_t len;
	bool full;
};

static void put(struct label_text *t, const char *p, size_t len)
{
	if (len > sizeof(t->text) - t->len) {
		t->full = true;
		return;
	}
	memcpy(t->text + t->len, p, len);
	t->len += len;
}

/* Cuts to VALUE_MAX bytes, at the start of a UTF-8 character. */
static struct str cut_value(struct str v)
{
	if (v.len <= VALUE_MAX)
		return v;
	v.len = VALUE_MAX;
	while (v.len > VALUE_MAX - 4 && ((unsigned char)v.ptr[v.len] & 0xc0) == 0x80)
		v.len--;
	return v;
}

/* Prometheus wants UTF-8. Anything else is read as Latin-1. */
static void put_escaped(struct label_text *t, struct str v)
{
	bool utf8 = str_is_utf8(v);

	for (size_t i = 0; i < v.len; i++) {
		unsigned char c = (unsigned char)v.ptr[i];

		if (c == '\n')
			put(t, "\\n", 2);
		else if (c == '"' || c == '\\')
			put(t, (const char[]){'\\', (char)c}, 2);
		else if (c >= 0x80 && !utf8)
			put(t, (const char[]){(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))}, 2);
		else
			put(t, (const char *)&c, 1);
	}
}

static void put_label(struct label_text *t, const char *name, struct str value)
{
	if (t->len > 0)
		put(t, ",", 1);
	put(t, name, strlen(name));
	put(t, "=\"", 2);
	put_escaped(t, cut_value(value));
	put(t, "\"", 1);
}

/* The length of the part before the last label is written to *ret_prefix. */
static void put_labels(const struct metric_family *f, const struct str *values,
                       struct label_text *t, size_t *ret_prefix)
{
	t->len = 0;
	t->full = false;
	*ret_prefix = 0;
	for (size_t i = 0; i < f->label_count; i++) {
		*ret_prefix = t->len;
		put_label(t, f->spec.labels[i], values[i]);
	}
}

/* --- children --- */

static struct metric *child_new(struct metric_family *f, struct str labels)
{
	size_t buckets = f->spec.type == METRIC_HISTOGRAM ? f->spec.bucket_count + 1 : 0;
	struct metric *m = mem_zalloc(sizeof(*m) + buckets * sizeof(m->buckets[0]));

	if (!m)
		return NULL;
	m->labels = mem_dup(labels.ptr, labels.len);
	if (!m->labels || map_add(f->by_labels, labels, m) != ERR_OK) {
		mem_free(m->labels);
		mem_free(m);
		return NULL;
	}
	m->family = f;
	*f->tail = m;
	f->tail = &m->next;
	f->children++;
	return m;
}

/* The count of children under the leading labels; NULL without memory. */
static size_t *prefix_count(struct metric_family *f, struct str prefix)
{
	size_t *count = map_get(f->prefixes, prefix);

	if (count)
		return count;
	count = mem_zalloc(sizeof(*count));
	if (count && map_add(f->prefixes, prefix, count) != ERR_OK) {
		mem_free(count);
		return NULL;
	}
	return count;
}

/* "other" in the label at `from` and those behind it. At most one such child for each prefix that
 * is known, and one for all. */
static struct metric *other_child(struct metric_family *f, const struct str *values, size_t from)
{
	struct str others[METRIC_MAX_LABELS];
	struct label_text t;
	size_t prefix;
	struct metric *m;

	for (size_t i = 0; i < f->label_count; i++)
		others[i] = i < from ? values[i] : STR("other");
	put_labels(f, others, &t, &prefix);
	m = map_get(f->by_labels, str_n(t.text, t.len));
	if (!m)
		m = child_new(f, str_n(t.text, t.len));
	return m ? m : &nothing;
}

struct metric *metric_child(struct metric_family *f, const struct str *values)
{
	struct label_text t;
	size_t prefix;
	size_t *count;
	struct metric *m;

	if (!f->registry)
		return &nothing;
	put_labels(f, values, &t, &prefix);
	if (t.full)
		return &nothing;
	m = map_get(f->by_labels, str_n(t.text, t.len));
	if (m)
		return m;
	if (f->label_count > 0 && f->children >= FAMILY_FACTOR * f->spec.max_children)
		return other_child(f, values, 0);
	count = prefix_count(f, str_n(t.text, prefix));
	if (!count)
		return &nothing;
	if (f->label_count > 0 && *count >= f->spec.max_children)
		return other_child(f, values, f->label_count - 1);
	m = child_new(f, str_n(t.text, t.len));
	if (!m)
		return &nothing;
	(*count)++;
	return m;
}

struct metric *metric_of(struct metric_family *f, const char *v0, const char *v1, const char *v2)
{
	return metric_child(f, (const struct str[]){str_of(v0), str_of(v1), str_of(v2)});
}

struct metric *metric_single(struct metric_registry *r, const struct metric_spec *spec)
{
	return metric_of(metric_family(r, spec), NULL, NULL, NULL);
}

struct metric *metric_plain(struct metric_registry *r, enum metric_type type, const char *name,
                            const char *help)
{
	return metric_single(r, &(struct metric_spec){.type = type, .name = name, .help = help});
}

/* --- counting --- */

void metric_add(struct metric *m, double v)
{
	if (!m->family || isnan(v) || (v < 0 && m->family->spec.type == METRIC_COUNTER))
		return;
	m->value += v;
}

void metric_inc(struct metric *m)
{
	metric_add(m, 1);
}

void metric_set(struct metric *m, double v)
{
	if (m->family)
		m->value = v;
}

/* Observations of one kind mostly resemble each other. */
static size_t bucket_of(const struct metric_spec *spec, double v, size_t guess)
{
	size_t i = guess > 0 && v > spec->buckets[guess - 1] ? guess : 0;

	while (i < spec->bucket_count && v > spec->buckets[i])
		i++;
	return i;
}

void metric_observe_n(struct metric *m, double v, uint64_t n)
{
	if (!m->family || m->family->spec.type != METRIC_HISTOGRAM || isnan(v))
		return;
	m->hit = bucket_of(&m->family->spec, v, m->hit);
	m->buckets[m->hit] += n;
	m->count += n;
	m->value += v * (double)n;
}

void metric_observe(struct metric *m, double v)
{
	metric_observe_n(m, v, 1);
}

double metric_get(const struct metric *m)
{
	return m->value;
}

uint64_t metric_count(const struct metric *m)
{
	return m->count;
}

/* --- rendering --- */

static void add_number(struct buf *out, double v)
{
	if (isnan(v))
		(void)buf_add_cstr(out, "NaN");
	else if (isinf(v))
		(void)buf_add_cstr(out, v > 0 ? "+Inf" : "-Inf");
	else if (v == floor(v) && fabs(v) < 9e15)
		(void)buf_add_int(out, (int64_t)v);
	else
		(void)buf_addf(out, "%.15g", v);
}

static void add_help(struct buf *out, const char *s)
{
	for (; *s; s++)
		if (*s == '\\')
			(void)buf_add_cstr(out, "\\\\");
		else if (*s == '\n')
			(void)buf_add_cstr(out, "\\n");
		else
			(void)buf_add_char(out, *s);
}

/* name_suffix{labels} and a blank */
static void add_series(struct buf *out, const struct metric *m, const char *suffix)
{
	(void)buf_add_cstr(out, m->family->spec.name);
	(void)buf_add_cstr(out, suffix);
	if (m->labels[0])
		(void)buf_addf(out, "{%s}", m->labels);
	(void)buf_add_char(out, ' ');
}

static void render_buckets(struct buf *out, const struct metric *m)
{
	const struct metric_spec *spec = &m->family->spec;
	uint64_t sum = 0;

	for (size_t i = 0; i <= spec->bucket_count; i++) {
		sum += m->buckets[i];
		(void)buf_addf(out, "%s_bucket{%s%sle=\"", spec->name, m->labels,
		               m->labels[0] ? "," : "");
		add_number(out, i < spec->bucket_count ? spec->buckets[i] : INFINITY);
		(void)buf_addf(out, "\"} %" PRIu64 "\n", sum);
	}
}

static void render_child(struct buf *out, const struct metric *m)
{
	if (m->family->spec.type == METRIC_HISTOGRAM) {
		render_buckets(out, m);
		add_series(out, m, "_sum");
		add_number(out, m->value);
		(void)buf_add_char(out, '\n');
		add_series(out, m, "_count");
		(void)buf_addf(out, "%" PRIu64 "\n", m->count);
		return;
	}
	add_series(out, m, "");
	add_number(out, m->value);
	(void)buf_add_char(out, '\n');
}

static void render_family(struct buf *out, const struct metric_family *f)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};

	if (!f->first)
		return;
	(void)buf_addf(out, "# HELP %s ", f->spec.name);
	add_help(out, f->spec.help);
	(void)buf_addf(out, "\n# TYPE %s %s\n", f->spec.name, types[f->spec.type]);
	for (const struct metric *m = f->first; m; m = m->next)
		render_child(out, m);
}

enum err metric_render(struct metric_registry *r, struct buf *out)
{
	for (size_t i = 0; i < r->collector_count; i++)
		r->collectors[i].fn(r->collectors[i].arg);
	for (const struct metric_family *f = r->first; f; f = f->next)
		render_family(out, f);
	return out->err;
}

enum err metric_on_collect(struct metric_registry *r, void (*fn)(void *arg), void *arg)
{
	if (r->collector_count == MAX_COLLECTORS)
		return ERR_FULL;
	r->collectors[r->collector_count++] = (struct collector){fn, arg};
	return ERR_OK;
}

/* --- life --- */

enum err metric_registry_new(struct metric_registry **ret)
{
	struct metric_registry *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->tail = &r->first;
	if (map_new(&r->by_name) != ERR_OK) {
		mem_free(r);
		return ERR_NOMEM;
	}
	*ret = r;
	return ERR_OK;
}

void metric_registry_free(struct metric_registry *r)
{
	struct metric_family *f, *next;

	if (!r)
		return;
	for (f = r->first; f; f = next) {
		next = f->next;
		family_free(f);
	}
	map_free(r->by_name, NULL);
	mem_free(r);
}
