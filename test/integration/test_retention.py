"""Days come and go: partitions are there before their day, and gone after RETENTION_DAYS; across
midnight under load, and after a month in which no weir ran. The database's clock is a faked one."""
import time

import pytest

from conftest import SECRET
from harness.load import Load
from harness.wait import wait_until

DAY = 86400
PARTITIONS = ("SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
              "WHERE inhparent = 'weir.events'::regclass ORDER BY 1")
TODAY = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD')"


def more(load, n, timeout=60):
    base = load.ledger.count()
    wait_until(lambda: load.ledger.count() >= base + n, timeout, f"{n} more answers; so far {load.ledger.statuses()}")


def settle(ledger, db, timeout=60):
    def whole():
        missing, twice, other = ledger.compare(db)
        assert not twice and not other, (twice[:5], other[:5])
        return not missing
    wait_until(whole, timeout, "all that was answered is stored", 0.1)
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


def set_clock(server, wall):
    server.set_clock_offset(wall - time.time())


def last_midnight():
    return time.time() // DAY * DAY


@pytest.mark.parametrize("tomorrow", ["made before", "missing"])
def test_midnight_under_load(weir, own_pg, redis_db, tomorrow):
    """The day changes while events come in: none is lost, late or refused; the day that is past
    its time goes; the generation of keys changes at the same moment. And the same where nobody made
    tomorrow's partition: it is made when the first event needs it."""
    # Yesterday, so that weir's own clock is ahead: a partition goes by the later of both.
    db = own_pg(clock_offset=-DAY)
    midnight = last_midnight()
    set_clock(db.server, midnight - 3600)
    old, today = db.query(PARTITIONS)[0][0], db.value(TODAY)
    assert old == f"events_{today}"
    new = time.strftime("%Y%m%d", time.gmtime(midnight))
    # As much of the past as one day of retention keeps until midnight.
    before = time.strftime("%Y-%m-%d", time.gmtime(midnight - 2 * DAY))
    db.query(f"CREATE TABLE weir.events_past PARTITION OF weir.events FOR VALUES FROM ('{before} 00:00:00+00') "
             f"TO ('{time.strftime('%Y-%m-%d', time.gmtime(midnight - DAY))} 00:00:00+00')")
    interval = "1s" if tomorrow == "made before" else "1h"
    w = weir(db, redis_db, RETENTION_DAYS=1, DEDUP_DAYS=1, MAINTENANCE_INTERVAL=interval)
    wait_until(lambda: w.metric("webhook_maintenance_runs_total", outcome="ok"), 60, "a run of the maintenance")
    generation = w.metric("webhook_key_generation")
    if tomorrow == "missing":
        db.query(f"DROP TABLE weir.events_{new}")
    db.query("UPDATE weir.event_key_generation SET started_at = %s", (time.strftime(
        "%Y-%m-%d %H:%M:%S+00", time.gmtime(midnight - DAY)),))
    with Load([w.port], SECRET, threads=4) as load:
        more(load, 100)
        set_clock(db.server, midnight - 4)
        assert db.value(TODAY) == today
        assert "events_past" in [r[0] for r in db.query(PARTITIONS)]
        wait_until(lambda: db.value(TODAY) == new, 60, "midnight")
        more(load, 200)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    settle(ledger, db)
    by_day = dict(db.query("SELECT to_char(stored_at AT TIME ZONE 'UTC', 'YYYYMMDD'), count(*) FROM weir.events GROUP BY 1"))
    assert set(by_day) == {today, new} and by_day[new] >= 50, by_day
    if tomorrow == "missing":
        assert "a partition is missing and is made" in w.log()
        return
    wait_until(lambda: "events_past" not in [r[0] for r in db.query(PARTITIONS)], 60, "the past day is dropped")
    wait_until(lambda: w.metric("webhook_partitions_dropped_total") == 1, 60)
    wait_until(lambda: w.metric("webhook_key_generation") == generation + 1, 60, "the keys' generation changed")
    wait_until(lambda: w.metric("webhook_partition_horizon_seconds") > 7 * DAY, 60, "seven days ahead")
    assert "a partition is missing" not in w.log()
    # What came before the change of generation is still known.
    known = next(e.id for e in ledger.copy() if e.answered())
    total = db.value("SELECT count(*) FROM weir.events")
    with Load([w.port], SECRET, threads=1, prefix=known.rsplit("-", 2)[0]) as again:
        more(again, 50)
        settle(again.stop(), db)
    assert db.value("SELECT count(*) FROM weir.events") == total


