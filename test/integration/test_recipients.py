"""Delivery reports through a running weir: from each provider's events to recipients, counters, the
completion's event and the hash in Redis."""
import itertools
import json
import random
import subprocess
import threading
import urllib.parse
import uuid

import pytest

from harness.servers import RedisDb
from harness.wait import wait_until
from harness.weir import write_tools

ISO = "2026-01-02T03:04:{:02d}Z"
JSON = [("Content-Type", "application/json")]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
EPOCH = 1767323040  # 2026-01-02T03:04:00Z


def sendgrid(event, m, a, n, **more):
    return [{"event": event, "sg_event_id": f"{m} {event} {a} {n}", "sg_message_id": f"{m}.filter.0", "email": a.upper(),
             "timestamp": EPOCH + n, **more}]


def mailgun(event, m, a, n, **more):
    return {"signature": {"token": "t"}, "event-data": {
        "event": event, "id": str(uuid.uuid4()), "timestamp": EPOCH + n, "recipient": a, **more,
        "message": {"headers": {"message-id": m}}}}


def postmark(kind, m, a, n, **more):
    when = {"Delivery": "DeliveredAt", "Bounce": "BouncedAt", "SpamComplaint": "BouncedAt",
            "SubscriptionChange": "ChangedAt"}.get(kind, "ReceivedAt")
    who = "Email" if kind in ("Bounce", "SpamComplaint") else "Recipient"
    return {"RecordType": kind, "MessageID": m, who: a, when: ISO.format(n), **more}


def resend(kind, m, a, n, **more):
    return {"type": kind, "created_at": ISO.format(n), "data": {"email_id": m, "to": [f"Someone <{a}>"], **more}}


def twilio(status, m, a, n):
    return urllib.parse.urlencode({"MessageSid": m, "MessageStatus": status, "To": a, "N": n})


def ses(kind, m, a, n, **more):
    part = kind[0].lower() + kind[1:]
    people = {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients",
              "DeliveryDelay": "delayedRecipients"}.get(kind)
    inner = {"timestamp": ISO.format(n), **more}
    if people:
        inner[people] = [{"emailAddress": a}]
    elif kind == "Delivery":
        inner["recipients"] = [a]
    message = {"eventType": kind, "mail": {"messageId": m, "destination": [a], "timestamp": ISO.format(n)},
               part: inner}
    return {"Type": "Notification", "MessageId": str(uuid.uuid4()), "Message": json.dumps(message)}


# A story of four events for each provider, and the row that comes of it: status, and who was reached.
STORIES = {
    "sendgrid": ([sendgrid("processed", "{m}", "{a}", 1), sendgrid("deferred", "{m}", "{a}", 2),
                  sendgrid("delivered", "{m}", "{a}", 3), sendgrid("click", "{m}", "{a}", 4)],
                 "clicked", {"queued", "deferred", "delivered", "opened", "clicked"}),
    "mailgun": ([mailgun("accepted", "{m}", "{a}", 1), mailgun("failed", "{m}", "{a}", 2, severity="temporary"),
                 mailgun("failed", "{m}", "{a}", 3, severity="permanent"), mailgun("opened", "{m}", "{a}", 4)],
                "bounced", {"queued", "deferred", "bounced", "delivered", "opened"}),
    "postmark": ([postmark("Bounce", "{m}", "{a}", 1, Type="Transient"), postmark("Delivery", "{m}", "{a}", 2),
                  postmark("Open", "{m}", "{a}", 3), postmark("SpamComplaint", "{m}", "{a}", 4)],
                 "complained", {"deferred", "delivered", "opened", "complained"}),
    "resend": ([resend("email.sent", "{m}", "{a}", 1), resend("email.delivery_delayed", "{m}", "{a}", 2),
                resend("email.bounced", "{m}", "{a}", 3, bounce={"type": "Transient"}),
                resend("email.opened", "{m}", "{a}", 4)],
               "opened", {"sent", "deferred", "bounced", "delivered", "opened"}),
    "twilio": ([twilio("queued", "{m}", "{a}", 1), twilio("sent", "{m}", "{a}", 2), twilio("delivered", "{m}", "{a}", 3),
                twilio("read", "{m}", "{a}", 4)],
               "opened", {"queued", "sent", "delivered", "opened"}),
    "ses": ([ses("Send", "{m}", "{a}", 1), ses("Delivery", "{m}", "{a}", 2), ses("Click", "{m}", "{a}", 3),
             ses("Bounce", "{m}", "{a}", 4, bounceType="Permanent")],
            "bounced", {"sent", "delivered", "opened", "clicked", "bounced"}),
}
SPLIT = {"sendgrid": {"id": "json:sg_event_id", "type": "json:event", "split": "[]"}}
TOOLS = [{"id": p, "auth": "none", "dedup": "none", "recipient": p, "recipe": SPLIT.get(p, {})} for p in STORIES]
STATUSES = ("queued", "sent", "deferred", "delivered", "opened", "clicked", "bounced", "failed", "complained",
            "unsubscribed")


