"""An event's way: signed request, 200, one row in weir.events with the very bytes."""
import json
import uuid

import pytest

from conftest import GITHUB, SECRET
from harness import sign
from harness.wait import wait_until


def stored(db, n=1):
    """Waits for n rows; the rows in order of arrival."""
    def enough():
        rows = rows_of(db)
        return rows if len(rows) >= n else None
    rows = wait_until(enough, 60, f"{n} events stored")
    assert len(rows) == n
    return rows


def rows_of(db):
    cols = ["uid", "tool", "event_type", "event_id", "headers", "content_type", "body", "envelope", "outcome",
            "received_at", "stored_at"]
    found = db.query(f"SELECT {', '.join(cols)} FROM weir.events ORDER BY received_at, uid")
    return [dict(zip(cols, (bytes(v) if isinstance(v, memoryview) else v for v in row))) for row in found]


def test_event_is_stored_byte_for_byte(served, db):
    body = b'{ "action":"opened",\n\t"n":0.1e1, "dup":1,"dup":2, "u":"\xc3\xa9\\u00e9" }\n'
    r = served.post("github", body, sign.github(body, SECRET, "pull_request", "d-1") + [("User-Agent", "GitHub-Hookshot/1")])
    assert r.status == 200, r
    answer = r.json()
    assert answer["status"] == "accepted" and answer["ids"] == [answer["id"]]
    assert r.header("Content-Type") == "application/json"
    row, = stored(db)
    assert row["body"] == body
    assert (row["tool"], row["event_type"], row["event_id"]) == ("github", "pull_request", "d-1")
    assert row["uid"] == uuid.UUID(answer["id"]) and row["uid"].version == 7
    assert row["content_type"] == "application/json" and row["outcome"] == "stored" and row["envelope"] is None
    assert row["received_at"] <= row["stored_at"]
    kept = {n.lower(): v for n, v in row["headers"]}
    assert kept["x-github-event"] == "pull_request" and kept["user-agent"] == "GitHub-Hookshot/1"


def test_lonely_event_does_not_wait_for_a_full_batch(weir, db, redis_db):
    w = weir(db, redis_db, WEBHOOK_FLUSH_INTERVAL="60s", WEBHOOK_BATCH_SIZE="1000")
    body = b"{}"
    assert w.post("github", body, sign.github(body, SECRET)).status == 200
    stored(db)


def test_sent_twice_is_stored_once(served, db):
    body = b'{"n":1}'
    headers = sign.github(body, SECRET, "push", "same")
    assert [served.post("github", body, headers).status for _ in range(3)] == [200] * 3
    wait_until(lambda: served.metric("webhook_events_processed_total", status="duplicate") == 2)
    assert len(stored(db)) == 1
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


def test_same_id_of_another_type_is_another_event(served, db):
    body = b"{}"
    for event in ("push", "ping"):
        assert served.post("github", body, sign.github(body, SECRET, event, "same")).status == 200
    assert {r["event_type"] for r in stored(db, 2)} == {"push", "ping"}


def test_tampered_is_refused(served, db):
    body = b'{"amount":1}'
    headers = sign.github(body, SECRET)
    r = served.post("github", b'{"amount":9}', headers)
    assert r.status == 401 and r.header("Content-Type") == "application/problem+json"
    problem = r.json()
    assert problem["status"] == 401 and problem["title"] and problem["detail"]
    assert served.metric("webhooks_received_total", tool_id="github", outcome="unauthorized") == 1
    assert "unauthorized" in served.log() or "signature" in served.log()
    # The server goes on serving others, and nothing of the refused one is kept.
    assert served.post("github", body, headers).status == 200
    assert stored(db)[0]["body"] == body


@pytest.mark.parametrize("change", [
    lambda h: sign.replace(h, "X-Hub-Signature-256", None),
    lambda h: sign.replace(h, "X-Hub-Signature-256", ""),
    lambda h: sign.replace(h, "X-Hub-Signature-256", "sha256="),
    lambda h: sign.replace(h, "X-Hub-Signature-256", "sha1=" + "0" * 40),
    lambda h: sign.replace(h, "X-Hub-Signature-256", "sha256=" + "0" * 64),
    lambda h: sign.replace(h, "X-Hub-Signature-256", "sha256=" + "z" * 64),
    lambda h: sign.replace(h, "X-Hub-Signature-256", "sha256=" + "0" * 10000),
    lambda h: sign.replace(h, "X-Hub-Signature-256", dict(h)["X-Hub-Signature-256"][7:]),
    lambda h: sign.replace(h, "X-Hub-Signature-256", dict(h)["X-Hub-Signature-256"][:-2]),
    lambda h: sign.replace(h, "X-Hub-Signature-256", dict(h)["X-Hub-Signature-256"] + "00"),
    lambda h: sign.replace(h, "X-Hub-Signature-256", b"sha256=\xff\xfe"),
], ids=["missing", "empty", "no-hex", "sha1", "wrong", "no-alphabet", "huge", "no-prefix", "short", "long", "obs-text"])
def test_bad_signatures_are_401(github_weir, change):
    body = b"{}"
    r = github_weir.post("github", body, change(sign.github(body, SECRET)))
    assert r.status == 401, r


