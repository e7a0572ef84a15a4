/* weir sign: the request that a provider would send, to look at or to send by other means. */
#include <stdio.h>
#include <string.h>

#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/base/pubkey.h"
#include "weir/cli/command.h"
#include "weir/cli/input_file.h"
#include "weir/cli/sign_key.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"

#define MAX_BODY (64 * 1024 * 1024)

#define FORMS "curl|http|headers" /* in this order */
enum form { FORM_CURL, FORM_HTTP, FORM_HEADERS };

struct sign {
	const char *tool, *url, *key;
	const char *file; /* of the body; NULL: a sample */
	struct sign_options o;
	enum form form;
	struct buf body; /* what the file holds */
};

/* ---- printing ---- */

/* Into a command line, unless curl can read it where we did. NULs stand in no argument. */
static int print_curl_body(const struct sign *s, struct str body)
{
	char *text;

	if (s->file && strcmp(s->file, "-") != 0 && str_eq(body, buf_str(&s->body))) {
		printf(" \\\n  --data-binary @");
		cli_print_word(s->file);
		return CLI_DONE;
	}
	if (memchr(body.len ? body.ptr : "", '\0', body.len)) {
		fputs("\n", stdout);
		cli_error("the body holds a NUL, which no command line does: see -o http");
		return CLI_FAILED;
	}
	printf(" \\\n  --data-raw ");
	text = mem_dup(body.len ? body.ptr : "", body.len);
	cli_print_word(text ? text : "");
	mem_free(text);
	return text ? CLI_DONE : CLI_FAILED;
}

static int print_curl(const struct sign *s, const char *url, const struct signed_request *r)
{
	int rc;

	printf("curl -i ");
	cli_print_word(url);
	for (size_t i = 0; i < r->header_count; i++) {
		printf(" \\\n  -H ");
		cli_print_word(r->headers[i]);
	}
	rc = print_curl_body(s, buf_str(&r->body));
	putchar('\n');
	return rc;
}

static void print_headers(const struct signed_request *r, const char *end)
{
	for (size_t i = 0; i < r->header_count; i++)
		printf("%s%s", r->headers[i], end);
}

static void print_http(const char *url, const struct signed_request *r)
{
	const char *host = strstr(url, "://"), *path;

	host = host ? host + 3 : url;
	path = strchr(host, '/');
	printf("POST %s HTTP/1.1\r\nHost: %.*s\r\n", path ? path : "/",
	       (int)(path ? (size_t)(path - host) : strlen(host)), host);
	print_headers(r, "\r\n");
	printf("Content-Length: %zu\r\n\r\n", r->body.len);
	if (r->body.len)
		fwrite(r->body.ptr, 1, r->body.len, stdout);
}

static int print(const struct conf *c, const struct sign *s, const struct signed_request *r)
{
	struct err_info info = {0};
	struct buf url;
	int rc = CLI_DONE;

	buf_init(&url, CLI_URL_MAX);
	if (cli_tool_url(c, s->url, s->tool, buf_str(&r->target), &url, &info) != ERR_OK) {
		cli_error("%s", info.text);
		rc = CLI_USAGE;
	} else {
		switch (s->form) {
		case FORM_CURL:
			rc = print_curl(s, url.ptr, r);
			break;
		case FORM_HTTP:
			print_http(url.ptr, r);
			break;
		case FORM_HEADERS:
			print_headers(r, "\n");
			break;
		}
	}
	buf_done(&url);
	return rc;
}

/* ---- signing ---- */

static int read_body(struct sign *s)
{
	int rc = s->file ? cli_read_file(s->file, &s->body) : CLI_DONE;

	if (s->file && rc == CLI_DONE)
		s->o.body = s->body.len ? buf_str(&s->body) : STR("");
	return rc;
}

static int sign_for(const struct cli_tool *t, struct sign *s)
{
	struct signed_request r = {.header_count = 0};
	struct err_info info = {0};
	int rc = sign_key_open(s->key, t->tool, &s->o.key);

	if (rc == CLI_DONE)
		rc = read_body(s);
	if (rc == CLI_DONE && recipe_sign(t->tool, &s->o, &r, &info) != ERR_OK) {
		cli_error("%s", info.text);
		rc = CLI_FAILED;
	}
	if (rc == CLI_DONE)
		rc = print(t->conf, s, &r);
	signed_request_done(&r);
	keypair_free(s->o.key);
	return rc;
}

static int run(const char *config, struct sign *s)
{
	struct cli_tool t = {.conf = NULL};
	int rc = cli_open_tool(config, s->tool, &t);

	if (t.conf && rc == CLI_CONFIG)
		sign_key_suggest(s->key, s->tool);
	if (rc == CLI_DONE)
		rc = sign_for(&t, s);
	buf_done(&s->body);
	cli_tool_done(&t);
	return rc;
}

/* ---- options ---- */

static bool take_form(void *arg, const char *text)
{
	size_t which;

	if (!cli_choose(FORMS, text, &which))
		return false;
	*(enum form *)arg = (enum form)which;
	return true;
}

int cmd_sign(const struct command *self, int argc, char **argv)
{
	static const struct cli_operands want = {
	    1, 2, "name one tool, and a file with the body if you have one"};
	struct sign s = {.o.now = clock_wall()};
	const char *config = NULL, *event = "", *id = "";
	const struct cli_option options[] = {CLI_CONFIG_FILE(&config),
	                                     {.name = "url", .value = "URL", .text = &s.url},
	                                     {.name = "event", .value = "TYPE", .text = &event},
	                                     {.name = "id", .value = "ID", .text = &id},
	                                     {.name = "key", .value = "FILE", .text = &s.key},
	                                     {.name = "bad-signature", .flag = &s.o.bad},
	                                     {.name = "at",
	                                      .value = "TIME",
	                                      .take = cli_take_time,
	                                      .arg = &s.o.now,
	                                      .must = CLI_TIME},
	                                     {.name = "output",
	                                      .letter = 'o',
	                                      .value = FORMS,
	                                      .take = take_form,
	                                      .arg = &s.form,
	                                      .must = "curl, http or headers"},
	                                     CLI_END};
	int rc;
	char **args = cli_parse(self, argc, argv, options, want, &rc);

	if (!args)
		return rc;
	s.tool = args[0];
	s.file = args[1]; /* may be the NULL behind them */
	s.o.type = str_of(event);
	s.o.id = str_of(id);
	buf_init(&s.body, MAX_BODY);
	return run(config, &s);
}
