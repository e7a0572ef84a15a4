"""The queue between receive and pipeline: what the stream holds, bounds, trims, claims and survives."""
import os
import re
import threading
import time

from conftest import SECRET
from harness import sign
from harness.wait import wait_until

STREAM, GROUP = "webhook_events", "webhook_workers"


def post(w, body=b"{}", delivery=None):
    return w.post("github", body, sign.github(body, SECRET, "push", delivery))


def count(db):
    return db.value("SELECT count(*) FROM weir.events")


def entry(delivery, body=b"{}", **more):
    return {"v": "1", "u": "018f0000-0000-7000-8000-%012x" % abs(hash(delivery) % 2**48), "t": "github", "y": "push",
            "k": delivery, "r": str(int(time.time() * 1e6)), "b": body, **more}


def test_entry_has_the_documented_fields(weir, db, redis_db):
    w = weir(db, redis_db, ROLES="ingest")
    assert post(w, b'{"a":1}', "d-1").status == 200
    (_, fields), = redis_db.client.xrange(STREAM)
    assert {k.decode() for k in fields} == {"v", "u", "t", "y", "k", "r", "h", "c", "b"}
    assert (fields[b"v"], fields[b"t"], fields[b"y"], fields[b"k"], fields[b"b"]) == \
        (b"1", b"github", b"push", b"d-1", b'{"a":1}')


def test_prefix_and_names_are_settings(weir, db, redis_db):
    w = weir(db, redis_db, REDIS_KEY_PREFIX="acme:", WEBHOOK_STREAM="hooks", WEBHOOK_GROUP="workers")
    assert post(w).status == 200
    wait_until(lambda: count(db) == 1)
    names = {k.decode() for k in redis_db.client.keys("*")}
    assert {"acme:hooks", "acme:hooks:large"} <= names and all(n.startswith("acme:") for n in names)
    assert [g["name"] for g in redis_db.client.xinfo_groups("acme:hooks")] == [b"workers"]


def test_large_entries_have_a_stream_of_their_own(weir, db, redis_db):
    w = weir(db, redis_db, ROLES="ingest")
    small, large = b"x" * 1000, b"y" * 400_000
    assert post(w, large, "large").status == post(w, small, "small").status == 200
    assert redis_db.client.xlen(STREAM) == redis_db.client.xlen(STREAM + ":large") == 1
    weir(db, redis_db, ROLES="worker")
    wait_until(lambda: count(db) == 2)
    assert bytes(db.value("SELECT body FROM weir.events WHERE event_id = 'large'")) == large


def test_done_entries_are_trimmed(served, db, redis_db):
    for n in range(50):
        assert post(served, delivery=f"d-{n}").status == 200
    wait_until(lambda: count(db) == 50)
    wait_until(lambda: redis_db.client.xlen(STREAM) == 0, 60, "stream trimmed")
    assert redis_db.client.xpending(STREAM, GROUP)["pending"] == 0


def test_queue_keep_keeps_done_entries(weir, db, redis_db):
    w = weir(db, redis_db, QUEUE_KEEP="1h")
    assert post(w).status == 200
    wait_until(lambda: count(db) == 1)
    wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 0)
    before = redis_db.client.info("commandstats").get("cmdstat_xtrim", {}).get("calls", 0)
    wait_until(lambda: redis_db.client.info("commandstats").get("cmdstat_xtrim", {}).get("calls", 0) > before)
    assert redis_db.client.xlen(STREAM) == 1


def test_trimming_waits_for_every_group(weir, db, redis_db):
    redis_db.client.xgroup_create(STREAM, "auditors", "0", mkstream=True)
    w = weir(db, redis_db)
    for n in range(10):
        assert post(w, delivery=f"d-{n}").status == 200
    wait_until(lambda: count(db) == 10)
    seen = redis_db.client.xreadgroup("auditors", "a", {STREAM: ">"}, count=4)[0][1]
    redis_db.client.xack(STREAM, "auditors", *[i for i, _ in seen[1:]])
    wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 0)
    wait_until(lambda: w.metric("webhook_queue_pending") == 0)
    assert redis_db.client.xlen(STREAM) == 10, "the oldest pending entry of the other group keeps all"
    redis_db.client.xack(STREAM, "auditors", seen[0][0])
    wait_until(lambda: redis_db.client.xlen(STREAM) == 6, 60, "what both groups are done with is trimmed")