def body_of(event, m, a):
    """As the provider would send it, about message `m` to `a`."""
    text = event if isinstance(event, str) else json.dumps(event)
    for name, value in (("{m}", m), ("{a}", a)):
        text = text.replace(urllib.parse.quote(name), urllib.parse.quote(value))
        text = text.replace(name, value).replace(name.upper(), value.upper())
    return text.encode()


def send(w, tool, body):
    r = w.post(tool, body, JSON if body[:1] in b"[{" else FORM)
    assert r.status == 200, r


def register(db, batch, tool, recipients, **more):
    sql = "SELECT weir.register_message_batch(%s, %s, %s" + "".join(f", {k} => {v}" for k, v in more.items()) + ")"
    return db.value(sql, (batch, tool, json.dumps([{"message_id": m, "address": a} for m, a in recipients])))


def stored(db, n):
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE tool <> 'weir'") >= n, 60, f"{n} events")


def counters(db, batch):
    names = ("total",) + STATUSES + ("unique_recipients", "finished")
    rows = db.query(f"SELECT {', '.join(names)}, completed_at IS NOT NULL FROM weir.message_batches WHERE id = %s", (batch,))
    return {k: v for k, v in zip(names + ("completed",), rows[0]) if v} if rows else None


def hash_of(redis_db, batch):
    return {k.decode(): v.decode() for k, v in redis_db.client.hgetall(f"message_batch:{batch}").items()}


def hash_settles(db, redis_db, batch):
    """The hash in Redis becomes what the table says."""
    row = db.query("SELECT row_to_json(b), version FROM weir.message_batches b WHERE id = %s", (batch,))[0]
    wait_until(lambda: hash_of(redis_db, batch).get("version") == str(row[1]), 60, "the hash's latest version")
    got = hash_of(redis_db, batch)
    for name in ("total",) + STATUSES + ("unique_recipients", "finished"):
        assert got[name] == str(row[0][name])
    assert got["id"] == batch and got["tool"] == row[0]["tool"] and bool(got["completed_at"]) == bool(row[0]["completed_at"])
    return got


