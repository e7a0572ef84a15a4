/* Addresses that people write into settings: URLs of HTTP and connection strings of Postgres. What
 * is taken of a URL can stand in a request's head as it is, userinfo is in none of the pieces, and
 * each of a database's hosts can be handed to libpq. The first byte chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/io/http_url.h"
#include "../../src/io/pg_priv.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_printable(const char *s)
{
	must(*s != '\0');
	for (; *s; s++)
		must((uint8_t)*s > ' ' && *s != 0x7f);
}

static void check_info(const struct err_info *info)
{
	must(info->text[0] != '\0');
	for (const char *s = info->text; *s; s++)
		must((uint8_t)*s >= ' ' && *s != 0x7f);
}

static void url(const char *text)
{
	char *bare = NULL, *user = NULL, *password = NULL;
	struct http_url u, again;
	struct err_info info = {0};
	enum err e = http_url_parse(text, &u, &info);

	if (e != ERR_OK) {
		check_info(&info);
	} else {
		check_printable(u.host);
		check_printable(u.authority);
		check_printable(u.target);
		must(u.target[0] == '/' && u.port > 0 && !strchr(u.authority, '@'));
	}
	if (http_url_take_userinfo(text, &bare, &user, &password, &info) != ERR_OK) {
		must(!bare && !user && !password);
		return;
	}
	must(bare && user && password);
	if (e == ERR_OK) {
		must(http_url_parse(bare, &again, &info) == ERR_OK && !again.has_userinfo);
		must(u.has_userinfo || (!*user && !*password));
	}
	mem_free(bare);
	mem_free(user);
	mem_free(password);
}

static void conninfo(const char *text)
{
	struct pg_options o = {.url = text, .application_name = "weir"};
	struct err_info info = {0};
	struct pg_conninfo ci;
	struct pg_params params;

	if (pg_conninfo_init(&ci, &o, &info) != ERR_OK) {
		check_info(&info);
		return;
	}
	must(ci.host_count >= 1 && ci.host_count <= PG_MAX_HOSTS);
	for (size_t i = 0; i < ci.host_count; i++) {
		const struct pg_host *h = &ci.hosts[i];
		size_t n = 0;

		pg_conninfo_params(&ci, h, "127.0.0.1", &params);
		while (params.keys[n]) {
			must(params.values[n] != NULL);
			n++;
		}
		must(n == ci.pair_count + 3);
		must(!h->unknown || (*h->name && !*h->addr && *h->name != '/'));
	}
	pg_conninfo_done(&ci);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = malloc(size);
	must(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] % 2)
		conninfo(text);
	else
		url(text);
	free(text);
	return 0;
}
