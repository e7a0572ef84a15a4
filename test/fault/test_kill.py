"""What was answered is stored, each once, whatever dies under load: weir, Redis, Postgres.

WEIR_FAULT_ROUNDS (5) is how often weir is killed; WEIR_FAULT_SEED repeats a run."""
import os
import random
import signal
import time

import pytest

from conftest import SECRET
from harness.load import Load
from harness.oracle import more, saw, settle
from harness.proxy import FaultProxy
from harness.wait import wait_until

ROUNDS = int(os.environ.get("WEIR_FAULT_ROUNDS", "5"))
SEED = int(os.environ.get("WEIR_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


@pytest.fixture
def rng():
    print(f"WEIR_FAULT_SEED={SEED}")  # pytest shows it when the test fails
    return random.Random(SEED)


# ---- weir ----

def test_row01_weir_is_killed(weir, db, redis_db, rng):
    """It has the same name each time, so it finds at once what it had taken."""
    w = weir(db, redis_db, WORKER_CONSUMER_NAME="one")
    with Load([w.port], SECRET, threads=6, repeat=True) as load:
        for _ in range(ROUNDS):
            more(load, rng.randrange(1, 600))
            w.kill()
            w.start()
        more(load, 50)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503, "reset", "unsent"}, ledger.statuses()
    settle(ledger, db)
    assert w.term() == 0


def test_row02_weir_is_ended(weir, db, redis_db, rng):
    w = weir(db, redis_db, SHUTDOWN_DELAY="300ms", SHUTDOWN_GRACE="15s")
    with Load([w.port], SECRET, threads=6, repeat=True) as load:
        for _ in range(ROUNDS):
            more(load, rng.randrange(1, 600))
            start = time.monotonic()
            assert w.term() == 0
            assert time.monotonic() - start < 15
            w.start()
        more(load, 50)
        ledger = load.stop()
    # Requests that were under way got their answer; none was cut off.
    assert set(ledger.statuses()) <= {200, 503}, (ledger.statuses(), [t for t in ledger.tries() if isinstance(t, str)][:5])
    settle(ledger, db)


def test_row02_end_stores_the_last_batch(weir, db, redis_db):
    """After an orderly end nothing is pending: what was read is stored and acknowledged."""
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=4) as load:
        more(load, 300)
        ledger = load.stop()
    assert w.term() == 0
    assert redis_db.client.xpending("webhook_events", "webhook_workers")["pending"] == 0
    w.start()
    settle(ledger, db)


def test_row02_second_signal_under_load(weir, db, redis_db):
    """The first waits for batches that cannot end, the second does not; the next weir stores what was answered."""
    w = weir(db, redis_db, SHUTDOWN_GRACE="300s", WORKER_CONSUMER_NAME="one")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'weir.event_keys'::regclass"
    with db.server.connect(db.name) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
        with Load([w.port], SECRET, threads=4, repeat=True) as load:
            more(load, 200)
            wait_until(lambda: db.value(waiting) > 0, 60, "a batch is under way")
            w.child.send(signal.SIGTERM)
            wait_until(lambda: "to=FLUSHING" in w.log(), 60, "no request is under way any more")
            assert w.child.alive()
            w.child.send(signal.SIGTERM)
            assert w.child.wait(60) == 1 and "second signal" in w.log()
            w.reaped = True
            w.check_log()
            assert db.value(waiting) > 0
            blocker.execute("ROLLBACK")
            w.start()
            more(load, 50)
            ledger = load.stop()
    # Whoever was connected got an answer; of the second signal nobody outside saw anything.
    assert set(ledger.statuses()) <= {200, 503, "unsent"}, ledger.statuses()
    settle(ledger, db)
    assert w.term() == 0


