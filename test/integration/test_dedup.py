"""Deduplication: each layer finds what it should, none is needed, and none tells a lie."""
import base64
import json
import random
import threading
import time
import uuid

import psycopg
import pytest

from conftest import GITHUB, SECRET
from harness import sign
from harness.http import Closed, Conn, build
from harness.wait import wait_until

LAYERS = {"all": {}, "no-memory": {"DEDUP_MEMORY_KEYS": 0}, "no-redis": {"WEBHOOK_DEDUP_TTL": 0},
          "database-only": {"DEDUP_MEMORY_KEYS": 0, "WEBHOOK_DEDUP_TTL": 0}}
STREAM, GROUP = "webhook_events", "webhook_workers"


def post(w, eid, body=b"{}", event="push"):
    r = w.post("github", body, sign.github(body, SECRET, event, eid))
    assert r.status == 200, r
    return r.json()["id"]


def processed(w, status):
    return w.metric("webhook_events_processed_total", status=status) or 0


def settled(w, n):
    wait_until(lambda: sum(processed(w, s) for s in ("stored", "duplicate", "dead")) == n, 60, f"{n} events settled")


def hits(w):
    return {layer: int(w.metric("webhook_dedup_hits_total", layer=layer) or 0)
            for layer in ("batch", "memory", "redis", "database")}


def sets(redis_db):
    return redis_db.client.keys("*webhook_dedup:*")


def ready(w):
    """Events that are committed before the epoch was read are not remembered."""
    sent = []

    def known():
        sent.append(post(w, f"warm-{uuid.uuid4()}"))
        return w.metric("webhook_dedup_checked_total", layer="redis")
    wait_until(known, 60, "the deduplicator at work")
    wait_until(lambda: processed(w, "stored") == len(sent))


def add(redis_db, entries):
    """Entries as the ingest role writes them, in one go."""
    with redis_db.client.pipeline() as p:
        for e in entries:
            p.xadd(STREAM, e)
        p.execute()


def entry(eid, body=b"{}", tool="github", event="push", uid=None):
    return {"v": "1", "u": str(uid or uuid.uuid4()), "t": tool, "y": event, "k": eid,
            "r": str(int(time.time() * 1e6)), "b": body}


# ---- the layers


def test_each_layer_finds_its_duplicates(weir, db, redis_db):
    w = weir(db, redis_db)
    ready(w)
    before = hits(w)
    post(w, "a")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1)
    post(w, "a")
    wait_until(lambda: hits(w)["memory"] == before["memory"] + 1)
    # Another process knows it from Redis; the second time, from its own memory.
    w.term()
    other = weir(db, redis_db)
    ready(other)
    post(other, "a")
    wait_until(lambda: hits(other)["redis"] == 1)
    post(other, "a")
    wait_until(lambda: hits(other)["memory"] == 1)
    # And one without both is told by the database.
    other.term()
    bare = weir(db, redis_db, **LAYERS["database-only"])
    post(bare, "a")
    wait_until(lambda: hits(bare) == {"batch": 0, "memory": 0, "redis": 0, "database": 1})
    add(redis_db, [entry("b") for _ in range(20)])
    settled(bare, 21)
    assert hits(bare)["batch"] + hits(bare)["database"] == 20
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id IN ('a', 'b')") == 2
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


def test_health_and_metrics_tell_hit_rates(weir, db, redis_db):
    w = weir(db, redis_db)
    ready(w)
    post(w, "a")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1)
    post(w, "a")
    wait_until(lambda: hits(w)["memory"] == 1)
    health = w.get("/health").json()["components"]["deduplicator"]
    wait_until(lambda: w.get("/health").json()["components"]["deduplicator"]["details"]["memory"]["hits"] == 1)
    health = w.get("/health").json()["components"]["deduplicator"]
    assert health["status"] == "healthy"
    assert 0 < health["details"]["memory"]["hit_rate"] < 1
    assert {"batch", "redis", "database"} <= set(health["details"])
    assert w.metric("webhook_dedup_checked_total", layer="memory") >= 2
    assert not w.metric("webhook_dedup_errors_total")


