"""What the database promises of recipients and message batches, without a weir: the same row for
every order of reports, in whatever transactions they come; registration and reports that race."""
import itertools
import json
import random
import threading
import time
import uuid

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harness.wait import wait_until
from harness.weir import run

STATUSES = ("queued", "sent", "deferred", "delivered", "opened", "clicked", "bounced", "failed", "complained",
            "unsubscribed")
NUMBER = {s: n for n, s in enumerate(STATUSES)}
FINAL = {"delivered", "opened", "clicked", "bounced", "failed", "complained"}
STATE = ", ".join(["status", "rank", "problem", "hard_bounce", "reached"]
                  + [f"{s}_at, {s}_last_at, {s}_count" for s in STATUSES])
COUNTERS = ("total",) + STATUSES + ("unique_recipients", "finished")


class Report:
    def __init__(self, message_id, status, at=0, soft=False, address="a@x.example", tool="mail"):
        self.key = uuid.uuid4()
        self.uid = uuid.uuid4()
        self.message_id, self.status, self.at, self.soft = message_id, status, at, soft
        self.address, self.tool = address, tool


def store(c, reports, fresh=None, hints=None):
    """What weir's transaction does with the reports' events; gives the batches that changed."""
    reports = list(reports)
    with c.transaction():
        slot = c.execute("SELECT slot FROM weir.event_key_generation").fetchone()[0]
        for r in reports if fresh is None else fresh:
            c.execute("INSERT INTO weir.event_keys VALUES (%s, %s, 0, NULL, %s) ON CONFLICT DO NOTHING",
                      (r.key, r.uid, slot))
        return apply(c, reports, hints)


def apply(c, reports, hints=None):
    return c.execute(
        "SELECT * FROM weir.apply_reports(%s, %s, %s, %s, %s, %s::smallint[], %s,"
        " (SELECT array_agg(to_timestamp(a)) FROM unnest(%s::float8[]) a), %s::bigint[])",
        ([r.key for r in reports], [r.uid for r in reports], [r.tool for r in reports],
         [r.message_id for r in reports], [r.address for r in reports], [NUMBER[r.status] for r in reports],
         [r.soft for r in reports], [1.7e9 + r.at for r in reports], hints or [None] * len(reports))).fetchall()


def register(c, batch, message_ids, tool="mail", address="a@x.example", **more):
    recipients = json.dumps([{"message_id": m, "address": address} for m in message_ids])
    sql = "SELECT weir.register_message_batch(%s, %s, %s" + "".join(f", {k} => {v}" for k, v in more.items()) + ")"
    return c.execute(sql, (batch, tool, recipients)).fetchone()[0]


def rows(c, batch):
    return c.execute(f"SELECT {STATE} FROM weir.recipients WHERE batch_id = %s ORDER BY message_id, address",
                     (batch,)).fetchall()


def counters(c, batch):
    row = c.execute(f"SELECT {', '.join(COUNTERS)}, completed_at IS NOT NULL FROM weir.message_batches WHERE id = %s",
                    (batch,)).fetchone()
    return dict(zip(COUNTERS + ("completed",), row)) if row else None


def completions(c, batch):
    return c.execute("SELECT count(*) FROM weir.events WHERE tool = 'weir' AND event_id = %s", (batch,)).fetchone()[0]


@pytest.fixture
def connect(db):
    made = []

    def make(**kw):
        made.append(db.server.connect(db.name, **kw))
        return made[-1]
    yield make
    for c in made:
        c.close()


@pytest.fixture
def conn(connect):
    return connect()


# ---- the lattice ----

def closure(status):
    return {"clicked": {"clicked", "opened", "delivered"}, "opened": {"opened", "delivered"}}.get(status, {status})


