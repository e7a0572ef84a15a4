"""What the database refuses: one bad event among many is alone in being refused, and an outage is no
event's fault."""
import re
import time
import uuid

import pytest

from harness.wait import wait_until

STREAM, GROUP = "webhook_events", "webhook_workers"
BATCH = 500
POSITIONS = (0, 1, 249, 250, 498, 499)

# By class: those that the content is at fault for, at the first sight. 23514 is here as a constraint
# that bears a name; without one it is a missing partition.
DATA = ["22001", "22003", "22021", "22023", "22P02", "22P05", "23502", "23503", "23505", "23514", "54000", "54001"]
# Those that may pass: they are held and tried again, and only one that goes on alone while the
# database answers is given up.
WEATHER = ["08006", "25006", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P03", "XX000"]


def refuse(db, states):
    """Events of type poison-STATE are refused with it."""
    db.query("CREATE OR REPLACE FUNCTION weir.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
             " IF NEW.event_type LIKE 'poison-%' THEN RAISE EXCEPTION 'refused: %', NEW.event_id"
             " USING ERRCODE = substr(NEW.event_type, 8), CONSTRAINT = 'events_refuse'; END IF; RETURN NEW; END $$")
    db.query("CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON weir.events FOR EACH ROW EXECUTE FUNCTION weir.refuse()")


def entry(eid, event="push"):
    return {"v": "1", "u": str(uuid.uuid4()), "t": "github", "y": event, "k": eid,
            "r": str(int(time.time() * 1e6)), "h": '[["x-n","1"]]', "c": "application/json", "b": b'{"id":"%s"}' % eid.encode()}


def add(redis_db, entries):
    with redis_db.client.pipeline() as p:  # MULTI: the reader meets all of them at once
        for e in entries:
            p.xadd(STREAM, e)
        p.execute()


def count(db, table="events"):
    return db.value(f"SELECT count(*) FROM weir.{table}")


@pytest.fixture(scope="module")
def worker(request, redis_server, pg_server, template_db):
    """One weir for all classes and positions. Quick retries only, or a weather's ten tries took minutes."""
    from conftest import module_weir
    for w in module_weir(request, redis_server, pg_server, template_db, WEBHOOK_BATCH_SIZE=BATCH,
                         DATABASE_UPDATE_RETRIES=100, WEBHOOK_MAX_WORKERS=20):
        n = int(w.env["REDIS_DB"])
        w.redis = type("Db", (), {"client": redis_server.client(n)})()
        refuse(w.db, DATA + WEATHER)
        yield w


def run(w, tag, poison):
    """500 events with poison at some positions: {position: SQLSTATE}. Gives those that were stored."""
    before = count(w.db)
    add(w.redis, [entry(f"{tag}-{n}", f"poison-{poison[n]}" if n in poison else "push") for n in range(BATCH)])
    wait_until(lambda: count(w.db) == before + BATCH - len(poison), 60, "its mates are stored")
    wait_until(lambda: w.db.value("SELECT count(*) FROM weir.dead_letters WHERE event_id LIKE %s", (tag + "-%",))
               == len(poison), 60, "it is a dead letter")
    wait_until(lambda: w.redis.client.xpending(STREAM, GROUP)["pending"] == 0, 60)
    rows = w.db.query("SELECT event_id, stage, error_class, sqlstate, message, attempts, first_at <= last_at,"
                      " headers::text, body, state FROM weir.dead_letters WHERE event_id LIKE %s", (tag + "-%",))
    return {int(r[0].rsplit("-", 1)[1]): r for r in rows}


@pytest.mark.parametrize("state", DATA)
def test_row15_one_poison_event_among_500_of_each_data_class_and_position(worker, state):
    for position in POSITIONS:
        tag = f"{state}-{position}"
        dead = run(worker, tag, {position: state})
        assert list(dead) == [position]
        eid, stage, error, sqlstate, message, attempts, in_order, headers, body, kept = dead[position]
        assert (eid, stage, error, sqlstate) == (f"{tag}-{position}", "store", "data", state)
        assert message == f"refused: {eid}" and attempts >= 1 and in_order
        assert headers == '[["x-n","1"]]' and bytes(body) == b'{"id":"%s"}' % eid.encode() and kept == "open"
        assert worker.db.value("SELECT count(DISTINCT event_id) FROM weir.events WHERE event_id LIKE %s", (tag + "-%",)) == 499


def test_events_that_fail_like_the_weather_are_isolated_too(worker):
    """All classes at once, at different positions: each fails ten times alone before it is given up."""
    poison = {n * 45: state for n, state in enumerate(WEATHER)}
    dead = run(worker, "weather", poison)
    assert {n: r[3] for n, r in dead.items()} == poison
    assert all(r[5] >= 10 for r in dead.values()), "ten tries at least"


def test_several_poison_events_in_one_batch(worker):
    poison = {n: DATA[n % len(DATA)] for n in range(0, BATCH, 37)}
    dead = run(worker, "several", poison)
    assert {n: r[3] for n, r in dead.items()} == poison


def test_a_whole_batch_of_poison(worker):
    dead = run(worker, "whole", {n: "22023" for n in range(BATCH)})
    assert len(dead) == BATCH


@pytest.mark.parametrize("how", ["no-table", "read-only", "shut"])
def test_an_outage_makes_no_dead_letters(weir, own_pg, redis_db, how):
    """However long it is compared with the tries that would condemn a single event, and without
    spinning: waits grow."""
    db = own_pg()
    w = weir(db, redis_db, DATABASE_UPDATE_RETRIES=1, WEBHOOK_BATCH_SIZE=100)
    add(redis_db, [entry(f"before-{n}") for n in range(100)])
    wait_until(lambda: count(db) == 100)
    if how == "shut":
        db.close()
        db.server.end("immediate")
    elif how == "read-only":
        db.query("ALTER DATABASE weir SET default_transaction_read_only = on")
        db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                 " AND datname = current_database()")
    else:
        db.query("ALTER TABLE weir.events RENAME TO events_away")
    add(redis_db, [entry(f"during-{n}") for n in range(100)])
    time.sleep(2.5)  # an outage has a length
    ticks = sum(map(int, open(f"/proc/{w.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
    time.sleep(2)
    spent = sum(map(int, open(f"/proc/{w.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) - ticks
    assert spent < 100, "half of two seconds: it spins"
    health = w.get("/health").json()["components"]["database_updater"]
    assert health["details"]["state"] in ("away", "retrying") or how == "shut", health
    if how == "shut":
        db.server.start()
    elif how == "read-only":
        db.query("BEGIN READ WRITE; ALTER DATABASE weir RESET default_transaction_read_only; COMMIT")
        db.close()
        with db.server.connect("postgres") as c:
            c.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'weir'")
    else:
        db.query("ALTER TABLE weir.events_away RENAME TO events")
    wait_until(lambda: count(db) == 200, 60, "all stored")
    assert count(db, "dead_letters") == 0
    wait_until(lambda: w.metric("webhook_queue_depth") == 0, 60)
    retries = re.findall(r'msg="a batch is tried again"', w.log())
    assert len(retries) < 200
