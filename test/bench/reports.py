"""Delivery reports: what enrichment and recipient updates take from the store rate."""
import json
import os
import random
import time
import uuid

from figures import KIB, STREAM, Store
from harness.weir import write_tools
from measure import Miss

REPORTS = 100_000
MAILING = 10_000  # recipients of one message batch
# Each pass tells something new of every recipient, so that each report changes its row and its batch's counters.
WORDS = ["delivered", "open", "click", "bounce", "spamreport", "unsubscribe"]


class Reports(Store):
    """The same stream of SendGrid events twice: for a tool with the mapping, its recipients registered and their ids
    in the cache, and for one without."""

    warms = False

    def __init__(self, stage):
        super().__init__(stage)
        self.entries, self.passes = REPORTS // (4 if stage.o.quick else 1), 0
        tool = {"id": "mail", "auth": "none", "recipe": {"id": "json:sg_event_id", "type": "json:event"}}
        self.tools = {name: write_tools(os.path.join(stage.dir, f"{name}.json"), [tool | more])
                      for name, more in (("plain", {}), ("mapped", {"recipient": "sendgrid"}))}
        for first in range(0, self.entries, MAILING):
            people = [{"message_id": f"m{n}", "address": f"p{n}@example.com"} for n in range(first, min(first + MAILING, self.entries))]
            self.db.query("SELECT weir.register_message_batch(%s, 'mail', %s)", (f"mailing-{first}", json.dumps(people)))
        self.db.query("VACUUM ANALYZE weir.recipients, weir.message_batches")
        with self.redis.client(timeout=60) as c:
            c.flushall()
        self.cold = self.one("mapped", "processed")
        with self.redis.client(timeout=60) as c:
            keys = sum(1 for _ in c.scan_iter("recipient:*", count=10_000))
        if keys < 0.95 * self.entries:
            raise Miss(f"{keys} of {self.entries} recipients are in the cache")

    def fill_with(self, word):
        people = list(range(self.entries))
        random.Random(self.passes).shuffle(people)
        headers = '[["user-agent","SendGrid Event API"],["content-type","application/json"]]'
        with self.redis.client(timeout=60) as c:
            c.delete(STREAM)
            pipe = c.pipeline(transaction=False)
            for i, n in enumerate(people):
                event = uuid.uuid4().hex
                body = json.dumps({"event": word, "sg_event_id": event, "sg_message_id": f"m{n}.filter",
                                   "email": f"p{n}@example.com", "timestamp": int(time.time()), "pad": "x" * 850})
                pipe.xadd(STREAM, {"v": "1", "u": str(uuid.uuid4()), "t": "mail", "y": word, "k": event, "h": headers,
                                   "r": int(time.time() * 1e6), "c": "application/json", "b": body.ljust(KIB)})
                if i % 1000 == 999:
                    pipe.execute()
            pipe.execute()

    def one(self, tools, word):
        self.passes += 1
        self.fill_with(word)
        self.empty()
        return self.store(self.entries, TOOLS_FILE=self.tools[tools])

    def count(self, column):
        return self.db.value(f"SELECT sum({column})::bigint FROM weir.message_batches") or 0

    def round(self, n):
        word, column = WORDS[n % len(WORDS)], {"delivered": "delivered", "open": "opened", "click": "clicked"}
        plain = self.one("plain", word)
        warm = self.one("mapped", word)
        found = self.db.value("SELECT count(*) FROM weir.events WHERE recipient_id IS NOT NULL")
        if found < 0.95 * self.entries:
            raise Miss(f"{found} of {self.entries} events know their recipient")
        if word in column and self.count(column[word]) != self.entries:
            raise Miss(f"{self.count(column[word])} of {self.entries} recipients count as {column[word]}")
        return {"entries": self.entries, "plain": plain, "warm": warm, "cold": self.cold}