def model(reports):
    """The row by the rules' words, from the set of reports alone."""
    first, last, count = {}, {}, {}
    for r in reports:
        for s in closure(r.status):
            first[s] = min(first.get(s, r.at), r.at)
        last[r.status] = max(last.get(r.status, r.at), r.at)
        count[r.status] = count.get(r.status, 0) + 1
    reached = set(first)
    hard = any(r.status == "bounced" and not r.soft for r in reports)
    engaged = [last[s] for s in ("opened", "clicked") if s in last]
    ranks = (("clicked", 60), ("opened", 50), ("delivered", 40), ("sent", 20), ("queued", 10))
    ranked = [(s, n) for s, n in ranks if s in reached]
    if "complained" in reached:
        shown = "complained"
    elif "bounced" in reached and (hard or not engaged or last["bounced"] > max(engaged)):
        shown = "bounced"
    elif engaged:
        shown = "clicked" if "clicked" in reached else "opened"
    elif "failed" in reached:
        shown = "failed"
    else:
        shown = ranked[0][0] if ranked else "deferred" if "deferred" in reached else "registered"
    problem = max([0] + [{"complained": 4, "bounced": 3, "failed": 2}.get(s, 0) for s in reached])
    return {"status": shown, "rank": ranked[0][1] if ranked else 0, "problem": problem, "reached": reached,
            "first": first, "last": last, "count": count}


def as_model(row):
    status, rank, problem, _, bits = row[:5]
    times = {s: row[5 + 3 * n:8 + 3 * n] for n, s in enumerate(STATUSES)}

    def seconds(t):
        return round(t.timestamp() - 1.7e9)
    return {"status": status, "rank": rank, "problem": problem,
            "reached": {s for n, s in enumerate(STATUSES) if bits & 1 << n},
            "first": {s: seconds(t[0]) for s, t in times.items() if t[0]},
            "last": {s: seconds(t[1]) for s, t in times.items() if t[1]},
            "count": {s: t[2] for s, t in times.items() if t[2]}}