@pytest.mark.parametrize("early", [False, True])
def test_every_order_of_a_providers_events_gives_the_same_row(weir, db, redis_db, early):
    """All 24 orders of a story of each provider, each order for a recipient of its own; registered first,
    or after the reports came."""
    w = weir(db, redis_db, tools=TOOLS)
    expected = {}
    for tool, (story, _, _) in STORIES.items():
        # a recipient's address differs in case from what the provider reports
        people = [(f"{tool}-m{n}", f"Person{n}@X.example" if tool != "twilio" else f"+1555{n:04d}") for n in range(24)]
        expected[tool] = people
        if early:
            assert register(db, f"batch {tool}", tool, people) == 24
    posts = [(tool, [body_of(story[k], m, a.lower()) for k in order])
             for tool, (story, _, _) in STORIES.items()
             for order, (m, a) in zip(itertools.permutations(range(4)), expected[tool])]
    for k in range(4):
        conn = w.conn()
        for tool, bodies in posts:
            r = conn.request("POST", f"/webhooks/{tool}", FORM if tool == "twilio" else JSON, bodies[k])
            assert r.status == 200, r
        conn.close()
    stored(db, len(posts) * 4)
    if not early:
        assert db.value("SELECT count(*) FROM weir.recipient_events") == len(posts) * 4
        for tool, people in expected.items():
            assert register(db, f"batch {tool}", tool, people) == 24
    for tool, (_, status, reached) in STORIES.items():
        times = "" if tool == "twilio" else ", " + ", ".join(f"{s}_at, {s}_last_at" for s in STATUSES)
        rows = db.query("SELECT status, reached, hard_bounce, " + ", ".join(f"{s}_count" for s in STATUSES) + times
                        + " FROM weir.recipients WHERE tool = %s GROUP BY " + ", ".join(
                            str(n) for n in range(1, 14 + (0 if tool == "twilio" else 20))), (tool,))
        assert len(rows) == 1, (tool, rows)
        assert rows[0][0] == status and {s for n, s in enumerate(STATUSES) if rows[0][1] & 1 << n} == reached, tool
        want = {s: 24 for s in reached} | {"total": 24, "unique_recipients": 24, "finished": 24, "completed": True}
        assert counters(db, f"batch {tool}") == want
        if early:
            hash_settles(db, redis_db, f"batch {tool}")
    told = dict(db.query("SELECT event_id, count(*) FROM weir.events WHERE tool = 'weir' GROUP BY 1"))
    assert told == {f"batch {t}": 1 for t in STORIES}
    assert db.value("SELECT count(*) FROM weir.recipient_events") == 0
    for tool in STORIES:
        assert w.metric("webhook_delivery_reports_total", tool_id=tool, outcome="read") == 96


def test_duplicates_strangers_and_what_is_no_report(weir, db, redis_db):
    w = weir(db, redis_db, tools=[{"id": "sendgrid", "auth": "none", "recipient": "sendgrid", "recipe": SPLIT["sendgrid"]},
                                  {"id": "plain", "auth": "none"}])
    register(db, "b", "sendgrid", [("m1", "a@x"), ("m2", "a@x")])
    one = json.dumps(sendgrid("open", "m1", "a@x", 1)).encode()
    for _ in range(3):
        send(w, "sendgrid", one)
    send(w, "sendgrid", json.dumps(sendgrid("open", "m1", "a@x", 2) + sendgrid("delivered", "m2", "a@x", 2)
                                   + sendgrid("open", "stranger", "a@x", 3) + sendgrid("open", "m1", "b@x", 3)
                                   + sendgrid("group_resubscribe", "m1", "a@x", 3)
                                   + [{"event": "open", "sg_event_id": "e1", "email": "a@x"},
                                      {"event": "open", "sg_event_id": "e2", "sg_message_id": "m1"},
                                      {"sg_event_id": "e3"}]).encode())
    send(w, "plain", one)
    stored(db, 10)
    for outcome in ("other", "no_message_id", "no_address", "no_status"):
        assert w.metric("webhook_delivery_reports_total", tool_id="sendgrid", outcome=outcome) == 1, outcome
    assert w.metric("webhook_delivery_reports_total", tool_id="plain", outcome="read") is None
    assert w.metric("webhook_message_batches_completed_total") == 1
    # one that is known and one that is new in the same transaction, past the layers before the database
    r = redis_db.client
    for key in r.keys("*dedup*"):
        r.delete(key)
    w2 = weir(db, redis_db, tools=[{"id": "sendgrid", "auth": "none", "recipient": "sendgrid", "recipe": SPLIT["sendgrid"]}],
              DEDUP_MEMORY_KEYS=0, WEBHOOK_DEDUP_TTL=0)
    w.term()
    send(w2, "sendgrid", json.dumps(json.loads(one) + sendgrid("delivered", "m1", "a@x", 9)).encode())
    stored(db, 11)
    assert db.value("SELECT delivered_count FROM weir.recipients WHERE message_id = 'm1'") == 1
    db.query("UPDATE weir.recipients SET delivered_count = 0 WHERE message_id = 'm1'")
    assert counters(db, "b") == {"total": 2, "delivered": 2, "opened": 1, "unique_recipients": 2, "finished": 2,
                                 "completed": True}
    assert db.query("SELECT message_id, opened_count, delivered_count, status FROM weir.recipients ORDER BY 1") == [
        ("m1", 2, 0, "opened"), ("m2", 0, 1, "delivered")]
    assert db.query("SELECT message_id, address FROM weir.recipient_events ORDER BY 1") == [("m1", "b@x"), ("stranger", "a@x")]