def test_row17_same_id_of_another_tool_or_type_is_no_duplicate(weir, db, redis_db):
    w = weir(db, redis_db, tools=[GITHUB, {**GITHUB, "id": "other"}])
    ready(w)
    post(w, "same")
    post(w, "same", event="ping")
    body = b"{}"
    assert w.post("other", body, sign.github(body, SECRET, "push", "same")).status == 200
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'same'") == 3)


def test_events_without_id_keep_their_window(weir, db, redis_db):
    """Their keys are the database's business: one that lies outside the window is stored, however
    fresh the layers' memory is."""
    w = weir(db, redis_db)
    ready(w)
    now = int(time.time() * 1e6)
    for n, minutes in enumerate((0, 5, 20), 1):
        done = processed(w, "stored") + processed(w, "duplicate")
        add(redis_db, [{**entry("", b'{"same":1}'), "r": str(now + minutes * 60_000_000)}])
        wait_until(lambda: processed(w, "stored") + processed(w, "duplicate") == done + 1)
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id = ''") == 2
    assert hits(w)["memory"] == hits(w)["redis"] == 0


def test_tries_that_count_themselves(weir, db, redis_db):
    """Providers whose retries differ in the body: the same event, and no conflict, until something else differs, in all layers;
    also where the first was stored by another process, or the body came back from the queue."""
    url = "https://hooks.example/hubspot"
    w = weir(db, redis_db, tools=[
        {"id": "hubspot", "preset": "hubspot", "secrets": [SECRET], "url": url}, {"id": "linear", "preset": "linear", "secrets": [SECRET]},
        {"id": "intercom", "preset": "intercom", "secrets": [SECRET]}, {"id": "mailgun", "preset": "mailgun", "secrets": [SECRET], "recipient": None},
        {"id": "stripe", "preset": "stripe", "secrets": [SECRET]},
        {"id": "bare", "auth": "none", "recipe": {"type": "json:t", "volatile": "json:sent"}}], QUEUE_KEEP="1h", **LAYERS["database-only"])

    def hubspot(attempt, value=1, uid=17):
        same = {"portalId": 33, "subscriptionId": 25, "occurredAt": 1462216307945, "subscriptionType": "contact.creation", "attemptNumber": attempt}
        body = json.dumps([{"eventId": uid, "objectId": value} | same, {"eventId": uid + 1, "objectId": 1} | same]).encode()
        ts = str(int(time.time() * 1000))
        mac = sign.mac(SECRET, f"POST{url}".encode() + body + ts.encode()).digest()
        return "hubspot", body, [sign.JSON, ("X-HubSpot-Signature-v3", base64.b64encode(mac).decode()), ("X-HubSpot-Request-Timestamp", ts)]

    def linear(attempt, value=1):
        body = json.dumps({"type": "Issue", "webhookTimestamp": int(time.time() * 1000) + attempt, "data": {"value": value}}).encode()
        return "linear", body, sign.linear(body, SECRET, uid="l-1")

    def intercom(attempt, value=1):
        body = json.dumps({"id": "notif_1", "topic": "user.created", "delivery_status": ["pending", "retry"][attempt > 0],
                           "delivery_attempts": attempt + 1, "delivered_at": attempt, "data": {"value": value}}).encode()
        return "intercom", body, [sign.JSON, ("X-Hub-Signature", "sha1=" + sign.mac(SECRET, body, "sha1").hexdigest())]

    def mailgun(attempt, value=1):
        ts, token = str(int(time.time())), f"token-{attempt}-{value}"
        mac = sign.mac(SECRET, (ts + token).encode()).hexdigest()
        body = json.dumps({"signature": {"timestamp": ts, "token": token, "signature": mac},
                           "event-data": {"id": "m-1", "event": "delivered", "value": value}}).encode()
        return "mailgun", body, [sign.JSON]

    def stripe(attempt, value=1):
        body = json.dumps({"id": "evt_1", "type": "x", "pending_webhooks": 3 - attempt, "data": value}).encode()
        return "stripe", body, sign.stripe(body, SECRET)

    def bare(attempt, value=1):
        return "bare", json.dumps({"t": "x", "sent": attempt, "data": value}).encode(), [sign.JSON]

    def counts(tool):
        return (db.value("SELECT count(*) FROM weir.events WHERE tool = %s", (tool,)),
                db.value("SELECT count(*) FROM weir.dead_letters WHERE tool = %s AND error_class = 'conflict'", (tool,)))

    made, sent = (hubspot, linear, intercom, mailgun, stripe, bare), 0
    for attempt in range(3):
        for make in made:
            tool, body, headers = make(attempt)
            assert w.post(tool, body, headers).status == 200, (tool, attempt)
            sent += 1 + (make is hubspot)
    settled(w, sent)
    assert {m.__name__: counts(m.__name__) for m in made} == {m.__name__: (1 + (m is hubspot), 0) for m in made}
    # It is stored as it came first.
    assert json.loads(bytes(db.value("SELECT body FROM weir.events WHERE tool = 'hubspot' AND event_id LIKE '17:%'")))["attemptNumber"] == 0
    # Something else differs: kept, once for each.
    for attempt in (5, 6):
        for make in made:
            tool, body, headers = make(attempt, 2)
            assert w.post(tool, body, headers).status == 200
            sent += 1 + (make is hubspot)
    settled(w, sent)
    again = [e for _, e in redis_db.client.xrange(STREAM)]
    before = {m.__name__: counts(m.__name__) for m in made}
    assert before == {
        "hubspot": (2, 1), "linear": (1, 1), "intercom": (1, 1), "mailgun": (1, 1), "stripe": (1, 1), "bare": (2, 0)}
    # Delivered once more, each is known by what went with it.
    w.term()
    other = weir(db, redis_db, ROLES="worker", TOOLS_FILE=None, **LAYERS["database-only"])
    add(redis_db, again)
    settled(other, len(again))
    assert {m.__name__: counts(m.__name__) for m in made} == before


