"""Rows 9 to 14 and 35 of the fault matrix: what Postgres can do to a batch, each provoked on a real
server. Ingest never notices; in the end all that was answered is stored, once, and nothing is a dead
letter. What kills and restarts the server is in test_kill.py."""
import os
import shutil
import signal
import subprocess
import time

import psycopg
import pytest

from conftest import SECRET
from harness.load import Load
from harness.oracle import drained, more, settle
from harness.proc import Child, new_dir
from harness.proxy import FaultProxy
from harness.servers import PASSWORD, Database, Postgres, postgres_bin
from harness.weir import binary, base_env, run
from harness.wait import holds_within, wait_until

CONFIG = 78


def end_well(w, ledger, db, redis_client, timeout=120):
    """Only 200s were answered, and each is stored."""
    assert set(ledger.statuses()) == {200}, ledger.statuses()
    settle(ledger, db, timeout)
    wait_until(lambda: drained(redis_client), 60, "the stream is acknowledged")
    assert w.term() == 0


def stored(db):
    return db.value("SELECT count(*) FROM weir.events")


def retries(w):
    return w.metric("webhook_retry_attempts_total") or 0


def fail_inserts(db, sqlstate):
    """Every insert of events fails with this until let_inserts(): raised on the server, so that it
    comes to weir as the real one would."""
    db.query("CREATE OR REPLACE FUNCTION weir.obstacle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
             f"RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = 'an obstacle'; END $$")
    db.query("CREATE TRIGGER obstacle BEFORE INSERT ON weir.events FOR EACH STATEMENT EXECUTE FUNCTION weir.obstacle()")


def let_inserts(db):
    db.query("DROP TRIGGER obstacle ON weir.events")


# ---- row 9 ----

def test_row09_shut_down_and_starting_up(weir, db, redis_db):
    """57P01 to 57P03 and the connection errors as answers to a statement, not only as closed links."""
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=2, rate=300) as load:
        more(load, 50)
        for state in ("57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006", "58030", "XX000"):
            fail_inserts(db, state)
            before = retries(w)
            wait_until(lambda: retries(w) >= before + 2, 60, state)
            let_inserts(db)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


# ---- row 10 ----

def test_row10_read_only_for_a_while(weir, own_pg, redis_db):
    db = own_pg()
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=2, rate=300) as load:
        more(load, 50)
        db.query("ALTER SYSTEM SET default_transaction_read_only = on")
        db.query("SELECT pg_reload_conf()")
        wait_until(lambda: w.get("/health").json()["status"] == "degraded", 60)
        # Long enough for a hasty judgement.
        more(load, 1500)
        assert w.get("/health/ready").status == 200
        db.close()
        with db.server.connect(db.name, options="-c default_transaction_read_only=off") as c:
            c.execute("ALTER SYSTEM RESET default_transaction_read_only")
            c.execute("SELECT pg_reload_conf()")
        more(load, 50)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


