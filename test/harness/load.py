"""A load of signed events over keep-alive connections, with a ledger of what was answered. At the
end the ledger is held against the database: an id that was answered 2xx is stored exactly once."""
import json
import threading
import time

from . import sign
from .http import Closed, Conn, build

LATE = 0.2  # seconds since the last answer


class Entry:
    """One event. `tries`: what became of each time it was sent: a status, or the error's text; an
    error while nothing or part of it was sent has 'unsent' in front."""
    __slots__ = ("id", "sha", "tries")

    def __init__(self, eid, sha):
        self.id, self.sha, self.tries = eid, sha, []

    def answered(self):
        return any(isinstance(t, int) and 200 <= t < 300 for t in self.tries)


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
        return {e.id: e.sha for e in self.copy() if e.answered()}

    def count(self):
        return len(self.answered())

    def tries(self):
        return [t for e in self.copy() for t in e.tries]

    def statuses(self):
        """How often each status came; 'reset' is a request that was sent whole and not answered."""
        out = {}
        for t in self.tries():
            if isinstance(t, str):
                t = "unsent" if t.startswith("unsent") else "reset"
            out[t] = out.get(t, 0) + 1
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
    a closed port or a reset note it and go on. An ending weir waits for the next request of a
    connection, but not for long: a sender that comes LATE looks first whether it still does. With
    `repeat` an event is sent again until it is answered 2xx, as providers do; else each is sent once."""

    def __init__(self, ports, secret, threads=4, tool="github", size=300, rate=None, prefix="e", repeat=False):
        self.ports = ports if callable(ports) else (lambda: ports)
        self.secret, self.tool, self.size, self.prefix, self.repeat = secret, tool, size, prefix, repeat
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
        conn, n, entry, last = None, 0, None, 0
        while not self._stop.is_set():
            if conn and time.monotonic() - last > LATE and conn.gone():
                conn.close()
                conn = None
            if conn is None:
                conn = self._connect(thread)
                if conn is None:
                    continue
            if entry is None:
                n += 1
                eid = f"{self.prefix}-{thread}-{n}"
                body = self._body(eid)
                entry = Entry(eid, sign.sha256(body))
                self.ledger.add(entry)
            if not self._one(conn, entry, body):
                conn.close()
                conn = None
            last = time.monotonic()
            if entry.answered() or not self.repeat:
                entry = None
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

    def _one(self, conn, entry, body):
        """Sends one event; False when the connection cannot be used again."""
        whole = False
        try:
            conn.send(build("POST", f"/webhooks/{self.tool}", sign.github(body, self.secret, "push", entry.id), body))
            whole = True
            r = conn.read("POST")
            entry.tries.append(r.status)
            if r.status == 503:
                self._stop.wait(0.02)  # far less than Retry-After says, but no storm
            return (r.header("Connection") or "").lower() != "close"
        except (Closed, OSError) as e:
            entry.tries.append(("" if whole else "unsent ") + repr(e))
            return False
