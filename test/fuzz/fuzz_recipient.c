/* Mappings and events: the first line of the input is a mapping's JSON (or the name of a ready one
 * in quotes), the rest is an event's body. Any mapping is compiled or refused with a text; what is
 * read is what Postgres takes: clean UTF-8 of bounded length and times that exist. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/model/event.h"
#include "weir/model/recipient.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct str s, size_t max)
{
	if (s.len == 0 || s.len > max || !str_is_utf8(s) || memchr(s.ptr, '\0', s.len))
		abort();
}

static void check(const struct recipient_reports *r, usec_t received)
{
	if (r->n == 0 || r->n > RECIPIENT_MAX_REPORTS)
		abort();
	for (size_t i = 0; i < r->n; i++) {
		const struct recipient_report *p = &r->list[i];

		check_text(p->message_id, RECIPIENT_MESSAGE_ID_MAX);
		check_text(p->address, RECIPIENT_ADDRESS_MAX);
		if (p->status >= RECIPIENT_STATUSES || (p->soft && p->status != RECIPIENT_BOUNCED))
			abort();
		if (p->at < 0 || p->at > received + 86400 * USEC_PER_SEC)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str body = str_n(data, size), text = str_split(&body, '\n');
	struct event_view v = {.body = body, .received = 1800000000 * USEC_PER_SEC};
	json_t *value = json_loadb(text.len ? text.ptr : "", text.len, JSON_DECODE_ANY, NULL);
	struct recipient_reports *reports = NULL;
	struct recipient_reader *r = NULL;
	struct recipient_map *m = NULL;
	struct err_info info = {0};
	enum recipient_outcome outcome;

	if (!value)
		return 0;
	if (recipient_map_compile(value, NULL, &m, &info) != ERR_OK && info.text[0] == '\0')
		abort();
	if (m && recipient_reader_new(&r) == ERR_OK) {
		if (recipient_read(r, m, &v, &reports, &outcome) != ERR_OK)
			abort();
		if ((outcome == RECIPIENT_READ) != (reports != NULL))
			abort();
	}
	if (reports)
		check(reports, v.received);
	recipient_reports_free(reports);
	recipient_reader_free(r);
	recipient_map_free(m);
	json_decref(value);
	return 0;
}
