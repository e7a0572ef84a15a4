"""Redis refuses, forgets, changes its place or talks nonsense. The numbers in the names are rows of the
fault matrix."""
import contextlib
import os
import socket
import struct
import threading
import time

import pytest
import redis as redis_py

from conftest import SECRET
from harness import sign
from harness.load import Load
from harness.oracle import drained, more, saw, settle
from harness.proc import new_dir
from harness.proxy import FaultProxy
from harness.servers import Redis
from harness.wait import wait_until
from harness.weir import binary

STREAM, GROUP = "webhook_events", "webhook_workers"


def errors(w, kind):
    return w.metric("webhook_redis_errors_total", kind=kind)


def lines(w, text):
    return sum(text in line for line in w.log().splitlines())


def commands(client):
    return client.info("stats")["total_commands_processed"]


# ---- row 4: data that somebody deletes ----

BLOWS = {"flushall": lambda c: c.flushall(), "del": lambda c: c.delete(STREAM),
         "group": lambda c: c.xgroup_destroy(STREAM, GROUP)}


@pytest.mark.parametrize("blow", BLOWS)
def test_row04_stream_or_group_is_deleted(weir, db, own_redis, blow):
    """Under load: the group is made anew at 0, an alarm says so, there is no spin, and whatever is answered
    afterwards is stored. Without the group alone nothing is lost at all."""
    client = own_redis().client()
    server = client.connection_pool.connection_kwargs["port"]
    w = weir(db, None, REDIS_ADDR=f"127.0.0.1:{server}")
    with Load([w.port], SECRET, threads=2, rate=200, repeat=True) as load:
        more(load, 100)
        assert w.metric("webhook_queue_group_remade_total") == 0
        BLOWS[blow](client)
        wait_until(lambda: w.metric("webhook_queue_group_remade_total") > 0, 60, "an alarm")
        more(load, 20)
        with Load([w.port], SECRET, threads=1, rate=100, prefix="later", repeat=True) as later:
            more(later, 50)
            later.stop()
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}
    settle(later.ledger, db)
    if blow == "group":
        settle(ledger, db)
    wait_until(lambda: drained(client), 60, "nothing pending")
    before, start = commands(client), time.monotonic()
    while time.monotonic() - start < 2:
        time.sleep(0.1)
    assert commands(client) - before < 200, "it spins"
    assert lines(w, "NOGROUP") < 20
    assert w.metric("webhook_queue_lost_total") == 0


# ---- row 5: fail-over ----

class Second(Redis):
    """At the same port as the first one, on another loopback address."""

    def __init__(self, first):
        super().__init__(extra=["--bind", "127.0.0.2", "--replica-announce-ip", "127.0.0.2"])
        self.port = first.port

    def client(self, db=0, timeout=30):
        return redis_py.Redis("127.0.0.2", self.port, db=db, socket_timeout=timeout)


@pytest.fixture
def name_of_both(monkeypatch):
    """weir sees a hosts file in which the name `redis-pair` has both addresses."""
    where = new_dir("hosts")
    hosts, script = os.path.join(where, "hosts"), os.path.join(where, "weir")
    with open(hosts, "w") as f:
        f.write("127.0.0.1 localhost\n127.0.0.1 redis-pair\n127.0.0.2 redis-pair\n")
    with open(script, "w") as f:
        f.write(f"""#!/bin/sh
exec unshare {'' if os.geteuid() == 0 else '-r'} -m sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' {hosts} {binary()} "$@"
""")
    os.chmod(script, 0o755)
    monkeypatch.setattr("harness.weir.binary", lambda: script)
    return "redis-pair"


def replicates(client):
    return client.info("replication").get("master_link_status") == "up"


