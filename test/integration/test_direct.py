"""Without the queue, and around it: events go straight to the database and are answered after the
commit, while Redis is switched off or does not take entries."""
import json
import threading
import time

import pytest

from conftest import GITHUB, SECRET, module_weir
from harness import sign
from harness.load import Load
from harness.proxy import FaultProxy
from harness.wait import wait_until

SPLIT = {"id": "split", "auth": "none", "recipe": {"id": "json:id", "type": "json:type", "split": "[]"}}


def post(w, body=b"{}", delivery=None, **kw):
    return w.post("github", body, sign.github(body, SECRET, "push", delivery), **kw)


def stored(db, like="%"):
    return db.value("SELECT count(*) FROM weir.events WHERE event_id LIKE %s", (like,))


def ingest(w):
    return w.get("/health").json()["components"]["ingest"]["details"]


def in_mode(w, mode, timeout=60):
    wait_until(lambda: w.metric("webhook_ingest_mode", mode=mode) == 1, timeout, f"mode {mode}")


class Post(threading.Thread):
    """A request under way in a thread."""

    def __init__(self, w, body=b"{}", delivery=None, tool="github"):
        super().__init__(daemon=True)
        self.w, self.body, self.delivery, self.tool, self.answer = w, body, delivery, tool, None
        self.took = None
        self.start()

    def run(self):
        headers = sign.github(self.body, SECRET, "push", self.delivery)
        start = time.monotonic()
        self.answer = self.w.post(self.tool, self.body, headers)
        self.took = time.monotonic() - start

    def result(self, timeout=60):
        self.join(timeout)
        assert self.answer is not None, "no answer"
        return self.answer


def waiting(w, n):
    """n events lie with the pipeline and their senders wait."""
    wait_until(lambda: w.metric("webhook_direct_waiting") == n, 60, f"{n} wait")


class Locked:
    """Nothing can be stored while this holds."""

    def __init__(self, db):
        self.conn = db.server.connect(db.name)

    def __enter__(self):
        self.conn.execute("BEGIN")
        self.conn.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
        return self

    def free(self):
        if not self.conn.closed:
            self.conn.execute("ROLLBACK")
            self.conn.close()

    def __exit__(self, *exc):
        self.free()


# ---- switched off ----

@pytest.fixture(scope="module")
def off(request, redis_server, pg_server, template_db):
    """No Redis at all: nothing listens on the default address in a test's world."""
    yield from module_weir(request, redis_server, pg_server, template_db, [GITHUB, SPLIT],
                           WEBHOOK_QUEUE_ENABLED="false", REDIS_ADDR="", DIRECT_TIMEOUT="1s", MAX_BODY_SIZE="2MiB")


def test_off_answers_after_the_commit(off):
    body = json.dumps({"a": 1}).encode()
    assert post(off, body, "off-1").status == 200
    assert bytes(off.db.value("SELECT body FROM weir.events WHERE event_id = 'off-1'")) == body
    assert post(off, body, "off-1").status == 200
    assert stored(off.db, "off-1") == 1
    assert off.metric("webhook_ingest_mode", mode="direct") == 1
    assert off.metric("webhook_direct_events_total") >= 2


def test_off_uses_no_redis(off):
    page = off.get("/health").json()
    assert page["status"] == "healthy" and page["components"]["ingest"]["details"]["mode"] == "direct"
    assert "redis" not in page["components"] and "queue" not in page["components"]
    assert off.get("/health/ready").status == 200
    assert off.metric("webhook_redis_reconnects_total") is None
    assert "component=redis" not in off.log() and "connection" not in off.log()


def test_off_split_request_is_answered_as_a_whole(off):
    items = [{"id": f"sp-{n}", "type": "t", "n": n} for n in range(300)]
    r = off.request("POST", "/webhooks/split", [sign.JSON], json.dumps(items).encode())
    assert r.status == 200 and len(r.json()["ids"]) == 300
    assert stored(off.db, "sp-%") == 300


def test_off_a_lonely_event_is_stored_at_once(off):
    """Not after WEBHOOK_FLUSH_INTERVAL, which is a second."""
    took = []
    for n in range(20):
        start = time.monotonic()
        assert post(off, delivery=f"lonely-{n}").status == 200
        took.append(time.monotonic() - start)
    assert sorted(took)[10] < 0.5


def test_off_poison_is_answered_when_its_dead_letter_is_there(off):
    """As one among good ones of the same request: those commit."""
    off.db.query("ALTER TABLE weir.events ADD CONSTRAINT no_poison CHECK (event_id <> 'poison') NOT VALID")
    try:
        items = [{"id": "poison" if n == 3 else f"mate-{n}", "type": "t"} for n in range(8)]
        r = off.request("POST", "/webhooks/split", [sign.JSON], json.dumps(items).encode())
        assert r.status == 200 and len(r.json()["ids"]) == 8
        assert stored(off.db, "mate-%") == 7 and stored(off.db, "poison") == 0
        assert off.db.value("SELECT count(*) FROM weir.dead_letters WHERE event_id = 'poison' AND sqlstate = '23514'") == 1
    finally:
        off.db.query("ALTER TABLE weir.events DROP CONSTRAINT no_poison")


