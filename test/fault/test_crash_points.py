"""Row 1 of the fault matrix at its very moments: weir dies as by kill -9 at a named point of the way
of an event (include/weir/run/crash_point.h), is started again, and nothing answered is missing,
nothing is there twice. Needs a test build; another one says so and fails."""
import json
import signal

import pytest

from conftest import SECRET
from harness import sign
from harness.http import Closed, Conn, build
from harness.load import Load
from harness.oracle import drained, more, settle
from harness.wait import wait_until

STREAM, GROUP = "webhook_events", "webhook_workers"


def died(w, timeout=60):
    """Waits until the crash point was passed often enough."""
    wait_until(lambda: not w.child.alive(), timeout, "the crash point is passed; is this a test build?")
    assert w.child.popen.returncode == -signal.SIGKILL
    w.reaped = True
    w.check_log()


def again(w):
    w.env.pop("WEIR_CRASH_AT")
    return w.start()


class Scene:
    """What stands in Redis and Postgres when weir is dead."""

    def __init__(self, redis_client, db):
        info = redis_client.xinfo_stream(STREAM) if redis_client.exists(STREAM) else {"entries-added": 0}
        groups = redis_client.xinfo_groups(STREAM) if redis_client.exists(STREAM) else []
        self.added = info["entries-added"]
        self.read = sum(g["entries-read"] or 0 for g in groups)
        held = [p["message_id"] for p in redis_client.xpending_range(STREAM, GROUP, "-", "+", 10000)] if groups else []
        fields = [redis_client.xrange(STREAM, i, i)[0][1] for i in held]
        self.newest = fields[-1][b"k"].decode() if fields else None
        self.pending = {f[b"k"].decode() for f in fields}
        self.stored = {r[0] for r in db.query("SELECT event_id FROM weir.events")}


# What the point's name says, as it shows from outside: `nth` is the pass that was the last, `answered` how many
# events were answered before. The sender waits for each answer before it sends the next event.
PROOFS = {
    "verified": lambda s, nth, answered: s.added == answered == nth - 1,
    "added": lambda s, nth, answered: s.added == nth and answered == nth - 1,
    "read": lambda s, nth, answered: s.pending and s.newest not in s.stored,
    "sent": lambda s, nth, answered: s.pending and s.read - len(s.pending) <= len(s.stored) <= s.read,
    "committed": lambda s, nth, answered: s.pending & s.stored,
    "acked": lambda s, nth, answered: s.read - len(s.pending) >= nth and s.stored - s.pending,
}


# The n-th pass: the first event of all, and one in the middle of a load.
@pytest.mark.parametrize("nth", [1, 40])
@pytest.mark.parametrize("point", PROOFS)
def test_row01_dies_at(weir, db, redis_db, point, nth):
    """What senders sent again after the crash and what is read again have one effect together."""
    w = weir(db, redis_db, start=False, WORKER_CONSUMER_NAME="one", WEIR_CRASH_AT=f"{point}:{nth}").start()
    with Load([w.port], SECRET, threads=1, repeat=True) as load:
        died(w)
        scene = Scene(redis_db.client, db)
        answered = load.ledger.count()
        assert PROOFS[point](scene, nth, answered), (vars(scene), answered)
        again(w)
        more(load, 30)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503, "reset", "unsent"}, ledger.statuses()
    settle(ledger, db)
    wait_until(lambda: drained(redis_db.client), 60, "all entries acknowledged")
    assert w.term() == 0


@pytest.mark.parametrize("fate", ["goes on to its commit", "is rolled back"])
def test_row01_dies_in_the_midst_of_a_transaction(weir, db, redis_db, fate):
    """It has claimed the keys and waits for the events' table when weir dies; Postgres commits it all the same, as
    it has the whole of it, or not."""
    w = weir(db, redis_db, start=False, WORKER_CONSUMER_NAME="one", WEIR_CRASH_AT="sent").start()
    half = ("SELECT l.pid FROM pg_locks l JOIN pg_locks k USING (pid) WHERE NOT l.granted AND l.relation = 'weir.events'::regclass "
            "AND k.granted AND k.relation = 'weir.event_keys'::regclass")
    with db.server.connect(db.name) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.events IN SHARE MODE")
        with Load([w.port], SECRET, threads=2, repeat=True) as load:
            died(w)
            wait_until(lambda: db.query(half), 60, "the keys are claimed, the events wait")
            scene = Scene(redis_db.client, db)
            assert scene.pending and not scene.stored
            if fate == "is rolled back":
                blocker.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir' "
                                "AND datname = current_database()")
                wait_until(lambda: not db.query(half), 60, "it is gone")
            blocker.execute("COMMIT")
            if fate == "is rolled back":
                assert db.value("SELECT count(*) FROM weir.events") == 0
            else:
                wait_until(lambda: db.value("SELECT count(*) FROM weir.events") > 0, 60, "committed though weir is dead")
            again(w)
            more(load, 30)
            ledger = load.stop()
    settle(ledger, db)
    wait_until(lambda: drained(redis_db.client), 60, "all entries acknowledged")
    assert w.term() == 0


@pytest.mark.parametrize("cured", [False, True])
def test_row01_dies_between_dead_letter_and_acknowledgement(weir, db, redis_db, cured):
    """The dead letter is there once, its mates are stored; also where the event could be stored by then."""
    db.query("ALTER TABLE weir.events ADD CONSTRAINT no_poison CHECK (event_id NOT LIKE '%poison%')")
    w = weir(db, redis_db, WORKER_CONSUMER_NAME="one", start=False, WEIR_CRASH_AT="buried")
    w.start()
    body = json.dumps({"id": "poison"}).encode()
    w.post("github", body, sign.github(body, SECRET, "push", "poison"))
    died(w)
    if cured:
        db.query("ALTER TABLE weir.events DROP CONSTRAINT no_poison")
    again(w)
    with Load([w.port], SECRET, threads=2, repeat=True) as load:
        more(load, 20)
        ledger = load.stop()
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id = 'poison'") == 0
    wait_until(lambda: drained(redis_db.client), 60, "all entries acknowledged")
    settle(ledger, db, dead=1)
    assert w.term() == 0


def test_row01_dies_while_reading_a_body(weir, db, redis_db):
    """The sender sees a reset, and nothing of the event is anywhere."""
    w = weir(db, redis_db)
    body = b'{"half": ' + b"1" * 5000 + b"}"
    request = build("POST", "/webhooks/github", sign.github(body, SECRET, "push", "half"), body)
    with Conn(w.port) as c:
        c.send(request[:-2000])
        wait_until(lambda: w.metric("webhook_http_connections", listener="ingest") == 1, 60, "the connection is accepted")
        w.kill()
        with pytest.raises(Closed):
            c.read("POST")
    assert redis_db.client.xlen("webhook_events") == 0
    w.start()
    assert db.value("SELECT count(*) FROM weir.events") == 0