ID_LESS = {"id": "log", "auth": "none", "recipe": {"id": "json:id"}}


def test_the_receiver_decides_about_events_without_id(weir, db, redis_db):
    """A worker that knows nothing of the tools, or something else, keeps what the receiver's tool asks for."""
    ingest = weir(db, redis_db, ROLES="ingest", tools=[
        ID_LESS, {**ID_LESS, "id": "all", "dedup": "none"}, {**ID_LESS, "id": "brief", "dedup_window": "2m"}])
    for tool in ("all", "log", "brief"):
        for _ in range(3):
            assert ingest.post(tool, b'{"same":1}', [sign.JSON]).status == 200
    assert ingest.post("all", b'{"id":"1"}', [sign.JSON]).status == 200
    fields = [e for _, e in redis_db.client.xrange(STREAM)]
    assert [e.get(b"d") for e in fields] == [b"none"] * 3 + [None] * 3 + [b"120000"] * 3 + [None]
    for tool in (b"log", b"brief"):
        e = next(e for e in fields if e[b"t"] == tool)
        fields.append({**e, b"u": str(uuid.uuid4()), b"r": str(int(e[b"r"]) + 300_000_000)})
        add(redis_db, fields[-1:])
    worker = weir(db, redis_db, ROLES="worker", TOOLS_FILE=None)
    settled(worker, 12)
    rows = lambda: dict(db.query("SELECT tool, count(*) FROM weir.events GROUP BY tool"))  # noqa: E731
    assert rows() == {"all": 4, "log": 1, "brief": 2}
    # Delivered again, to one whose tools say otherwise: each is known again.
    worker.term()
    add(redis_db, fields)
    other = weir(db, redis_db, ROLES="worker", tools=[{**ID_LESS, "id": "all"}, {**ID_LESS, "dedup": "none"}])
    settled(other, 12)
    assert rows() == {"all": 4, "log": 1, "brief": 2}
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


def test_a_redelivery_is_known_behind_a_late_repetition(weir, db, redis_db):
    """Two events of one body, a window apart, the younger one stored first and delivered again after the other."""
    w = weir(db, redis_db)
    ready(w)
    now, done = int(time.time() * 1e6), processed(w, "stored")
    old, young = ({**entry("", b'{"late":1}'), "r": str(now + minutes * 60_000_000)} for minutes in (0, 20))
    for n, e in enumerate((young, old, young, old), 1):
        add(redis_db, [e])
        wait_until(lambda: processed(w, "stored") + processed(w, "duplicate") == done + n)
    assert db.query("SELECT count(*), count(DISTINCT uid) FROM weir.events WHERE event_id = ''") == [(2, 2)]


