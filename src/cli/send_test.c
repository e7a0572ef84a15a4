/* weir send-test: what a provider would send, signed with the tool's own secret, so that a set-up
 * can be tried without the provider. */
#include <stdio.h>

#include "weir/base/clock.h"
#include "weir/base/pubkey.h"
#include "weir/cli/command.h"
#include "weir/cli/sign_key.h"
#include "weir/io/http_call.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"

#define TIMEOUT (10 * USEC_PER_SEC)

struct send_test {
	const char *tool;
	const char *url; /* NULL: the configured ingest address */
	const char *event;
	const char *key; /* file; NULL: none */
	bool bad_signature;
};

static int judge(const struct send_test *s, int status)
{
	if (s->bad_signature)
		return status == 401 ? CLI_DONE : CLI_FAILED;
	return status >= 200 && status < 300 ? CLI_DONE : CLI_FAILED;
}

static int post(const struct conf *c, const struct send_test *s, const struct signed_request *r)
{
	struct http_call call = {.method = "POST",
	                         .headers = (const char *const *)r->headers,
	                         .body = buf_str(&r->body),
	                         .timeout = TIMEOUT};
	struct err_info info = {0};
	struct buf url, answer;
	int status = 0;
	enum err e;

	buf_init(&url, CLI_URL_MAX);
	buf_init(&answer, 64 * 1024);
	e = cli_tool_url(c, s->url, s->tool, buf_str(&r->target), &url, &info);
	if (e == ERR_OK) {
		call.url = url.ptr;
		e = http_call_run(&call, &status, &answer, &info);
	}
	if (e == ERR_OK)
		printf("POST %s\n%d %.*s\n", url.ptr, status, (int)answer.len,
		       answer.ptr ? answer.ptr : "");
	else
		cli_error("%s", info.text);
	buf_done(&url);
	buf_done(&answer);
	if (e != ERR_OK)
		return e == ERR_INVAL ? CLI_USAGE : CLI_UNREACHABLE;
	return judge(s, status);
}

static int sign_and_post(const struct cli_tool *t, const struct send_test *s)
{
	struct sign_options o = {
	    .now = clock_wall(), .bad = s->bad_signature, .type = str_of(s->event)};
	struct signed_request r = {.header_count = 0};
	struct err_info info = {0};
	int rc = sign_key_open(s->key, t->tool, &o.key);

	if (rc != CLI_DONE)
		return rc;
	if (recipe_sign(t->tool, &o, &r, &info) != ERR_OK) {
		cli_error("%s: %s", s->tool, info.text);
		rc = CLI_FAILED;
	} else {
		rc = post(t->conf, s, &r);
		signed_request_done(&r);
	}
	keypair_free(o.key);
	return rc;
}

int cmd_send_test(const struct command *self, int argc, char **argv)
{
	struct send_test s = {.event = ""};
	const char *file = NULL;
	const struct cli_option options[] = {CLI_CONFIG_FILE(&file),
	                                     {.name = "url", .value = "URL", .text = &s.url},
	                                     {.name = "event", .value = "TYPE", .text = &s.event},
	                                     {.name = "key", .value = "FILE", .text = &s.key},
	                                     {.name = "bad-signature", .flag = &s.bad_signature},
	                                     CLI_END};
	struct cli_tool t = {.conf = NULL};
	int rc;
	char **args =
	    cli_parse(self, argc, argv, options, (struct cli_operands){1, 1, "name one tool"}, &rc);

	if (!args)
		return rc;
	s.tool = args[0];
	rc = cli_open_tool(file, s.tool, &t);
	if (t.conf && rc == CLI_CONFIG)
		sign_key_suggest(s.key, s.tool);
	if (rc == CLI_DONE)
		rc = sign_and_post(&t, &s);
	cli_tool_done(&t);
	return rc;
}