def test_doubled_signature_header_is_400(github_weir):
    body = b"{}"
    headers = sign.github(body, SECRET)
    double = [(n, v) for n, v in headers if n == "X-Hub-Signature-256"]
    assert github_weir.post("github", body, headers + double).status == 400


def test_signature_hex_may_be_upper_case(github_weir):
    body = b"{}"
    headers = sign.github(body, SECRET)
    value = dict(headers)["X-Hub-Signature-256"]
    assert github_weir.post("github", body, sign.replace(headers, "X-Hub-Signature-256", "sha256=" + value[7:].upper())).status == 200


@pytest.fixture(scope="module")
def github_weir(request, redis_server, pg_server, template_db):
    """One weir for tests that look at answers only."""
    from conftest import module_weir
    yield from module_weir(request, redis_server, pg_server, template_db)


POISON = {
    "nul": b'{"a":"\\u0000"}',
    "lone-surrogate": b'{"a":"\\ud800"}',
    "huge-number": b'{"a":1e400}',
    "huger-number": b'{"a":1e200000}',
    "deep": b"[" * 100000 + b"]" * 100000,
    "bad-utf8": b'{"a":"\xff\xfe"}',
    "raw-nul": b'{"a":"\x00"}',
    "bom": b'\xef\xbb\xbf{"a":1}',
    "no-json": b"\x00\x01\x02 not json at all",
    "empty": b"",
    "blank": b"   ",
    "cut": b'{"a":',
}


def test_row16_poison_bodies_are_stored_and_give_null(served, db):
    """Each among good ones: the batch mates commit, nothing is dead-lettered."""
    sent = {}
    for name, body in POISON.items():
        for eid, b in ((name, body), ("good-" + name, b'{"ok":true}')):
            assert served.post("github", b, sign.github(b, SECRET, "push", eid)).status == 200, name
            sent[eid] = b
    rows = stored(db, len(sent))
    assert {r["event_id"]: r["body"] for r in rows} == sent
    parsed = dict(db.query("SELECT event_id, weir.body_json(body) FROM weir.events"))
    for name in POISON:
        assert parsed["good-" + name] == {"ok": True}
        if name not in ("huge-number",):  # 1e400 is a jsonb numeric
            assert parsed[name] is None, name
    assert db.value("SELECT count(*) FROM weir.dead_letters") == 0


