/* Tools of a table beside those of a file: what a definition may say, what is in force after each
 * reading, what becomes of rows that cannot be used, and of secrets whose files change. */
#include "torture.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/app/tool_store.h"
#include "weir/base/buf.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"
#include "weir/run/secrecy.h"

#define BY_ENV "{\"preset\":\"github\",\"secrets\":[{\"env\":\"STORE_SECRET\"}]}"
#define NO_ENV "{\"preset\":\"github\",\"secrets\":[{\"env\":\"STORE_NOT_SET\"}]}"

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* ---- one definition ---- */

static void refused(const char *text, const char *id, const char *expected)
{
	struct err_info info = {0};
	struct tool *t = NULL;

	assert_int_equal(tool_parse(str_of(text), "tab", str_of(id), &t, &info), ERR_INVAL);
	assert_null(t);
	if (strncmp(info.text, "tab:", 4) != 0 || !strstr(info.text, expected))
		fail_msg("%s gave \"%s\", not \"%s\"", text, info.text, expected);
}

static void test_definitions(void **state)
{
	struct err_info info = {0};
	struct tool *t;

	(void)state;
	refused("", "t", "tab:1:0: ");
	refused("[]", "t", "must be an object");
	refused("{\"id\":\"u\"}", "t", "must be the one of the path");
	refused(BY_ENV, "weir", "and not be \"weir\"");
	refused(BY_ENV, "", "must match");
	refused(BY_ENV, "A", "must match");
	refused(NO_ENV, "t", "\"STORE_NOT_SET\" is not set");
	refused("{\"preset\":\"github\",\"secrets\":[\"s\"]}", "t", "secrets[0]: must be {\"env\"");
	refused("{\"preset\":\"github\",\"secrets\":[{\"value\":\"s\"}]}", "t", "not stored");
	refused("{\"preset\":\"github\",\"secrets\":[{}]}", "t", "not stored");
	refused("{\"preset\":\"meta\",\"secrets\":[{\"env\":\"STORE_SECRET\"}],"
	        "\"verify_token\":\"s\"}",
	        "t", "verify_token: must be {\"env\"");
	assert_int_equal(tool_parse(STR(BY_ENV), "tab", STR("t"), &t, &info), ERR_OK);
	assert_int_equal(t->secret_count, 1);
	/* printf 'weir secret fingerprint: between us' | sha256sum */
	assert_string_equal(t->fingerprints[0], "c5b4d11b");
	assert_string_equal(t->source, BY_ENV);
	assert_int_equal(t->file_count, 0);
	tool_unref(t);
}

static void test_source_is_masked(void **state)
{
	static const char text[] =
	    "{\"tools\":[{\"id\":\"t\",\"preset\":\"meta\",\"secrets\":[\"hidden-1\","
	    "{\"value\":\"hidden-2\"},{\"env\":\"STORE_SECRET\"}],\"verify_token\":\"hidden-3\"}]}";
	struct err_info info = {0};
	struct tools *set;

	(void)state;
	assert_int_equal(tools_parse(STR(text), "f", &set, &info), ERR_OK);
	assert_string_equal(tools_at(set, 0)->source,
	                    "{\"id\":\"t\",\"preset\":\"meta\",\"secrets\":[\"***\","
	                    "{\"value\":\"***\"},{\"env\":\"STORE_SECRET\"}],"
	                    "\"verify_token\":\"***\"}");
	assert_int_equal(tools_at(set, 0)->secret_count, 3);
	tools_unref(set);
}

/* ---- the store ---- */

struct rig {
	struct loop *loop;
	struct metric_registry *metrics;
	struct conf *conf;
	struct tools *files;
	struct tool_store *store;
};

static enum err rig_new(struct rig *r, const char *file)
{
	struct tool_store_options o = {.has_table = true};
	char *const none[] = {NULL};
	enum err e;

	*r = (struct rig){.loop = NULL};
	e = loop_new(&r->loop);
	if (e == ERR_OK)
		e = metric_registry_new(&r->metrics);
	if (e == ERR_OK)
		e = conf_load(NULL, none, &r->conf, NULL);
	if (e == ERR_OK)
		e = tools_parse(str_of(file), "f", &r->files, NULL);
	o.loop = r->loop;
	o.conf = r->conf;
	o.metrics = r->metrics;
	o.files = r->files;
	return e == ERR_OK ? tool_store_new(&o, &r->store) : e;
}