def change_generation(db):
    before = db.value("SELECT current FROM weir.event_key_generation")
    db.query("UPDATE weir.event_key_generation SET started_at = started_at - interval '2 days'")
    assert db.value("SELECT weir.ensure_key_generation(1)") == before + 1


def test_keys_of_the_generation_before_are_held(weir, db, redis_db):
    """The database alone knows them, in one batch with new ones; two changes later they are new again."""
    w = weir(db, redis_db, ROLES="worker", **LAYERS["database-only"])
    old = [entry(f"old-{n}") for n in range(20)]
    add(redis_db, old)
    settled(w, 20)
    change_generation(db)
    other = [entry("old-0", b'{"other":1}')]
    add(redis_db, [e for n in range(20) for e in (entry(f"new-{n}"), entry(f"old-{n}"))] + other)
    settled(w, 61)
    counts = lambda: {k: v for k, v in db.query(  # noqa: E731
        "SELECT left(event_id, 3), count(*) FROM weir.events GROUP BY 1")}
    assert counts() == {"old": 20, "new": 20}
    assert hits(w)["database"] >= 19 and processed(w, "duplicate") == 20
    assert db.query("SELECT error_class, event_id FROM weir.dead_letters") == [("conflict", "old-0")]
    # The very entries again, as after a crash: theirs, and no duplicates.
    add(redis_db, old)
    settled(w, 81)
    assert processed(w, "stored") == 60 and processed(w, "duplicate") == 20 and counts()["old"] == 20
    change_generation(db)
    add(redis_db, [entry("old-1"), entry("new-1")])
    settled(w, 83)
    assert counts() == {"old": 21, "new": 20}


def test_a_slot_for_new_keys_is_found_without_reading_all(db):
    """By the index, also of a table that nobody has analysed, and whatever was planned when it was empty."""
    keys = [uuid.uuid4() for _ in range(500)]
    reads = ("SELECT pg_stat_get_xact_numscans('weir.event_keys_1'::regclass),"
             " pg_stat_get_xact_tuples_returned('weir.event_keys_1'::regclass)")
    with db.server.connect(db.name, prepare_threshold=0) as c:
        for held in (0, 50_000):
            c.execute("INSERT INTO weir.event_keys_1 SELECT gen_random_uuid(), gen_random_uuid(), 0, NULL, 1"
                      " FROM generate_series(1, %s)", (held,))
            for _ in range(8):
                assert c.execute("SELECT weir.slot_of_new_keys(%s)", (keys,)).fetchone() == (0,)
                assert c.execute("SELECT weir.slot_of_new_keys('{}')").fetchone() == (0,)
        c.autocommit = False
        before = c.execute(reads).fetchone()
        c.execute("SELECT weir.slot_of_new_keys(%s)", (keys,))
        assert c.execute(reads).fetchone() == before, "sequential scans, and rows they read"
        key = c.execute("SELECT key FROM weir.event_keys_1 OFFSET 17 LIMIT 1").fetchone()[0]
        with pytest.raises(psycopg.errors.UniqueViolation) as e:
            c.execute("SELECT weir.slot_of_new_keys(%s)", (keys + [key],))
        assert e.value.diag.constraint_name == "event_keys_before"


def test_nothing_is_remembered_before_the_commit(weir, own_pg, redis_db):
    """Whatever was read and not committed is read and stored again, by whoever comes next."""
    db = own_pg()
    w = weir(db, redis_db)
    ready(w)
    lock = db.server.connect(db.name)
    lock.autocommit = False
    lock.execute("LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE")
    for n in range(20):
        post(w, f"e-{n}")
    wait_until(lambda: w.metric("webhook_queue_pending") == 20)
    w.kill()
    assert sum(redis_db.client.scard(k) for k in sets(redis_db)) < 20
    lock.rollback()
    lock.close()
    w.start()
    weir(db, redis_db, QUEUE_CLAIM_IDLE="1s", ROLES="worker")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id LIKE 'e-%'") == 20, 60)