def fail_over(old, new, host):
    """Redis's own: writers wait until the replica has all, then the two change places."""
    wait_until(lambda: any(r["ip"] == host and r["state"] == "online" for k, r in old.info("replication").items()
                           if k.startswith("slave") and isinstance(r, dict)), 60, "the replica is there")
    old.execute_command("FAILOVER", "TO", host, old.connection_pool.connection_kwargs["port"])
    wait_until(lambda: new.info("replication")["role"] == "master" and replicates(old), 60, "fail-over")


def test_row05_failover_and_back(weir, db, own_redis, name_of_both):
    """READONLY is taken as a lost connection, the name is looked up again, and of its addresses the one is
    taken that is a primary's. Nothing that was answered is lost."""
    first = own_redis()
    second = Second(first).start()
    try:
        a, b = first.client(), second.client()
        a.config_set("replica-announce-ip", "127.0.0.1")
        b.replicaof("127.0.0.1", first.port)
        wait_until(lambda: replicates(b), 60, "replication")
        w = weir(db, first, REDIS_ADDR=f"{name_of_both}:{first.port}")
        with Load([w.port], SECRET, threads=3, rate=300, repeat=True) as load:
            more(load, 100)
            for old, new, host in ((a, b, "127.0.0.2"), (b, a, "127.0.0.1")):
                before = errors(w, "readonly")
                fail_over(old, new, host)
                more(load, 200)
                wait_until(lambda: w.metric("webhook_ingest_mode", mode="queue") == 1, 60, "through the queue")
                wait_until(lambda: drained(new), 60, "drained where the primary is now")
                assert errors(w, "readonly") > before or w.metric("webhook_redis_reconnects_total") > 0
            ledger = load.stop()
        assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
        settle(ledger, db)
        assert w.term() == 0
    finally:
        second.close()


def test_row05_replicas_alone_take_nothing(weir, db, own_redis, name_of_both):
    """As long as both are replicas weir is not ready, and says why; it does not spin between them."""
    first = own_redis()
    second = Second(first).start()
    try:
        a, b = first.client(), second.client()
        w = weir(db, first, REDIS_ADDR=f"{name_of_both}:{first.port}", ROLES="ingest")
        for c in (a, b):
            c.replicaof("127.0.0.1", 1)
        wait_until(lambda: w.get("/health/ready").status == 503, 60, "not ready")
        r = w.post("github", b"{}", sign.github(b"{}", SECRET, "push", "x"))
        assert r.status == 503 and int(r.header("Retry-After")) >= 1
        wait_until(lambda: errors(w, "readonly") > 3, 60)
        assert "REDIS_ADDR must lead to the primary" in w.log()
        before = errors(w, "readonly")
        time.sleep(2)
        assert errors(w, "readonly") - before < 40, "two connections, two addresses, backoff"
        b.replicaof("NO", "ONE")
        wait_until(lambda: w.get("/health/ready").status == 200, 60, "ready at the second address")
        assert w.post("github", b"{}", sign.github(b"{}", SECRET, "push", "y")).status == 200
        assert b.xlen(STREAM) == 1
    finally:
        second.close()


# ---- row 6: out of memory ----