# In the manner of the test suites for JSON parsers: well-formed, malformed, and what parsers do not agree about.
BODIES = [
    # names that come twice, in all ways
    b'{"id":"a","id":"b"}', b'{"id":"a","id":"a"}', b'{"type":"x","type":"y","id":"d"}', b'{"a":1,"a":{"a":2,"a":3}}', b'{"":1,"":2}',
    # byte order marks and other encodings
    b'\xef\xbb\xbf{"id":"bom"}', b"\xef\xbb\xbf", b"\xef\xbb{}", '{"id":"utf-16"}'.encode("utf-16"), '{"id":"be"}'.encode("utf-16-be"),
    '{"id":"utf-32"}'.encode("utf-32"), "\u2028{}\u2029".encode(), '{"id":"\u00a0"}'.encode("latin-1"),
    # bytes that are no UTF-8
    b'{"id":"\xff"}', b'{"id":"\xc0\x80"}', b'{"id":"\xc0\xaf"}', b'{"id":"\xe0\x80\x80"}', b'{"id":"\xed\xa0\x80"}', b'{"id":"\xf4\x90\x80\x80"}',
    b'{"id":"\xf8\x88\x80\x80\x80"}', b'{"id":"\xe2\x82"}', b'{"\xff":1}', b"\xe9", b'{"type":"\xfe\xff"}',
    # escapes: surrogates alone, in the wrong order, NUL, what is none
    b'{"id":"\\ud800"}', b'{"id":"\\udc00"}', b'{"id":"\\ud800\\ud800"}', b'{"id":"\\udc00\\ud800"}', b'{"id":"\\ud83d\\ude00"}', b'{"id":"\\ud800\\u"}',
    b'{"id":"\\u0000"}', b'{"\\u0000":1,"id":"n"}', b'{"type":"a\\u0000b"}', b'{"id":"\\u00"}', b'{"id":"\\x41"}', b'{"id":"\\"}', b'{"id":"\\', b'{"\\ud800":1}',
    # control bytes as they are
    b'{"id":"a\nb"}', b'{"id":"\x00"}', b'{"id":"\x1f"}', b'{"id":"\x7f"}', b'{"id":"tab\t"}', b"\x00", b"{}\x00", b"\x0c{}", b'{"id":"line\\nbreak"}',
    # numbers
    b'{"id":1e400}', b'{"id":-1e400}', b'{"id":1e-400}', b'{"id":1e200000}', b'{"id":123456789012345678901234567890}', b'{"id":-0}', b'{"id":0.1}', b'{"id":01}', b'{"id":1.}',
    b'{"id":.5}', b'{"id":+1}', b'{"id":0x10}', b'{"id":NaN}', b'{"id":Infinity}', b'{"id":-}', b'{"id":1e}', b'{"id":1E+2}', b'{"id":' + b"9" * 5000 + b"}", b"-1e9999",
    # depth
    b"[" * 100000, b"[" * 2049 + b"]" * 2049, b'{"a":' * 50000 + b"1" + b"}" * 50000, b'{"a":' * 3000, b'[{"":' * 2000,
    # structure
    b"", b" ", b"\n\t ", b"{", b"}", b"[]", b"[,]", b"[1,]", b"{,}", b'{"a"}', b'{"a":}', b'{"a":1,}', b'{"a":1}}', b'{"a":1}{"b":2}', b"[1]x", b"{'id':'x'}", b"{id:1}", b'{"a" 1}',
    b'{"id":"x"', b'"', b'"id"', b"null", b"true", b"nul", b"True", b"[1 2]", b"/* c */{}", b'{"a":1}//', b"<xml/>", b"a=b&c=d", b"[\"\"]", b'{"id":null}', b'{"id":[]}', b'{"id":true}',
    b'{"id":""}', b'{"id":"  "}', b'{"id":{"id":"x"}}', b'{"__proto__":{"id":1}}', bytes(range(256)), b"\xff" * 300,
]


def test_row16_bodies_that_parsers_stumble_over(weir, db, redis_db):
    """Whether the recipe looks into them or not: answered 200, stored byte for byte, none of them in the way of another."""
    assert len(set(BODIES)) == len(BODIES) > 100
    w = weir(db, redis_db, tools=[GITHUB, {**BY_BODY, "dedup": "none"}, {**BY_BODY, "id": "array", "recipe": {"split": "[]", "id": "json:id"}}])
    for n, body in enumerate(BODIES):
        assert w.post("github", body, sign.github(body, SECRET, "push", f"b-{n}")).status == 200, body[:60]
        assert w.post("bybody", body, [sign.JSON]).status == 200, body[:60]
        # What should be an array and is none is the sender's fault, never ours.
        assert w.post("array", body, [sign.JSON]).status in (200, 400, 413), body[:60]
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE tool = 'github'") == len(BODIES), 60)
    got = {int(e[2:]): bytes(b) for e, b in db.query("SELECT event_id, body FROM weir.events WHERE tool = 'github'")}
    assert got == dict(enumerate(BODIES))

    def all_of_them():
        kept = db.query("SELECT body FROM weir.events WHERE tool = 'bybody' UNION ALL SELECT body FROM weir.dead_letters WHERE tool = 'bybody'")
        return {bytes(b) for b, in kept} == set(BODIES)
    wait_until(all_of_them, 60, "each is there")
    # Dead letters: nothing but other bodies of an id that was stored already.
    assert db.value("SELECT count(*) FROM weir.dead_letters WHERE error_class <> 'conflict'") == 0
    wait_until(lambda: redis_db.client.xpending("webhook_events", "webhook_workers")["pending"] == 0, 60)
    db.query("SELECT count(weir.body_json(body)) FROM weir.events")
    assert w.metric("webhook_events_processed_total", status="dead") in (None, db.value("SELECT count(*) FROM weir.dead_letters"))


