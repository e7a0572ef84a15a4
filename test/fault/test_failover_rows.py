"""Redis takes no entries: events go straight to the database, and through the queue again when it is
well. The numbers in the names are rows of the fault matrix."""
import time

import pytest

from conftest import SECRET
from harness import sign
from harness.load import Load
from harness.proxy import FaultProxy
from harness.wait import wait_until
from test_kill import more, redis_back, redis_ended, redis_killed, redis_stopped, saw, settle


def in_mode(w, mode, timeout=60):
    wait_until(lambda: w.metric("webhook_ingest_mode", mode=mode) == 1, timeout, f"mode {mode}", 0.05)


def post(w, delivery, body=b"{}"):
    return w.post("github", body, sign.github(body, SECRET, "push", delivery))


def full(server):
    server.client().config_set("maxmemory", "1")


def roomy(server):
    server.client().config_set("maxmemory", "0")


def replica(server):
    server.client().replicaof("127.0.0.1", 1)


def primary(server):
    server.client().replicaof("NO", "ONE")


FAULTS = {"row03_ended": (redis_ended, redis_back), "row03_killed": (redis_killed, redis_back),
          "row08_stopped": (redis_stopped, redis_back), "row06_full": (full, roomy), "row05_replica": (replica, primary)}


@pytest.mark.parametrize("name", FAULTS)
def test_redis_out_goes_direct_and_back(weir, db, own_redis, name):
    """Under load; the ledger is exact and hardly anybody is refused."""
    fault, mend = FAULTS[name]
    server = own_redis()
    w = weir(db, server)
    with Load([w.port], SECRET, threads=4, rate=600, repeat=True) as load:
        more(load, 200)
        assert w.metric("webhook_ingest_mode", mode="queue") == 1
        fault(server)
        in_mode(w, "direct")
        # Stored without Redis, and ready all the while.
        more(load, 300)
        assert w.get("/health/ready").status == 200
        health = w.get("/health").json()
        assert health["components"]["ingest"]["details"]["mode"] == "direct"
        assert health["components"]["ingest"]["status"] == "degraded" == health["status"]
        assert w.metric("webhook_direct_events_total") >= 300
        mend(server)
        mended = time.monotonic()
        in_mode(w, "queue")
        assert time.monotonic() - mended > 4.5, "no probation"
        more(load, 200)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
    assert ledger.statuses().get(503, 0) < 200
    settle(ledger, db)
    assert w.metric("webhook_ingest_mode_changes_total", mode="direct") == 1
    assert w.metric("webhook_ingest_mode_changes_total", mode="queue", reason="recovered") == 1
    assert w.log().count("events go straight to the database") == 1
    assert w.log().count("events go through the queue again") == 1
    assert w.term() == 0


def test_row03_row08_without_traffic_it_is_noticed_too(weir, db, own_redis):
    """The first event after a quiet time is not the one that finds out."""
    server = own_redis()
    w = weir(db, server)
    server.kill()
    in_mode(w, "direct")
    assert post(w, "quiet").status == 200
    assert db.value("SELECT count(*) FROM weir.events") == 1


def test_row03_row09_both_away_is_503(weir, own_pg, own_redis):
    """With Retry-After and not ready; the queue is used as soon as it is back, without probation,
    because there is nothing else."""
    db, server = own_pg(), own_redis()
    w = weir(db, server)
    with Load([w.port], SECRET, threads=2, rate=200, repeat=True) as load:
        more(load, 50)
        db.server.kill()
        more(load, 50)  # into the queue as usual
        assert w.metric("webhook_ingest_mode", mode="queue") == 1
        server.kill()
        wait_until(lambda: w.get("/health/ready").status == 503, 60)
        saw(load, 503)
        r = post(w, "both")
        assert r.status == 503 and int(r.header("Retry-After")) >= 1
        assert "neither" in w.get("/health/ready").json()["reasons"][0]
        assert w.get("/health").status == 503 and w.get("/health/live").status == 200
        server.start()
        in_mode(w, "queue")
        more(load, 50)  # Postgres is still away
        assert w.metric("webhook_ingest_mode_changes_total", mode="queue", reason="database_down") >= 1
        db.server.start()
        more(load, 50)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
    settle(ledger, db, 90)
    assert w.term() == 0


def test_row08_row32_lost_answer_and_direct_retry_have_one_effect(weir, db, own_redis):
    """The entries are written, the answers are lost, the senders' retries go direct; then the queue
    brings the entries."""
    server = own_redis()
    with FaultProxy(server.port) as proxy:
        w = weir(db, server, REDIS_ADDR=f"127.0.0.1:{proxy.port}")
        assert post(w, "before").status == 200
        wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1)
        proxy.swallow = "down"
        r = post(w, "lost")
        assert r.status == 503 and int(r.header("Retry-After")) >= 1
        written = [f[b"k"] for _, f in server.client().xrange("webhook_events")]
        assert b"lost" in written, written
        in_mode(w, "direct")
        assert post(w, "lost").status == 200
        assert db.value("SELECT count(*) FROM weir.events WHERE event_id = 'lost'") == 1
        proxy.heal()
        proxy.cut()
        wait_until(lambda: w.metric("webhook_events_processed_total", status="duplicate") == 1, 60, "the entry came")
        in_mode(w, "queue")
        assert post(w, "lost").status == 200
        wait_until(lambda: server.client().xpending("webhook_events", "webhook_workers")["pending"] == 0, 60)
        wait_until(lambda: w.metric("webhook_queue_depth") == 0, 60)
        assert db.value("SELECT count(*) FROM weir.events WHERE event_id = 'lost'") == 1
        assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
        assert w.term() == 0


def test_row01_row03_killed_in_direct_mode(weir, db, own_redis):
    """weir and Redis die by turns; what was answered is there."""
    server = own_redis()
    w = weir(db, server, WORKER_CONSUMER_NAME="one")
    with Load([w.port], SECRET, threads=4, rate=800, repeat=True) as load:
        for _ in range(2):
            more(load, 100)
            server.kill()
            in_mode(w, "direct")
            more(load, 100)
            w.kill()
            w.start()
            more(load, 50)
            server.start()
        more(load, 100)
        in_mode(w, "queue")
        more(load, 100)
        ledger = load.stop()
    settle(ledger, db)
    assert w.term() == 0
