"""Rows 3, 8, 21, 28, 29 and 30 of the fault matrix: what befalls the process itself."""
import glob
import os
import signal
import subprocess

import pytest

from conftest import GITHUB, SECRET
from harness import sign
from harness.load import Load
from harness.oracle import fds, more, settle
from harness.proxy import FaultProxy
from harness.wait import wait_until
from harness.weir import base_env, binary, write_tools

STRIPE = {"id": "stripe", "preset": "stripe", "secrets": [SECRET]}


def test_row03_everysec_loses_at_most_what_the_readme_says(weir, db, own_redis):
    """With appendfsync everysec a killed Redis process (not a machine without power) has lost
    nothing either: what it wrote is in the page cache."""
    redis = own_redis(aof="everysec")
    w = weir(db, redis)
    with Load([w.port], SECRET, threads=4, rate=600, repeat=True) as load:
        for _ in range(3):
            more(load, 100)
            redis.kill()
            redis.start()
        more(load, 50)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503}
    settle(ledger, db)


@pytest.mark.parametrize("way", ["up", "down"])
def test_row08_half_open_redis(weir, db, own_redis, way):
    """Bytes vanish, no end comes: deadlines notice it, and senders are told within theirs."""
    redis = own_redis()
    with FaultProxy(redis.port) as p:
        w = weir(db, redis, REDIS_ADDR=f"127.0.0.1:{p.port}")
        with Load([w.port], SECRET, threads=2, rate=200, repeat=True) as load:
            more(load, 50)
            p.swallow = way
            wait_until(lambda: w.metric("webhook_redis_reconnects_total") or p.connections > 8, 60, "the silence is noticed")
            p.heal()
            more(load, 50)
            ledger = load.stop()
        assert set(ledger.statuses()) <= {200, 503}, ledger.statuses()
        settle(ledger, db)
        assert w.term() == 0


# ---- row 21: the clock ----

def faketime():
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    assert found, "libfaketime is not installed (Debian package libfaketime)"
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    linked = subprocess.run(["ldd", binary()], capture_output=True, text=True).stdout
    return f"{asan}:{found[0]}" if "libasan" in linked else found[0]


class Clock:
    """The wall clock of one process; the monotonic one goes on as it is."""

    def __init__(self, path):
        self.path = path
        # ASan's allocator asks for the time while it holds its lock; libfaketime's first answer allocates.
        asan = base_env()["ASAN_OPTIONS"] + ":allocator_release_to_os_interval_ms=-1"
        self.env = {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": path, "FAKETIME_NO_CACHE": "1",
                    "DONT_FAKE_MONOTONIC": "1", "ASAN_OPTIONS": asan}
        self.jump(0)

    def jump(self, seconds):
        with open(self.path + ".new", "w") as f:
            f.write(f"{seconds:+d}\n")
        os.rename(self.path + ".new", self.path)


def test_row21_clock_jumps(weir, db, redis_db, work_dir):
    """An hour forth and back under load: nothing waits for an hour, nothing ends before its time, and
    only the window of signed timestamps is what it was made for: it closes, and says so."""
    clock = Clock(os.path.join(work_dir, "clock"))
    w = weir(db, redis_db, tools=[GITHUB, STRIPE], **clock.env)

    def stripe(n):
        body = b'{"id":"evt_%d","type":"t"}' % n
        return w.post("stripe", body, sign.stripe(body, SECRET)).status
    with Load([w.port], SECRET, threads=4, rate=400, repeat=True) as load:
        more(load, 50)
        assert stripe(1) == 200
        for n, jump in enumerate((3600, -3600, 0)):
            clock.jump(jump)
            more(load, 100)
            assert stripe(10 + n) == (401 if jump else 200)
            refused = w.metric("webhooks_received_total", tool_id="stripe", outcome="unauthorized")
            assert refused == min(n + 1, 2)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    settle(ledger, db)
    assert "timestamp" in w.log()
    assert w.term() == 0


# ---- row 28: signals ----

def test_row28_signal_storm(weir, db, redis_db):
    w = weir(db, redis_db)
    before = fds(w)
    with Load([w.port], SECRET, threads=4, rate=400, repeat=True) as load:
        more(load, 50)
        for _ in range(1000):
            w.child.send(signal.SIGHUP)
        for s in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH):
            for _ in range(50):
                w.child.send(s)
        more(load, 100)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    settle(ledger, db)
    wait_until(lambda: fds(w) <= before + 4, 60, "no descriptor was left open")
    assert w.term() == 0


# ---- row 29: reloads ----

BAD_TOOLS = ["{", '{"tools":[{"id":"github"}]}', '{"tools":[{"id":"github","preset":"github","secrets":[{"file":"/nowhere"}]}]}',
             '{"tools":[{"id":"github","preset":"nobody","secrets":["x"]}]}', '{"tolls":[]}', ""]


def test_row29_bad_reloads_change_nothing(weir, db, redis_db):
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=4, rate=400, repeat=True) as load:
        for text in BAD_TOOLS * 2:
            write_tools(w.tools_file, text)
            failed = w.metric("webhook_config_reloads_total", outcome="refused") or 0
            w.reload()
            wait_until(lambda: (w.metric("webhook_config_reloads_total", outcome="refused") or 0) > failed, 60, "the refusal is counted")
            more(load, 20)
        # A good one is taken at once, whatever was before.
        write_tools(w.tools_file, [GITHUB, STRIPE])
        w.reload()
        body = b'{"id":"evt_1","type":"t"}'
        wait_until(lambda: w.post("stripe", body, sign.stripe(body, SECRET)).status == 200, 60, "the new tool")
        more(load, 20)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}, ledger.statuses()
    settle_two_tools(ledger, db)
    assert "line 1" in w.log() or ":1:" in w.log()


def settle_two_tools(ledger, db):
    db.query("DELETE FROM weir.events WHERE tool = 'stripe'")
    settle(ledger, db)


# ---- row 30: nobody takes the log ----

def serve_with_log_at(weir, db, redis_db, fd):
    """Lines are dropped and counted; requests go on."""
    w = weir(db, redis_db, start=False, LOG_LEVEL="debug")
    w.start(output=fd)
    with Load([w.port], SECRET, threads=4, repeat=True) as load:
        more(load, 300)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    settle(ledger, db)
    assert w.metric("webhook_log_dropped_total") > 0
    assert w.term() == 0


def test_row30_log_device_is_full(weir, db, redis_db):
    with open("/dev/full", "w") as full:
        serve_with_log_at(weir, db, redis_db, full.fileno())


def test_row30_log_pipe_is_full(weir, db, redis_db):
    """Nobody reads it. The pipe is a blocking one, as a shell makes it."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        serve_with_log_at(weir, db, redis_db, writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_row30_log_pipe_is_closed(weir, db, redis_db):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        serve_with_log_at(weir, db, redis_db, writer)
    finally:
        os.close(writer)