report = st.tuples(st.sampled_from(STATUSES), st.integers(0, 5), st.booleans(), st.integers(0, 1))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(report, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_row_is_the_same_for_every_order_and_cut(conn, story, rnd):
    """The reports in two random orders, cut into random transactions, some of them told twice, with the
    registration somewhere in between: rows and counters are those of the rules."""
    c, outcomes = conn, []
    for _ in range(2):
        batch = f"b-{uuid.uuid4()}"
        ids = [f"{batch}-{n}" for n in (0, 1)]
        reports = [Report(ids[to], s, at, soft and s == "bounced") for s, at, soft, to in story]
        todo = reports + [r for r in reports if rnd.random() < 0.3]
        rnd.shuffle(todo)
        parts = []
        while todo:
            cut = rnd.randint(1, len(todo))
            parts.append(list({r.uid: r for r in todo[:cut]}.values()))
            todo = todo[cut:]
        parts.insert(rnd.randint(0, len(parts)), None)
        for part in parts:
            if part is None:
                assert register(c, batch, ids) == 2
            else:
                store(c, part)
        got = rows(c, batch)
        for n, row in enumerate(got):
            assert as_model(row) == model([r for r in reports if r.message_id == ids[n]])
        want = [model([r for r in reports if r.message_id == i]) for i in ids]
        finished = sum(bool(w["reached"] & FINAL) for w in want)
        state = counters(c, batch)
        assert state == {"total": 2, "unique_recipients": sum(bool(w["reached"]) for w in want), "finished": finished,
                         "completed": finished == 2} | {s: sum(s in w["reached"] for w in want) for s in STATUSES}
        assert completions(c, batch) == (finished == 2)
        outcomes.append(([tuple(r) for r in got], state))
    assert outcomes[0] == outcomes[1]
    assert c.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 0


def test_all_permutations_of_a_recipients_events(conn):
    """Each order of six reports that contradict one another; one row."""
    story = [("sent", 0, False), ("delivered", 5, False), ("bounced", 3, True), ("opened", 4, False),
             ("clicked", 2, False), ("failed", 1, False)]
    orders = list(itertools.permutations(range(len(story))))
    register(conn, "perm", [f"p{n}" for n in range(len(orders))])
    for k in range(len(story)):  # the k-th report of every order in one transaction
        part = [Report(f"p{n}", *story[o[k]]) for n, o in enumerate(orders)]
        for at in range(0, len(part), 200):
            store(conn, part[at:at + 200])
    got = {tuple(r) for r in rows(conn, "perm")}
    assert len(got) == 1 and got.pop()[:3] == ("clicked", 60, 3)
    assert counters(conn, "perm")["finished"] == 720 and completions(conn, "perm") == 1


# ---- what counts ----

def test_only_events_that_are_fresh_in_this_transaction_count(conn):
    register(conn, "b", ["1", "2"])
    one, two = Report("1", "opened"), Report("2", "clicked")
    assert len(store(conn, [one, two])) == 1
    assert store(conn, [one, two]) == []                  # stored already, by the same events
    again = Report("1", "opened")
    again.key = one.key                                   # a duplicate: another event holds the key
    assert store(conn, [again]) == []
    assert store(conn, [Report("1", "opened")], fresh=[]) == []  # nobody claimed its key
    assert conn.execute("SELECT sum(opened_count), sum(clicked_count) FROM weir.recipients").fetchone() == (1, 1)
    assert store(conn, [Report("1", "opened")]) == []     # counts at the recipient, but not once more in the batch
    assert conn.execute("SELECT sum(opened_count) FROM weir.recipients").fetchone() == (2,)
    assert {k: v for k, v in counters(conn, "b").items() if v} == {
        "total": 2, "delivered": 2, "opened": 2, "clicked": 1, "unique_recipients": 2, "finished": 2, "completed": True}


def test_a_hint_is_no_more_than_that(conn):
    """A cached id may be right, of somebody else, of nobody, or of a recipient that is not registered."""
    register(conn, "b", ["1", "2", "3", "4"])
    ids = dict(conn.execute("SELECT message_id, id FROM weir.recipients").fetchall())
    store(conn, [Report(m, "sent") for m in ("1", "2", "3", "4", "5", "1", "4")],
          hints=[ids["1"], ids["1"], 10**15, None, ids["2"], 0, -1])
    sent = [("1", 2), ("2", 1), ("3", 1), ("4", 2)]
    assert conn.execute("SELECT message_id, sent_count FROM weir.recipients ORDER BY 1").fetchall() == sent
    assert conn.execute("SELECT message_id FROM weir.recipient_events").fetchall() == [("5",)]
    assert counters(conn, "b")["sent"] == 4
    again, stale = Report("1", "sent"), Report("2", "sent")  # a wrong id makes nothing fresh
    assert store(conn, [again, stale], fresh=[stale], hints=[ids["1"], ids["1"]]) == []
    sent[1] = ("2", 2)
    assert conn.execute("SELECT message_id, sent_count FROM weir.recipients ORDER BY 1").fetchall() == sent


def test_a_completed_batch_is_an_event(conn):
    register(conn, "the mailing", ["1"], tool="mail-eu")
    changed = store(conn, [Report("1", "bounced", tool="mail-eu")])
    uid, kind, event_id, headers, content_type, body = conn.execute(
        "SELECT uid, event_type, event_id, headers, content_type, body FROM weir.events").fetchone()
    assert (kind, event_id, headers, content_type) == ("message_batch.completed", "the mailing", [], "application/json")
    assert uid.version == 7 and uid.variant == uuid.RFC_4122
    assert abs((uid.int >> 80) / 1000 - time.time()) < 60
    body = json.loads(body)
    assert body["id"] == "the mailing" and body["tool"] == "mail-eu" and body["completed_at"].endswith("+00:00")
    assert {k: v for k, v in body.items() if type(v) is int and v} == {
        "total": 1, "bounced": 1, "unique_recipients": 1, "finished": 1}
    assert len(changed) == 1


def test_a_completion_makes_the_partition_that_is_missing(conn):
    register(conn, "b", ["1"])
    for (name,) in conn.execute("SELECT inhrelid::regclass::text FROM pg_inherits"
                                " WHERE inhparent = 'weir.events'::regclass").fetchall():
        conn.execute(f"DROP TABLE {name}")
    store(conn, [Report("1", "delivered")])
    assert completions(conn, "b") == 1


def test_a_mailing_registered_in_parts_is_complete_when_all_are_there(conn):
    register(conn, "b", ["1"], expected=2)
    store(conn, [Report("1", "delivered")])
    assert not counters(conn, "b")["completed"]
    register(conn, "b", ["2"])
    assert not counters(conn, "b")["completed"]
    store(conn, [Report("2", "delivered")])
    assert counters(conn, "b")["completed"] and completions(conn, "b") == 1
    register(conn, "b", ["3"])  # late: it counts, but what was told was told
    store(conn, [Report("3", "delivered")])
    assert counters(conn, "b")["delivered"] == 3 and completions(conn, "b") == 1


# ---- registration ----

def test_registration_is_repeatable_and_reads_texts_as_events_are_read(conn):
    def call(*pairs):
        return conn.execute("SELECT weir.register_message_batch('b', 'mail', %s)",
                            (json.dumps([{"message_id": m, "address": a} for m, a in pairs]),)).fetchone()[0]
    assert call(("<1@mg>", " Ada <ADA@x.Example> "), ("1@mg", "ada@x.example"), ("2", "\u00c4@x")) == 2
    assert call(("1@mg", "Ada@X.example"), ("3", "c@x")) == 1
    assert call() == 0
    assert conn.execute("SELECT message_id, address FROM weir.recipients ORDER BY id").fetchall() == [
        ("1@mg", "ada@x.example"), ("2", "\u00c4@x"), ("3", "c@x")]
    assert counters(conn, "b")["total"] == 3
    assert conn.execute("SELECT count(*) FROM weir.message_batch_registrations").fetchone()[0] == 0


@pytest.mark.parametrize("batch, tool, recipients, why", [
    (None, "mail", "[]", "must not be NULL"),
    ("b", None, "[]", "must not be NULL"),
    ("b", "mail", None, "must not be NULL"),
    ("", "mail", "[]", "batch_id must be 1 to 200 bytes"),
    ("x" * 201, "mail", "[]", "batch_id must be 1 to 200 bytes"),
    ("a\nb", "mail", "[]", "batch_id must be 1 to 200 bytes"),
    ("b", "Mail", "[]", 'tool "Mail" cannot be'),
    ("b", "weir", "[]", 'tool "weir" cannot be'),
    ("b", "mail", "{}", "recipients must be an array"),
    ("b", "mail", "[3]", "recipients[0]: must be an object"),
    ("b", "mail", '[{"message_id":"1","address":"a"},{"address":"a"}]', "recipients[1]: message_id must be a string"),
    ("b", "mail", '[{"message_id":1,"address":"a"}]', "recipients[0]: message_id must be a string"),
    ("b", "mail", '[{"message_id":"1"}]', "recipients[0]: address must be a string"),
    ("b", "mail", '[{"message_id":" <> ","address":"a"}]', "recipients[0]: message_id must be 1 to 1000 bytes"),
    ("b", "mail", '[{"message_id":"1","address":"a\\tb"}]', "recipients[0]: address must be 1 to 320 bytes"),
    ("b", "mail", '[{"message_id":"1","address":"%s"}]' % ("x" * 321), "recipients[0]: address must be 1 to 320"),
])
def test_bad_registrations_say_what_is_wrong(conn, batch, tool, recipients, why):
    with pytest.raises(psycopg.DataError) as e:
        conn.execute("SELECT weir.register_message_batch(%s, %s, %s::jsonb)", (batch, tool, recipients))
    assert e.value.diag.message_primary.startswith("register_message_batch: ") and why in str(e.value)
    assert conn.execute("SELECT count(*) FROM weir.message_batches").fetchone()[0] == 0


def test_a_recipient_has_one_batch_and_a_batch_one_tool(conn):
    register(conn, "b", ["1"])
    with pytest.raises(psycopg.errors.UniqueViolation, match='of message "1" belongs to message batch "b"'):
        register(conn, "c", ["2", "1"])
    with pytest.raises(psycopg.errors.UniqueViolation, match='message batch "b" belongs to tool "mail"'):
        register(conn, "b", ["1"], tool="other")
    with pytest.raises(psycopg.DataError, match="expected must be at least 1"):
        register(conn, "d", ["7"], expected=0)
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction, match="READ COMMITTED"):
        register(conn, "b", ["3"])
    conn.execute("ROLLBACK")
    assert conn.execute("SELECT count(*) FROM weir.recipients").fetchone()[0] == 1


