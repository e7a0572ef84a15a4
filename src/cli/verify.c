/* weir verify: why a request is, or is not, authentic. The verdict is the service's own, by the
 * same functions over the same recipe; here is only shown what they saw. Nothing of this is ever
 * told to a sender: it holds the signature that the request should have had. */
#include <getopt.h>
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
	struct recipe_request req = {.method = v->text.method,
	                             .target = v->text.target,
	                             .query = STR_NONE,
	                             .body = v->text.body,
	                             .headers = v->text.headers,
	                             .header_count = v->text.header_count,
	                             .now = v->now};
	struct str path;

	if (!req.method.ptr)
		req.method = str_of(v->method);
	if (!req.target.ptr)
		req.target = str_of(v->target ? v->target : v->default_target);
	if (!req.body.ptr)
		req.body = STR("");
	req.query = req.target;
	path = str_split(&req.query, '?');
	(void)path;
	return req;
}

static enum http_method method_of(struct str text)
{
	for (enum http_method m = HTTP_GET; m < HTTP_METHOD_OTHER; m++)
		if (str_eq(text, str_of(http_method_name(m))))
			return m;
	return HTTP_METHOD_OTHER;
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
	intake_run(k, x->tool, method_of(req->method), req, req->now, &in);
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
	struct conf *c = NULL;
	struct tools *tools = NULL;
	const struct tool *tool = NULL;
	int rc = cli_load_conf(config, &c);

	buf_init(&v->request, MAX_REQUEST);
	buf_init(&v->body, MAX_REQUEST);
	if (rc == CLI_DONE)
		rc = cli_load_tools(c, &tools);
	if (rc == CLI_DONE) {
		tool = cli_find_tool(tools, v->tool);
		rc = tool ? CLI_DONE : CLI_FAILED;
	}
	if (rc == CLI_DONE && read_request(v, &info) != ERR_OK) {
		cli_error("%s", info.text);
		rc = CLI_USAGE;
	}
	if (rc == CLI_DONE)
		rc = explain_all(v, c, tool);
	buf_done(&v->request);
	buf_done(&v->body);
	tools_unref(tools);
	conf_free(c);
	return rc;
}

static bool take_option(struct verify *v, const char **config, int o)
{
	switch (o) {
	case 'c':
		*config = optarg;
		return true;
	case 'H':
		v->lines = true;
		return request_text_header(&v->text, str_of(optarg)) == ERR_OK;
	case 'b':
		v->body_file = optarg;
		return true;
	case 'x':
		v->cert_file = optarg;
		return true;
	case 'm':
		v->method = optarg;
		return true;
	case 'g':
		v->target = optarg;
		return true;
	case 't':
		return input_time(optarg, &v->now) == ERR_OK;
	case 'o':
		v->raw = strcmp(optarg, "raw") == 0;
		return v->raw || strcmp(optarg, "text") == 0;
	default:
		return false;
	}
}

int cmd_verify(const struct command *self, int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
	                                        {"header", required_argument, NULL, 'H'},
	                                        {"body", required_argument, NULL, 'b'},
	                                        {"method", required_argument, NULL, 'm'},
	                                        {"target", required_argument, NULL, 'g'},
	                                        {"at", required_argument, NULL, 't'},
	                                        {"cert", required_argument, NULL, 'x'},
	                                        {"help", no_argument, NULL, 'h'},
	                                        {NULL, 0, NULL, 0}};
	struct verify v = {.now = clock_wall(), .method = "POST", .file = "-"};
	const char *config = NULL;
	int o;

	while ((o = getopt_long(argc, argv, "H:o:", options, NULL)) != -1) {
		if (o == 'h') {
			cli_help(self);
			return CLI_DONE;
		}
		if (!take_option(&v, &config, o))
			return cli_usage(self, "bad option%s%s", optarg ? ": " : "",
			                 optarg ? optarg : "");
	}
	if (optind != argc - 1 && optind != argc - 2)
		return cli_usage(self, "name one tool, and a file with the request");
	v.tool = argv[optind];
	if (optind == argc - 2)
		v.file = argv[optind + 1];
	snprintf(v.default_target, sizeof(v.default_target), "/webhooks/%.*s", TOOL_ID_MAX, v.tool);
	return run(config, &v);
}