def test_full_queue_answers_503_with_retry_after(weir, db, redis_db):
    w = weir(db, redis_db, ROLES="ingest", QUEUE_MAX_BYTES="1MiB")
    body, statuses = b"z" * 50_000, []
    for n in range(40):
        r = post(w, body, f"d-{n}")
        statuses.append(r.status)
        if r.status == 503:
            assert 1 <= int(r.header("Retry-After")) <= 300
            assert r.header("Content-Type") == "application/problem+json"
    assert set(statuses) == {200, 503} and statuses[0] == 200
    wait_until(lambda: w.get("/health/ready").status == 503 or w.metric("webhook_queue_bytes") < 1024 * 1024)
    weir(db, redis_db, ROLES="worker")
    wait_until(lambda: count(db) == statuses.count(200))
    wait_until(lambda: post(w, b"again").status == 200, 60, "room again")


def drain(client, per_second, done):
    """A worker that does so many entries a second, and trims nothing."""
    started, acked = time.monotonic(), 0
    while not done.wait(0.05):
        due = int((time.monotonic() - started) * per_second) - acked
        for _, entries in client.xreadgroup(GROUP, "paced", {STREAM: ">"}, count=due) if due else ():
            acked += client.xack(STREAM, GROUP, *(i for i, _ in entries))


def test_retry_after_is_the_backlog_over_the_drain(weir, db, redis_db):
    """Measured, both of them: a sender is told to come back when there may be room."""
    def fill(n):
        with redis_db.client.pipeline() as p:
            for i in range(n):
                p.xadd(STREAM, entry(f"d-{i}", b"x" * 300))
            p.execute()

    def look():
        text = w.metrics()
        return [float(re.search(rf"^webhook_queue_{n} (\S+)$", text, re.M)[1])
                for n in ("depth", "out_per_second", "drain_seconds")]

    def told():
        """The answer between two looks that tell the same: the looks are a second apart."""
        def once():
            before, r, after = look(), post(w, b"{}"), look()
            assert r.status == 503
            return before == after and (before, int(r.header("Retry-After")))
        (depth, rate, seconds), retry = wait_until(once, 60)
        assert retry == seconds and abs(retry - min(300, max(1, depth / rate))) <= 1, (depth, rate, seconds, retry)
        return retry

    redis_db.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    fill(6000)
    w = weir(db, redis_db, ROLES="ingest", QUEUE_MAX_BYTES="256KiB")
    done = threading.Event()
    worker = threading.Thread(target=drain, args=(redis_db.client, 200, done))
    worker.start()
    try:
        wait_until(lambda: look()[1] > 80, 60)
        small = told()
        fill(40000)
        wait_until(lambda: look()[0] > 36000, 60)
        large = told()
    finally:
        done.set()
        worker.join()
    assert 1 < small < 120 and large > 2 * small, (small, large)


def test_killed_weirs_entries_are_its_own_at_the_next_start(weir, db, redis_db):
    for n in range(5):
        redis_db.client.xadd(STREAM, entry(f"d-{n}"))
    redis_db.client.xgroup_create(STREAM, GROUP, "0")
    redis_db.client.xreadgroup(GROUP, "me", {STREAM: ">"}, count=5)
    weir(db, redis_db, ROLES="worker", WORKER_CONSUMER_NAME="me")
    wait_until(lambda: count(db) == 5, 60)
    wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 0)