def test_a_role_that_may_only_register(connect, conn):
    conn.execute("DROP ROLE IF EXISTS weir_test_app")
    conn.execute("CREATE ROLE weir_test_app")
    try:
        conn.execute("GRANT USAGE ON SCHEMA weir TO weir_test_app")
        app = connect()
        app.execute("SET ROLE weir_test_app")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            register(app, "b", ["1"])
        conn.execute("GRANT EXECUTE ON FUNCTION weir.register_message_batch TO weir_test_app")
        store(conn, [Report("1", "opened")])
        assert register(app, "b", ["1"]) == 1
        assert counters(conn, "b")["opened"] == 1 and completions(conn, "b") == 1
    finally:
        conn.execute("DROP OWNED BY weir_test_app")
        conn.execute("DROP ROLE weir_test_app")


def test_what_waits_is_pruned_in_small_steps(conn):
    store(conn, [Report(str(n), "sent") for n in range(5)])
    assert conn.execute("SELECT weir.prune_recipient_events(now() - interval '1 h', 10)").fetchone()[0] == 0
    assert conn.execute("SELECT weir.prune_recipient_events(now() + interval '1 h', 3)").fetchone()[0] == 3
    assert conn.execute("SELECT weir.prune_recipient_events(now() + interval '1 h', 3)").fetchone()[0] == 2