def test_row02_ready_says_no_before_the_end(weir, db, redis_db):
    w = weir(db, redis_db, SHUTDOWN_DELAY="120s", SHUTDOWN_GRACE="150s")
    w.child.send(signal.SIGTERM)
    wait_until(lambda: w.get("/health/ready").status == 503, 60)
    # Still served, until the load balancer has understood.
    with Load([w.port], SECRET, threads=2) as load:
        more(load, 20)
        assert set(load.stop().statuses()) == {200}
    settle(load.ledger, db)
    start = time.monotonic()
    w.child.send(signal.SIGTERM)
    w.child.wait(60)
    assert time.monotonic() - start < 60
    w.reaped = True
    w.check_log()


# ---- Redis ----

def redis_killed(server):
    server.kill()


def redis_ended(server):
    server.end()


def redis_stopped(server):
    server.stop()


def redis_back(server):
    if server.child.stopped:
        server.cont()
    else:
        server.start()


@pytest.mark.parametrize("fault", [redis_ended, redis_killed, redis_stopped])
def test_row03_row08_redis_goes_and_comes(weir, db, own_redis, fault):
    """The worker is another process: there is no way around the queue."""
    server = own_redis()
    w, worker = weir(db, server, ROLES="ingest"), weir(db, server, ROLES="worker")
    with Load([w.port], SECRET, threads=4, repeat=True) as load:
        for _ in range(2):
            more(load, 200)
            fault(server)
            saw(load, 503)
            assert w.get("/health/live").status == 200
            wait_until(lambda: w.get("/health/ready").status == 503, 60, "not ready")
            redis_back(server)
            more(load, 200)
            wait_until(lambda: w.get("/health/ready").status == 200, 60, "ready")
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}, (ledger.statuses(), [t for t in ledger.tries() if isinstance(t, str)][:5])
    settle(ledger, db)
    assert w.metric("webhook_queue_depth") is not None
    assert w.metric("webhook_ingest_mode", mode="queue") == 1
    assert w.term() == worker.term() == 0


def test_row04_redis_forgets_the_group(weir, db, own_redis):
    """After FLUSHALL the group is made anew; later events are stored."""
    server = own_redis()
    w = weir(db, server)
    with Load([w.port], SECRET, threads=2) as load:
        more(load, 100)
        settle(load.stop(), db)
    server.client().flushall()
    with Load([w.port], SECRET, threads=2, prefix="later") as load:
        more(load, 100)
        settle(load.stop(), db)


def test_row06_redis_is_full(weir, db, own_redis):
    """Past maxmemory writes fail: 503, and the worker drains what is there."""
    server = own_redis(maxmemory="64mb")
    w = weir(db, server)
    with Load([w.port], SECRET, threads=2, repeat=True) as load:
        more(load, 100)
        server.client().config_set("maxmemory", "1mb")
        saw(load, 503)
        server.client().config_set("maxmemory", "64mb")
        more(load, 100)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}
    settle(ledger, db)


# ---- Postgres ----

def pg_fast(server):
    server.end("fast")


def pg_immediate(server):
    server.end("immediate")


def pg_killed(server):
    server.kill()


def pg_stopped(server):
    server.stop()


def pg_back(server):
    if server.child.stopped:
        server.cont()
    else:
        server.start()


@pytest.mark.parametrize("fault", [pg_fast, pg_immediate, pg_killed, pg_stopped])
def test_row09_row13_postgres_goes_and_comes(weir, own_pg, redis_db, fault):
    """Ingest goes on meanwhile; the entries wait in the stream."""
    db = own_pg()
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=4, rate=800, repeat=True) as load:
        for _ in range(2):
            more(load, 200)
            fault(db.server)
            more(load, 400)
            assert w.get("/health/ready").status == 200
            pg_back(db.server)
            more(load, 200)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}, (ledger.statuses(), [t for t in ledger.tries() if isinstance(t, str)][:5])
    settle(ledger, db, 90)
    assert w.term() == 0


def test_row09_sessions_are_terminated(weir, db, redis_db):
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=4, rate=800, repeat=True) as load:
        for _ in range(10):
            more(load, 50)
            db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                     "AND pid <> pg_backend_pid()")
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    settle(ledger, db)


