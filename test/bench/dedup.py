"""Deduplication: what its layers cost where nothing is repeated, and what they spare where half is;
and a steady load on all roles with everything on."""
import json
import time

from figures import BATCHES, DATABASE_ONLY, ENTRIES, KIB, STREAM, Store, Whole, drained
from harness.weir import run
from measure import Miss, histogram_delta, note, quantile, rss_mb, until

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


class Steady(Whole):
    """A paced load far below what weir can do: how long things take then, and how much the database
    is asked."""

    RATE = 10_000

    def paced(self, w, seconds):
        argv = ["bench", "bench", "--rate", str(self.RATE), "--seconds", str(seconds), "--connections", "16", "-o", "json"]
        note(["weir"] + argv)
        r = run(*argv, env={"TOOLS_FILE": self.stage.tools, "HOST": "127.0.0.1", "PORT": str(w.port)}, timeout=90 + seconds)
        if r.rc:
            raise Miss(f"weir bench: {r}")
        return json.loads(r.out)

    def round(self):
        self.empty()
        w = self.stage.weir(self.redis, self.db, **BATCHES)
        self.paced(w, 2)
        with self.redis.client(timeout=60) as c:
            until(lambda: drained(c), 60, "the first load is stored")
            before, rss = w.metrics(), rss_mb(w.pid)
            statements = w.metric("webhook_pg_statements_total")
            batches = w.metric("webhook_batch_size_count")
            start = time.monotonic()
            sent = self.paced(w, 3 if self.stage.o.quick else 15)
            seconds = time.monotonic() - start
            until(lambda: drained(c), 60, "the load is stored")
        after = w.metrics()
        out = {"offered": self.RATE, "answered": sent["answered"], "answered_rate": sent["answered"] / seconds,
               "statements": (w.metric("webhook_pg_statements_total") - statements) / sent["answered"],
               "batch_size": sent["answered"] / (w.metric("webhook_batch_size_count") - batches),
               "growth_mb": rss_mb(w.pid) - rss}
        for key, name in (("flush", "webhook_processing_duration_seconds"), ("commit", "webhook_event_processing_duration_seconds")):
            buckets = histogram_delta(before, after, name)
            out[f"{key}_ms"] = {f"p{int(q * 100)}": quantile(buckets, q) * 1000 for q in (.5, .99)}
        self.stage.close(w)
        return out