def test_a_deleted_batch_is_gone_and_its_reports_find_nobody(conn):
    register(conn, "b", ["1", "2"])
    store(conn, [Report("1", "opened")])
    assert conn.execute("SELECT weir.delete_message_batch('b')").fetchone()[0] == 2
    assert store(conn, [Report("2", "opened")]) == []
    assert conn.execute("SELECT count(*) FROM weir.recipients").fetchone()[0] == 0
    assert conn.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 1


# ---- traces of what the hashes in Redis have not seen ----

def claim(c, after="", at_most=100, seconds=60):
    """Gives {batch: (mark, version, total)}."""
    return {r[0]: r[1:] for r in c.execute(
        "SELECT batch_id, mark, c.version, (c.batch).total FROM weir.claim_stale_hashes(%s, %s, %s) c",
        (after, at_most, seconds)).fetchall()}


def clear(c, claimed, written=True):
    c.execute("SELECT weir.clear_stale_hashes(%s, %s::bigint[], %s)",
              (list(claimed), [v[0] for v in claimed.values()], [written] * len(claimed)))


def version(c, batch):
    return c.execute("SELECT version FROM weir.message_batches WHERE id = %s", (batch,)).fetchone()[0]


def test_a_registration_leaves_a_trace_until_its_latest_state_is_written(conn):
    register(conn, "b", ["1"])
    first = claim(conn)
    assert {k: v[1:] for k, v in first.items()} == {"b": (version(conn, "b"), 1)}
    assert claim(conn) == {}, "it is leased"
    clear(conn, first, written=False)
    register(conn, "b", ["1"])
    assert claim(conn) == {}, "nothing changed"
    register(conn, "b", ["2"])
    clear(conn, first)
    second = claim(conn)
    assert {k: v[1:] for k, v in second.items()} == {"b": (version(conn, "b"), 2)}
    clear(conn, first)
    assert conn.execute("SELECT count(*) FROM weir.stale_hashes").fetchone()[0] == 1
    clear(conn, second)
    register(conn, "b", [], expected=9)
    third = claim(conn, seconds=0)
    assert set(claim(conn)) == {"b"}, "the lease ended"
    clear(conn, third)
    store(conn, [Report("1", "opened")])
    assert claim(conn) == {}, "reports leave none"
    register(conn, "empty", [])
    assert [v[2] for v in claim(conn).values()] == [0]


def test_traces_are_taken_in_pages_by_several(connect, conn):
    for n in range(7):
        register(conn, f"b{n}", [str(n)])
    a, b = claim(connect(), at_most=3), claim(connect(), at_most=3)
    assert sorted(a) == ["b0", "b1", "b2"] and sorted(b) == ["b3", "b4", "b5"]
    assert set(claim(conn, after="b5")) == {"b6"}
    clear(conn, a | b)
    assert conn.execute("SELECT array_agg(batch_id) FROM weir.stale_hashes").fetchone()[0] == ["b6"]
    conn.execute("SELECT weir.discard_stale_hashes(3600000, 10)")
    assert conn.execute("SELECT count(*) FROM weir.stale_hashes").fetchone()[0] == 1
    conn.execute("SELECT weir.discard_stale_hashes(-1000, 10)")
    assert conn.execute("SELECT count(*) FROM weir.stale_hashes").fetchone()[0] == 0


