/* weir verify: why a request is, or is not, authentic. The verdict is the service's own, by the
 * same functions over the same recipe; here is only shown what they saw. Nothing of this is ever
 * told to a sender: it holds the signature that the request should have had. */
#include <stdio.h>
#include <string.h>

#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/cli/command.h"
#include "weir/cli/explain.h"
#include "weir/cli/input_file.h"
#include "weir/cli/request_text.h"
#include "weir/model/handshake.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/intake.h"
#include "weir/run/conf.h"
#include "weir/run/metric.h"

#define MAX_REQUEST (65 * 1024 * 1024)
#define MAX_TARGET  (TOOL_ID_MAX + 16)

struct verify {
	const char *tool, *file, *body_file, *method, *target;
	const char *cert_file; /* of signatures by certificate; NULL: none */
	bool raw;              /* nothing but the signed bytes */
	bool lines;            /* headers came as options: the file is the body */
	usec_t now;
	struct request_text text;
	struct buf request, body;
	char default_target[MAX_TARGET];
};

/* ---- the request ---- */

static enum err read_request(struct verify *v, struct err_info *info)
{
	enum err e = input_file_read(v->file, &v->request, info);

	if (e == ERR_OK && v->lines)
		v->text.body = v->request.len ? buf_str(&v->request) : STR("");
	else if (e == ERR_OK)
		e = request_text_parse(buf_str(&v->request), &v->text, info);
	if (e != ERR_OK || !v->body_file)
		return e;
	e = input_file_read(v->body_file, &v->body, info);
	v->text.body = v->body.len ? buf_str(&v->body) : STR("");
	v->text.cut = false;
	return e;
}

static struct recipe_request make_request(struct verify *v)
{
	struct recipe_request req;

	if (!v->text.method.ptr)
		v->text.method = str_of(v->method);
	if (!v->text.target.ptr)
		v->text.target = str_of(v->target ? v->target : v->default_target);
	request_text_request(&v->text, v->now, &req);
	return req;
}

/* ---- what becomes of it ---- */

static void print_events(const struct intake_result *in)
{
	for (size_t i = 0; i < in->n; i++) {
		const struct event_view *e = &in->events[i];

		printf("%-11s type \"%.*s\", id \"%.*s\"%s, %zu bytes\n", i ? "" : "events",
		       (int)e->type.len, e->type.ptr, (int)e->id.len, e->id.len ? e->id.ptr : "",
		       e->id.len ? "" : " (none: the body's hash stands in for it)", e->body.len);
	}
	if (in->n == 0)
		printf("%-11s none: the array is empty\n", "events");
}

/* The whole way of a request: also what is authentic can be refused, and a handshake is no event.
 */
static int print_outcome(const struct explain *x)
{
	const struct recipe_request *req = x->req;
	struct intake_result in;
	struct intake *k;
	int status;

	if (intake_new(256 * 1024 * 1024, &k) != ERR_OK) {
		cli_error("out of memory");
		return CLI_FAILED;
	}
	intake_use_certs(k, x->certs);
	intake_run(k, x->tool, request_text_method(req->method), req, req->now, &in);
	if (in.status == 200 && in.hand)
		printf("%-11s a handshake, answered %d\n", "outcome", in.hand->status);
	else if (in.status == 200)
		print_events(&in);
	else if (in.status != explain_status(x))
		printf("%-11s %d %s: %s\n", "outcome", in.status, in.reason, in.detail);
	status = in.status;
	intake_free(k);
	return status == 200 ? CLI_DONE : CLI_FAILED;
}

static void print_notes(const struct verify *v, size_t body)
{
	if (v->text.cut)
		printf("%-11s Content-Length is more than the %zu bytes that are here: is the body "
		       "whole?\n",
		       "note", body);
	if (!v->text.has_body && !v->lines && !v->body_file)
		printf("%-11s the text has no body (curl -v prints none): give it with --body "
		       "FILE\n",
		       "note");
}

static int print_all(struct verify *v, struct explain *x)
{
	if (!v->raw) {
		explain_print(x);
		print_notes(v, x->req->body.len);
		return print_outcome(x);
	}
	if (explain_raw(x))
		return CLI_DONE;
	cli_error("there is nothing that is signed: see without -o raw");
	return CLI_FAILED;
}

