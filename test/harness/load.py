"""A load of signed events over keep-alive connections, with a ledger of what was answered. At the
end the ledger is held against the database: an id that was answered 2xx is stored exactly once."""
import json
import threading

from . import sign
from .http import Closed, Conn, build


class Entry:
    __slots__ = ("id", "sha", "status", "error", "sent_whole")

    def __init__(self, eid, sha):
        self.id, self.sha, self.status, self.error, self.sent_whole = eid, sha, None, None, False


class Ledger:
    def __init__(self):
        self.lock, self.entries = threading.Lock(), []

    def add(self, entry):
        with self.lock:
            self.entries.append(entry)

    def copy(self):
        with self.lock:
            return list(self.entries)

    def answered(self):
        return {e.id: e.sha for e in self.copy() if e.status is not None and 200 <= e.status < 300}

    def count(self):
        return len(self.answered())

    def statuses(self):
        """How often each status came; None stands for no answer."""
        out = {}
        for e in self.copy():
            out[e.status] = out.get(e.status, 0) + 1
        return out

    def compare(self, db):
        """(answered but neither stored nor a dead letter, stored twice, stored with other bytes)."""
        want = self.answered()
        rows = db.query("SELECT event_id, encode(sha256(body), 'hex') FROM weir.events")
        dead = {r[0] for r in db.query("SELECT event_id FROM weir.dead_letters")}
        seen, twice, other = set(), [], []
        for eid, sha in rows:
            if eid in seen:
                twice.append(eid)
            seen.add(eid)
            if eid in want and want[eid] != sha:
                other.append(eid)
        return sorted(set(want) - seen - dead), twice, other


class Load:
    """`ports`: a list, or a function that gives one (asked before each connect). Senders that meet
    a closed port or a reset note it and go on; they never send an id twice unless `repeat`."""

    def __init__(self, ports, secret, threads=4, tool="github", size=300, rate=None, prefix="e"):
        self.ports = ports if callable(ports) else (lambda: ports)
        self.secret, self.tool, self.size, self.prefix = secret, tool, size, prefix
        self.pause = threads / rate if rate else 0
        self.ledger, self._stop = Ledger(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def start(self):
        for t in self._threads:
            t.start()
        return self

    def stop(self):
        self._stop.set()
        for t in self._threads:
            t.join(60)
            assert not t.is_alive(), "a sender hangs"
        return self.ledger

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        if not self._stop.is_set():
            self.stop()

    def _body(self, eid):
        body = {"id": eid, "pad": "x" * max(0, self.size - len(eid) - 20)}
        return json.dumps(body).encode()

    def _run(self, thread):
        conn, n = None, 0
        while not self._stop.is_set():
            if conn is None:
                conn = self._connect(thread)
                if conn is None:
                    continue
            n += 1
            eid = f"{self.prefix}-{thread}-{n}"
            if not self._one(conn, eid):
                conn.close()
                conn = None
            if self.pause:
                self._stop.wait(self.pause)
        if conn:
            conn.close()

    def _connect(self, thread):
        ports = self.ports()
        try:
            return Conn(ports[thread % len(ports)], timeout=30)
        except OSError:
            self._stop.wait(0.01)
            return None

    def _one(self, conn, eid):
        """Sends one event; False when the connection cannot be used again."""
        body = self._body(eid)
        entry = Entry(eid, sign.sha256(body))
        try:
            conn.send(build("POST", f"/webhooks/{self.tool}", sign.github(body, self.secret, "push", eid), body))
            entry.sent_whole = True
            r = conn.read("POST")
            entry.status = r.status
            return (r.header("Connection") or "").lower() != "close"
        except (Closed, OSError) as e:
            entry.error = repr(e)
            return False
        finally:
            self.ledger.add(entry)