def test_row17_event_ids_of_any_kind(served, db):
    body = b"{}"
    ids = {"empty": "", "obs-text": b"caf\xe9", "long": "x" * 20000, "blanks": "a b", "pipe": "a|b'\"\\"}
    for name, eid in ids.items():
        h = sign.replace(sign.github(body, SECRET, "t-" + name, "x"), "X-GitHub-Delivery", eid)
        assert served.post("github", body, h).status == 200, name
    rows = {r["event_type"][2:]: r["event_id"] for r in stored(db, len(ids))}
    assert rows["empty"] == "" and rows["obs-text"] == "caf\u00e9" and rows["blanks"] == "a b"
    assert rows["pipe"] == ids["pipe"]
    assert 200 <= len(rows["long"]) <= 1200 and rows["long"].startswith("xxxx")


BY_BODY = {"id": "bybody", "auth": "none", "recipe": {"id": "json:id", "type": "json:type"}}


def test_row17_ids_in_the_body(weir, db, redis_db):
    """1 MB, NUL, newlines, empty, not a string, and a body that is no JSON at all: all are accepted, and known again."""
    w = weir(db, redis_db, tools=[BY_BODY])
    bodies = {
        "huge": json.dumps({"id": "y" * 1_000_000, "type": "huge"}).encode(),
        "nul": b'{"id":"a\\u0000b","type":"nul"}',
        "empty": b'{"id":"","type":"empty"}',
        "number": b'{"id":12345678901234567890,"type":"number"}',
        "object": b'{"id":{"a":1},"type":"object"}',
        "surrogate": b'{"id":"\\ud800","type":"surrogate"}',
        "newline": b'{"id":"two\\nlines\\r\\n","type":"newline"}',
        "absent": b'{"type":"absent"}',
        "unknown": b"not json",
    }
    for name, body in bodies.items():
        r = w.post("bybody", body, [sign.JSON])
        assert r.status == 200, (name, r)
    rows = {r["event_type"]: r for r in stored(db, len(bodies))}
    assert set(rows) == set(bodies)
    assert {n: r["body"] for n, r in rows.items()} == bodies
    assert rows["empty"]["event_id"] == rows["absent"]["event_id"] == rows["unknown"]["event_id"] == ""
    assert rows["number"]["event_id"] == "12345678901234567890"
    assert len(rows["huge"]["event_id"]) <= 1200
    assert "\x00" not in rows["nul"]["event_id"] and rows["nul"]["event_id"]
    assert rows["newline"]["event_id"] == "two%0Alines%0D%0A"
    for name, body in bodies.items():
        assert w.post("bybody", body, [sign.JSON]).status == 200, name
    duplicates = len(bodies)
    wait_until(lambda: w.metric("webhook_events_processed_total", status="duplicate") == duplicates, 60, "known again")
    assert len(stored(db, len(bodies))) == len(bodies)


def test_no_id_is_known_by_its_body(weir, db, redis_db):
    w = weir(db, redis_db, tools=[BY_BODY, {**BY_BODY, "id": "all", "dedup": "none"}])
    for body in (b'{"type":"t"}', b'{"type":"t"}', b'{"type":"t","n":2}'):
        for tool in ("bybody", "all"):
            assert w.post(tool, body, [sign.JSON]).status == 200
    rows = stored(db, 5)
    assert sorted(r["tool"] for r in rows) == ["all"] * 3 + ["bybody"] * 2


def test_require_id(weir, db, redis_db):
    w = weir(db, redis_db, tools=[{**BY_BODY, "require_id": True}])
    for body in (b"{}", b"not json", b'{"id":""}'):
        r = w.post("bybody", body, [sign.JSON])
        assert r.status == 400 and "id" in r.json()["detail"], (body, r)
    assert w.post("bybody", b'{"id":"1"}', [sign.JSON]).status == 200
    assert w.metric("webhooks_received_total", tool_id="bybody", outcome="malformed") == 3


SPLIT = {"id": "split", "auth": "none", "recipe": {"split": "[]", "id": "json:id", "type": "json:event"}}
DEEP_SPLIT = {"id": "deep", "auth": "none", "recipe": {"split": "entry[].changes[]", "id": "json:id", "type": "json:field"}}


def test_array_is_split(weir, db, redis_db):
    w = weir(db, redis_db, tools=[SPLIT])
    items = [b'{"id":"a", "event":"open"}', b'{ "event":"click","id":"b" , "x":[1,{}]}', b'{"id":"c","event":"open"}']
    body = b" [ " + b" ,\n".join(items) + b" ] "
    r = w.post("split", body, [sign.JSON])
    assert r.status == 200
    ids = r.json()["ids"]
    assert len(ids) == 3 and ids[0] == r.json()["id"]
    rows = {r["event_id"]: r for r in stored(db, 3)}
    assert [rows[i]["body"] for i in "abc"] == items
    assert [rows[i]["event_type"] for i in "abc"] == ["open", "click", "open"]
    assert [str(rows[i]["uid"]) for i in "abc"] == ids
    assert all(r["envelope"] is not None for r in rows.values())