def test_two_weirs_at_once_complete_each_batch_once(weir, db, redis_db):
    """Reports of the same recipients through two processes, in small batches, while parts are still being
    registered: no deadlock, nothing lost, each completion told once, the hash in Redis is the last state."""
    tools = [t for t in TOOLS if t["id"] == "sendgrid"]
    ws = [weir(db, redis_db, tools=tools, WEBHOOK_BATCH_SIZE=20, WEBHOOK_MAX_WORKERS=4) for _ in range(2)]
    rnd = random.Random(5)
    batches = {f"b{n}": [(f"b{n}-m{k}", "a@x") for k in range(60)] for n in range(4)}
    events = [sendgrid(kind, m, a, n)[0] for people in batches.values() for m, a in people
              for n, kind in enumerate(("processed", "delivered", "open", "click", "open"))]
    rnd.shuffle(events)
    posts = [events[n:n + 25] for n in range(0, len(events), 25)]

    def enrol():
        for k in range(0, 60, 15):
            for name, people in batches.items():
                register(db, name, "sendgrid", people[k:k + 15], expected=60)
    enroller = threading.Thread(target=enrol)
    enroller.start()
    for n, post in enumerate(posts):
        send(ws[n % 2], "sendgrid", json.dumps(post).encode())
    enroller.join(60)
    stored(db, len(events))
    wait_until(lambda: db.value("SELECT count(*) FROM weir.recipient_events") == 0, 60, "no report that waits")
    for name in batches:
        assert counters(db, name) == {"total": 60, "queued": 60, "delivered": 60, "opened": 60, "clicked": 60,
                                      "unique_recipients": 60, "finished": 60, "completed": True}
    assert db.value("SELECT array_agg(DISTINCT opened_count) FROM weir.recipients") == [2]
    assert dict(db.query("SELECT event_id, count(*) FROM weir.events WHERE tool = 'weir' GROUP BY 1")) == {
        name: 1 for name in batches}
    for name in batches:
        hash_settles(db, redis_db, name)
    assert db.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def test_the_hash_in_redis(weir, db, redis_db):
    """Under the prefix, with an expiry; an older state never wins; gone, it comes back with the next change."""
    w = weir(db, redis_db, tools=[t for t in TOOLS if t["id"] == "twilio"], REDIS_KEY_PREFIX="p:", MESSAGE_BATCH_TTL="1h")
    batch = 'b "1" \\ x'  # what redis-cli has to be told with care
    register(db, batch, "twilio", [("m1", "+1"), ("m2", "+2")])
    r, key = redis_db.client, f"p:message_batch:{batch}"
    wait_until(lambda: r.hget(key, "total") == b"2" and r.exists("p:message_batches:swept"), 60, "the first hash")
    assert r.hget(key, "version") == str(db.value("SELECT version FROM weir.message_batches")).encode()
    assert r.hget(key, "sent") == b"0" and 3500 < r.ttl(key) <= 3600
    no_traces(db)

    def change(n, status, m, to):
        send(w, "twilio", twilio(status, m, to, n).encode())
        stored(db, n)
    change(1, "sent", "m1", "+1")
    wait_until(lambda: r.hget(key, "sent") == b"1", 60, "the hash")
    assert r.hget(key, "total") == b"2" and r.hget(key, "completed_at") == b"" and 3500 < r.ttl(key) <= 3600
    r.hset(key, mapping={"version": 10**17, "sent": 77})  # somebody wrote a later state already
    change(2, "sent", "m2", "+2")
    wait_until(lambda: w.metric("webhook_message_batch_hash_writes_total", outcome="outdated") == 1, 60, "a write that lost")
    assert r.hget(key, "sent") == b"77"
    r.delete(key)
    change(3, "delivered", "m2", "+2")
    wait_until(lambda: r.hget(key, "delivered") == b"1", 60, "the hash again")
    assert r.hget(key, "sent") == b"2"
    commands = [line for line, in db.query("SELECT weir.message_batch_commands('p:')")]
    kept = r.hgetall(key)
    for had, written in ((True, b"0"), (False, b"1")):
        if not had:
            r.delete(key)
        out = subprocess.run(["redis-cli", "-p", str(redis_db.server.port), "-n", str(redis_db.n)], check=True,
                             input="\n".join(commands).encode(), capture_output=True).stdout
        assert out.strip() == written and r.hgetall(key) == kept and r.ttl(key) > 0
    r.set(key, "not a hash")
    change(4, "delivered", "m1", "+1")
    wait_until(lambda: w.metric("webhook_message_batch_hash_writes_total", outcome="failed") == 1, 60, "a failed write")
    assert counters(db, batch)["completed"]
    register(db, batch, "twilio", [("m3", "+3")])
    wait_until(lambda: w.metric("webhook_message_batch_hash_writes_total", outcome="failed") > 1, 60, "another one")
    assert r.get(key) == b"not a hash"
    r.delete(key)
    wait_until(lambda: r.hget(key, "total") == b"3", 60, "the hash as soon as it can be")
    assert r.hget(key, "delivered") == b"2"