def test_row06_out_of_memory(weir, db, own_redis):
    """Ingest alone refuses with 503 and Retry-After; a worker drains, acknowledges and trims all the same, and what
    Redis cannot remember now is told by the database to be a duplicate."""
    server = own_redis()
    client = server.client()
    ingest = weir(db, server, ROLES="ingest")
    worker = weir(db, server, ROLES="worker", WEBHOOK_BATCH_SIZE=20, DEDUP_MEMORY_KEYS=0)
    twice = [sign.github(b"{}", SECRET, "push", f"twice-{n}") for n in range(10)]

    def send_twice(w):
        assert {w.post("github", b"{}", headers).status for headers in twice} == {200}
    with Load([ingest.port], SECRET, threads=2, rate=300) as load:
        more(load, 50)
        with db.server.connect(db.name) as blocker:
            blocker.execute("BEGIN")
            blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
            send_twice(ingest)
            more(load, 300)
            send_twice(ingest)
            client.config_set("maxmemory", 1)
            saw(load, 503)
            r = ingest.post("github", b"{}", sign.github(b"{}", SECRET, "push", "x"))
            assert r.status == 503 and 1 <= int(r.header("Retry-After")) <= 300
            assert client.xlen(STREAM) > 100
        ledger = load.stop()
    assert client.config_get("maxmemory")["maxmemory"] == "1"
    assert set(ledger.statuses()) == {200, 503}
    settle(ledger, db)
    wait_until(lambda: drained(client), 60, "acknowledged while Redis is full")
    wait_until(lambda: client.xlen(STREAM) == 0, 60, "trimmed while Redis is full")
    assert errors(ingest, "oom") > 0
    assert lines(ingest, "OOM command") < 10, "each kind is logged once a minute"
    by_database = worker.metric("webhook_dedup_hits_total", layer="database")
    assert by_database >= 10 and not worker.metric("webhook_dedup_hits_total", layer="redis")
    # Sent again, past a queue that takes nothing, it is as little new.
    both = weir(db, server, DEDUP_MEMORY_KEYS=0, DIRECT_TIMEOUT="30s")
    wait_until(lambda: both.post("github", b"{}", twice[0]).status == 200, 60, "directly")
    send_twice(both)
    assert both.metric("webhook_dedup_hits_total", layer="database") >= 10
    assert not both.metric("webhook_dedup_hits_total", layer="redis")
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id LIKE 'twice-%'") == 10
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
    assert both.term() == 0
    # A worker that starts now finds a group that it cannot make, and drains what comes by other ways.
    worker.kill()
    worker.start()
    client.config_set("maxmemory", 0)
    wait_until(lambda: ingest.post("github", b"{}", sign.github(b"{}", SECRET, "push", "y")).status == 200, 60)
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE event_id = 'y'") == 1, 60)


# ---- row 7: whatever else it answers ----

class Trouble:
    def __init__(self, server, proxy):
        self.server, self.proxy, self.client = server, proxy, server.client()
        self.stop = contextlib.ExitStack()


class Misconf(Trouble):
    """A snapshot cannot be written: its name is taken by a folder."""
    kind, says = "misconf", "cannot write its snapshot"

    def begin(self):
        self.block = os.path.join(self.server.dir, "dump.rdb")
        os.makedirs(os.path.join(self.block, "full"))
        self.client.config_set("save", "3600 100000000")
        self.client.bgsave()
        wait_until(lambda: self.client.info("persistence")["rdb_last_bgsave_status"] == "err", 60)

    def end(self):
        os.rmdir(os.path.join(self.block, "full"))
        os.rmdir(self.block)
        self.client.config_set("save", "")


class Busy(Trouble):
    """A script that does not end."""
    kind, says = "busy", "SCRIPT KILL"

    def begin(self):
        self.client.config_set("busy-reply-threshold", 20)
        self.other = self.server.client(timeout=None)

        def run():
            with contextlib.suppress(redis_py.RedisError):
                self.other.eval("while true do end", 0)
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def end(self):
        self.client.execute_command("SCRIPT", "KILL")
        self.thread.join(60)


class Loading(Trouble):
    """A restart with much to read."""
    kind, says = "loading", "reading its data"

    def begin(self):
        pipe = self.client.pipeline(transaction=False)
        for n in range(3000):
            pipe.set(f"much:{n}", n)
        pipe.execute()
        self.server.end()
        self.server.extra += ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
        self.server.start(wait=False)

    def end(self):
        self.server.wait_up()


class NoAuth(Trouble):
    """A password that weir does not have."""
    kind, says = "noauth", "set REDIS_PASSWORD"

    def begin(self):
        self.client.config_set("requirepass", "s3cret")
        self.client.execute_command("AUTH", "s3cret")
        self.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def end(self):
        self.client.config_set("requirepass", "")


