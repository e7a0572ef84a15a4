/* A reload is read whole and checked whole before anything changes; a bad one leaves the old in
 * force and says so in the log and in a gauge. */
#include "weir/app/reload.h"

#include "weir/app/preflight.h"
#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

extern char **environ;

struct reload {
	struct conf *conf;       /* borrowed */
	const char *config_file; /* borrowed; may be NULL */
	struct tools *tools;     /* ref */
	struct metric *ok, *when, *applied, *refused;
};

void reload_apply_log(const struct conf *c)
{
	struct err_info info;

	if (log_set_levels(c->log_level, &info) != ERR_OK)
		log_error(LOG_CONF, "log levels not applied", LOG_STR("detail", info.text));
	log_set_format((enum log_format)c->log_format);
}

enum err reload_new(struct conf *conf, const char *config_file, struct tools *tools,
                    struct metric_registry *metrics, struct reload **ret)
{
	struct reload *r = mem_zalloc(sizeof(*r));
	struct metric_family *runs;

	if (!r)
		return ERR_NOMEM;
	r->conf = conf;
	r->config_file = config_file;
	r->tools = tools_ref(tools);
	r->ok = metric_plain(metrics, METRIC_GAUGE, "webhook_config_last_reload_successful",
	                     "1 when the last reading of settings and tools succeeded.");
	r->when = metric_plain(metrics, METRIC_GAUGE,
	                       "webhook_config_last_reload_success_timestamp_seconds",
	                       "When settings and tools were last read.");
	runs = metric_family(metrics, &(struct metric_spec){
	                                  .type = METRIC_COUNTER,
	                                  .name = "webhook_config_reloads_total",
	                                  .help = "Readings of settings and tools by SIGHUP.",
	                                  .labels = {"outcome"},
	                              });
	r->applied = metric_of(runs, "applied", NULL, NULL);
	r->refused = metric_of(runs, "refused", NULL, NULL);
	metric_set(r->ok, 1);
	metric_set(r->when, (double)clock_wall() / USEC_PER_SEC);
	*ret = r;
	return ERR_OK;
}

void reload_free(struct reload *r)
{
	if (!r)
		return;
	tools_unref(r->tools);
	mem_free(r);
}

static void apply(struct reload *r, struct tools *tools, const struct buf *not_applied)
{
	struct tools *old = r->tools;

	r->tools = tools;
	tools_unref(old);
	reload_apply_log(r->conf);
	metric_inc(r->applied);
	metric_set(r->ok, 1);
	metric_set(r->when, (double)clock_wall() / USEC_PER_SEC);
	log_info(LOG_CONF, "reloaded", LOG_INT("tools", tools_count(tools)));
	if (not_applied->len)
		log_warn(LOG_CONF, "these settings changed but need a restart",
		         LOG_SLICE("settings", buf_str(not_applied)));
}

void reload_run(struct reload *r)
{
	struct err_info info = {0};
	struct conf *fresh = NULL;
	struct tools *tools = NULL;
	struct buf not_applied;
	enum err e;

	buf_init(&not_applied, 16 * 1024);
	e = conf_load(r->config_file, environ, &fresh, &info);
	if (e == ERR_OK)
		e = tools_load(fresh->tools_file, fresh->webhook_secret, &tools, &info);
	/* MAX_BODY_SIZE is not reloaded: the one in force counts. */
	if (e == ERR_OK)
		e = preflight_tools(r->conf, tools, NULL, &info);
	if (e == ERR_OK)
		e = conf_apply_reload(r->conf, fresh, &not_applied);
	if (e == ERR_OK) {
		apply(r, tools, &not_applied);
	} else {
		tools_unref(tools);
		metric_inc(r->refused);
		metric_set(r->ok, 0);
		log_error(LOG_CONF, "reload refused; the old settings and tools stay in force",
		          LOG_STR("detail", info.text[0] ? info.text : err_meaning(e)));
	}
	conf_free(fresh);
	buf_done(&not_applied);
}

struct tools *reload_tools(const struct reload *r)
{
	return r->tools;
}