def no_traces(db):
    wait_until(lambda: db.value("SELECT count(*) FROM weir.stale_hashes") == 0, 60, "no stale hash")


def test_the_hash_follows_registrations_and_deletions(weir, db, redis_db):
    """What an application changes shows in Redis without a report that follows: batches that are new, that grow, that
    earlier reports complete, and thousands in one transaction, each written by one of two workers; what is deleted goes."""
    ws = [weir(db, redis_db, tools=[t for t in TOOLS if t["id"] == "twilio"]) for _ in range(2)]
    r = redis_db.client
    send(ws[0], "twilio", twilio("delivered", "m1", "+1", 1).encode())
    stored(db, 1)
    wait_until(lambda: db.value("SELECT count(*) FROM weir.recipient_events") == 1, 60, "a report that waits")
    assert register(db, "b", "twilio", [("m1", "+1")]) == 1
    got = hash_settles(db, redis_db, "b")
    assert got["total"] == got["delivered"] == "1" and got["completed_at"] > ""
    assert db.query("SELECT event_id FROM weir.events WHERE event_type = 'message_batch.completed'") == [("b",)]
    assert register(db, "b", "twilio", [("m1", "+1"), ("m2", "+2")], expected=7) == 1
    got = hash_settles(db, redis_db, "b")
    assert got["total"] == "2" and got["expected"] == "7"
    assert register(db, "empty", "twilio", []) == 0
    assert hash_settles(db, redis_db, "empty")["total"] == "0"
    no_traces(db)

    def written():
        return sum(w.metric("webhook_message_batch_hash_writes_total", outcome="written") for w in ws)
    before = written()
    assert db.value("SELECT sum(weir.register_message_batch('many ' || n, 'twilio', jsonb_build_array(jsonb_build_object("
                    "'message_id', 'x' || n, 'address', '+' || n)))) FROM generate_series(1, 1500) n") == 1500
    no_traces(db)
    versions = db.query("SELECT id, version, total FROM weir.message_batches WHERE id LIKE 'many%'")
    assert len(versions) == 1500
    for name, version, total in versions:
        assert r.hmget(f"message_batch:{name}", "version", "total") == [str(version).encode(), str(total).encode()]
    assert written() == before + 1500
    assert all(w.metric("webhook_message_batch_hash_writes_total", outcome="failed") == 0 for w in ws)

    assert db.value("SELECT weir.delete_message_batch('b')") == 2
    wait_until(lambda: set(hash_of(redis_db, "b")) == {"version"}, 60, "a hash that goes")
    assert 0 < r.ttl("message_batch:b") <= 60
    assert register(db, "b", "twilio", [("m9", "+9")]) == 1
    assert hash_settles(db, redis_db, "b")["delivered"] == "0"