def test_a_trace_of_a_transaction_that_stays_open_stops_nobody_and_is_not_lost(connect, conn):
    """One that others have not taken yet is not changed by it: who takes it afterwards sees what it did."""
    a = connect()
    for batch in ("b", "c"):
        register(conn, batch, [batch])
    a.execute("BEGIN")
    register(a, "b", ["2"])
    register(a, "new", ["3"])
    a.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert set(claim(conn)) == {"c"}
    a.execute("COMMIT")
    assert {k: v[2] for k, v in claim(conn).items()} == {"b": 2, "new": 1}


def test_a_deleted_batch_leaves_a_version_that_ends_its_hash(conn):
    register(conn, "b", ["1"])
    last = version(conn, "b")
    conn.execute("SELECT weir.delete_message_batch('b')")
    gone = claim(conn)
    assert gone["b"][1] > last and gone["b"][2] is None
    register(conn, "b", ["2"])
    assert version(conn, "b") > gone["b"][1]
    clear(conn, gone)
    assert claim(conn)["b"][1:] == (version(conn, "b"), 1)


def test_pages_of_what_changed_lately(conn):
    for n in range(5):
        register(conn, f"b{n}", [str(n)])

    def since(v, after, at_most=9, scan=9):
        """The batches, and how far it looked."""
        found = conn.execute("SELECT scanned_to, (b.batch).id FROM weir.message_batches_since(%s, %s, %s, %s) b",
                             (v, after, at_most, scan)).fetchall()
        return [r[1] for r in found if r[1]], found[-1][0] if found else None
    assert since(0, "", 3) == (["b0", "b1", "b2"], "b2") and since(0, "b2", 3) == (["b3", "b4"], "b4")
    assert since(version(conn, "b3"), "") == (["b3", "b4"], "b4") and since(0, "b4") == ([], None)
    assert since(version(conn, "b3"), "", scan=2) == ([], "b1") and since(version(conn, "b3"), "b1", scan=2) == (["b3"], "b3")
    store(conn, [Report("1", "opened")])
    assert since(version(conn, "b1"), "") == (["b1"], "b4")


def test_many_batches_in_one_transaction(conn):
    """The commit looks through all that was registered once, not once for each."""
    with conn.transaction():
        conn.execute("SELECT weir.register_message_batch('b' || i, 'mail', jsonb_build_array(jsonb_build_object("
                     "'message_id', i::text, 'address', 'a'))) FROM generate_series(1, 300) i")
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        scans = conn.execute("SELECT seq_scan FROM pg_stat_xact_user_tables"
                             " WHERE relid = 'weir.message_batch_registrations'::regclass").fetchone()[0]
    assert 0 < scans < 10
    assert len(claim(conn, at_most=1000)) == 300


def test_the_schema_before_the_traces(db, conn):
    """Down and up again, with batches there."""
    register(conn, "b", ["1"])
    assert run("migrate", "down", "--yes", "--to", "0004", env=db.env()).rc == 0
    assert register(conn, "b", ["2"]) == 1 and counters(conn, "b")["total"] == 2
    assert len(conn.execute("SELECT weir.message_batch_commands()").fetchall()) == 1
    assert run("migrate", "up", env=db.env()).rc == 0
    register(conn, "b", ["3"])
    assert claim(conn)["b"][2] == 3


# ---- at the same time ----

def in_thread(fn, *args):
    box = {}

    def run():
        try:
            box["value"] = fn(*args)
        except BaseException as e:  # noqa: B902
            box["error"] = e
    box["thread"] = threading.Thread(target=run)
    box["thread"].start()
    return box


def result(box, timeout=60):
    box["thread"].join(timeout)
    assert not box["thread"].is_alive()
    if "error" in box:
        raise box["error"]
    return box["value"]