# ---- the database is another one


def test_a_restored_database_forgets(weir, own_pg, redis_db):
    """Keys that a cache remembers and a restored database has not are no duplicates."""
    db = own_pg()
    w = weir(db, redis_db)
    ready(w)
    post(w, "a")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1)
    post(w, "a")
    wait_until(lambda: hits(w)["memory"] == 1)
    # What a restore from before the event looks like to weir: its connections break, and behind the
    # new ones stands a database of another epoch, without the event.
    db.query("TRUNCATE weir.events, weir.event_keys")
    db.query("UPDATE weir.instance SET id = gen_random_uuid()")
    db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
             " WHERE datname = current_database() AND pid <> pg_backend_pid()")
    wait_until(lambda: "not the one of before" in w.log())
    post(w, "a")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1)
    # And it is remembered anew.
    def again():
        post(w, "a")
        return hits(w)["memory"] > 1
    wait_until(again, 60)
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1


def test_another_epoch_is_noticed_behind_connections_that_stay(weir, own_pg, redis_db):
    db = own_pg()
    w = weir(db, redis_db)
    ready(w)
    db.query("UPDATE weir.instance SET id = gen_random_uuid()")
    wait_until(lambda: "not the one of before" in w.log(), 60)


# ---- Redis in trouble


def test_a_stalled_redis_holds_batches_for_a_moment_only(weir, db, own_redis):
    """The queue's Redis itself stalls: what was read is stored meanwhile, without its answer."""
    server = own_redis()
    w = weir(db, server)
    client = server.client()
    wait_until(lambda: (post(w, str(uuid.uuid4())), client.keys("webhook_dedup:*"))[1], 60)
    wait_until(lambda: w.metric("webhook_queue_depth") == 0)
    done = db.value("SELECT count(*) FROM weir.events")
    with db.server.connect(db.name) as lock:
        # Batches wait at the database; meanwhile more is read, and Redis stalls.
        lock.autocommit = False
        lock.execute("LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE")
        for n in range(300):
            post(w, f"e-{n}")
        wait_until(lambda: client.xpending(STREAM, GROUP)["pending"] == 300)
        server.stop()
        lock.rollback()
    try:
        wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == done + 300, 60)
    finally:
        server.cont()
    wait_until(lambda: client.xpending(STREAM, GROUP)["pending"] == 0, 60)
    assert db.value("SELECT count(DISTINCT event_id) FROM weir.events") == db.value("SELECT count(*) FROM weir.events")


def test_refusals_of_redis_are_counted_and_harmless(weir, db, own_redis):
    server = own_redis()
    c = server.client()
    w = weir(db, server)
    c.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-smismember", "-sadd"], keys=["*"])
    for n in range(20):
        post(w, f"e-{n % 10}")
    settled(w, 20)
    assert db.value("SELECT count(*) FROM weir.events") == 10
    wait_until(lambda: (post(w, str(uuid.uuid4())), w.metric("webhook_dedup_errors_total", reason="denied"))[1], 60)
    assert w.log().count("deduplication goes on without Redis") == 1
    assert w.get("/health").status == 200
    c.acl_setuser("default", commands=["+@all"])
    wait_until(lambda: (post(w, str(uuid.uuid4())), c.keys("webhook_dedup:*"))[1], 60)


def test_a_full_redis_gives_keys_up_first(weir, db, own_redis):
    server = own_redis(maxmemory="64mb")
    c = server.client()
    w = weir(db, server)
    wait_until(lambda: (post(w, str(uuid.uuid4())), c.keys("webhook_dedup:*"))[1], 60)
    for n in range(50):
        post(w, f"e-{n}")
    keys = lambda: sum(c.scard(k) for k in c.keys("webhook_dedup:*"))  # noqa: E731
    # While a further session is looked at, what is committed is not remembered.
    wait_until(lambda: (post(w, str(uuid.uuid4())), keys() >= 50)[1], 60, "keys are remembered")
    while c.info("memory")["used_memory"] < 64 * 1024 * 1024 * 93 // 100:
        c.append("filler", b"x" * 400_000)
    wait_until(lambda: not c.keys("webhook_dedup:*"), 60, "keys given up")
    assert w.metric("webhook_dedup_evicted_keys_total", reason="memory") >= 50
    c.delete("filler")

    def again():
        body = b"{}"
        w.post("github", body, sign.github(body, SECRET, "push", str(uuid.uuid4())))
        return keys()
    wait_until(again, 60, "keys are added again")
    post(w, "e-1")
    wait_until(lambda: hits(w)["memory"] or hits(w)["database"])
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id = 'e-1'") == 1