def standby_of(primary):
    """A synchronous streaming standby, so that a fail-over loses nothing that was committed."""
    standby = Postgres()
    shutil.rmtree(standby.data)
    log = os.path.join(standby.dir, "basebackup.log")
    child = Child("pg_basebackup", [os.path.join(postgres_bin(), "pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary.port),
                                    "-U", "weir", "-D", standby.data, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"],
                  log, env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD}, user=standby.user, cwd=standby.dir)
    assert child.wait(60) == 0, child.log()
    standby.start()
    with primary.connect("postgres") as c:
        c.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        c.execute("SELECT pg_reload_conf()")
        wait_until(lambda: c.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone()[0], 60)
    return standby


@pytest.mark.parametrize("way", ["read-only", "crash"])
def test_row10_fail_over_to_the_other_host(weir, own_pg, redis_db, way):
    """Two hosts; the primary becomes read-only, or dies, and the standby is promoted: weir goes to
    the host that takes writes, and stays there when the old one is back as a reader."""
    db = own_pg()
    standby = standby_of(db.server)
    try:
        hosts = f"127.0.0.1:{db.server.port},127.0.0.1:{standby.port}"
        w = weir(None, redis_db, DATABASE_URL=f"postgres://weir:{PASSWORD}@{hosts}/{db.name}?sslmode=disable")
        after = Database(standby, db.name)
        with Load([w.port], SECRET, threads=2, rate=300) as load:
            more(load, 200)
            wait_until(lambda: stored(db) > 0, 60)
            if way == "crash":
                db.close()
                db.server.kill()
            else:
                db.query("ALTER SYSTEM SET default_transaction_read_only = on")
                db.query("SELECT pg_reload_conf()")
                wait_until(lambda: w.get("/health").json()["components"]["database"]["status"] == "unhealthy", 60)
            more(load, 100)
            with standby.connect("postgres", options="-c default_transaction_read_only=off") as c:
                c.execute("ALTER SYSTEM RESET synchronous_standby_names")
                c.execute("SELECT pg_promote()")
            n = stored(after)
            wait_until(lambda: stored(after) > n, 60, "stored at the other host")
            if way == "crash":
                db.server.settings |= {"default_transaction_read_only": "on", "synchronous_standby_names": ""}
                db.server.start()
            more(load, 100)
            ledger = load.stop()
        end_well(w, ledger, after, redis_db.client)
        after.close()
    finally:
        standby.close()


# ---- row 11 ----

def test_row11_conflicts_of_transactions(weir, db, redis_db):
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=2, rate=300) as load:
        more(load, 50)
        for state in ("40001", "40P01", "55P03", "57014"):
            fail_inserts(db, state)
            before = retries(w)
            wait_until(lambda: retries(w) >= before + 2, 60, state)
            let_inserts(db)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


def test_row11_a_real_deadlock(weir, db, redis_db):
    """Somebody takes the events first and the keys' lock second; a batch does it the other way
    round."""
    w = weir(db, redis_db)
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'weir.events'::regclass"
    with Load([w.port], SECRET, threads=2, rate=300) as load:
        more(load, 50)
        with db.server.connect(db.name) as other:
            other.execute("SET deadlock_timeout = '60s'")  # weir is the one to notice
            other.execute("BEGIN")
            other.execute("LOCK TABLE weir.events IN SHARE MODE")
            wait_until(lambda: db.value(waits) > 0, 60, "a batch waits for the events", 0.005)
            other.execute("SELECT pg_advisory_xact_lock(2003134834, 1)")
            other.execute("COMMIT")
        wait_until(lambda: "40P01" in w.log(), 60, "weir's was the victim")
        more(load, 50)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


def test_row11_a_lock_that_is_held_for_long(weir, db, redis_db):
    """weir's own lock timeout ends the wait (55P03), again and again, for longer than any count of
    strikes; `SELECT 1` works all the while, and nothing is condemned. And statements that somebody
    cancels (57014)."""
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=1, rate=100) as load:
        more(load, 50)
        with db.server.connect(db.name) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE")
            wait_until(lambda: "55P03" in w.log(), 60, "a lock timeout")
            more(load, 50)
        for _ in range(10):
            n = load.ledger.count()
            db.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                     "AND pid <> pg_backend_pid() AND state = 'active'")
            more(load, 5)
            assert load.ledger.count() > n
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


# ---- row 12 ----