/* As if it had been fetched from where the request says. */
static int put_certificate(const struct verify *v, const struct tool *tool,
                           const struct recipe_request *req, struct cert_store *certs)
{
	struct err_info info = {0};
	struct explain x;
	struct buf pem;
	enum err e = explain_open(&x, tool, req, NULL);

	if (e != ERR_OK)
		return CLI_FAILED;
	buf_init(&pem, CERT_STORE_MAX_BYTES);
	e = input_file_read(v->cert_file, &pem, &info);
	if (e == ERR_OK && x.verdict == VERIFY_CERT)
		e = cert_store_put(certs, x.result.cert_url, x.result.cert_chain, buf_str(&pem),
		                   &info);
	if (e != ERR_OK)
		cli_error("%s: %s", v->cert_file, info.text);
	buf_done(&pem);
	explain_close(&x);
	return e == ERR_OK ? CLI_DONE : CLI_FAILED;
}

static int explain_all(struct verify *v, const struct conf *c, const struct tool *tool)
{
	struct recipe_request req = make_request(v);
	struct cert_store_options o = {.ca_file = c->fetch_ca_file};
	struct metric_registry *metrics = NULL;
	struct cert_store *certs = NULL;
	struct explain x;
	int rc = CLI_DONE;

	if (metric_registry_new(&metrics) != ERR_OK)
		return CLI_FAILED;
	o.metrics = metrics;
	if (v->cert_file)
		rc = cert_store_new(&o, &certs) == ERR_OK ? put_certificate(v, tool, &req, certs)
		                                          : CLI_FAILED;
	if (rc == CLI_DONE && explain_open(&x, tool, &req, certs) == ERR_OK) {
		rc = print_all(v, &x);
		explain_close(&x);
	}
	cert_store_free(certs);
	metric_registry_free(metrics);
	return rc;
}

/* ---- options ---- */

static int run(const char *config, struct verify *v)
{
	struct err_info info = {0};
	struct cli_tool t = {.conf = NULL};
	int rc = cli_open_tool(config, v->tool, &t);

	buf_init(&v->request, MAX_REQUEST);
	buf_init(&v->body, MAX_REQUEST);
	if (rc == CLI_DONE && read_request(v, &info) != ERR_OK) {
		cli_error("%s", info.text);
		rc = CLI_USAGE;
	}
	if (rc == CLI_DONE)
		rc = explain_all(v, t.conf, t.tool);
	buf_done(&v->request);
	buf_done(&v->body);
	cli_tool_done(&t);
	return rc;
}

static bool take_header(void *arg, const char *value)
{
	struct verify *v = arg;

	v->lines = true;
	return request_text_header(&v->text, str_of(value)) == ERR_OK;
}

static bool take_form(void *arg, const char *value)
{
	size_t which;

	if (!cli_choose("text|raw", value, &which))
		return false;
	*(bool *)arg = which == 1;
	return true;
}

int cmd_verify(const struct command *self, int argc, char **argv)
{
	static const struct cli_operands want = {1, 2,
	                                         "name one tool, and a file with the request"};
	struct verify v = {.now = clock_wall(), .method = "POST", .file = "-"};
	const char *config = NULL;
	const struct cli_option options[] = {
	    CLI_CONFIG_FILE(&config),
	    {.name = "header",
	     .letter = 'H',
	     .value = "LINE",
	     .take = take_header,
	     .arg = &v,
	     .must = "\"Name: value\", at most 128 of them"},
	    {.name = "body", .value = "FILE", .text = &v.body_file},
	    {.name = "cert", .value = "FILE", .text = &v.cert_file},
	    {.name = "method", .value = "METHOD", .text = &v.method},
	    {.name = "target", .value = "TARGET", .text = &v.target},
	    {.name = "at", .value = "TIME", .take = cli_take_time, .arg = &v.now, .must = CLI_TIME},
	    {.name = "output",
	     .letter = 'o',
	     .value = "text|raw",
	     .take = take_form,
	     .arg = &v.raw,
	     .must = "text or raw"},
	    CLI_END};
	int rc;
	char **args = cli_parse(self, argc, argv, options, want, &rc);

	if (!args)
		return rc;
	v.tool = args[0];
	if (args[1])
		v.file = args[1];
	snprintf(v.default_target, sizeof(v.default_target), "/webhooks/%.*s", TOOL_ID_MAX, v.tool);
	return run(config, &v);
}