def test_keys_in_redis_are_bounded(weir, db, redis_db):
    w = weir(db, redis_db, DEDUP_MAX_KEYS=1000, DEDUP_MEMORY_KEYS=0)
    ready(w)
    c = redis_db.client
    for start in range(0, 5000, 250):
        add(redis_db, [entry(f"k-{n}") for n in range(start, start + 250)])
        wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id LIKE 'k-%'") == start + 250)
    wait_until(lambda: sum(c.scard(k) for k in sets(redis_db)) <= 1000, 60)
    wait_until(lambda: (w.metric("webhook_dedup_redis_keys") or 0) <= 1000)
    assert w.metric("webhook_dedup_evicted_keys_total", reason="limit") >= 3000
    assert all(c.ttl(k) > 24 * 3600 for k in sets(redis_db)), "a set that no weir comes to ends by itself"
    assert all(len(m) == 16 for k in sets(redis_db) for m in c.smembers(k))


def test_keys_stay_for_the_ttl_and_no_longer(weir, db, redis_db):
    w = weir(db, redis_db, WEBHOOK_DEDUP_TTL="4s", DEDUP_MEMORY_KEYS=0)
    ready(w)
    c = redis_db.client
    post(w, "a")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1)
    born, names = time.monotonic(), set(sets(redis_db))
    while time.monotonic() < born + 3.5:
        found = hits(w)["redis"]
        post(w, "a")
        wait_until(lambda: hits(w)["redis"] == found + 1)
        time.sleep(0.2)
    wait_until(lambda: (post(w, str(uuid.uuid4())), not names & set(sets(redis_db)))[1], 60, "the first sets are gone")
    found = hits(w)["database"]
    post(w, "a")
    wait_until(lambda: hits(w)["database"] == found + 1)
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id = 'a'") == 1


# ---- conflicts


def conflicts(db):
    return db.query("SELECT event_id, body, message FROM weir.dead_letters WHERE error_class = 'conflict' ORDER BY id")


@pytest.mark.parametrize("layers", LAYERS)
def test_row17_same_key_other_body_is_a_dead_letter(weir, db, redis_db, layers):
    w = weir(db, redis_db, **LAYERS[layers])
    first = post(w, "a", b'{"amount":1}')
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1)
    second = post(w, "a", b'{"amount":2}')
    wait_until(lambda: len(conflicts(db)) == 1)
    (eid, body, message), = conflicts(db)
    assert eid == "a" and bytes(body) == b'{"amount":2}' and first in message
    assert str(db.value("SELECT uid FROM weir.dead_letters")) == second
    # Delivered again and again: the same body makes no further dead letter, another one does.
    for _ in range(5):
        post(w, "a", b'{"amount":2}')
        post(w, "a", b'{"amount":1}')
    post(w, "a", b'{"amount":3}')
    settled(w, 13)
    assert [bytes(b) for _, b, _ in conflicts(db)] == [b'{"amount":2}', b'{"amount":3}']
    assert processed(w, "stored") == 1 and processed(w, "duplicate") == 10 and processed(w, "dead") == 2
    assert w.metric("webhook_dlq_entries_total", reason="conflict") == 2
    assert db.value("SELECT count(*) FROM weir.events") == 1
    row = db.query("SELECT stage, sqlstate, attempts, headers IS NOT NULL, state FROM weir.dead_letters ORDER BY id")[0]
    assert row == ("store", None, 1, True, "open")