static void rig_done(struct rig *r)
{
	tool_store_free(r->store);
	tools_unref(r->files);
	conf_free(r->conf);
	metric_registry_free(r->metrics);
	loop_free(r->loop);
}

static struct tool_row row(const char *id, int64_t version, const char *definition)
{
	return (struct tool_row){.id = str_of(id),
	                         .version = version,
	                         .updated_at = 1,
	                         .updated_by = STR("who"),
	                         .definition = str_of(definition)};
}

static const struct tool *in_force(struct rig *r, const char *id)
{
	return tools_find(tool_store_tools(r->store), str_of(id));
}

#define FILE_TOOLS "{\"tools\":[{\"id\":\"m\",\"preset\":\"github\",\"secrets\":[\"s\"]}]}"

static void test_readings(void **state)
{
	struct tool_row first[] = {row("a", 1, BY_ENV), row("b", 2, NO_ENV), row("m", 3, BY_ENV)};
	struct tool_row second[] = {row("a", 1, NULL), row("b", 4, BY_ENV)};
	const struct tool *a, *m;
	struct tool_view v;
	struct rig r;

	(void)state;
	assert_int_equal(rig_new(&r, FILE_TOOLS), ERR_OK);
	m = in_force(&r, "m");
	/* Before the first reading nothing is known of other tools. */
	assert_true(tool_store_may_exist(r.store, STR("a")));
	assert_false(tool_store_may_exist(r.store, STR("No Id")));
	assert_false(tool_store_settled(r.store));
	assert_int_equal(tool_store_apply(r.store, first, 3), ERR_OK);
	assert_true(tool_store_settled(r.store));
	assert_int_equal(tools_count(tool_store_tools(r.store)), 2);
	a = in_force(&r, "a");
	assert_non_null(a);
	assert_ptr_equal(in_force(&r, "m"), m);
	assert_true(tool_store_may_exist(r.store, STR("b")));
	assert_false(tool_store_may_exist(r.store, STR("c")));
	assert_true(tool_store_find(r.store, STR("b"), &v));
	assert_null(v.tool);
	assert_non_null(strstr(v.error, "STORE_NOT_SET"));
	/* What did not change is the same tool; what is gone is gone. */
	assert_int_equal(tool_store_apply(r.store, second, 2), ERR_OK);
	assert_ptr_equal(in_force(&r, "a"), a);
	assert_non_null(in_force(&r, "b"));
	assert_int_equal(tool_store_apply(r.store, second, 1), ERR_OK);
	assert_null(in_force(&r, "b"));
	assert_false(tool_store_may_exist(r.store, STR("b")));
	/* "Unchanged", of a row that nobody knows: all stays as it is. */
	second[0] = row("z", 9, NULL);
	assert_int_equal(tool_store_apply(r.store, second, 1), ERR_CONFLICT);
	assert_ptr_equal(in_force(&r, "a"), a);
	rig_done(&r);
}

static void test_pages(void **state)
{
	struct tool_row rows[] = {row("a", 1, BY_ENV), row("m", 2, BY_ENV), row("m-1", 3, BY_ENV),
	                          row("z", 4, BY_ENV)};
	struct tool_view views[2];
	struct buf ids, versions;
	struct rig r;

	(void)state;
	assert_int_equal(rig_new(&r, FILE_TOOLS), ERR_OK);
	assert_int_equal(tool_store_apply(r.store, rows, 4), ERR_OK);
	assert_int_equal(tool_store_page(r.store, STR(""), views, 2), 2);
	assert_string_equal(views[0].tool->id.ptr, "a");
	assert_true(views[1].from_file);
	assert_int_equal(tool_store_page(r.store, STR("m"), views, 2), 2);
	assert_string_equal(views[0].tool->id.ptr, "m-1");
	assert_string_equal(views[1].tool->id.ptr, "z");
	assert_int_equal(tool_store_page(r.store, STR("z"), views, 2), 0);
	buf_init(&ids, 1000);
	buf_init(&versions, 1000);
	assert_int_equal(tool_store_known(r.store, &ids, &versions), 4);
	buf_done(&ids);
	buf_done(&versions);
	rig_done(&r);
}

/* ---- files ---- */

struct until {
	struct rig *r;
	const char *id, *fingerprint;
	struct loop_timer timer;
	int left;
	bool met;
};