def test_the_hash_is_caught_up_after_an_outage(weir, db, own_redis):
    """Registrations and reports while Redis is away, registrations while no weir is there, a weir that died between its
    commit and the write, and a Redis that lost everything."""
    server = own_redis()
    redis_db = RedisDb(server, 0)
    w = weir(db, redis_db, tools=[t for t in TOOLS if t["id"] == "twilio"], DIRECT_TIMEOUT="30s")

    def report(n, m):
        def accepted():
            return w.post("twilio", twilio("delivered", m, "+1", n).encode(), FORM).status == 200
        wait_until(accepted, 60, "a report that is taken")
    register(db, "before", "twilio", [("m1", "+1"), ("m2", "+1")])
    hash_settles(db, redis_db, "before")
    no_traces(db)
    server.kill()
    register(db, "away", "twilio", [("m3", "+1")])
    report(1, "m1")
    report(2, "m3")
    wait_until(lambda: counters(db, "away").get("delivered") == counters(db, "before").get("delivered") == 1, 60, "reports")
    server.start()
    assert hash_settles(db, redis_db, "away")["completed_at"]
    assert hash_settles(db, redis_db, "before")["delivered"] == "1"
    no_traces(db)

    w.term()
    register(db, "away", "twilio", [("m4", "+1")])
    register(db, "nobody", "twilio", [("m5", "+1")])
    w.env["WEIR_CRASH_AT"] = "committed"
    w.start()
    assert hash_settles(db, redis_db, "nobody")["total"] == "1"
    assert hash_settles(db, redis_db, "away")["total"] == "2"
    no_traces(db)
    try:
        w.post("twilio", twilio("delivered", "m2", "+1", 3).encode(), FORM)
    except OSError:
        pass  # it may die before it answers
    wait_until(lambda: not w.child.alive(), 60, "the death")
    assert counters(db, "before")["delivered"] == 2 and hash_of(redis_db, "before")["delivered"] == "1"
    del w.env["WEIR_CRASH_AT"]
    w.start()
    assert hash_settles(db, redis_db, "before")["delivered"] == "2"

    server.client().flushall()
    server.restart()
    for name in ("before", "away", "nobody"):
        hash_settles(db, redis_db, name)


def test_a_mapping_changes_with_a_reload(weir, db, redis_db):
    own = {"id": "mail", "auth": "none", "dedup": "none",
           "recipient": {"message_id": "json:m", "address": "json:a", "status": "json:s", "words": {"x": "sent"}}}
    w = weir(db, redis_db, tools=[own])
    register(db, "b", "mail", [("1", "a")])
    send(w, "mail", b'{"m":"1","a":"a","s":"y"}')
    stored(db, 1)
    assert counters(db, "b") == {"total": 1}
    own["recipient"]["words"]["y"] = "bounced"
    write_tools(w.tools_file, [own])
    w.reload()

    def bounced():
        send(w, "mail", b'{"m":"1","a":"a","s":"y"}')
        return counters(db, "b").get("bounced")
    wait_until(bounced, 60, "the new mapping")
    del own["recipient"]["status"]
    write_tools(w.tools_file, [own])
    w.reload()
    wait_until(lambda: "recipient.status: is needed" in w.log(), 60, "the refusal")