def test_a_month_off(weir, own_pg, new_redis_db):
    """No partition is left that today needs, and all that are there are past their time: events are
    stored from the first one on, and the old days go, one after the other, by one of two weirs."""
    db = own_pg(clock_offset=-45 * DAY)
    first = weir(db, new_redis_db(), name="first")
    with Load([first.port], SECRET, threads=2, prefix="then") as load:
        more(load, 100)
        settle(load.stop(), db)
    assert first.term() == 0
    old = [r[0] for r in db.query(PARTITIONS)]
    assert len(old) == 8
    db.close()
    db.server.end()
    db.server.set_clock_offset(0)
    db.server.start()
    today = db.value(TODAY)
    assert f"events_{today}" not in old
    redis = new_redis_db()
    ws = [weir(db, redis, name=n, MAINTENANCE_INTERVAL="1s", RETENTION_DAYS=30) for n in ("a", "b")]
    with Load([w.port for w in ws], SECRET, threads=4, prefix="now") as load:
        more(load, 300)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    settle(ledger, db)
    wait_until(lambda: not set(old) & {r[0] for r in db.query(PARTITIONS)}, 60, "the old days are gone")
    wait_until(lambda: not db.query("SELECT FROM pg_class WHERE relname = ANY(%s)", (old,)), 60)
    assert len(db.query(PARTITIONS)) == 8
    assert db.value("SELECT count(*) FROM weir.events WHERE event_id LIKE 'then%%'") == 0
    wait_until(lambda: sorted(w.metric("webhook_partitions_dropped_total") for w in ws) == [0, 8], 60, "one did it all")
    for w in ws:
        wait_until(lambda: w.metric("webhook_maintenance_last_success_timestamp_seconds") > time.time() - 60, 60)
        assert w.metric("webhook_partition_horizon_seconds") > 7 * DAY
    # The partitions' statements were clean: nobody had to wait or to try again.
    assert "retention failed" not in ws[0].log() + ws[1].log()


def test_settled_dead_letters_go_open_ones_stay(weir, db, redis_db):
    """And the delivery reports that waited so long for their recipient."""
    db.query("INSERT INTO weir.recipient_events (tool, message_id, address, status, soft, at, event_uid, stored_at) "
             "SELECT 't', 'm', 'a' || d, 1, false, now(), gen_random_uuid(), now() - d * interval '1 day' "
             "FROM unnest(ARRAY[1, 29, 31, 365]) d")
    db.query("INSERT INTO weir.dead_letters (uid, tool, event_type, stage, error_class, body, state, last_at) "
             "SELECT gen_random_uuid(), 't', 'y', 'store', 'data', '', s, now() - d * interval '1 day' "
             "FROM unnest(ARRAY['open', 'retrying', 'resolved', 'dropped']) s, unnest(ARRAY[1, 29, 31, 365]) d")
    w = weir(db, redis_db, MAINTENANCE_INTERVAL="1s")
    wait_until(lambda: w.metric("webhook_pruned_rows_total") == 6, 60, "six are pruned")
    assert [r[0] for r in db.query("SELECT address FROM weir.recipient_events ORDER BY 1")] == ["a1", "a29"]
    left = dict(db.query("SELECT state, count(*) FROM weir.dead_letters GROUP BY 1"))
    assert left == {"open": 4, "retrying": 4, "resolved": 2, "dropped": 2}