# ---- several weirs ----

class Group:
    """Three weirs with a database and a stream of their own."""

    def __init__(self, weir, db, redis_db, consumers, one_port=False):
        self.db, self.redis, self.consumers = db, redis_db, consumers
        self.weirs = []
        for name in consumers:
            w = weir(db, redis_db, start=False, WORKER_CONSUMER_NAME=name, QUEUE_CLAIM_IDLE="3s",
                     name=f"weir-{name or 'unnamed'}")
            if one_port and self.weirs:
                w.port = self.weirs[0].port
                w.env["PORT"] = str(w.port)
            self.weirs.append(w.start())

    def held(self):
        return {c["name"].decode(): c["pending"] for c in
                self.redis.client.xinfo_consumers("webhook_events", "webhook_workers")}

    def kill_one_that_holds(self):
        """Batches hang on a lock while the killed one dies."""
        with self.db.server.connect(self.db.name) as blocker:
            blocker.execute("BEGIN")
            blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
            with Load([w.port for w in self.weirs], SECRET, threads=6, repeat=True) as load:
                more(load, 600)
                wait_until(lambda: len(self.held()) >= len(set(self.consumers)) and all(self.held().values()), 60,
                           "every consumer holds entries")
                self.weirs[0].kill()
                blocker.execute("ROLLBACK")
                self.ledger = load.stop()

    def taken_over(self):
        settle(self.ledger, self.db, 120)
        wait_until(lambda: self.redis.client.xpending("webhook_events", "webhook_workers")["pending"] == 0, 60)
        for w in self.weirs[1:]:
            assert w.term() == 0


def test_row31_what_a_killed_one_held_is_taken_over(weir, new_db, new_redis_db):
    """One consumer name each, one for all, and the default with a port that all share."""
    groups = [Group(weir, new_db(), new_redis_db(), names, one_port) for names, one_port in
              ((["a", "b", "c"], False), (["same"] * 3, False), ([None] * 3, True))]
    for g in groups:
        g.kill_one_that_holds()
    for g in groups:
        g.taken_over()


# ---- the network ----

@pytest.mark.parametrize("fault", ["cuts", "single bytes"])
def test_row36_bad_network(weir, own_pg, own_redis, rng, fault):
    """Both legs at once through a proxy that misbehaves."""
    db, redis = own_pg(), own_redis()
    with FaultProxy(redis.port, seed=rng.randrange(10**6)) as r, FaultProxy(db.server.port, seed=rng.randrange(10**6)) as p:
        w = weir(db, redis, REDIS_ADDR=f"127.0.0.1:{r.port}", DATABASE_PORT=p.port)
        with Load([w.port], SECRET, threads=4, rate=400, repeat=True) as load:
            more(load, 50)
            if fault == "cuts":
                r.cut_rate, p.cut_rate = 0.01, 0.02
            else:
                r.single_bytes = p.single_bytes = True
            more(load, 300, 120)
            r.heal()
            p.heal()
            more(load, 100)
            ledger = load.stop()
        assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
        settle(ledger, db, 90)
        assert w.term() == 0


def test_row14_link_dies_during_commit(weir, own_pg, redis_db):
    """The proxy passes the statement on and then cuts: the outcome is unknown, the effect single."""
    db = own_pg()
    with FaultProxy(db.server.port) as p:
        w = weir(db, redis_db, DATABASE_PORT=p.port)
        with Load([w.port], SECRET, threads=2, rate=300, repeat=True) as load:
            more(load, 50)
            for _ in range(5):
                cuts = p.cuts
                p.cut_on = b"e-"  # an event's id on its way into the database
                wait_until(lambda: p.cuts > cuts, 60)
                p.cut_on = None
                more(load, 50)
            ledger = load.stop()
        settle(ledger, db)
        assert w.term() == 0
