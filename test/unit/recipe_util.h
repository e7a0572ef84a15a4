/* Requests made up by recipe_sign and by hand, for the tests of recipes and of the receive room. */
#ifndef WEIR_TEST_RECIPE_UTIL_H
#define WEIR_TEST_RECIPE_UTIL_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "weir/model/recipe.h"
#include "weir/model/tool.h"

#define NOW (1731705121 * USEC_PER_SEC)

struct made {
	struct recipe_request req;
	struct http_header headers[24];
};

static inline void made_header(struct made *m, const char *name, const char *value)
{
	m->headers[m->req.header_count++] = (struct http_header){str_of(name), str_of(value)};
	m->req.headers = m->headers;
}

static inline void made_init(struct made *m, const char *body)
{
	memset(m, 0, sizeof(*m));
	m->req.method = STR("POST");
	m->req.target = STR("/webhooks/t");
	m->req.query = STR_NONE;
	m->req.body = str_of(body);
	m->req.headers = m->headers;
	m->req.now = NOW;
}

/* Slices point into `s`. */
static inline void made_of_signed(struct made *m, const struct signed_request *s)
{
	made_init(m, "");
	m->req.body = buf_str(&s->body);
	if (s->target.len)
		m->req.query = str_n(s->target.ptr + 1, s->target.len - 1);
	for (size_t i = 0; i < s->header_count; i++) {
		struct str value = str_of(s->headers[i]), name = str_split(&value, ':');

		m->headers[m->req.header_count++] = (struct http_header){name, str_trim(value)};
	}
}

static inline struct http_header *made_find(struct made *m, const char *name)
{
	for (size_t i = 0; i < m->req.header_count; i++)
		if (str_ieq(m->headers[i].name, str_of(name)))
			return &m->headers[i];
	return NULL;
}

/* A set with one tool, from the members of its JSON object behind the id. */
static inline struct tools *one_tool(const char *members)
{
	char text[4096];
	struct err_info info = {0};
	struct tools *set = NULL;

	snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"t\",%s}]}", members);
	if (tools_parse(str_of(text), "test", &set, &info) != ERR_OK)
		fail_msg("%s", info.text);
	return set;
}

#endif
