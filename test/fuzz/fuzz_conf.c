/* Settings from any text: refused with a reason, or loaded so that everything can be printed, the
 * dump reads back, and a reload onto the defaults works. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/run/conf.h"

static void must(int ok)
{
	if (!ok)
		abort();
}

static void use(const struct conf *c)
{
	struct conf *again = NULL, *plain = NULL;
	struct err_info info;
	struct buf text;

	buf_init(&text, 1 << 20);
	must(conf_dump_json(c, &text) == ERR_OK);
	buf_reset(&text);
	must(conf_dump(c, &text) == ERR_OK);
	/* A masked value may be longer than a short one that it hides, so only the syntax. */
	if (conf_load_text("dump", buf_str(&text), NULL, &again, &info) == ERR_OK)
		conf_free(again);
	must(conf_load_text("", STR_NONE, NULL, &plain, &info) == ERR_OK);
	buf_reset(&text);
	must(conf_apply_reload(plain, c, &text) == ERR_OK);
	conf_free(plain);
	buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err_info info = {.code = ERR_OK};
	struct conf *c = NULL;
	enum err e = conf_load_text("fuzz", str_n(data, size), NULL, &c, &info);

	if (e == ERR_OK) {
		use(c);
		conf_free(c);
		return 0;
	}
	must(c == NULL && info.code == e && info.text[0] != '\0');
	/* What people read holds no control characters. */
	for (const char *p = info.text; *p; p++)
		must((unsigned char)*p >= 0x20 && *p != 0x7f);
	return 0;
}
