"""Deduplication: what its layers cost where nothing is repeated, and what they spare where half is."""
from figures import ENTRIES, KIB, STREAM, Store
from measure import until

DATABASE_ONLY = {"DEDUP_MEMORY_KEYS": "0", "WEBHOOK_DEDUP_TTL": "0"}

# Appends every entry once more, as a sender's second delivery of the same event: another uid.
REPEAT = """
local from, n = '-', 0
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]
while true do
  local some = redis.call('XRANGE', KEYS[1], from, last, 'COUNT', 1000)
  for _, e in ipairs(some) do
    for i = 1, #e[2], 2 do
      if e[2][i] == 'u' then
        n = n + 1
        e[2][i + 1] = string.sub(e[2][i + 1], 1, 24) .. string.format('%012x', n)
      end
    end
    redis.call('XADD', KEYS[1], '*', unpack(e[2]))
  end
  if #some < 1000 then return n end
  from = '(' .. some[#some][1]
end
"""


class Dedup(Store):
    def once(self, entries, repeated, **settings):
        events = entries // 2 if repeated else entries
        self.fill(KIB, events)
        if repeated:
            with self.redis.client(timeout=60) as c:
                c.eval(REPEAT, 1, STREAM)
        self.empty()
        out = self.store(entries, events, **settings)
        out |= self.redis_keys()
        return out

    def redis_keys(self):
        """The memory that Redis gives back with the sets, by key."""
        with self.redis.client(timeout=60) as c:
            names = c.keys("webhook_dedup:*")
            if not names:
                return {}
            keys, before = sum(c.scard(n) for n in names), c.info("memory")["used_memory"]
            c.unlink(*names)
            until(lambda: not c.info("memory")["lazyfree_pending_objects"], 30, "the sets are freed")
            return {"keys": keys, "bytes_per_key": (before - c.info("memory")["used_memory"]) / keys}

    def round(self):
        entries = ENTRIES[KIB] // (4 if self.stage.o.quick else 1)
        return {"all": self.once(entries, False), "database": self.once(entries, False, **DATABASE_ONLY),
                "repeated": self.once(entries, True)}