class NoPerm(Trouble):
    """A user who may not do what weir does."""
    kind, says = "noperm", "lacks a permission"

    def begin(self):
        self.client.execute_command("ACL", "SETUSER", "default", "-xadd", "-xreadgroup", "-xack")

    def end(self):
        self.client.execute_command("ACL", "SETUSER", "default", "+@all")


class MaxClients(Trouble):
    """More connections than it takes."""
    kind, says = "maxclients", "maxclients allows"

    def begin(self):
        self.client.config_set("maxclients", 1)
        self.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def end(self):
        self.client.config_set("maxclients", 10000)


class Garbage(Trouble):
    """It is no Redis at all."""
    kind, says = "protocol", "Protocol error"

    def begin(self):
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    c, _ = listener.accept()
                    with c, contextlib.suppress(OSError):
                        c.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                        c.recv(1000)
        self.listener = listener
        threading.Thread(target=serve, daemon=True).start()
        self.good, self.proxy.target = self.proxy.target, listener.getsockname()[1]
        self.proxy.cut()

    def end(self):
        self.proxy.target = self.good
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


TROUBLES = {t.__name__.lower(): t for t in (Misconf, Busy, Loading, NoAuth, NoPerm, MaxClients, Garbage)}


@pytest.mark.parametrize("name", TROUBLES)
def test_row07_redis_refuses(weir, db, own_redis, name):
    """Each refusal is known by its name, counted and explained once; nothing crashes or spins, and when it is
    over the events flow through the queue again. The ledger is exact."""
    server = own_redis()
    with FaultProxy(server.port) as proxy:
        trouble = TROUBLES[name](server, proxy)
        w = weir(db, server, REDIS_ADDR=f"127.0.0.1:{proxy.port}")
        with Load([w.port], SECRET, threads=3, rate=200, repeat=True) as load:
            more(load, 100)
            assert errors(w, trouble.kind) == 0
            trouble.begin()
            wait_until(lambda: errors(w, trouble.kind) > 0, 60, "it is counted")
            wait_until(lambda: trouble.says in w.log(), 60, "it is explained")
            assert w.get("/health/live").status == 200
            more(load, 50, 120)  # directly, or in the end
            trouble.end()
            wait_until(lambda: w.metric("webhook_ingest_mode", mode="queue") == 1, 90, "through the queue again")
            more(load, 100, 60)
            ledger = load.stop()
        assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
        settle(ledger, db, 90)
        client = server.client()
        wait_until(lambda: drained(client), 60, "nothing pending")
        assert lines(w, trouble.says) < 40
        assert w.metric("webhook_queue_lost_total") == 0
        assert w.term() == 0


# ---- rows 31 and 32: several of them ----

def test_row31_two_of_one_name(weir, db, redis_db):
    """By accident or on purpose: effect once, also when one dies and the other goes on."""
    both = [weir(db, redis_db, WORKER_CONSUMER_NAME="same", QUEUE_CLAIM_IDLE="2s", name=f"weir-{n}") for n in "ab"]
    with Load([w.port for w in both], SECRET, threads=4, rate=400, repeat=True) as load:
        more(load, 200)
        both[0].kill()
        more(load, 200)
        both[0].start()
        more(load, 200)
        ledger = load.stop()
    settle(ledger, db)
    wait_until(lambda: drained(redis_db.client), 60, "nothing pending")
    assert [c["name"] for c in redis_db.client.xinfo_consumers(STREAM, GROUP)] == [b"same"]
    assert sum(w.metric("webhook_queue_lost_total") for w in both) == 0


