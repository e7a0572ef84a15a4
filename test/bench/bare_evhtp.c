/* The baseline of the ingest figures: libevhtp as it comes, answering 200 to everything. No gate,
 * no tuning. Usage: bare_evhtp PORT */
#include <stdio.h>
#include <stdlib.h>

#include <evhtp/evhtp.h>

static void on_request(evhtp_request_t *req, void *arg)
{
	(void)arg;
	evbuffer_add_printf(req->buffer_out, "{\"status\":\"accepted\"}");
	evhtp_headers_add_header(req->headers_out,
	                         evhtp_header_new("Content-Type", "application/json", 0, 0));
	evhtp_send_reply(req, EVHTP_RES_OK);
}

int main(int argc, char **argv)
{
	int port = argc > 1 ? atoi(argv[1]) : 0;
	struct event_base *base = event_base_new();
	evhtp_t *htp = base ? evhtp_new(base, NULL) : NULL;

	if (!htp || port <= 0 || port > 65535) {
		fprintf(stderr, "usage: bare_evhtp PORT\n");
		return 2;
	}
	evhtp_set_gencb(htp, on_request, NULL);
	if (evhtp_bind_socket(htp, "127.0.0.1", (uint16_t)port, 1024) != 0) {
		perror("bare_evhtp");
		return 1;
	}
	event_base_loop(base, 0);
	return 0;
}
