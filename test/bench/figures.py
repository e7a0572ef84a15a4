"""What is measured. Every figure is a ratio of things that ran in turn, in the same minute, on the
same machine; a round gives one value of each, and the medians over the rounds are what counts."""
import json
import os
import subprocess
import threading
import time

from harness.proc import Child, free_port, new_dir, wait_port
from harness.servers import PASSWORD, Database, Postgres, Redis
from harness.weir import Weir, run, write_tools
from measure import (ROOT, TOOL, TOOLS, Cpu, Miss, body, histogram_delta, note, quantile, request_file, rss_mb, together, until, wrk)

STREAM, GROUP = "webhook_events", "webhook_workers"
KIB, KIB10 = 1024, 10240
# Both sides of every comparison meet the same Postgres.
PG = {"shared_buffers": "1GB", "fsync": "on", "autovacuum": "off", "max_wal_size": "8GB", "min_wal_size": "4GB",
      "checkpoint_timeout": "1h",
      # The WAL writer readies WAL pages ahead every 200 ms; 16 MB of them last for half of that here, and then the
      # sessions ready them themselves, one at a time.
      "wal_buffers": "64MB"}
# Freed memory stays with jemalloc, so its thread that gives it to the kernel has nothing to do; it would be woken for
# each run of pages that becomes free all the same.
REDIS_ENV, REDIS_ARGS = {"MALLOC_CONF": "dirty_decay_ms:-1"}, ["--jemalloc-bg-thread", "no"]
BATCHES = {"WEBHOOK_MAX_WORKERS": "2", "WEBHOOK_BATCH_SIZE": "1000"}
# The keys of the transaction itself, and none of the layers before it that spare the database duplicates.
DATABASE_ONLY = {"DEDUP_MEMORY_KEYS": "0", "WEBHOOK_DEDUP_TTL": "0"}
ENTRIES = {KIB: 200_000, KIB10: 50_000}
COLUMNS = "uid, tool, event_type, event_id, received_at, stored_at, headers, content_type, body, envelope, " \
          "traceparent, recipient_id, outcome"


class Stage:
    """Servers, and weirs on them."""

    def __init__(self, options):
        self.o, self.dir, self.open = options, new_dir("bench"), []
        self.tools = write_tools(os.path.join(self.dir, "tools.json"), [TOOL])
        self.requests = {n: request_file(os.path.join(self.dir, f"request-{n}"), n) for n in (KIB, KIB10)}

    def redis(self, aof=None):
        # Rewriting of the AOF would fall into some rounds and not into others.
        # The stream is emptied at once here. Where it is trimmed as it goes, its memory is used again; jemalloc
        # would give it to the kernel meanwhile and fetch it page by page.
        server = Redis(aof=aof, databases=16, extra=["--auto-aof-rewrite-percentage", "0", *REDIS_ARGS], env=REDIS_ENV)
        note(["redis-server"] + server.argv()[7:], REDIS_ENV)
        self.open.append(server)
        return server.start()

    def postgres(self):
        server = Postgres(**PG)
        note(["postgres"] + [f"-c {k}={v}" for k, v in server.settings.items()])
        self.open.append(server)
        server.start()
        with server.connect("postgres") as c:
            c.execute("CREATE DATABASE weir")
        r = run("migrate", "up", env=server.env("weir"))
        if r.rc:
            raise Miss(f"migrate: {r}")
        db = Database(server, "weir")
        # The log's segments and the shared buffers' pages are made here, not in the first round.
        # Row by row: a bulk load would go through a small ring of buffers.
        db.query("CREATE TABLE public.filler (a text)")
        db.query("INSERT INTO public.filler SELECT repeat('x', 1000) FROM generate_series(1, 900000)")
        db.query("DROP TABLE public.filler")
        db.query("CHECKPOINT")
        return db

    def weir(self, redis, db=None, wait=True, **settings):
        settings = {"LOG_LEVEL": "info", "QUEUE_MAX_BYTES": "8GiB", **settings}
        note(["weir", "serve"], settings)
        env = redis.env() | (db.env() if db else {}) | {"TOOLS_FILE": self.tools} | settings
        w = Weir(env)
        self.open.append(w)
        w.start(wait=wait)
        return w

    def close(self, *things):
        for t in things or reversed(list(self.open)):
            self.open.remove(t)
            if isinstance(t, Child):
                t.kill()
            elif isinstance(t, Weir):
                t.term(60)
            else:
                t.close()


def drop(redis):
    """Empties the stream and keeps its group."""
    with redis.client(timeout=60) as c:
        c.xtrim(STREAM, maxlen=0, approximate=False)


def drained(client):
    """Everything was read and acknowledged."""
    group = [g for g in client.xinfo_groups(STREAM) if g["name"] == GROUP.encode()][0]
    return group["pending"] == 0 and group["last-delivered-id"] == client.xinfo_stream(STREAM)["last-generated-id"]


