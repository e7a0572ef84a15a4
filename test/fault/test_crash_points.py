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


def died(w, timeout=60):
    """Waits until the crash point was passed often enough."""
    wait_until(lambda: not w.child.alive(), timeout, "the crash point is passed; is this a test build?")
    assert w.child.popen.returncode == -signal.SIGKILL
    w.reaped = True
    w.check_log()


def again(w):
    w.env.pop("WEIR_CRASH_AT")
    return w.start()


# The n-th pass: the first event of all, and one in the middle of a load.
@pytest.mark.parametrize("nth", [1, 40])
@pytest.mark.parametrize("point", ["verified", "added", "read", "sent", "committed", "acked"])
def test_row01_dies_at(weir, db, redis_db, point, nth):
    """What senders sent again after the crash and what is read again have one effect together."""
    if point == "sent":
        nth += 4  # statements of the start
    w = weir(db, redis_db, start=False, WORKER_CONSUMER_NAME="one", WEIR_CRASH_AT=f"{point}:{nth}")
    w.start(wait=False)
    with Load([w.port], SECRET, threads=4, repeat=True) as load:
        died(w)
        again(w)
        more(load, 30)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503, "reset", "unsent"}, ledger.statuses()
    settle(ledger, db)
    wait_until(lambda: drained(redis_db.client), 30, "all entries acknowledged")
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
    wait_until(lambda: drained(redis_db.client), 30, "all entries acknowledged")
    settle(ledger, db, dead=1)
    assert w.term() == 0


def test_row01_dies_while_reading_a_body(weir, db, redis_db):
    """The sender sees a reset, and nothing of the event is anywhere."""
    w = weir(db, redis_db)
    body = b'{"half": ' + b"1" * 5000 + b"}"
    request = build("POST", "/webhooks/github", sign.github(body, SECRET, "push", "half"), body)
    with Conn(w.port) as c:
        c.send(request[:-2000])
        wait_until(lambda: w.metric("webhook_http_connections", listener="ingest") == 1, 20, "the connection is accepted")
        w.kill()
        with pytest.raises(Closed):
            c.read("POST")
    assert redis_db.client.xlen("webhook_events") == 0
    w.start()
    assert db.value("SELECT count(*) FROM weir.events") == 0
