"""weir bench against a running weir, and against servers that misbehave."""
import json
import os
import socket
import threading

import pytest

from conftest import GITHUB, SECRET
from harness.proc import free_port
from harness.weir import run, write_tools
from harness.wait import wait_until

STRIPE = {"id": "stripe", "preset": "stripe", "secrets": ["whsec_1"]}
STANDARD = {"id": "sw", "preset": "standard-webhooks", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}
NESTED = {"id": "nested", "recipe": {"sig": "header:x-sig", "id": "json:meta.id", "type": "json:meta.kind", "split": "[]"},
          "secrets": ["s"]}


def bench(w, tool, *args, tools_file=None, timeout=60):
    env = {"TOOLS_FILE": tools_file or w.tools_file}
    if w:
        env |= {"HOST": "127.0.0.1", "PORT": str(w.port)}
    r = run("bench", tool, "-o", "json", *args, env=env, timeout=timeout)
    return r, json.loads(r.out) if r.out else None


@pytest.mark.parametrize("tool", [GITHUB, STRIPE, STANDARD, NESTED], ids=lambda t: t["id"])
def test_events_are_accepted_and_distinct(weir, db, redis_db, tool):
    w = weir(db, redis_db, tools=[tool])
    r, out = bench(w, tool["id"], "--seconds", "1", "--connections", "4", "--event", "push", "--size", "3000")
    assert r.rc == 0, r
    n = out["answered"]
    assert n > 10 and out["statuses"] == {"200": n} and out["sent"] == n and out["body_bytes"] == 3000
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == n, 60)
    assert db.value("SELECT count(DISTINCT event_id) FROM weir.events") == n
    assert db.query("SELECT DISTINCT event_type FROM weir.events") == [("push",)]


def test_rate_is_kept(served):
    r, out = bench(served, "github", "--seconds", "2", "--rate", "50")
    assert r.rc == 0, r
    assert 99 <= out["sent"] <= 101 and out["unsent"] == 0
    assert out["latency_ms"]["p50"] <= out["latency_ms"]["p99"] <= out["latency_ms"]["max"]


def test_refusals_are_counted(served, work_dir):
    tools = write_tools(os.path.join(work_dir, "other.json"), [GITHUB | {"secrets": [SECRET + "!"]}])
    r, out = bench(served, "github", "--seconds", "500ms", "--connections", "2", tools_file=tools)
    assert r.rc == 1, r
    assert out["statuses"] == {"401": out["answered"]}


def test_table(served):
    env = {"TOOLS_FILE": served.tools_file, "HOST": "127.0.0.1", "PORT": str(served.port)}
    r = run("bench", "github", "--seconds", "200ms", env=env)
    assert r.rc == 0 and "events/s" in r.out and "p99.9" in r.out, r


class Server(threading.Thread):
    """Accepts connections and gives each to `talk`."""

    def __init__(self, talk):
        super().__init__(daemon=True)
        self.sock, self.talk, self.kept = socket.create_server(("127.0.0.1", 0)), talk, []
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}/webhooks/github"
        self.start()

    def run(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.kept.append(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            self.talk(conn)
        except OSError:
            pass

    def close(self):
        self.sock.close()
        for c in self.kept:
            c.close()


def answer_each(text, then_close=False, gap=None):
    def talk(conn):
        while conn.recv(65536):
            if gap is None:
                conn.sendall(text)
            else:
                conn.sendall(text[:gap])
                conn.sendall(text[gap:])
            if then_close:
                conn.close()
                return
    return talk


@pytest.fixture
def bad(work_dir):
    made = []
    tools = write_tools(os.path.join(work_dir, "tools.json"), [GITHUB])

    def make(talk, *args):
        made.append(Server(talk))
        return bench(None, "github", "--url", made[-1].url, "--connections", "3", "--seconds", "500ms", *args,
                     tools_file=tools)
    yield make
    for s in made:
        s.close()


def test_chunked_and_cut_answers(bad):
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    r, out = bad(answer_each(text, gap=20))
    assert r.rc == 0 and out["answered"] > 3, r


def test_connection_close_is_no_failure(bad):
    r, out = bad(answer_each(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbye", then_close=True))
    assert r.rc == 0 and out["answered"] > 3, r


def test_junk_is_a_failure(bad):
    r, out = bad(answer_each(b"what?\r\n\r\n"))
    assert r.rc == 1 and out["failures"]["bad_answer"] > 0 and out["answered"] == 0, r


def test_close_instead_of_an_answer(bad):
    def talk(conn):
        conn.recv(65536)
        conn.close()
    r, out = bad(talk)
    assert r.rc == 1 and out["failures"]["closed"] > 0, r


def test_nobody_listens(work_dir):
    tools = write_tools(os.path.join(work_dir, "tools.json"), [GITHUB])
    for host in ("127.0.0.1", "localhost"):
        r, out = bench(None, "github", "--url", f"http://{host}:{free_port()}/x", tools_file=tools)
        assert r.rc == 69 and out is None and "refused" in r.err, r


@pytest.mark.parametrize("args, rc", [
    ([], 2), (["github", "--rate", "0"], 2), (["github", "--connections", "0"], 2), (["github", "-o", "xml"], 2),
    (["github", "--seconds", "x"], 2), (["github", "--url", "ftp://127.0.0.1/"], 2), (["nobody"], 1)])
def test_bad_arguments(work_dir, args, rc):
    tools = write_tools(os.path.join(work_dir, "tools.json"), [GITHUB])
    r = run("bench", *args, env={"TOOLS_FILE": tools})
    assert r.rc == rc and r.err, r