def test_off_waits_no_longer_than_direct_timeout(off):
    """503 with Retry-After; the first is in a batch, the later ones leave the buffer; retries have
    one effect."""
    with Locked(off.db) as lock:
        late = [Post(off, delivery=f"late-{n}") for n in range(12)]
        for p in late:
            r = p.result()
            assert r.status == 503 and int(r.header("Retry-After")) >= 1, r
            assert r.header("Content-Type") == "application/problem+json"
            assert 0.9 < p.took < 15
        assert off.metric("webhook_direct_timeouts_total") >= 12
        assert off.metric("webhook_direct_waiting") == 0
        lock.free()
    wait_until(lambda: post(off, delivery="late-again").status == 200, 60)
    for n in range(12):
        assert post(off, delivery=f"late-{n}").status == 200
    assert stored(off.db, "late-%") == 13


def test_off_database_goes_and_comes(weir, own_pg):
    db = own_pg()
    w = weir(db, None, WEBHOOK_QUEUE_ENABLED="false", DIRECT_TIMEOUT="2s")
    with Load([w.port], SECRET, threads=4, rate=400, repeat=True) as load:
        for end in (lambda: db.server.end("immediate"), db.server.kill, db.server.stop):
            base = load.ledger.count()
            wait_until(lambda: load.ledger.count() > base + 100, 60)
            end()
            wait_until(lambda: w.get("/health/ready").status == 503, 60)
            r = post(w, delivery="while-down")
            assert r.status == 503 and int(r.header("Retry-After")) >= 1
            assert "no queue" in w.get("/health/ready").json()["reasons"][0]
            if db.server.child.stopped:
                db.server.cont()
            else:
                db.server.start()
            wait_until(lambda: w.get("/health/ready").status == 200, 60)
        base = load.ledger.count()
        wait_until(lambda: load.ledger.count() > base + 100, 60)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
    # Answered after the commit: nothing has to be waited for.
    missing, twice, other = ledger.compare(db)
    assert (missing, twice, other) == ([], [], []) and ledger.count() > 300
    assert w.term() == 0


def test_off_end_answers_who_waits(weir, db):
    """SIGTERM while senders wait for the database: they are stored and answered."""
    w = weir(db, None, WEBHOOK_QUEUE_ENABLED="false", DIRECT_TIMEOUT="20s", SHUTDOWN_GRACE="30s")
    with Locked(db) as lock:
        held = [Post(w, delivery=f"held-{n}") for n in range(5)]
        waiting(w, 5)
        w.child.send(15)
        wait_until(lambda: "CLOSING" in w.log(), 60)
        lock.free()
        assert [p.result().status for p in held] == [200] * 5
    assert w.child.wait(30) == 0
    w.reaped = True
    w.check_log()
    assert stored(db, "held-%") == 5


def test_off_end_in_an_outage(weir, db):
    """What is not stored at the end of SHUTDOWN_GRACE was answered 503 and is given up; the end is an ordinary one."""
    w = weir(db, None, WEBHOOK_QUEUE_ENABLED="false", DIRECT_TIMEOUT="20s", SHUTDOWN_GRACE="2s")
    with Locked(db):
        held = Post(w, delivery="held")
        waiting(w, 1)
        w.child.send(15)
        code = w.child.wait(30)
    w.reaped = True
    assert held.result().status == 503
    assert code >= 0, "killed by a signal"
    w.check_log()


def test_off_kill_under_load(weir, db):
    w = weir(db, None, WEBHOOK_QUEUE_ENABLED="false")
    with Load([w.port], SECRET, threads=4, repeat=True) as load:
        for _ in range(3):
            base = load.ledger.count()
            wait_until(lambda: load.ledger.count() > base + 150, 60)
            w.kill()
            w.start()
        ledger = load.stop()
    missing, twice, other = ledger.compare(db)
    assert (missing, twice, other) == ([], [], [])
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


def test_off_without_a_worker_refuses(weir):
    w = weir(None, None, WEBHOOK_QUEUE_ENABLED="false", ROLES="ingest", start=False)
    w.start(wait=False)
    wait_until(lambda: w.get("/health/live").status == 200, 60)
    r = post(w)
    assert r.status == 503 and int(r.header("Retry-After")) >= 1
    ready = w.get("/health/ready")
    assert ready.status == 503 and "worker" in ready.json()["reasons"][0]
    assert w.log().count("no event can be taken") == 1
    assert w.term() == 0
