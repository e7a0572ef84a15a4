"""Delivery reports get their recipient's id: from a real ClickHouse, from Postgres, from the cache;
and events are stored in time whatever becomes of the look-up."""
import json
import subprocess
import uuid

import pytest

from harness import clickhouse
from harness.clickhouse import ClickHouse
from harness.proxy import FaultProxy
from harness.wait import wait_until
from harness.weir import run

MAIL = {"id": "mail", "auth": "none", "recipe": {"split": "[]", "id": "json:sg_event_id", "type": "json:event"},
        "recipient": "sendgrid"}
# What a busy machine may add is less than the timeout, so that who waits a second time is told apart.
FLUSH, TIMEOUT, SLACK = 0.2, 8, 7.5

ROWS = [("m-1", "a@x.test", 11, "mail"), ("m-2", "B@X.test", 12, "mail"), ("m-2", "c@x.test", 13, "mail"),
        ("m-3", "a@x.test", 14, "other"), ("m-4", "a@x.test", 15, "mail"), ("m-4", "a@x.test", 16, "mail"),
        ("it's \\ \u00e9", "a@x.test", 17, "mail"),
        ("') OR 1=1; DROP TABLE recipients; --", "a@x.test", 18, "mail"), ("m-9", "a@x.test", 19, "mail")]


@pytest.fixture(scope="module")
def ch():
    if not clickhouse.installed():
        pytest.skip("NO CLICKHOUSE: the Debian package clickhouse-server is not installed (make deb-deps)")
    server = ClickHouse().start()
    columns = "message_id String, address String, recipient_id UInt64, tool String"
    server.query(f"CREATE TABLE recipients ({columns}) ENGINE = MergeTree ORDER BY message_id")
    values = b",".join(f"(unhex('{m.encode().hex()}'), '{a}', {i}, '{t}')".encode() for m, a, i, t in ROWS)
    server.query(b"INSERT INTO recipients VALUES " + values)
    # Answers for a while, then fails: more rows than the server keeps back without wait_end_of_query.
    server.query("CREATE VIEW late AS SELECT 'm-1' AS message_id, number + 1 AS recipient_id FROM "
                 "(SELECT number FROM system.numbers LIMIT 200000) WHERE sleep(0.5) = 0 AND NOT throwIf(number = 199999)")
    # The same, but far behind any deadline: row after row, for half a minute.
    server.query("CREATE VIEW later AS SELECT 'm-1' AS message_id, number + 1 AS recipient_id FROM "
                 "(SELECT number FROM system.numbers LIMIT 2000000) WHERE sleep(1) = 0 AND NOT throwIf(number = 1999999)")
    yield server
    server.close()


@pytest.fixture
def healthy(ch):
    """The module's server, running again when the test is over."""
    yield ch
    if ch.child.stopped:
        ch.cont()
    if not ch.child.alive():
        ch.start()


def settings(ch, **more):
    return {"CLICKHOUSE_URL": ch.url(), "CLICKHOUSE_ADDRESS_COLUMN": "address", "CLICKHOUSE_TOOL_COLUMN": "tool",
            "WEBHOOK_FLUSH_INTERVAL": f"{int(FLUSH * 1000)}ms", "CLICKHOUSE_LOOKUP_TIMEOUT": f"{int(TIMEOUT * 1000)}ms",
            "tools": [MAIL], **more}


def report(message, address="a@x.test", event="delivered", uid=None):
    return {"event": event, "sg_event_id": uid or uuid.uuid4().hex, "sg_message_id": message, "email": address,
            "timestamp": 1767323040}


def send(w, *reports):
    r = w.post("mail", json.dumps(reports).encode(), [("Content-Type", "application/json")])
    assert r.status == 200, r
    return [x["sg_event_id"] for x in reports]


def stored(db, ids):
    """Waits until all are stored: {event id: recipient id}, and the longest time that one took."""
    def all_there():
        rows = db.query("SELECT event_id, recipient_id, extract(epoch FROM stored_at - received_at)::float8"
                        " FROM weir.events WHERE event_id = ANY (%s)", (ids,))
        return rows if len(rows) == len(ids) else None
    rows = wait_until(all_there, 60, f"{len(ids)} events stored")
    return {r[0]: r[1] for r in rows}, max(r[2] for r in rows)