static void on_until(void *arg)
{
	struct until *u = arg;
	const struct tool *t = in_force(u->r, u->id);

	u->met =
	    u->fingerprint ? strcmp(t->fingerprints[0], u->fingerprint) != 0 : t->stale != NULL;
	if (u->met || --u->left == 0)
		loop_stop(u->r->loop);
	else
		loop_timer_set(&u->timer, 20 * USEC_PER_MSEC);
}

/* Until the tool's fingerprint is another one, or (NULL) its secrets could not be read again. */
static void turn(struct rig *r, const char *id, const char *fingerprint)
{
	struct until u = {.r = r, .id = id, .fingerprint = fingerprint, .left = 1000};

	assert_int_equal(loop_timer_init(&u.timer, r->loop, on_until, &u), ERR_OK);
	loop_timer_set(&u.timer, 0);
	assert_int_equal(loop_run(r->loop), ERR_OK);
	loop_timer_done(&u.timer);
	assert_true(u.met);
}

static void test_files(void **state)
{
	char dir[] = "/tmp/weir-test-XXXXXX", file[64], path[2][64], definition[200], tools[300];
	const char *const ids[] = {"f", "t"};
	struct tool_row rows[1];
	char before[TOOL_FINGERPRINT];
	struct rig r;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/x", dir);
	for (size_t i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/%zu", dir, i);
		write_file(path[i], "one");
	}
	snprintf(definition, sizeof(definition),
	         "{\"preset\":\"github\",\"secrets\":[{\"file\":\"%s\"}]}", path[1]);
	/* The first secret's fingerprint is looked at: the file's goes in front. */
	snprintf(tools, sizeof(tools),
	         "{\"tools\":[{\"id\":\"f\",\"preset\":\"github\",\"secrets\":[{\"file\":\"%s\"},"
	         "\"literal\"]}]}",
	         path[0]);
	assert_int_equal(rig_new(&r, tools), ERR_OK);
	rows[0] = row("t", 1, definition);
	assert_int_equal(tool_store_apply(r.store, rows, 1), ERR_OK);
	assert_int_equal(in_force(&r, "t")->file_count, 1);
	tool_store_start(r.store);
	for (size_t i = 0; i < 2; i++) {
		memcpy(before, in_force(&r, ids[i])->fingerprints[0], sizeof(before));
		write_file(file, "two");
		assert_int_equal(rename(file, path[i]), 0);
		turn(&r, ids[i], before);
		assert_int_equal(in_force(&r, ids[i])->secret_count, 2 - i);
		assert_int_equal(unlink(path[i]), 0);
		memcpy(before, in_force(&r, ids[i])->fingerprints[0], sizeof(before));
		turn(&r, ids[i], NULL);
		assert_string_equal(in_force(&r, ids[i])->fingerprints[0], before);
		write_file(path[i], "three");
		turn(&r, ids[i], before);
		assert_null(in_force(&r, ids[i])->stale);
		unlink(path[i]);
	}
	tool_store_stop(r.store);
	rig_done(&r);
	rmdir(dir);
}

static void test_no_cores(void **state)
{
	(void)state;
	assert_int_equal(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
	assert_true(secrecy_no_cores());
	assert_int_equal(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
}

/* ---- each allocation failing ---- */

static void scenario_store(void)
{
	struct tool_row first[] = {row("a", 1, BY_ENV), row("b", 2, NO_ENV)};
	struct tool_row second[] = {row("a", 1, NULL), row("b", 4, BY_ENV)};
	const struct tool *a;
	struct rig r;

	if (rig_new(&r, FILE_TOOLS) == ERR_OK && tool_store_apply(r.store, first, 2) == ERR_OK) {
		a = in_force(&r, "a");
		if (tool_store_apply(r.store, second, 2) != ERR_OK)
			assert_ptr_equal(in_force(&r, "a"), a);
		tool_store_reload(r.store, r.files);
		assert_non_null(in_force(&r, "m"));
	}
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_definitions), cmocka_unit_test(test_source_is_masked),
	    cmocka_unit_test(test_readings),    cmocka_unit_test(test_pages),
	    cmocka_unit_test(test_files),       cmocka_unit_test(test_no_cores),
	};
	const struct torture torture[] = {TORTURE(scenario_store)};

	if (log_set_levels("error", NULL) != ERR_OK)
		return 2;
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	json_set_alloc_funcs(mem_alloc_twice, mem_free);
	setenv("STORE_SECRET", "between us", 1);
	return TESTS_OR_TORTURE(tests, torture);
}
