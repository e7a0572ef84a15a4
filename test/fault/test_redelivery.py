"""Entries that are delivered over and over: an outage makes no dead letter, a poison entry makes one."""
import re
import time

from conftest import SECRET
from harness import sign
from harness.wait import wait_until

STREAM, GROUP = "webhook_events", "webhook_workers"


def entry(delivery, kind="push", body=b"{}"):
    return {"v": "1", "u": "018f0000-0000-7000-8000-%012x" % abs(hash(delivery) % 2**48), "t": "github", "y": kind,
            "k": delivery, "r": str(int(time.time() * 1e6)), "b": body}


def deliveries(redis_db):
    return [p["times_delivered"] for p in redis_db.client.xpending_range(STREAM, GROUP, "-", "+", 1000)]


def pending(redis_db):
    return redis_db.client.xpending(STREAM, GROUP)["pending"]


def all_done(redis_db):
    wait_until(lambda: pending(redis_db) == 0, 60, "nothing pending")
    wait_until(lambda: not redis_db.client.keys(STREAM + "*:alone:*"), 60, "no mark left")


def test_outage_with_twenty_restarts_makes_no_dead_letter(weir, own_pg, redis_db):
    """Postgres answers and nothing commits, then it is gone, and workers are killed twenty times each way.
    The counts pass QUEUE_MAX_DELIVERIES by far; nobody died over an entry."""
    db = own_pg()
    for n in range(40):
        redis_db.client.xadd(STREAM, entry(f"d-{n}"))
    workers = [weir(db, redis_db, start=False, ROLES="ingest,worker", WORKER_CONSUMER_NAME=name, QUEUE_CLAIM_IDLE="1s",
                    WEBHOOK_BATCH_SIZE=10, QUEUE_MAX_DELIVERIES=2) for name in ("one", "one", "two")]
    with db.server.connect(db.name) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")  # it answers, but nothing commits
        for n in range(20):
            w = workers[n % 3]
            w.start()
            wait_until(lambda: pending(redis_db) == 40, 60)
            time.sleep(0.3)  # deep in trouble
            w.kill()
        assert min(deliveries(redis_db)) > 2, deliveries(redis_db)
        blocker.execute("ROLLBACK")
    db.server.end("immediate")
    for n in range(20):
        w = workers[n % 3]
        told = len(w.log())
        w.start(wait=False)  # ready it would be after two seconds
        wait_until(lambda: re.search("component=pg .*refused", w.log()[told:]), 60, "it looks for Postgres")
        w.kill()
    db.server.start()
    for w in workers:
        w.start()
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 40, 60, "all are stored")
    all_done(redis_db)
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
    assert sum(w.metric("webhook_queue_condemned_total") for w in workers) == 0
    assert sum(w.metric("webhook_queue_lost_total") for w in workers) == 0


def test_nobody_is_suspected_while_all_hang(weir, own_pg, redis_db):
    """Postgres answers, nothing commits, and every slot waits. An entry that was delivered far too often
    must not stand marked behind them, or whoever kills the process then would condemn it."""
    db = own_pg()
    for n in range(10):
        redis_db.client.xadd(STREAM, entry(f"old-{n}"))
    redis_db.client.xgroup_create(STREAM, GROUP, "0")
    ids = [i for i, _ in redis_db.client.xreadgroup(GROUP, "dead", {STREAM: ">"})[0][1]]
    redis_db.client.xclaim(STREAM, GROUP, "dead", 0, ids, retrycount=9)
    for n in range(200):
        redis_db.client.xadd(STREAM, entry(f"new-{n}"))
    w = weir(db, redis_db, start=False, ROLES="ingest,worker", QUEUE_CLAIM_IDLE="1s", WEBHOOK_BATCH_SIZE=10)
    with db.server.connect(db.name) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
        w.start()
        wait_until(lambda: redis_db.client.xpending_range(STREAM, GROUP, "-", "+", 10)[0]["consumer"] != b"dead", 60,
                   "the old ones are claimed")
        end = time.monotonic() + 5  # past the rest at the start
        while time.monotonic() < end:
            assert not redis_db.client.keys(STREAM + "*:alone:*")
            time.sleep(0.02)
        assert w.metric("webhook_queue_alone_total") == 0
        blocker.execute("ROLLBACK")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 210, 60, "all are stored")
    all_done(redis_db)
    assert w.metric("webhook_queue_alone_total") == 10
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


def test_poison_entry_ends_as_one_dead_letter(weir, db, redis_db):
    """It kills whoever works on it. Its mates are stored, and it becomes a dead letter after two deaths alone."""
    for n in range(5):
        redis_db.client.xadd(STREAM, entry(f"before-{n}"))
    redis_db.client.xadd(STREAM, entry("bad", "poison", b'{"really":"bad"}'))
    for n in range(5):
        redis_db.client.xadd(STREAM, entry(f"after-{n}"))
    w = weir(db, redis_db, start=False, ROLES="worker", WORKER_CONSUMER_NAME="one", QUEUE_CLAIM_IDLE="1s",
             WEIR_CRASH_ON="poison", QUEUE_MAX_DELIVERIES=2)
    deaths = 0
    while db.value("SELECT count(*) FROM weir.dead_letters") == 0:
        w.start(wait=False)
        wait_until(lambda: not w.child.alive() or db.value("SELECT count(*) FROM weir.dead_letters"), 60,
                   "killed by it, or rid of it")
        if not w.child.alive():
            deaths += 1
            w.kill()
        assert deaths <= 4, "two deliveries with its mates, two alone"
    assert deaths == 4
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 10, 60, "its mates are stored")
    all_done(redis_db)
    rows = db.query("SELECT stage, state, tool, event_type, event_id, body, message FROM weir.dead_letters")
    assert [(r[:5], bytes(r[5])) for r in rows] == [(("queue", "open", "github", "poison", "bad"), b'{"really":"bad"}')]
    assert "died" in rows[0][6]
    assert w.metric("webhook_queue_condemned_total") == 1
    r = w.get("/health/live")
    assert r.status == 200
