/* Both scripts deliver, so what they hand over counts as one delivery more. "Allowed" means: the
 * one after the last that is allowed is made alone. */
#include "weir/queue/stream_page.h"

#include "weir/io/redis.h"
#include "weir/queue/stream_alone.h"
#include "weir/queue/stream_intake.h"

const char stream_page_own[] =
    "local key = KEYS[1]\n"
    "local group, consumer, last, count, allowed = unpack(ARGV)\n"
    "local pending = redis.call('XPENDING', key, group, '(' .. last, '+', count, consumer)\n"
    "if #pending == 0 then return {'', {}, {}, {}} end\n"
    "local often, is_often = {}, {}\n"
    "for _, p in ipairs(pending) do\n"
    "  if p[4] >= tonumber(allowed) then\n"
    "    often[#often + 1] = p[1]\n"
    "    is_often[p[1]] = true\n"
    "  end\n"
    "end\n"
    "local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count,\n"
    "                        'STREAMS', key, last)\n"
    "local entries = {}\n"
    "for _, e in ipairs(read and read[1][2] or {}) do\n"
    "  if not is_often[e[1]] then entries[#entries + 1] = e end\n"
    "end\n"
    "return {pending[#pending][1], entries, {}, often}\n";

const char stream_page_claim[] =
    "local key = KEYS[1]\n"
    "local group, consumer, idle, cursor, count, allowed = unpack(ARGV)\n"
    "local r = redis.call('XAUTOCLAIM', key, group, consumer, idle, cursor, 'COUNT', count)\n"
    "local entries, often = {}, {}\n"
    "for _, e in ipairs(r[2]) do\n"
    "  local p = redis.call('XPENDING', key, group, e[1], e[1], 1)[1]\n"
    "  if p and p[4] > tonumber(allowed) then\n"
    "    often[#often + 1] = e[1]\n"
    "  else\n"
    "    entries[#entries + 1] = e\n"
    "  end\n"
    "end\n"
    "return {r[1], entries, r[3] or {}, often}\n";

enum err stream_page_read(const struct redis_reply *reply, struct stream_page *ret)
{
	if (reply->type != REDIS_ARRAY || reply->count != 4 ||
	    reply->items[0]->type != REDIS_STRING || reply->items[1]->type != REDIS_ARRAY ||
	    reply->items[2]->type != REDIS_ARRAY || reply->items[3]->type != REDIS_ARRAY)
		return ERR_PROTO;
	*ret = (struct stream_page){reply->items[0]->str, reply->items[1], reply->items[2],
	                            reply->items[3]};
	return ERR_OK;
}

enum err stream_page_take(const struct stream_page *p, enum stream_which stream,
                          struct stream_intake *k, struct stream_alone *a)
{
	stream_intake_lost(k, stream, p->deleted->count);
	for (size_t i = 0; i < p->often->count; i++) {
		struct stream_id id;

		if (stream_id_parse(p->often->items[i]->str, &id) == ERR_OK)
			stream_alone_add(a, id, stream);
	}
	return stream_intake_take(k, stream, p->entries, true);
}