def test_conflicts_within_a_batch(weir, db, redis_db):
    """A whole batch that bears one id: the oldest is stored, each further body is kept once. It is read in two parts,
    hence one connection: with two, the younger part may be stored first."""
    w = weir(db, redis_db, ROLES="ingest", WEBHOOK_BATCH_SIZE=500)
    entries = [{**entry("same", b"%d" % (n % 10)), "r": str(1_700_000_000_000_000 + n)} for n in range(500)]
    add(redis_db, entries)
    worker = weir(db, redis_db, ROLES="worker", WEBHOOK_BATCH_SIZE=500, WEBHOOK_MAX_WORKERS=1)
    settled(worker, 500)
    assert bytes(db.value("SELECT body FROM weir.events")) == b"0"
    assert sorted(bytes(b) for _, b, _ in conflicts(db)) == [b"%d" % n for n in range(1, 10)]
    assert processed(worker, "duplicate") == 490
    assert w.get("/health").status == 200


def test_a_conflict_that_is_our_own_counts_as_stored(weir, db, redis_db):
    """The entry came again because an earlier acknowledgement was lost, with its own uid."""
    w = weir(db, redis_db, **LAYERS["database-only"])
    uid = uuid.uuid4()
    add(redis_db, [entry("a", b"1", uid=uid)])
    settled(w, 1)
    other = uuid.uuid4()
    add(redis_db, [entry("a", b"2", uid=other)])
    settled(w, 2)
    add(redis_db, [entry("a", b"1", uid=uid), entry("a", b"2", uid=other)])
    settled(w, 4)
    assert db.value("SELECT count(*) FROM weir.events") == 1
    assert processed(w, "stored") == 2 and processed(w, "dead") == 2
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 1


def test_conflicts_survive_a_database_that_refuses_them(weir, db, redis_db):
    """One whose dead letter is refused as it is does not keep the others from theirs."""
    w = weir(db, redis_db)
    db.query("ALTER TABLE weir.dead_letters ADD CONSTRAINT no_headers CHECK (event_id <> 'e-3' OR headers IS NULL)")
    for n in range(8):
        post(w, f"e-{n}", b"1")
    settled(w, 8)
    for n in range(8):
        post(w, f"e-{n}", b"2")
    settled(w, 16)
    assert sorted(e for e, _, _ in conflicts(db)) == [f"e-{n}" for n in range(8)]


# ---- done when


class Sender(threading.Thread):
    """Sends its share in order, each event until it is answered 200."""

    def __init__(self, w, share):
        super().__init__(daemon=True)
        self.w, self.share, self.sent, self.failed = w, share, 0, 0
        self.start()

    def run(self):
        conn = None
        for eid in self.share:
            body = json.dumps({"id": eid}).encode()
            while True:
                try:
                    conn = conn or Conn(self.w.port, timeout=30)
                    conn.send(build("POST", "/webhooks/github", sign.github(body, SECRET, "push", eid), body))
                    status = conn.read("POST").status
                except (Closed, OSError):
                    status, conn = 0, None
                if status == 200:
                    break
                self.failed += 1
                time.sleep(0.02)
            self.sent += 1


@pytest.mark.parametrize("layers", LAYERS)
def test_ten_thousand_with_repetitions_and_redis_restarted(weir, db, own_redis, layers):
    """10,000 events of which 30 % are repetitions, four senders, Redis away in the middle."""
    server = own_redis()
    w = weir(db, server, **LAYERS[layers])
    rng = random.Random(layers)
    events = [f"e-{n}" for n in range(7000)]
    events += rng.choices(events, k=3000)
    rng.shuffle(events)
    senders = [Sender(w, events[n::4]) for n in range(4)]
    total = lambda: sum(s.sent for s in senders)  # noqa: E731
    wait_until(lambda: total() >= 4000, 60)
    server.end()
    time.sleep(0.5)
    server.start()
    wait_until(lambda: total() == 10000, 120, "all answered")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 7000, 60, "all stored")
    wait_until(lambda: server.client().xpending(STREAM, GROUP)["pending"] == 0, 60)
    assert db.value("SELECT count(DISTINCT event_id) FROM weir.events") == 7000
    assert db.value("SELECT count(*) FROM weir.events") == 7000
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
    assert sum(processed(w, s) for s in ("stored", "duplicate")) >= 10000
    for layer, off in (("memory", "no-memory"), ("redis", "no-redis")):
        if layers in (off, "database-only"):
            assert hits(w)[layer] == 0