def waits(conn, pid):
    def blocked():
        return conn.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone()[0]
    wait_until(blocked, 60, "a session that waits")


def begin_report(c, r):
    """Its event's transaction up to the commit."""
    c.execute("BEGIN")
    c.execute("INSERT INTO weir.event_keys SELECT %s, %s, 0, NULL, slot FROM weir.event_key_generation", (r.key, r.uid))
    return apply(c, [r])


def test_a_report_in_flight_meets_a_registration_that_commits(connect, conn):
    """The report is there, uncommitted, when the registration ends: that one waits, then sees it."""
    a, b = connect(), connect()
    begin_report(a, Report("1", "opened"))
    box = in_thread(register, b, "b", ["1"])
    waits(conn, b.info.backend_pid)
    a.execute("COMMIT")
    assert result(box) == 1
    assert counters(conn, "b")["opened"] == 1 and rows(conn, "b")[0][0] == "opened"
    assert conn.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 0


def test_a_registration_that_stays_open_stops_nobody(connect, conn):
    """A report, also one of the same batch, is committed while an application's transaction is still open."""
    a, b = connect(), connect()
    register(conn, "b", ["0"])
    b.execute("BEGIN")
    assert register(b, "b", ["1"]) == 1
    assert register(b, "new", ["2"]) == 1
    assert counters(b, "new")["total"] == 1 and counters(b, "b")["total"] == 1
    a.execute("SET lock_timeout = '5s'")
    store(a, [Report("0", "delivered"), Report("1", "opened"), Report("2", "clicked")])
    assert conn.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 2
    b.execute("COMMIT")
    assert counters(conn, "b") | {"total": 2, "opened": 1, "delivered": 2} == counters(conn, "b")
    assert counters(conn, "new")["clicked"] == 1
    assert conn.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 0


def test_a_registration_about_to_commit_stops_a_report_that_then_finds_it(connect, conn):
    a, b = connect(), connect()
    b.execute("BEGIN")
    register(b, "b", ["1"])
    b.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at its commit: the locks are taken
    box = in_thread(store, a, [Report("1", "opened")])
    waits(conn, a.info.backend_pid)
    b.execute("COMMIT")
    assert len(result(box)) == 1
    assert counters(conn, "b")["opened"] == 1
    assert conn.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 0


def test_an_aborted_registration_leaves_the_reports_waiting(connect, conn):
    b = connect()
    store(conn, [Report("1", "opened")])
    b.execute("BEGIN")
    register(b, "b", ["1"])
    b.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert counters(b, "b")["opened"] == 1
    b.execute("ROLLBACK")
    assert counters(conn, "b") is None and register(conn, "b", ["1"]) == 1
    assert counters(conn, "b")["opened"] == 1


def test_the_completion_is_told_once_by_the_last_of_two_transactions(connect, conn):
    a, b = connect(), connect()
    register(conn, "b", ["1", "2"])
    begin_report(a, Report("1", "delivered"))
    box = in_thread(store, b, [Report("2", "bounced")])
    waits(conn, b.info.backend_pid)
    a.execute("COMMIT")
    assert len(result(box)) == 1
    assert counters(conn, "b")["completed"] and completions(conn, "b") == 1


def test_recipients_are_locked_in_the_order_of_their_ids(connect, conn):
    a, b = connect(), connect()
    register(conn, "b", [f"m{n}" for n in range(30)])
    ids = dict(conn.execute("SELECT message_id, id FROM weir.recipients").fetchall())
    reports = [Report(m, "opened") for m in ids]
    for known in (True, False):
        random.Random(17).shuffle(reports)
        a.execute("BEGIN")
        a.execute("SELECT FROM weir.recipients WHERE id = %s FOR UPDATE", (max(ids.values()),))
        box = in_thread(store, b, reports, None, [ids[r.message_id] for r in reports] if known else None)
        waits(conn, b.info.backend_pid)
        assert conn.execute("SELECT id FROM weir.recipients FOR UPDATE SKIP LOCKED").fetchall() == []
        a.execute("COMMIT")
        result(box)
        reports = [Report(m, "clicked") for m in ids]