# -- ingest

class Ingest:
    """weir with the role ingest on a Redis without and one with AOF, beside the bare responder."""

    def __init__(self, stage):
        self.stage = stage
        self.off, self.always = stage.redis(), stage.redis(aof="always")
        port = free_port()
        self.bare = Child("bare_evhtp", [os.path.join(TOOLS, "bare_evhtp"), str(port)], os.path.join(stage.dir, "bare.log"))
        self.bare.port = port
        stage.open.append(self.bare)
        wait_port(port)
        self.weir_off = stage.weir(self.off, ROLES="ingest")
        self.weir_always = stage.weir(self.always, ROLES="ingest")

    def one(self, server, redis, size):
        children = {"server": server} | ({"redis": redis.child} if redis else {})
        before = None
        if redis:
            drop(redis)
            with redis.client(timeout=60) as c:
                before = c.xlen(STREAM)
        meter = Cpu(**children)
        out = wrk(server.port, self.stage.requests[size], 1)
        out["cpu_usec"] = meter.usec(out["requests"])
        if redis:
            with redis.client(timeout=60) as c:
                out["entries"] = c.xlen(STREAM) - before
            if out["entries"] < out["requests"]:
                raise Miss(f"{out['requests']} were answered, {out['entries']} are in the stream")
            drop(redis)
        return out

    def round(self, size):
        """In slices of a second that take turns, so that whatever the machine does besides meets all sides alike."""
        sides = {"bare": (self.bare, None), "off": (self.weir_off, self.off), "always": (self.weir_always, self.always)}
        slices, names = {n: [] for n in sides}, list(sides)
        for i in range(self.stage.o.seconds):
            for n in names[i % len(names):] + names[:i % len(names)]:
                slices[n].append(self.one(*sides[n], size))
        out = {n: together(s) for n, s in slices.items()}
        # A log that grows without end would fill the disk.
        with self.always.client(timeout=60) as c:
            c.bgrewriteaof()
            until(lambda: not c.info("persistence")["aof_rewrite_in_progress"], 60, "AOF rewrite")
        return out

    def close(self):
        self.stage.close(self.weir_off, self.weir_always, self.bare, self.off, self.always)


# -- store