def enrich(w, db, *reports):
    """The recipient ids of these reports, in their order."""
    ids = send(w, *reports)
    found, _ = stored(db, ids)
    return [found[i] for i in ids]


def results(w):
    names = ("cached", "cached_unknown", "found", "unknown", "failed", "skipped")
    return {n: int(w.metric("webhook_enrich_reports_total", result=n) or 0) for n in names}


def health(w):
    return w.get("/health").json()["components"]["enricher"]


def test_clickhouse(weir, db, redis_db, ch):
    w = weir(db, redis_db, **settings(ch))
    got = enrich(w, db, report("m-1.filter.0"), report("m-2", "b@x.test"), report("m-2", "C@x.test"), report("m-3"),
                 report("m-4"), report("m-5"), report(ROWS[6][0]), report(ROWS[7][0]))
    # m-3 is another tool's, m-4 two recipients.
    assert got == [11, 12, 13, None, None, None, 17, 18]
    assert ch.query("SELECT count() FROM recipients") == [[str(len(ROWS))]]
    assert results(w) == {"cached": 0, "cached_unknown": 0, "found": 5, "unknown": 3, "failed": 0, "skipped": 0}
    # From the cache, also for a weir that never asked.
    assert enrich(w, db, report("m-1", event="open"), report("m-5", event="open")) == [11, None]
    other = weir(db, redis_db, **settings(ch, CLICKHOUSE_URL="http://127.0.0.1:1/"))
    assert enrich(other, db, report("m-2", "b@x.test", event="open")) == [12]
    done = [results(x) for x in (w, other)]
    assert sum(r["cached"] for r in done) == 2 and sum(r["cached_unknown"] for r in done) == 1
    assert all("a@x" not in k.decode() for k in redis_db.client.keys("recipient:*"))


def test_message_id_alone(weir, db, redis_db, ch):
    w = weir(db, redis_db, **settings(ch, CLICKHOUSE_ADDRESS_COLUMN=None, CLICKHOUSE_TOOL_COLUMN=None))
    # m-2 has two recipients: none is the one.
    assert enrich(w, db, report("m-1"), report("m-2", "b@x.test"), report("m-3", "any@x.test")) == [11, None, 14]
    h = health(w)
    assert h["status"] == "healthy"
    assert h["details"] == {"backend": "clickhouse", "cache": "on", "success_rate": 1.0, "paused": False}


def test_large_batches(weir, db, redis_db, ch):
    ch.query("CREATE TABLE IF NOT EXISTS many ENGINE = MergeTree ORDER BY message_id AS SELECT"
             " concat(toString(number), '-', '" + "x" * 150 + "') AS message_id, number + 1 AS recipient_id"
             " FROM system.numbers LIMIT 4000")
    w = weir(db, redis_db, **settings(ch, CLICKHOUSE_TABLE="default.many", CLICKHOUSE_ADDRESS_COLUMN=None,
                                      CLICKHOUSE_TOOL_COLUMN=None, WEBHOOK_BATCH_SIZE="5000",
                                      CLICKHOUSE_LOOKUP_TIMEOUT="30s"))
    got = enrich(w, db, *(report(f"{n}-{'x' * 150}") for n in range(4000)))
    assert got == list(range(1, 4001))


def test_postgres(weir, db, redis_db):
    db.query("SELECT weir.register_message_batch('b', 'mail', %s)",
             (json.dumps([{"message_id": "m-1", "address": "a@x.test"}, {"message_id": "m-1", "address": "b@x.test"}]),))
    ids = dict(db.query("SELECT address, id FROM weir.recipients"))
    w = weir(db, redis_db, tools=[MAIL])
    assert enrich(w, db, report("m-1"), report("m-1", "B@x.test"), report("m-7")) == [
        ids["a@x.test"], ids["b@x.test"], None]

    # Cached as soon as weir is sure which database it is.
    def cached():
        assert enrich(w, db, report("m-1", event="open")) == [ids["a@x.test"]]
        return results(w)["cached"] > 0
    wait_until(cached, 60, "an answer from the cache")
    assert health(w)["details"]["backend"] == "postgres"


