/* In this order: is there such a tool, may this sender talk to it, is it something that the tool
 * takes, and is there room. So nothing that is refused for what it is costs the tool's rate; and
 * what is refused later, because it is not authentic or cannot be stored, gives its token back:
 * else anybody could use up what the provider needs. */
#include "admission_priv.h"

#include "weir/model/event.h"
#include "weir/model/recipe.h"
#include "weir/model/handshake.h"
#include "weir/model/tool.h"

#include "client_priv.h"
#include "coding_priv.h"

enum err admission_init(struct admission *a, const struct receiver_options *o,
                        struct receive_stats *stats)
{
	struct str bad;

	a->o = o;
	a->stats = stats;
	return ip_nets_parse(str_of(o->trusted_proxies), a->trusted, ADMISSION_MAX_PROXIES,
	                     &a->trusted_count, &bad);
}

static enum err find_client(const struct admission *a, struct http_ticket *t, struct ip_addr *ret,
                            struct str *ret_text)
{
	return client_find(http_ticket_headers(t), http_ticket_header_count(t), http_ticket_peer(t),
	                   a->trusted, a->trusted_count, ret, ret_text);
}

struct str admission_peer(const struct admission *a, struct http_ticket *t)
{
	struct str text = http_ticket_peer(t);
	struct ip_addr addr;

	if (a->trusted_count && find_client(a, t, &addr, &text) != ERR_OK)
		return http_ticket_peer(t);
	return text;
}

void admission_refuse(const struct admission *a, struct http_ticket *t, struct tool_stats *stats,
                      const struct refusal *f)
{
	struct refusal told = *f;

	if (f->status == 503 && !f->retry_after)
		told.retry_after = a->o->sink->retry_after(a->o->sink);
	if (http_ticket_user(t) == stats)
		token_bucket_give(receive_stats_bucket(stats));
	refusal_send(&told, t, stats, admission_peer(a, t));
}

uint64_t admission_body_limit(const struct admission *a, const struct tool *tool)
{
	uint64_t most = a->o->max_body;

	return tool->max_body && tool->max_body < most ? tool->max_body : most;
}

/* Each check returns false with the refusal. */

static bool check_sender(const struct admission *a, struct http_ticket *t, const struct tool *tool,
                         struct refusal *ret)
{
	const struct tool_limits *l = &tool->limits;
	struct ip_addr addr;
	struct str text;

	if (!l->net_count && !a->trusted_count)
		return true;
	if (find_client(a, t, &addr, &text) != ERR_OK) {
		*ret = (struct refusal){
		    .status = 400,
		    .reason = "forwarded_for",
		    .detail = "the proxy's X-Forwarded-For header holds something that is no "
		              "address",
		    .setting = "TRUSTED_PROXIES"};
		return false;
	}
	if (!l->net_count || ip_nets_have(l->nets, l->net_count, &addr))
		return true;
	*ret = (struct refusal){.status = 403,
	                        .reason = "sender_network",
	                        .detail = "this tool takes no requests from your network",
	                        .setting = "allow_from"};
	return false;
}

static bool check_method(struct http_ticket *t, const struct tool *tool, struct refusal *ret)
{
	if (http_ticket_method(t) == HTTP_POST ||
	    recipe_takes_method(tool->recipe, http_ticket_method(t)))
		return true;
	*ret = (struct refusal){.status = 405,
	                        .reason = "method",
	                        .detail = "webhooks are sent by POST",
	                        .more = {"Allow", "POST"}};
	return false;
}

static bool check_coding(struct http_ticket *t, const struct tool *tool, struct refusal *ret)
{
	enum body_coding c = coding_of(http_ticket_headers(t), http_ticket_header_count(t));
	bool gzip = tool->limits.gzip;

	if (c == CODING_NONE || (c == CODING_GZIP && gzip))
		return true;
	*ret = (struct refusal){
	    .status = 415,
	    .reason = "content_encoding",
	    .detail = gzip ? "the body may come with the content encoding gzip, or without one"
	                   : "the body must come without a content encoding",
	    .setting = c == CODING_GZIP ? "gzip" : NULL,
	    .more = {"Accept-Encoding", gzip ? "gzip" : "identity"}};
	return false;
}