class Store:
    """A prefilled stream into Postgres, and the same rows by COPY. Both sides are running already when time starts:
    sessions are open, statements planned, and their processes have touched the memory they share."""

    WARM_ENTRIES = 200_000
    warms = True

    def __init__(self, stage):
        self.stage, self.redis, self.db = stage, stage.redis(), stage.postgres()
        self.db.query("CREATE TABLE public.plain (LIKE weir.events INCLUDING STORAGE INCLUDING COMPRESSION)")
        self.files = [os.path.join(stage.dir, f"rows-{i}") for i in range(3)]
        self.copiers = []
        self.keep_keys = False

    def empty(self):
        self.db.query("TRUNCATE weir.events, public.plain" + ("" if self.keep_keys else ", weir.event_keys"))
        self.db.query("CHECKPOINT")

    def fill(self, size, entries):
        with self.redis.client(timeout=60) as c:
            c.flushall()
            if self.warms:
                self.fill_stream(c, size, self.WARM_ENTRIES * KIB // size)
                c.swapdb(0, 1)
            self.fill_stream(c, size, entries)

    def fill_stream(self, c, size, entries):
        w = self.stage.weir(self.redis, ROLES="ingest")
        while not c.exists(STREAM) or c.xlen(STREAM) < entries:
            wrk(w.port, self.stage.requests[size], 1)
        self.stage.close(w)
        c.xtrim(STREAM, maxlen=entries, approximate=False)
        if c.xlen(STREAM) != entries:
            raise Miss("the stream does not hold what it should")

    def warm_up(self, c):
        """The worker stores another stream first; then the databases change places, and it finds the one that counts."""
        until(lambda: drained(c), 300, "the first stream is stored")
        self.empty()
        with self.redis.client(db=1) as aside:
            for stream in (STREAM, STREAM + ":large"):  # else it is told that one is gone, and waits
                aside.xgroup_create(stream, GROUP, id="0", mkstream=True)

    def store(self, entries, events=None, **settings):
        """Time runs until the last entry was acknowledged, which is after its commit: from when a warm worker was
        shown the stream, or else from the first entry that was read."""
        with self.redis.client(timeout=60) as c:
            if self.warms:
                c.swapdb(0, 1)
            w = self.stage.weir(self.redis, self.db, wait=False, ROLES="worker", **(BATCHES | settings))
            until(lambda: any(g["pending"] for g in c.xinfo_groups(STREAM)), 30, "the worker reads", 0.002)
            if self.warms:
                self.warm_up(c)
            statements = w.metric("webhook_pg_statements_total") if self.warms else 0
            meter, start = Cpu(weir=w, redis=self.redis.child, postgres=self.db.server.child), time.monotonic()
            if self.warms:
                c.swapdb(0, 1)
            until(lambda: drained(c), 300, "all entries acknowledged", 0.02)
            seconds = time.monotonic() - start
            out = {"seconds": seconds, "rate": entries / seconds, "cpu_usec": meter.usec(entries), "weir_rss_mb": rss_mb(w.pid),
                   "statements": (w.metric("webhook_pg_statements_total") - statements) / entries}
            self.stage.close(w)
        events = events or entries
        rows, ids = self.db.query("SELECT count(*), count(DISTINCT event_id) FROM weir.events WHERE tool <> 'weir'")[0]
        if not rows == ids == events:
            raise Miss(f"{entries} entries of {events} events became {rows} rows with {ids} ids")
        return out

    def export(self):
        parts = ["true", "hashtext(event_id) & 1 = 0", "hashtext(event_id) & 1 = 1"]
        with self.db.server.connect("weir") as c:
            for path, where in zip(self.files, parts):
                sql = f"COPY (SELECT {COLUMNS} FROM weir.events WHERE {where}) TO STDOUT (FORMAT binary)"
                with open(path, "wb") as f, c.cursor().copy(sql) as copy:
                    for block in copy:
                        f.write(block)

    def copy(self, table, files, entries):
        sql = f"COPY {table} ({COLUMNS}) FROM STDIN (FORMAT binary)"
        note([sql])

        def send(conn, path):
            with open(path, "rb") as f, conn.cursor().copy(sql) as copy:
                while block := f.read(256 * 1024):
                    copy.write(block)
        while len(self.copiers) < len(files):
            self.copiers.append(self.db.server.connect("weir"))
            send(self.copiers[-1], files[0])
        self.empty()
        threads = [threading.Thread(target=send, args=a) for a in zip(self.copiers, files)]
        meter, start = Cpu(postgres=self.db.server.child), time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        seconds = time.monotonic() - start
        out = {"seconds": seconds, "rate": entries / seconds, "cpu_usec": meter.usec(entries)}
        if self.db.value(f"SELECT count(*) FROM {table}") != entries:
            raise Miss("COPY stored something else")
        return out

    def round(self, size, compare=True):
        entries = ENTRIES[size] // (4 if self.stage.o.quick else 1)

        def stored(**settings):
            self.fill(size, entries)
            self.empty()
            return self.store(entries, **settings)
        out = {"entries": entries, "weir": stored(**DATABASE_ONLY)}
        if compare:
            self.export()
            out["copy"] = self.copy("weir.events", self.files[:1], entries)
            # Before and after what it is compared with: the machine may change meanwhile.
            out["weir"] = mean_of(out["weir"], stored(**DATABASE_ONLY))
            out["all"] = stored()
            out["copy_2_connections"] = self.copy("weir.events", self.files[1:], entries)
            out["copy_no_index"] = self.copy("public.plain", self.files[:1], entries)
        self.empty()
        return out

    def add_keys(self, n):
        """Random keys in the current generation. The index is made afterwards: row by row it would
        take an hour."""
        slot = self.db.value("SELECT slot FROM weir.event_key_generation")
        table, start = f"weir.event_keys_{slot}", time.monotonic()
        name = self.db.value("SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = %s::regclass", (table,))
        self.db.query(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for _ in range(0, n, 1_000_000):
            self.db.query(f"INSERT INTO {table} (key, uid, body_hash, slot) SELECT gen_random_uuid(), gen_random_uuid(), "
                          f"17, {slot} FROM generate_series(1, {min(n, 1_000_000)})")
        self.db.query("SET maintenance_work_mem = '1GB'")
        self.db.query(f"ALTER TABLE {table} ADD CONSTRAINT {name} PRIMARY KEY (key)")
        self.db.query(f"ANALYZE {table}")
        self.db.query("CHECKPOINT")
        self.keep_keys = True
        return time.monotonic() - start

    def close(self):
        for c in self.copiers:
            c.close()
        self.db.close()
        self.stage.close(self.redis, self.db.server)


def mean_of(a, b):
    """Of two runs of the same; rates by the time both took."""
    def mean(x, y, name=None):
        if isinstance(x, dict):
            return {k: mean(x[k], y[k], k) for k in x}
        return 2 / (1 / x + 1 / y) if name == "rate" else (x + y) / 2
    return mean(a, b)


# -- all roles in one process

class Whole:
    def __init__(self, stage):
        self.stage, self.redis, self.db = stage, stage.redis(), stage.postgres()

    def empty(self):
        with self.redis.client(timeout=60) as c:
            c.flushall()
        self.db.query("TRUNCATE weir.events, weir.event_keys")
        self.db.query("CHECKPOINT")

    def flood(self, size, **settings):
        """wrk as fast as it goes; then the time until everything is stored."""
        self.empty()
        w = self.stage.weir(self.redis, self.db, **settings)
        with self.redis.client(timeout=60) as c:
            until(lambda: c.exists(STREAM) and c.xinfo_groups(STREAM), 10, "the group")
            meter = Cpu(weir=w, redis=self.redis.child, postgres=self.db.server.child)
            start = time.monotonic()
            out = wrk(w.port, self.stage.requests[size], self.stage.o.seconds)
            out["lag_seconds"] = until(lambda: drained(c), 120, "the lag is zero", 0.01)
            seconds = time.monotonic() - start
        stored = self.db.value("SELECT count(*) FROM weir.events")
        if stored < out["requests"]:
            raise Miss(f"{out['requests']} were answered, {stored} are stored")
        out |= {"stored": stored, "stored_rate": stored / seconds, "cpu_usec": meter.usec(stored),
                "weir_rss_mb": rss_mb(w.pid)}
        self.stage.close(w)
        self.empty()  # or Postgres would go on to write it while something else is measured
        return out

    def trickle(self):
        """100 events a second, against one XADD and one commit by clients that do nothing else."""
        self.empty()
        w = self.stage.weir(self.redis, self.db)
        seconds, name = (3 if self.stage.o.quick else 10), "webhook_event_processing_duration_seconds"
        env = {"TOOLS_FILE": self.stage.tools, "HOST": "127.0.0.1", "PORT": str(w.port)}
        argv = ["bench", "bench", "--rate", "100", "--seconds", str(seconds), "--connections", "8", "-o", "json"]
        note(["weir"] + argv)
        run(*argv[:4], "--seconds", "1", "--rate", "100", env=env)  # warm connections, prepared statements
        before = w.metrics()
        r = run(*argv, env=env, timeout=60)
        if r.rc:
            raise Miss(f"weir bench: {r}")
        sent = json.loads(r.out)
        until(lambda: self.db.value("SELECT count(*) FROM weir.events") >= sent["answered"], 20, "all stored")
        buckets = histogram_delta(before, w.metrics(), name)
        out = {"answer_ms": sent["latency_ms"], "commit_ms": {f"p{int(q * 100)}": quantile(buckets, q) * 1000 for q in (.5, .9, .99)},
               "buckets": {str(k): v for k, v in buckets.items()}}
        self.stage.close(w)
        out["baseline_usec"] = self.baseline(seconds * 100, None)
        out["baseline_paced_usec"] = self.baseline(seconds * 100, 100)
        return out

    def baseline(self, n, rate):
        path = os.path.join(self.stage.dir, "body")
        with open(path, "wb") as f:
            f.write(body(KIB))
        info = f"host=127.0.0.1 port={self.db.server.port} dbname=weir user=weir password={PASSWORD} sslmode=disable"
        argv = [os.path.join(TOOLS, "commit_baseline"), str(self.redis.port), info, path, str(n)] + ([str(rate)] if rate else [])
        note(["commit_baseline", "REDIS_PORT", "CONNINFO", "BODY_FILE", n] + ([rate] if rate else []))
        return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout)

    def memory(self):
        """Idle; then with 10,000 events that cannot leave, because Postgres stands still."""
        self.empty()
        w = self.stage.weir(self.redis, self.db, WEBHOOK_BUFFER_SIZE="11000")  # so that so many may be held
        time.sleep(2)  # what the start needed has been given back by then
        out = {"idle_mb": rss_mb(w.pid)}
        env = {"TOOLS_FILE": self.stage.tools, "HOST": "127.0.0.1", "PORT": str(w.port)}

        def held():
            return w.get("/health").json()["components"]["buffer"]["details"]["held"]
        self.db.close()
        self.db.server.stop()
        try:
            argv = ["bench", "bench", "--rate", "4000", "--seconds", "3", "--connections", "4", "-o", "json"]
            note(["weir"] + argv)
            sent = 0
            while sent < 10_000:
                r = run(*argv, env=env, timeout=60)
                if r.rc:
                    raise Miss(f"weir bench: {r}")
                sent += json.loads(r.out)["answered"]
            until(lambda: held() >= 10_000, 20, "10,000 events in the buffer", 0.1)
            out |= {"held": held(), "sent": sent, "full_mb": rss_mb(w.pid)}
        finally:
            self.db.server.cont()
        out["growth_mb"] = (out["full_mb"] - out["idle_mb"]) * 10_000 / out["held"]
        until(lambda: self.db.value("SELECT count(*) FROM weir.events") >= sent, 120, "all stored after all", 0.2)
        out["after_mb"] = rss_mb(w.pid)
        self.stage.close(w)
        return out

    def close(self):
        self.db.close()
        self.stage.close(self.redis, self.db.server)
