"""Bounds: memory whatever comes and whatever is away, bodies of odd sizes, descriptors used up. The
numbers in the names are rows of the fault matrix."""
import itertools
import os
import re
import resource
import socket
import threading
import time

import pytest

from conftest import GITHUB, SECRET
from harness import http, sign
from harness.http import Closed, Conn, build
from harness.oracle import fds
from harness.wait import wait_until
from harness.weir import binary

MIB = 1 << 20
BIG = 25 * MIB
NONE = {"id": "plain", "auth": "none"}
SANITIZED = b"__asan_init" in open(binary(), "rb").read()


def status_of(pid, name):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(rf"^{name}:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024


def peak_rss(w):
    return status_of(w.pid, "VmHWM")


def rss(w):
    return status_of(w.pid, "VmRSS")


def big_request(n):
    """The n-th of distinct bodies of 25 MB, without 200 of them in memory: a head, a shared middle."""
    body = b'{"n": %08d, "x": "' % n
    head = build("POST", "/webhooks/plain", [sign.JSON, ("Content-Length", str(BIG))])
    return [head + body, memoryview(MIDDLE)[:BIG - len(body) - 2], b'"}']


_numbers = itertools.count()
MIDDLE = os.urandom(1 << 16).hex().encode() * (BIG // (1 << 17) + 1)


class Senders:
    """n big requests at once; each is sent to its end or until it is refused."""

    def __init__(self, w, n, spread=64):
        self.w, self.answers, self.lock = w, [], threading.Lock()
        self.gate = threading.Semaphore(spread)
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(n)]
        for t in self.threads:
            t.start()

    def run(self):
        with self.gate:
            answer = self.one()
        with self.lock:
            self.answers.append(answer)

    def one(self):
        try:
            with Conn(self.w.port, timeout=120) as c:
                try:
                    for piece in big_request(next(_numbers)):
                        c.send(piece)
                except OSError:
                    pass  # refused while sending: the answer is there
                return c.read("POST")
        except (Closed, OSError) as e:
            return repr(e)

    def wait(self, timeout=240):
        end = time.monotonic() + timeout
        for t in self.threads:
            t.join(max(0, end - time.monotonic()))
            assert not t.is_alive(), "a sender hangs"
        return self.answers


def statuses(answers):
    out = {}
    for a in answers:
        key = a if isinstance(a, str) else a.status
        out[key] = out.get(key, 0) + 1
    return out


def release_binary():
    """ASan keeps what was freed: resident memory is measured on a release build."""
    top = os.path.join(os.path.dirname(__file__), "..", "..")
    path = os.path.join(top, "build", "release", "weir")
    newest = max(os.path.getmtime(os.path.join(d, f)) for part in ("src", "include")
                 for d, _, files in os.walk(os.path.join(top, part)) for f in files)
    if not SANITIZED:
        return binary()
    if not os.path.exists(path) or os.path.getmtime(path) < newest:
        pytest.fail("build/release/weir is not there, or older than the sources, and memory cannot be measured under ASan: make weir")
    return path


def start(weir, *args, **kw):
    w = weir(*args, start=False, **kw)
    w.binary = release_binary()
    return w.start()


def check_peak(w, bound, name):
    """Resident memory above the bound by no more than what libraries and the heap's waste take."""
    counted, peak = w.metric("webhook_memory_peak_bytes"), peak_rss(w)
    print(f"{name}: bound {bound >> 20} MiB, counted peak {counted / MIB:.0f}, resident peak {peak / MIB:.0f}, "
          f"now {rss(w) / MIB:.0f}")
    assert counted <= bound
    assert peak <= bound * 1.1


def given_back(w, name):
    """After large bodies memory goes back to the system."""
    wait_until(lambda: w.metric("webhook_memory_allocated_bytes") < 16 * MIB, 60, f"{name}: memory freed", 0.1)
    wait_until(lambda: rss(w) < 48 * MIB, 60, f"{name}: memory back, now {rss(w) / MIB:.0f} MiB", 0.1)


AWAY = ["nothing", "redis", "postgres", "both", "queue"]


@pytest.mark.parametrize("away", AWAY)
def test_row18_200_bodies_of_25_mb(weir, own_pg, own_redis, away):
    """Whatever is away, memory stays within MAX_MEMORY; who finds no room gets 503 with Retry-After,
    what was answered 200 is stored byte for byte, and memory goes back."""
    db, server = own_pg(fsync="off"), own_redis(aof=None)
    settings = {"WEBHOOK_QUEUE_ENABLED": "false"} if away == "queue" else {}
    w = start(weir, db, None if settings else server, tools=[NONE, GITHUB], BODY_TIMEOUT="120s", **settings)
    if away in ("redis", "both"):
        server.stop()
    if away in ("postgres", "both"):
        db.server.stop()
    answers = Senders(w, 200, spread=200).wait()
    assert set(statuses(answers)) <= {200, 503}, statuses(answers)
    for a in answers:
        assert a.status == 200 or 1 <= int(a.header("Retry-After")) <= 300
        assert a.status == 200 or a.header("Content-Type") == "application/problem+json"
    check_peak(w, 256 * MIB, away)
    server.cont()
    db.server.cont()
    # Room for one is found soon, and small ones are taken all the while.
    wait_until(lambda: Senders(w, 1).wait()[0].status == 200, 60, "a large body is taken again", 0.2)
    accepted = statuses(answers).get(200, 0) + 1
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") >= accepted, 90)
    assert db.query("SELECT DISTINCT length(body) FROM weir.events") == [(BIG,)]
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
    check_peak(w, 256 * MIB, away)
    given_back(w, away)
    assert w.metric("webhooks_received_total", outcome="rate_limited") in (None, 0)


@pytest.mark.parametrize("away", AWAY)
def test_row18_a_flood_of_small_events(weir, own_pg, own_redis, away):
    """1 KiB each from 300 connections that never wait."""
    db, server = own_pg(fsync="off"), own_redis(aof=None)
    settings = {"WEBHOOK_QUEUE_ENABLED": "false"} if away == "queue" else {}
    w = start(weir, db, None if settings else server, MAX_MEMORY="64MiB", MAX_BODY_SIZE="1MiB",
              QUEUE_MAX_BYTES="32MiB", DIRECT_TIMEOUT="1s", **settings)
    if away in ("redis", "both"):
        server.stop()
    if away in ("postgres", "both", "queue"):
        db.server.stop()
    seen = flood(w, 300, 6)
    assert set(seen) <= {200, 503}, seen
    check_peak(w, 64 * MIB, away)
    server.cont()
    db.server.cont()
    wait_until(lambda: w.get("/health/ready").status == 200, 60)
    wait_until(lambda: post(w).status == 200, 60, "taken again")
    assert w.get("/health/live").status == 200
    stored = db.value("SELECT count(*) FROM weir.events")
    print(f"{away}: {seen}, stored {stored}")


def post(w, body=b"{}"):
    return w.post("github", body, sign.github(body, SECRET))


def flood(w, connections, seconds):
    """How often each status came."""
    seen, lock, end = {}, threading.Lock(), time.monotonic() + seconds
    body = b"{" + b" " * 1022 + b"}"
    texts = [build("POST", "/webhooks/github", sign.github(body, SECRET, "push", f"f-{n}"), body) for n in range(2000)]

    def run(first):
        conns, n = [], first
        for _ in range(connections // 4):
            c = Conn(w.port, timeout=60)
            conns.append(c)
        while time.monotonic() < end:
            for c in conns:
                c.send(texts[n % len(texts)])
                n += 1
            for c in conns:
                status = c.read("POST").status
                with lock:
                    seen[status] = seen.get(status, 0) + 1
        for c in conns:
            c.close()
    threads = [threading.Thread(target=run, args=(i * 500,), daemon=True) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(seconds + 90)
        assert not t.is_alive()
    return seen


def test_row18_bodies_of_odd_sizes(weir, db, redis_db):
    """None at all, byte by byte in chunks, one over the limit; and a body that was begun is finished
    while others find no room."""
    w = weir(db, redis_db, tools=[NONE, GITHUB], MAX_BODY_SIZE="1MiB", MAX_MEMORY="16MiB")
    assert w.post("plain", b"", [sign.JSON]).status == 200
    with w.conn() as c:  # neither length nor chunks
        assert c.request("POST", "/webhooks/plain", [sign.JSON]).status == 200
    with w.conn() as c:
        c.send(build("POST", "/webhooks/plain", [sign.JSON, ("Transfer-Encoding", "chunked")]))
        for n in range(300):
            c.send(b"1\r\nx\r\n")
        c.send(b"0\r\n\r\n")
        assert c.read("POST").status == 200
    with w.conn() as c:
        c.send(build("POST", "/webhooks/plain", [sign.JSON, ("Transfer-Encoding", "chunked")]))
        try:
            for n in range(200):
                c.send(b"2000\r\n" + b"y" * 8192 + b"\r\n")
        except OSError:
            pass
        assert c.read("POST").status == 413
    begun = []
    for n in range(12):  # 1 MiB each; 6 MiB are for bodies. Announcing takes nothing from others
        c = w.conn()
        c.send(build("POST", "/webhooks/plain", [sign.JSON, ("Content-Length", str(MIB))]) + b"[")
        begun.append(c)
    assert post(w).status == 200
    for n, c in enumerate(begun):
        try:
            c.send(b"%07d" % n + b"z" * (MIB - 9))
        except OSError:
            pass
    wait_until(lambda: (w.metric("webhooks_received_total", outcome="overload") or 0) >= 4, 60)
    assert post(w).status == 200  # a small one has room
    answers = []
    for n, c in enumerate(begun):
        try:
            c.send(b"z")
        except OSError:
            pass
        answers.append(c.read("POST"))
        c.close()
    seen = statuses(answers)
    assert set(seen) == {200, 503} and seen[200] >= 2, seen
    assert all(a.status == 200 or a.header("Retry-After") for a in answers)
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE length(body) = %s", (MIB,)) == seen[200], 60)
    assert db.value("SELECT count(*) FROM weir.events WHERE body = repeat('x', 300)::bytea") == 1
    # Both were empty, so they are one event by their body.
    assert db.value("SELECT count(*) FROM weir.events WHERE length(body) = 0") == 1


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rests(w):
    """What it takes of a second is little; whoever spins does so in every second."""
    before, then = cpu_seconds(w.pid), time.monotonic()
    time.sleep(1)
    return cpu_seconds(w.pid) - before < 0.5 * (time.monotonic() - then)


def first_bytes(c):
    """What is there already."""
    try:
        return c.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""


def test_row26_descriptors_used_up(weir, db, own_redis):
    """64 of them: clients past the limit are told 503 or held back, without a spin, and never take those with which
    weir reaches its servers, which go and come meanwhile."""
    server = own_redis()
    w = weir(db, server, start=False, WEBHOOK_MAX_WORKERS="4")
    w.wrap = ("prlimit", "--nofile=64:64")
    w.start()
    assert "the limit of descriptors is low" in w.log()
    conns = [socket.create_connection(("127.0.0.1", w.port)) for _ in range(200)]
    conns += [socket.create_connection(("127.0.0.1", w.health_port)) for _ in range(200)]
    server.restart()
    wait_until(lambda: rests(w), 60, "it does not spin")
    assert fds(w) <= 64
    told = wait_until(lambda: [a for a in map(first_bytes, conns) if a], 60, "some are told")
    assert len(told) < len(conns)
    assert all(a.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in a for a in told), told[:3]
    for c in conns:
        c.close()
    wait_until(lambda: w.get("/health/ready").status == 200, 60)
    wait_until(lambda: post(w).status == 200, 60)
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") >= 1, 60)
    # The server came back by itself, with all its clients waiting.
    wait_until(lambda: w.metric("webhook_ingest_mode", mode="queue") == 1, 60)
    assert w.log().count("cannot accept connections") < 40
    assert w.term() == 0


def test_row26_even_fewer_descriptors(weir, db, redis_db):
    """So few that not all of weir's own connections can be made: it says so, lives, and recovers."""
    w = weir(db, redis_db, start=False)
    w.start()
    soft, hard = resource.prlimit(w.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (24, hard))
    conns = []
    for _ in range(60):
        conns.append(socket.create_connection(("127.0.0.1", w.port)))
    wait_until(lambda: rests(w), 60, "it does not spin")
    resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (soft, hard))
    for c in conns:
        c.close()
    wait_until(lambda: post(w).status == 200, 60)
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1, 60)
    assert w.term() == 0