def test_cache_off(weir, db, redis_db, ch):
    w = weir(db, redis_db, **settings(ch, ENRICH_CACHE_TTL="0"))
    for _ in range(2):
        assert enrich(w, db, report("m-1")) == [11]
    assert results(w)["found"] == 2
    assert redis_db.client.keys("recipient:*") == []
    assert health(w)["details"]["cache"] == "off"


def in_time(w, db, rounds=12):
    """One event after the other, as quickly as each is stored: all within the flush interval plus the timeout, by
    the times that they bear, and none enriched. The longest that one took."""
    longest = 0
    for n in range(rounds):
        found, took = stored(db, send(w, report("m-9", event=f"e{n}"), report("m-9", event="delivered")))
        assert took < FLUSH + TIMEOUT + SLACK
        assert set(found.values()) == {None}
        longest = max(longest, took)
    return longest


def outage(w, backend_errors):
    """It was logged once and counted by reason, and did not cost every batch a look-up."""
    assert w.log().count("recipients cannot be looked up") == 1
    failed = {s: w.metric("webhook_enrich_lookups_total", backend="clickhouse", status=s) or 0 for s in backend_errors}
    assert 1 <= sum(failed.values()) <= 4, failed
    r = results(w)
    assert r["failed"] >= 1 and r["skipped"] >= 2 and r["found"] == 0
    h = health(w)
    assert h["status"] == "degraded" and h["details"]["paused"] is True and h["details"]["error"]
    assert w.metric("webhook_enrich_paused", backend="clickhouse") == 1


def recovers(w, db):
    def found():
        return enrich(w, db, report("m-9")) == [19]
    wait_until(found, 60, "recipients found again")
    assert "recipients are found again" in w.log()
    assert health(w)["details"]["paused"] is False


def test_clickhouse_killed(weir, db, redis_db, healthy):
    w = weir(db, redis_db, **settings(healthy, ENRICH_CACHE_TTL="0"))
    healthy.kill()
    in_time(w, db)
    outage(w, ("unavailable", "closed"))
    healthy.start()
    recovers(w, db)


def test_clickhouse_stalled(weir, db, redis_db, healthy):
    w = weir(db, redis_db, **settings(healthy, ENRICH_CACHE_TTL="0"))
    healthy.stop()
    assert in_time(w, db) > TIMEOUT * 0.95, "nothing was waited for"
    outage(w, ("timeout", "unavailable"))
    healthy.cont()
    recovers(w, db)


def fails_late(weir, db, redis_db, ch, table, timeout, **more):
    """The weir, and how long an event took whose look-up fails late: it was looked up once and no more."""
    w = weir(db, redis_db, **settings(ch, CLICKHOUSE_TABLE=table, CLICKHOUSE_ADDRESS_COLUMN=None, CLICKHOUSE_TOOL_COLUMN=None,
                                      CLICKHOUSE_LOOKUP_TIMEOUT=f"{timeout}s", **more))
    ids = send(w, report("m-1"))
    found, took = stored(db, ids)
    assert found == {ids[0]: None}
    assert took < FLUSH + timeout + SLACK
    assert w.metric("webhook_enrich_lookups_total", backend="clickhouse") == results(w)["failed"] == 1
    return w, took


# Its error comes after two seconds.
LATE_TIMEOUT = 12


def test_clickhouse_fails_late(weir, db, redis_db, ch):
    w, _ = fails_late(weir, db, redis_db, ch, "late", LATE_TIMEOUT)
    assert w.metric("webhook_enrich_lookups_total", backend="clickhouse", status="unavailable") == 1
    assert "status 500: Code: 395" in w.log()