def test_a_report_meets_the_deletion_of_its_recipient(connect, conn):
    """It waits for that, then finds nobody and is kept; what is said of others in the same batch is applied."""
    a, b = connect(), connect()
    register(conn, "b", ["1", "2"])
    register(conn, "other", ["3"])
    ids = dict(conn.execute("SELECT message_id, id FROM weir.recipients").fetchall())
    a.execute("BEGIN")
    a.execute("SELECT weir.delete_message_batch('b')")
    box = in_thread(store, b, [Report("3", "opened"), Report("2", "opened")], None, [ids["3"], ids["2"]])
    waits(conn, b.info.backend_pid)
    a.execute("COMMIT")
    assert len(result(box)) == 1
    assert counters(conn, "other")["opened"] == 1
    assert conn.execute("SELECT message_id FROM weir.recipient_events").fetchall() == [("2",)]


def test_many_writers_neither_deadlock_nor_lose_anything(connect, conn):
    """Reports of the same recipients and batches in every order from four sessions, some with an id, right or
    wrong, registrations in parts and in transactions of their own meanwhile: every status is there, every
    completion is told once."""
    rnd = random.Random(17)
    batches = {f"b{n}": [f"b{n}-{k}" for k in range(12)] for n in range(6)}
    reports = [Report(m, s, rnd.randint(0, 9)) for ids in batches.values() for m in ids
               for s in ("sent", "delivered", "opened", "clicked")]
    rnd.shuffle(reports)
    parts = [reports[n:n + 7] for n in range(0, len(reports), 7)]
    deadlocks = conn.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()[0]

    def write(c, mine):
        for part in mine:
            ids = dict(c.execute("SELECT message_id, id FROM weir.recipients").fetchall())
            store(c, part, hints=[ids.get(r.message_id, 7) if r.at < 8 else None for r in part])

    def enrol(c, mine):
        for name, ids in mine:
            for k in range(0, 12, 4):
                register(c, name, ids[k:k + 4], expected=12)
    writers = [in_thread(write, connect(), parts[n::4]) for n in range(4)]
    enrolers = [in_thread(enrol, connect(), list(batches.items())[n::2]) for n in range(2)]
    for box in writers + enrolers:
        result(box, 120)
    for name in batches:
        assert counters(conn, name) == {"total": 12, "unique_recipients": 12, "finished": 12, "completed": True} | {
            s: 12 if s in ("sent", "delivered", "opened", "clicked") else 0 for s in STATUSES}
        assert completions(conn, name) == 1
    assert conn.execute("SELECT count(*), sum(clicked_count) FROM weir.recipients").fetchone() == (72, 72)
    assert conn.execute("SELECT count(*) FROM weir.recipient_events").fetchone()[0] == 0
    assert conn.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
                        ).fetchone()[0] == deadlocks


def test_the_plan_needs_no_statistics(conn):
    """Two pages become many after the statement was planned: still the indexes, never all rows."""
    register(conn, "b", ["0"])
    for _ in range(8):  # past the custom plans
        store(conn, [Report("0", "opened")])
    register(conn, "b", [f"m{n}" for n in range(20000)])
    ids = dict(conn.execute("SELECT message_id, id FROM weir.recipients").fetchall())

    def seen():
        return conn.execute("SELECT sum(pg_stat_get_xact_tuples_returned(t::regclass)) FROM unnest('{weir.recipients,"
                            "weir.recipients_key,weir.recipients_pkey,weir.recipients_batch_id}'::text[]) t").fetchone()[0]
    for status, known in (("opened", False), ("clicked", True)):
        part = [Report(f"m{n}", status) for n in range(100)]
        with conn.transaction():
            for r in part:
                conn.execute("INSERT INTO weir.event_keys SELECT %s, %s, 0, NULL, slot FROM weir.event_key_generation",
                             (r.key, r.uid))
            before = seen()  # the session's, as far as it has not handed them in
            apply(conn, part, [ids[r.message_id] for r in part] if known else None)
            assert seen() - before <= (100 if known else 200)
    assert counters(conn, "b") | {"opened": 101, "clicked": 100} == counters(conn, "b")
