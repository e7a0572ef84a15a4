/* weir sign: the request that a provider would send, to look at or to send by other means. */
#include <getopt.h>
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
	struct err_info info = {0};

	if (!s->file)
		return CLI_DONE;
	if (input_file_read(s->file, &s->body, &info) != ERR_OK) {
		cli_error("%s", info.text);
		return CLI_FAILED;
	}
	s->o.body = s->body.len ? buf_str(&s->body) : STR("");
	return CLI_DONE;
}

static int sign_for(const struct conf *c, const struct tool *tool, struct sign *s)
{
	struct signed_request r = {.header_count = 0};
	struct err_info info = {0};
	int rc = sign_key_open(s->key, tool, &s->o.key);

	if (rc == CLI_DONE)
		rc = read_body(s);
	if (rc == CLI_DONE && recipe_sign(tool, &s->o, &r, &info) != ERR_OK) {
		cli_error("%s", info.text);
		rc = CLI_FAILED;
	}
	if (rc == CLI_DONE)
		rc = print(c, s, &r);
	signed_request_done(&r);
	keypair_free(s->o.key);
	return rc;
}

static int run(const char *config, struct sign *s)
{
	struct conf *c = NULL;
	struct tools *tools = NULL;
	const struct tool *tool;
	int rc = cli_load_conf(config, &c);

	if (rc == CLI_DONE)
		rc = cli_load_tools(c, &tools);
	if (c && rc == CLI_CONFIG)
		sign_key_suggest(s->key, s->tool);
	if (rc == CLI_DONE) {
		tool = cli_find_tool(tools, s->tool);
		rc = tool ? sign_for(c, tool, s) : CLI_FAILED;
	}
	buf_done(&s->body);
	tools_unref(tools);
	conf_free(c);
	return rc;
}

/* ---- options ---- */

static bool take_form(struct sign *s, const char *text)
{
	static const char *const forms[] = {"curl", "http", "headers"};

	for (size_t i = 0; i < 3; i++) {
		if (strcmp(text, forms[i]) == 0) {
			s->form = (enum form)i;
			return true;
		}
	}
	return false;
}

static bool take_option(struct sign *s, const char **config, int o)
{
	switch (o) {
	case 'c':
		*config = optarg;
		return true;
	case 'u':
		s->url = optarg;
		return true;
	case 'e':
		s->o.type = str_of(optarg);
		return true;
	case 'i':
		s->o.id = str_of(optarg);
		return true;
	case 'k':
		s->key = optarg;
		return true;
	case 't':
		return input_time(optarg, &s->o.now) == ERR_OK;
	case 'b':
		s->o.bad = true;
		return true;
	case 'o':
		return take_form(s, optarg);
	default:
		return false;
	}
}

int cmd_sign(const struct command *self, int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
	                                        {"url", required_argument, NULL, 'u'},
	                                        {"event", required_argument, NULL, 'e'},
	                                        {"id", required_argument, NULL, 'i'},
	                                        {"key", required_argument, NULL, 'k'},
	                                        {"at", required_argument, NULL, 't'},
	                                        {"bad-signature", no_argument, NULL, 'b'},
	                                        {"help", no_argument, NULL, 'h'},
	                                        {NULL, 0, NULL, 0}};
	struct sign s = {.o.now = clock_wall(), .o.type = STR(""), .o.id = STR("")};
	const char *config = NULL;
	int o;

	while ((o = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (o == 'h') {
			cli_help(self);
			return CLI_DONE;
		}
		if (!take_option(&s, &config, o))
			return cli_usage(self, "bad option");
	}
	if (optind != argc - 1 && optind != argc - 2)
		return cli_usage(self, "name one tool, and a file with the body if you have one");
	s.tool = argv[optind];
	s.file = argv[optind + 1]; /* NULL ends argv */
	buf_init(&s.body, MAX_BODY);
	return run(config, &s);
}