def test_clickhouse_fails_late_after_status_200(weir, db, redis_db, ch):
    """What a server without wait_end_of_query does: rows, then an error's text, all under a 200. And one whose
    error is so late that the timeout comes first, though there is a row every now and then."""
    r = ch.post("SELECT DISTINCT message_id, recipient_id FROM late FORMAT TabSeparated")
    assert r.status == 200 and r.body.count(b"\n") > 1000 and b"Code: 395" in r.body[-300:]
    with FaultProxy(ch.port) as proxy:
        proxy.replace = (b"wait_end_of_query=1", b"wait_end_of_query=0")
        url = ch.url(proxy.port)
        w, _ = fails_late(weir, db, redis_db, ch, "late", LATE_TIMEOUT, CLICKHOUSE_URL=url)
        assert w.metric("webhook_enrich_lookups_total", backend="clickhouse", status="unavailable") == 1
        assert "status 200:" in w.log() and w.term() == 0
        w, took = fails_late(weir, db, redis_db, ch, "later", TIMEOUT, CLICKHOUSE_URL=url, ENRICH_CACHE_TTL="0")
        assert took > TIMEOUT * 0.95
        assert w.metric("webhook_enrich_lookups_total", backend="clickhouse", status="timeout") == 1


def test_answers_that_break_off(weir, db, redis_db, ch):
    with FaultProxy(ch.port) as proxy:
        w = weir(db, redis_db, **settings(ch, CLICKHOUSE_URL=ch.url(proxy.port), ENRICH_CACHE_TTL="0"))
        assert enrich(w, db, report("m-9")) == [19]
        proxy.cut_on = b"wait_end_of_query"
        in_time(w, db)
        outage_states = ("closed", "unavailable")
        assert sum(w.metric("webhook_enrich_lookups_total", status=s) or 0 for s in outage_states) >= 1
        proxy.heal()
        recovers(w, db)


def test_redis_stalled_meanwhile(weir, db, own_redis, ch):
    """The cache stands still: the look-up does without. (The queue is switched off, or nothing would arrive.)"""
    redis = own_redis()
    w = weir(db, redis, **settings(ch, WEBHOOK_QUEUE_ENABLED="false"))
    assert enrich(w, db, report("m-9")) == [19]
    redis.stop()
    found, took = stored(db, send(w, report("m-1")))
    assert list(found.values()) == [11] and took < FLUSH + TIMEOUT + SLACK
    redis.cont()


@pytest.mark.parametrize("change, says", [
    ({"CLICKHOUSE_TABLE": "nowhere"}, "Code: 60"),
    ({"CLICKHOUSE_RECIPIENT_ID_COLUMN": "nobody"}, "Code: 47"),
    ({"CLICKHOUSE_URL": "wrong password"}, "Code: 193"),
], ids=["table", "column", "password"])
def test_wrong_settings_are_told(weir, db, redis_db, ch, change, says):
    if change.get("CLICKHOUSE_URL"):
        change = {"CLICKHOUSE_URL": f"http://reader:nope@127.0.0.1:{ch.port}/"}
    w = weir(db, redis_db, **settings(ch, **change))
    assert enrich(w, db, report("m-1")) == [None]
    assert says in w.log() and says in health(w)["details"]["error"]


@pytest.mark.parametrize("name, value", [
    ("CLICKHOUSE_URL", "localhost:8123"), ("CLICKHOUSE_URL", "http://user:s3cret@/"),
    ("CLICKHOUSE_TABLE", "t; DROP TABLE x"), ("CLICKHOUSE_ADDRESS_COLUMN", "a`b"),
    ("CLICKHOUSE_LOOKUP_TIMEOUT", "0")])
def test_bad_settings_are_refused(name, value):
    r = run("check-config", env={name: value})
    assert r.rc == 78 and name in r.err and "s3cret" not in r.err + r.out, r


def test_metrics_are_clean(weir, db, redis_db, ch):
    w = weir(db, redis_db, **settings(ch))
    enrich(w, db, report("m-1"))
    r = subprocess.run(["promtool", "check", "metrics"], input=w.metrics().encode(), capture_output=True, timeout=30)
    assert r.returncode == 0, r.stdout + r.stderr