static bool check_type(struct http_ticket *t, const struct tool *tool, struct refusal *ret)
{
	struct str type = STR_NONE;

	if (!tool->limits.type_count || http_ticket_method(t) != HTTP_POST ||
	    (http_ticket_header(t, STR("content-type"), &type) < 2 &&
	     tool_limits_take_type(&tool->limits, type)))
		return true;
	*ret = (struct refusal){.status = 415,
	                        .reason = "content_type",
	                        .detail = "this tool does not take bodies of this content type",
	                        .setting = "content_types"};
	return false;
}

static bool check_rate(const struct tool *tool, struct tool_stats *stats, struct refusal *ret)
{
	const struct token_rate *rate = &tool->limits.rate;
	usec_t wait;

	if (rate->per_second <= 0 ||
	    token_bucket_take(receive_stats_bucket(stats), rate, clock_mono(), &wait))
		return true;
	*ret =
	    (struct refusal){.status = 429,
	                     .reason = "rate",
	                     .detail = "this tool gets more requests than its rate allows",
	                     .setting = "rate",
	                     .rate = rate,
	                     .retry_after = (unsigned)((wait + USEC_PER_SEC - 1) / USEC_PER_SEC)};
	return false;
}

static bool check_in_flight(const struct tool *tool, struct tool_stats *stats, struct refusal *ret)
{
	size_t most = tool->limits.max_in_flight;

	if (!most || receive_stats_share(stats)->tickets < most)
		return true;
	*ret = (struct refusal){.status = 503,
	                        .reason = "in_flight",
	                        .detail = "this tool has too many requests in flight",
	                        .setting = "max_in_flight",
	                        .limit = most};
	return false;
}

/* Once for each request. Where there is one tool only, all of the memory is its own. */
static bool enter(struct http_ticket *t, const struct tool *tool, bool several,
                  struct tool_stats *stats, struct refusal *ret)
{
	struct http_share *share = receive_stats_share(stats);

	if (http_ticket_user(t) == stats)
		return true;
	if (!check_in_flight(tool, stats, ret) || !check_rate(tool, stats, ret))
		return false;
	share->fair = several;
	http_ticket_join(t, share);
	http_ticket_set_user(t, stats);
	return true;
}

/* Mostly it was looked for when the head came. */
static struct tool_stats *stats_of(const struct admission *a, struct http_ticket *t,
                                   const struct tool *tool)
{
	struct tool_stats *known = http_ticket_user(t);

	if (known && str_eq(receive_stats_tool(known), tool->id))
		return known;
	return receive_stats_of(a->stats, tool->id);
}

bool admission_ask(struct admission *a, struct http_ticket *t, const struct tool **ret,
                   struct tool_stats **ret_stats)
{
	const struct tools *tools = a->o->tools(a->o->tools_arg);
	struct str asked = receiver_asked(http_ticket_path(t));
	const struct tool *tool = tools ? tools_find(tools, asked) : NULL;
	struct tool_stats *stats = receive_stats_unknown(a->stats);
	char text[REFUSAL_TEXT_MAX];
	struct refusal f;

	if (!tool) {
		f = a->o->may_exist && a->o->may_exist(a->o->tools_arg, asked)
		        ? refusal_unready(asked)
		        : refusal_unknown(asked, text);
		admission_refuse(a, t, stats, &f);
		return false;
	}
	stats = stats_of(a, t, tool);
	if (!check_sender(a, t, tool, &f) || !check_method(t, tool, &f) ||
	    !check_coding(t, tool, &f) || !check_type(t, tool, &f) ||
	    !enter(t, tool, tools_count(tools) > 1, stats, &f)) {
		admission_refuse(a, t, stats, &f);
		return false;
	}
	*ret = tool;
	*ret_stats = stats;
	return true;
}