def test_dead_consumers_entries_are_claimed(weir, db, redis_db):
    for n in range(250):
        redis_db.client.xadd(STREAM, entry(f"d-{n}"))
    redis_db.client.xadd(STREAM + ":large", entry("big", b"b" * 300_000))
    for s in (STREAM, STREAM + ":large"):
        redis_db.client.xgroup_create(s, GROUP, "0")
        redis_db.client.xreadgroup(GROUP, "dead", {s: ">"}, count=500)
    w = weir(db, redis_db, ROLES="worker", QUEUE_CLAIM_IDLE="1s")
    wait_until(lambda: count(db) == 251, 60)
    wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 0)
    assert w.metric("webhook_queue_claimed_total") == 251


def test_what_is_held_is_not_claimed_away(weir, own_pg, redis_db):
    db = own_pg()
    holder = weir(db, redis_db, ROLES="worker", QUEUE_CLAIM_IDLE="1s", WORKER_CONSUMER_NAME="holder")
    redis_db.client.xadd(STREAM, entry("first"))  # it takes nothing before it knows the schema
    wait_until(lambda: count(db) == 1 and redis_db.client.xpending(STREAM, GROUP)["pending"] == 0)
    db.server.stop()
    try:
        for n in range(20):
            redis_db.client.xadd(STREAM, entry(f"d-{n}"))
        wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 20)
        redis_db.client.xgroup_createconsumer(STREAM, GROUP, "thief")
        end = time.monotonic() + 3
        while time.monotonic() < end:  # three times the idle time, in which nothing may look idle
            taken = redis_db.client.xautoclaim(STREAM, GROUP, "thief", 1000, "0-0", justid=True)
            assert not taken, taken
            time.sleep(0.1)
    finally:
        db.server.cont()
    wait_until(lambda: count(db) == 21, 60)
    assert holder.metric("webhook_queue_claimed_total") == 0


def test_deleted_entries_are_counted_as_lost(weir, db, redis_db):
    ids = [redis_db.client.xadd(STREAM, entry(f"d-{n}")) for n in range(3)]
    redis_db.client.xgroup_create(STREAM, GROUP, "0")
    redis_db.client.xreadgroup(GROUP, "me", {STREAM: ">"})
    redis_db.client.xdel(STREAM, ids[1])
    w = weir(db, redis_db, ROLES="worker", WORKER_CONSUMER_NAME="me")
    wait_until(lambda: count(db) == 2)
    assert w.metric("webhook_queue_lost_total") == 1
    wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 0)


def test_malformed_entries_become_dead_letters(weir, db, redis_db):
    foreign = [{"hello": "world"}, entry("newer", v="2"), entry("text", y=b"\xff\xfe"), entry("uid", u="nonsense")]
    for n, fields in enumerate(foreign):
        redis_db.client.xadd(STREAM, fields)
        redis_db.client.xadd(STREAM, entry(f"good-{n}"))
    w = weir(db, redis_db, ROLES="worker")
    wait_until(lambda: count(db) == len(foreign))
    wait_until(lambda: db.value("SELECT count(*) FROM weir.dead_letters") == len(foreign))
    rows = db.query("SELECT stage, state, convert_from(body, 'UTF8') FROM weir.dead_letters ORDER BY event_id")
    assert {(s, t) for s, t, _ in rows} == {("queue", "open")}
    assert rows[0][2] == '["hello","world"]'
    assert w.metric("webhook_queue_malformed_total") == len(foreign)
    wait_until(lambda: redis_db.client.xlen(STREAM) == 0, 60, "nothing of it blocks the trimming")
    wait_until(lambda: w.metric("webhook_dlq_depth") == len(foreign), 60)


def test_flushed_redis_gets_its_group_again(served, db, redis_db):
    assert post(served).status == 200
    wait_until(lambda: count(db) == 1)
    redis_db.client.flushdb()
    wait_until(lambda: redis_db.client.exists(STREAM), 60, "group made anew")
    assert post(served, delivery="after").status == 200
    wait_until(lambda: count(db) == 2, 60)