def test_reports_wait_for_a_worker_that_knows_their_tool(weir, db, redis_db):
    """Two workers share a queue, and one does not know the tool: each report is applied, once; at once when it learns
    of the tool. What nobody knows becomes a dead letter that says so."""
    def tool(name):
        return {"id": name, "auth": "none", "dedup": "none", "recipient": {
            "message_id": "json:m", "address": "json:a", "status": "json:s", "words": {"o": "opened"}}}

    def opened(name):
        return db.value("SELECT coalesce(sum(opened_count), 0) FROM weir.recipients WHERE tool = %s", (name,))

    def report(name, n):
        for k in range(n):
            send(front, name, b'{"m":"%d","a":"a","s":"o"}' % (k % 5))
    names = ("mail", "late", "ghost")
    front = weir(db, redis_db, ROLES="ingest", tools=[tool(n) for n in names])
    other = {"id": "other", "auth": "none"}
    lacks = weir(db, redis_db, ROLES="worker", QUEUE_CLAIM_IDLE="1s", tools=[other])
    for name in names:
        register(db, name, name, [(str(k), "a") for k in range(5)])
    report("mail", 20)
    report("late", 10)
    report("ghost", 5)
    wait_until(lambda: lacks.metric("webhook_queue_parked_total") == 35, 60, "all of them aside")
    wait_until(lambda: front.metric("webhook_queue_aside") == front.metric("webhook_queue_depth") == 35, 60, "the gauge")
    assert db.value("SELECT count(*) FROM weir.events") == 0
    assert redis_db.client.xpending("webhook_events", "webhook_workers")["pending"] == 0
    write_tools(lacks.tools_file, [other, tool("late")])
    lacks.reload()
    wait_until(lambda: opened("late") == 10, 60, "what it has learned of")
    assert opened("mail") == 0
    knows = weir(db, redis_db, ROLES="worker", QUEUE_CLAIM_IDLE="1s", QUEUE_TOOL_WAIT="1s", tools=[tool("mail")])
    report("mail", 30)
    wait_until(lambda: opened("mail") == 50, 60, "all reports")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.dead_letters") == 5, 60, "what nobody knows")
    assert db.query("SELECT DISTINCT tool, stage, error_class, state, encode(body, 'escape') LIKE '{\"m\":%' FROM"
                    " weir.dead_letters") == [("ghost", "queue", "unknown_tool", "open", True)]
    assert "QUEUE_TOOL_WAIT" in db.value("SELECT min(message) FROM weir.dead_letters")
    assert dict(db.query("SELECT tool, count(*) FROM weir.events WHERE tool <> 'weir' GROUP BY 1")) == {
        "mail": 50, "late": 10}
    wait_until(lambda: front.metric("webhook_queue_depth") == 0, 60, "an empty queue")
    assert opened("mail") == 50 and opened("late") == 10 and opened("ghost") == 0
    assert sum(w.metric("webhook_dlq_entries_total", event_type="unknown", reason="unknown_tool") or 0
               for w in (lacks, knows)) == 5
    assert not redis_db.client.keys("webhook_events:parked*")


def test_reports_without_a_queue(weir, db, redis_db):
    """Direct mode: the answer comes after the commit, so the row is there."""
    w = weir(db, None, tools=[t for t in TOOLS if t["id"] == "ses"], WEBHOOK_QUEUE_ENABLED="false")
    register(db, "b", "ses", [("m", "a@x"), ("m", "b@x")])
    event = ses("Bounce", "m", "a@x", 1, bounceType="Transient",
                bouncedRecipients=[{"emailAddress": "a@x"}, {"emailAddress": "B@x"}])
    message = json.loads(event["Message"])
    message["bounce"]["bouncedRecipients"] = [{"emailAddress": "a@x"}, {"emailAddress": "B@x"}]
    send(w, "ses", json.dumps({**event, "Message": json.dumps(message)}).encode())
    assert counters(db, "b") == {"total": 2, "bounced": 2, "unique_recipients": 2, "finished": 2, "completed": True}