def test_row31_consumers_with_entries_stay(weir, db, redis_db):
    """Nameless ones get a name of their own at each start. What they left is taken over."""
    w = weir(db, redis_db, start=False, QUEUE_CLAIM_IDLE="2s")
    with db.server.connect(db.name) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
        w.start()
        for n in range(20):
            assert w.post("github", b"{}", sign.github(b"{}", SECRET, "push", f"e-{n}")).status == 200
        wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 20)
        w.kill()
    w.start()
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 20, 60, "taken over")
    wait_until(lambda: drained(redis_db.client), 60)
    assert w.metric("webhook_queue_claimed_total") == 20
    names = {c["name"] for c in redis_db.client.xinfo_consumers(STREAM, GROUP)}
    assert len(names) == 2


def long_ago(client, consumers, seconds):
    """They were seen last so long ago. Redis has no command for that, but the dump of a stream bears it, behind each
    name; its checksum is not looked at."""
    dump, then = bytearray(client.dump(STREAM)), int((time.time() - seconds) * 1000)
    for name in consumers:
        at = dump.index(bytes([len(name)]) + name.encode()) + 1 + len(name)
        dump[at:at + 8] = struct.pack("<q", then)
    client.execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1")
    client.restore(STREAM, 0, bytes(dump), replace=True)


def test_row31_idle_consumers_with_nothing_pending_are_forgotten(weir, db, own_redis):
    """Who has entries stays, however long it is gone, and so does who was here lately."""
    server = own_redis(extra=["--enable-debug-command", "yes"])
    client, gone = server.client(), [f"gone-{n:02}" for n in range(20)]

    def names():
        return {c["name"].decode() for c in client.xinfo_consumers(STREAM, GROUP)}
    client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    for name in (*gone, "lately"):
        client.xgroup_createconsumer(STREAM, GROUP, name)
    ingest = weir(db, server, ROLES="ingest")
    assert ingest.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
    assert client.xreadgroup(GROUP, "holder", {STREAM: ">"}, count=1)
    long_ago(client, [*gone, "holder"], 3605)
    long_ago(client, ["lately"], 3000)
    assert names() == {*gone, "holder", "lately"}
    w = weir(db, server, ROLES="worker", WORKER_CONSUMER_NAME="me", QUEUE_CLAIM_IDLE="24h")
    wait_until(lambda: names() - {"me"} == {"holder", "lately"}, 60, "those without work are forgotten")
    assert client.xpending(STREAM, GROUP)["pending"] == 1
    assert w.metric("webhook_queue_lost_total") == 0


def test_row32_claimed_from_a_slow_but_living_owner(weir, db, redis_db):
    """It stands still for longer than QUEUE_CLAIM_IDLE while it holds entries; they are claimed and stored by
    another, and then it goes on with them. Effect once, the late acknowledgement harms nothing."""
    slow = weir(db, redis_db, ROLES="ingest,worker", WORKER_CONSUMER_NAME="slow", QUEUE_CLAIM_IDLE="1s")
    with db.server.connect(db.name) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.event_keys IN ACCESS EXCLUSIVE MODE")
        for n in range(50):
            assert slow.post("github", b"{}", sign.github(b"{}", SECRET, "push", f"e-{n}")).status == 200
        wait_until(lambda: redis_db.client.xpending(STREAM, GROUP)["pending"] == 50)
        slow.child.stop()
        # Its sessions hang in the lock; without them what it sent is undone.
        blocker.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'")
    try:
        quick = weir(db, redis_db, ROLES="worker", WORKER_CONSUMER_NAME="quick", QUEUE_CLAIM_IDLE="1s")
        wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 50, 60, "claimed and stored")
    finally:
        slow.child.cont()
    wait_until(lambda: slow.metric("webhook_events_processed_total", status="stored") or
               slow.metric("webhook_events_processed_total", status="duplicate"), 60, "the slow one goes on")
    wait_until(lambda: drained(redis_db.client), 60, "nothing pending")
    assert quick.metric("webhook_queue_claimed_total") == 50
    assert db.value("SELECT count(*) FROM weir.events") == 50
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
    assert slow.metric("webhook_queue_lost_total") == quick.metric("webhook_queue_lost_total") == 0