def test_foreign_groups_do_not_trim_what_ours_has_not_read(weir, db, redis_db):
    """Our group is missing while another one has read all: nothing may go."""
    for n in range(30):
        redis_db.client.xadd(STREAM, entry(f"d-{n}"))
    redis_db.client.xgroup_create(STREAM, "auditors", "0")
    seen = redis_db.client.xreadgroup("auditors", "a", {STREAM: ">"}, count=100)[0][1]
    redis_db.client.xack(STREAM, "auditors", *[i for i, _ in seen])
    weir(db, redis_db, ROLES="worker")
    wait_until(lambda: count(db) == 30, 60)


def test_full_redis_is_drained_after_a_restart(weir, db, own_redis):
    """XGROUP CREATE is refused when Redis is out of memory; reading is not."""
    server = own_redis()
    client = server.client()
    for n in range(40):
        client.xadd(STREAM, entry(f"d-{n}"))
    client.xgroup_create(STREAM, GROUP, "0")
    client.xgroup_create(STREAM + ":large", GROUP, "0", mkstream=True)
    client.config_set("maxmemory", 1)
    weir(db, server, ROLES="worker")
    wait_until(lambda: count(db) == 40, 60)
    client.config_set("maxmemory", 0)


def test_redis_with_password_and_tls(weir, db, own_redis, tls):
    server = own_redis(tls=tls, password="s3cret")
    w = weir(db, server)
    assert post(w).status == 200
    wait_until(lambda: count(db) == 1)
    assert b"s3cret" not in w.log().encode()


def test_end_of_grace_leaves_entries_to_others(weir, own_pg, redis_db):
    """Who ends with a database that hangs lets go of what it holds: nobody waits until it looks idle."""
    db = own_pg()
    w = weir(db, redis_db, SHUTDOWN_GRACE="2s", QUEUE_CLAIM_IDLE="10m", WORKER_CONSUMER_NAME="first")
    assert post(w, b'{"n":-1}').status == 200
    wait_until(lambda: count(db) == 1, 60, "a database that is in use")
    db.server.stop()
    for i in range(5):
        assert post(w, b'{"n":%d}' % i).status == 200

    def pending():
        return redis_db.client.xpending_range(STREAM, GROUP, "-", "+", 10)
    wait_until(lambda: len(pending()) == 5, 60, "entries that the first one holds")
    assert all(p["time_since_delivered"] < 60_000 for p in pending())
    begun = time.monotonic()
    assert w.term() == 0
    assert time.monotonic() - begun < 20
    assert all(p["time_since_delivered"] >= 600_000 for p in pending()), pending()
    assert all(p["times_delivered"] == 1 for p in pending()), pending()
    db.server.cont()
    # The next one looks every half minute for what was left for three; that long nobody waits here.
    weir(db, redis_db, QUEUE_CLAIM_IDLE="3m", WORKER_CONSUMER_NAME="second")
    wait_until(lambda: count(db) == 6, 100, "what the first one left")


def test_documented_acl_is_enough(weir, db, own_redis):
    """The user that the README describes can do all that weir does."""
    readme = open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md")).read()
    rules = re.search(r"ACL needs `([^`]*)`", readme).group(1).split()
    server = own_redis()
    client = server.client()
    client.execute_command("ACL", "SETUSER", "weir", "on", ">pw", "~acme:*", *rules)
    stream = "acme:" + STREAM
    for n in range(3):
        client.xadd(stream, entry(f"old-{n}"))
    client.xgroup_create(stream, GROUP, "0")
    client.xreadgroup(GROUP, "me", {stream: ">"}, count=2)
    w = weir(db, server, REDIS_USERNAME="weir", REDIS_PASSWORD="pw", REDIS_KEY_PREFIX="acme:", WORKER_CONSUMER_NAME="me",
             QUEUE_CLAIM_IDLE="1s", QUEUE_MAX_DELIVERIES=1)
    assert post(w, delivery="new").status == 200
    wait_until(lambda: count(db) == 4, 60)
    wait_until(lambda: client.xlen(stream) == 0, 60, "trimmed")
    wait_until(lambda: w.metric("webhook_queue_alone_total") == 2, 60)
    wait_until(lambda: w.metric("webhook_queue_depth") == 0)
    assert w.metric("webhook_redis_errors_total", kind="noperm") == 0, w.log()