@pytest.fixture
def small_disk():
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: a small file system can be mounted by root only; run the fault tests as root")
    path = new_dir("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0777", "weir-test", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_row12_disk_is_full(weir, own_pg, redis_db, small_disk):
    """The events' disk is full while all else works, dead letters too: events wait, for however
    long; with room again all are stored."""
    db = own_pg()
    os.chmod(small_disk, 0o700)
    if db.server.user:
        os.chown(small_disk, db.server.user.pw_uid, db.server.user.pw_gid)
    db.query(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    today = db.value("SELECT 'weir.events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    db.query(f"ALTER TABLE {today} SET TABLESPACE small")
    db.query(f"ALTER TABLE {today} ALTER COLUMN body SET STORAGE EXTERNAL")
    # Quick retries, so that the strikes that would condemn an event come soon.
    w = weir(db, redis_db, WEBHOOK_BATCH_SIZE=20, DATABASE_UPDATE_RETRIES=100)
    with Load([w.port], SECRET, threads=2, size=30000, rate=150) as load:
        wait_until(lambda: "53100" in w.log(), 60, "the disk is full")
    ledger = load.stop()
    with Load([w.port], SECRET, threads=1, size=30000, rate=5, prefix="later") as late:
        wait_until(lambda: (w.metric("webhook_retry_attempts_total", attempt="more") or 0) >= 50
                   or db.value("SELECT count(*) FROM weir.dead_letters"), 120, "many tries")
        assert w.get("/health/ready").status == 200
        assert db.value("SELECT count(*) FROM weir.dead_letters") == 0
        late.stop()
    assert set(ledger.statuses()) == {200}
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    settle(ledger, db, 120)
    end_well(w, late.ledger, db, redis_db.client)
    db.close()
    db.server.end("immediate")


def test_row12_too_many_connections(weir, own_pg, redis_db):
    """53300 at every attempt to connect, since others have them all; and out of memory (53200)."""
    db = own_pg(max_connections=10, max_wal_senders=0)
    w = weir(db, redis_db)
    others = []
    with Load([w.port], SECRET, threads=2, rate=200) as load:
        more(load, 50)
        for state in ("53200", "53400"):
            fail_inserts(db, state)
            before = retries(w)
            wait_until(lambda: retries(w) >= before + 2, 60, state)
            let_inserts(db)

        def all_taken():
            db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'")
            try:
                others.append(db.server.connect("postgres"))
            except psycopg.OperationalError:
                pass
            return w.get("/health").json()["components"]["database"]["status"] == "unhealthy"
        wait_until(all_taken, 60, "weir has no connection", 0.02)
        more(load, 200)
        assert w.get("/health/ready").status == 200
        for c in others:
            c.close()
        more(load, 50)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)
    assert "too many" in w.log() or "remaining connection slots" in w.log()


# ---- row 13 ----

def latencies(w, n=30):
    """Seconds that single requests take."""
    from harness import sign
    out = []
    for i in range(n):
        body = b'{"probe":%d}' % i
        start = time.monotonic()
        assert w.post("github", body, sign.github(body, SECRET, "push", f"probe-{os.getpid()}-{time.monotonic_ns()}")).status == 200
        out.append(time.monotonic() - start)
    return sorted(out)


def test_row13_ingest_does_not_feel_postgres(weir, own_pg, redis_db):
    """A server that hangs, and one that takes its time for every batch: the answers' median stays
    far below what Postgres takes."""
    db = own_pg()
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=1, rate=100) as load:
        more(load, 20)
        db.server.stop()
        assert latencies(w)[15] < 0.5
        more(load, 50)
        db.server.cont()
        more(load, 20)
        db.query("CREATE FUNCTION weir.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$")
        db.query("CREATE TRIGGER slow AFTER INSERT ON weir.events FOR EACH STATEMENT EXECUTE FUNCTION weir.slow()")
        assert latencies(w)[15] < 0.5
        more(load, 200)
        ledger = load.stop()
    db.query("DROP TRIGGER slow ON weir.events")
    end_well(w, ledger, db, redis_db.client)


def test_row13_stands_still_until_the_watchdog_bites(weir, own_pg, redis_db):
    """A server that neither answers nor closes. After the deadline (30 s) weir gives the batch up and asks for its end
    over another connection; as that is not answered either it closes both. Ingest answers as ever. When the server
    goes on, so does what it had begun, and the batch is run again over a new connection: one effect."""
    db = own_pg()
    w = weir(db, redis_db)
    pids = {r[0] for r in db.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'weir'")}
    with db.server.connect(db.name) as blocker, Load([w.port], SECRET, threads=1, rate=50) as load:
        more(load, 20)
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE")
        wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 60, "a batch is under way")
        db.close()
        db.server.stop()
        try:
            wait_until(lambda: w.metric("webhook_retry_attempts_total", reason="timeout"), 120, "given up at its deadline", 0.2)
            assert latencies(w)[15] < 5
            wait_until(lambda: "no answer to the cancel" in w.log(), 60, "its connection is closed", 0.2)
            assert w.get("/health/ready").status == 200
        finally:
            db.server.cont()
        blocker.execute("COMMIT")
        n = stored(db)
        wait_until(lambda: stored(db) > n, 60, "stored again")
        now = {r[0] for r in db.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'weir'")}
        assert now - pids, "over new connections"
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


def test_row13_idle_sessions_are_ended(weir, own_pg, redis_db):
    """Whatever idles too long, in a transaction (25P03) or not (57P05), is ended by the server: weir
    leaves no transaction open, and opens a new session where an idle one is gone."""
    db = own_pg(idle_in_transaction_session_timeout="50ms", idle_session_timeout="300ms")
    w = weir(db, redis_db)
    reconnects = w.metric("webhook_postgres_reconnects_total")
    ledgers = []
    for i in range(4):
        with Load([w.port], SECRET, threads=2, prefix=f"e{i}") as load:
            more(load, 30)
            ledgers.append(load.stop())
        idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weir'"
        wait_until(lambda: db.value(idle) <= 1, 60, "idle sessions are gone")
    assert reconnects is None or w.metric("webhook_postgres_reconnects_total") >= reconnects
    # It cannot be had from this server, as weir never idles in a transaction; as an answer it is weather all the same.
    with Load([w.port], SECRET, threads=1, rate=100, prefix="in-transaction") as load:
        fail_inserts(db, "25P03")
        before = retries(w)
        wait_until(lambda: retries(w) >= before + 12, 60, "more tries than would condemn an event")
        let_inserts(db)
        ledgers.append(load.stop())
    db.close()
    for one in ledgers:
        settle(one, db)
    end_well(w, ledgers[-1], db, redis_db.client)
    assert "idle-in-transaction" not in open(db.server.log_path).read()


# ---- row 14 ----

@pytest.mark.parametrize("lost", ["the answer", "the statement"])
def test_row14_outcome_is_unknown(weir, own_pg, redis_db, lost):
    """The link swallows the answer of a COMMIT, or the statement before it arrives, and then dies.
    From outside the two look the same; the effect is single either way."""
    db = own_pg()
    with FaultProxy(db.server.port) as p:
        w = weir(db, redis_db, DATABASE_PORT=p.port)
        with Load([w.port], SECRET, threads=2, rate=300) as load:
            more(load, 50)
            committed = 0
            for _ in range(6 if lost == "the statement" else 60):
                n = stored(db)
                p.swallow = "down" if lost == "the answer" else "up"
                more(load, 30)
                if lost == "the answer":  # of a COMMIT, or of what came before one: then nothing follows
                    committed += holds_within(lambda: stored(db) > n, 3)
                before = p.cuts
                p.cut()
                assert p.cuts > before
                p.swallow = None
                more(load, 30)
                n = stored(db)
                wait_until(lambda: stored(db) > n, 60, "stored again, so the connections stand")
                if committed == 6:
                    break
            ledger = load.stop()
        end_well(w, ledger, db, redis_db.client)
        assert committed == (6 if lost == "the answer" else 0)


# ---- row 35 ----

def versions(db):
    return [r[0] for r in db.query("SELECT version FROM weir.schema_migrations ORDER BY 1")]


def test_row35_schema_is_older(weir, own_pg, redis_db):
    """Events are taken and wait in the queue; once the schema is there they are stored. Nothing of
    it looks like trouble to the events."""
    db = own_pg()
    last = versions(db)[-1]
    assert run("migrate", "down", "--yes", env=db.env()).rc == 0
    assert last not in versions(db)
    w = weir(db, redis_db)
    with Load([w.port], SECRET, threads=2, rate=200) as load:
        more(load, 100)
        wait_until(lambda: w.metric("webhook_durability_setting", setting="schema") == 0, 30)
        schema = w.get("/health").json()["components"]["durability"]["details"]["postgres"]["schema"]
        assert schema["value"].startswith("older") and last in schema["value"], schema
        assert stored(db) == 0 and retries(w) == 0
        assert run("migrate", "up", env=db.env()).rc == 0
        wait_until(lambda: stored(db) > 0, 60)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)


def not_served(w):
    w.start(wait=False)
    rc = w.child.wait(60)
    w.reaped = True
    w.check_log()
    return rc, w.log()


def test_row35_schema_is_newer(weir, own_pg, redis_db):
    """Refused, by serve with and without --migrate and by check-config, with both versions; a weir
    that runs already goes on."""
    db = own_pg()
    last = versions(db)[-1]
    w = weir(db, redis_db)
    wait_until(lambda: w.metric("webhook_durability_setting", setting="schema") == 1, 30)
    db.query("INSERT INTO weir.schema_migrations VALUES ('9001')")
    db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'")
    wait_until(lambda: w.metric("webhook_durability_setting", setting="schema") == 0, 30)
    with Load([w.port], SECRET, threads=2, rate=200) as load:
        more(load, 50)
        ledger = load.stop()
    end_well(w, ledger, db, redis_db.client)
    for args in ((), ("--migrate",)):
        rc, log = not_served(weir(db, redis_db, start=False, args=args))
        assert rc == CONFIG and "9001" in log and last in log and "newer" in log, log
    r = run("check-config", "--connect", env=db.env() | redis_db.env())
    assert r.rc != 0 and "error    postgres: schema is newer" in r.out, r


def test_row35_newer_schema_is_seen_late(weir, own_pg, redis_db):
    """Postgres comes after weir, with a schema from the future: an orderly end, what was taken stays
    in the queue."""
    db = own_pg()
    db.query("INSERT INTO weir.schema_migrations VALUES ('9001')")
    db.close()
    db.server.end()
    w = weir(db, redis_db, SHUTDOWN_DELAY="100ms")
    with Load([w.port], SECRET, threads=2, rate=200) as load:
        more(load, 50)
        ledger = load.stop()
    db.server.start()
    assert w.child.wait(60) == CONFIG, w.log()
    w.reaped = True
    w.check_log()
    assert stored(db) == 0
    db.query("DELETE FROM weir.schema_migrations WHERE version = '9001'")
    again = weir(db, redis_db, WORKER_CONSUMER_NAME=None)
    end_well(again, ledger, db, redis_db.client)


def test_row35_migration_is_interrupted(pg_server):
    """Killed in the middle of any migration: nothing of it is there, and the next run does it all."""
    with pg_server.connect("postgres") as c:
        c.execute("CREATE DATABASE interrupted")
    db = Database(pg_server, "interrupted")
    try:
        assert run("migrate", "up", env=db.env()).rc == 0
        all_of_them = versions(db)
        assert run("migrate", "down", "--to", "0", "--yes", env=db.env()).rc == 0
        empty = "SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relname <> ALL (%s)"
        own = (["schema_migrations", "schema_migrations_pkey"],)
        for done in range(len(all_of_them)):
            before = db.value(empty, own)
            with pg_server.connect("interrupted") as blocker:
                # The row that would say that it is applied is written last.
                blocker.execute("BEGIN")
                blocker.execute("INSERT INTO weir.schema_migrations VALUES (%s)", (all_of_them[done],))
                child = Child("migrate", [binary(), "migrate", "up"], os.path.join(new_dir("migrate"), "log"),
                              env=base_env() | db.env())
                wait_until(lambda: db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
                                            "datname = 'interrupted'") == 1, 60, "it waits in its last statement")
                child.send(signal.SIGKILL)
                child.wait()
                blocker.execute("ROLLBACK")
            wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                                        "(SELECT oid FROM pg_database WHERE datname = 'interrupted')") == 0, 60)
            assert versions(db) == all_of_them[:done] and db.value(empty, own) == before
            r = run("migrate", "up", env=db.env())
            assert r.rc == 0 and versions(db) == all_of_them, r
            down = ["--to", all_of_them[done]] if done + 1 < len(all_of_them) else ["--to", "0"]
            assert run("migrate", "down", *down, "--yes", env=db.env()).rc == 0
    finally:
        db.close()
        with pg_server.connect("postgres") as c:
            c.execute("DROP DATABASE interrupted WITH (FORCE)")