def test_split_inside_an_envelope(weir, db, redis_db):
    w = weir(db, redis_db, tools=[DEEP_SPLIT])
    body = (b'{"object":"page","entry":[{"uid":1,"changes":[{"id":"a","field":"feed"},{"id":"b","field":"likes"}]},'
            b'{"uid":2,"changes":[]},{"uid":3,"changes":[{"id":"c","field":"feed"}]}]}')
    r = w.post("deep", body, [sign.JSON])
    assert r.status == 200 and len(r.json()["ids"]) == 3
    rows = stored(db, 3)
    assert {r["event_id"]: r["body"] for r in rows} == {
        "a": b'{"id":"a","field":"feed"}', "b": b'{"id":"b","field":"likes"}', "c": b'{"id":"c","field":"feed"}'}
    assert all(b'"object":"page"' in r["envelope"] and b"likes" not in r["envelope"] for r in rows)


def test_empty_and_missing_arrays(weir, db, redis_db):
    w = weir(db, redis_db, tools=[SPLIT])
    r = w.post("split", b"[]", [sign.JSON])
    assert r.status == 200 and r.json() == {"status": "accepted", "id": None, "ids": []}
    for body in (b"{}", b"not json", b"[{}", b"1"):
        assert w.post("split", body, [sign.JSON]).status == 400, body
    assert db.value("SELECT count(*) FROM weir.events") == 0


def test_split_duplicates_within_one_request(weir, db, redis_db):
    w = weir(db, redis_db, tools=[SPLIT])
    items = b",".join([b'{"id":"a","event":"open"}'] * 3 + [b'{"id":"b","event":"open"}'])
    assert w.post("split", b"[" + items + b"]", [sign.JSON]).status == 200
    wait_until(lambda: w.metric("webhook_events_processed_total", status="duplicate") == 2)
    assert len(stored(db, 2)) == 2


def test_large_bodies(weir, db, redis_db):
    """Over 256 KiB an entry goes to the large stream; it is stored all the same."""
    w = weir(db, redis_db)
    sizes = [200_000, 300_000, 5_000_000, 20_000_000]
    for n in sizes:
        body = b'{"x":"' + b"a" * n + b'"}'
        assert w.post("github", body, sign.github(body, SECRET, "big", str(n)), timeout=60).status == 200
    got = wait_until(lambda: (lambda r: r if len(r) == len(sizes) else None)(
        db.query("SELECT event_id, length(body), encode(sha256(body), 'hex') FROM weir.events")), 60)
    assert {(i, n, h) for i, n, h in got} == {
        (str(n), n + 8, sign.sha256(b'{"x":"' + b"a" * n + b'"}')) for n in sizes}


def test_nothing_is_left_pending(served, db, redis_db):
    n = 300
    with served.conn() as c:
        for i in range(n):
            body = b'{"i":%d}' % i
            c.send(http_build(body, f"id-{i}"))
        for i in range(n):
            assert c.read().status == 200
    stored(db, n)
    wait_until(lambda: redis_db.client.xpending("webhook_events", "webhook_workers")["pending"] == 0)
    wait_until(lambda: served.metric("webhook_queue_depth") == 0)


def http_build(body, eid):
    from harness.http import build
    return build("POST", "/webhooks/github", sign.github(body, SECRET, "push", eid), body)


def test_key_prefix_and_names(weir, db, redis_db):
    w = weir(db, redis_db, REDIS_KEY_PREFIX="my:", WEBHOOK_STREAM="s", WEBHOOK_GROUP="g")
    body = b"{}"
    assert w.post("github", body, sign.github(body, SECRET)).status == 200
    stored(db)
    assert all(k.startswith(b"my:") for k in redis_db.client.keys("*"))
    assert redis_db.client.xinfo_groups("my:s")[0]["name"] == b"g"


def test_redis_with_tls_and_password(weir, db, own_redis, tls):
    server = own_redis(tls=tls, password="pass word")
    w = weir(db, server)
    body = b"{}"
    assert w.post("github", body, sign.github(body, SECRET)).status == 200
    stored(db)


def test_tools_may_have_several_secrets(weir, db, redis_db):
    w = weir(db, redis_db, tools=[{**GITHUB, "secrets": ["new", "old"]}])
    for n, secret in enumerate(("new", "old")):
        body = b'{"n":%d}' % n
        assert w.post("github", body, sign.github(body, secret)).status == 200
    assert w.post("github", b"{}", sign.github(b"{}", "older")).status == 401
    stored(db, 2)
