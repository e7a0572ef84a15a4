"""What each tool takes in: rates, requests in flight, bodies, networks; tools that are silent; gzip
and CloudEvents. One tool's flood is nobody else's matter."""
import gzip
import json
import os
import socket
import subprocess
import time
import zlib

import pytest

from conftest import SECRET, module_weir
from harness import http, sign
from harness.flood import Flood
from harness.wait import wait_until
from harness.weir import run, write_tools

CE = "application/cloudevents+json"
TOOLS = [{"id": "rated", "auth": "none", "rate": "1/h", "burst": 3},
         {"id": "few", "auth": "none", "max_in_flight": 2},
         {"id": "other", "auth": "none", "recipe": {"id": "json:id"}},
         {"id": "noisy", "auth": "none", "rate": "2/s", "burst": 4, "max_in_flight": 4},
         {"id": "json", "auth": "none", "content_types": ["application/json"]},
         {"id": "near", "auth": "none", "allow_from": ["198.51.100.0/24"]},
         {"id": "here", "auth": "none", "allow_from": ["127.0.0.0/8"]},
         {"id": "zip", "auth": "none", "gzip": True, "max_body": "256KiB", "recipe": {"id": "json:id"}},
         {"id": "ziphub", "preset": "github", "secrets": [SECRET], "gzip": True},
         {"id": "named", "auth": "none", "require_id": True, "recipe": {"id": "json:id"}},
         {"id": "ce", "auth": "none", "format": "cloudevents"},
         {"id": "slack", "preset": "slack", "secrets": [SECRET]},
         {"id": "terse", "auth": "none", "recipe": {"id": "json:id", "status": 204}},
         {"id": "later", "auth": "none", "recipe": {"id": "json:id", "split": "[]", "status": 202}},
         {"id": "quiet", "auth": "none", "expect_every": 1},
         {"id": "calm", "auth": "none", "expect_every": "1h"}]


@pytest.fixture(scope="module")
def w(request, redis_server, pg_server, template_db):
    yield from module_weir(request, redis_server, pg_server, template_db, tools=TOOLS, TRUSTED_PROXIES="127.0.0.2, 10.0.0.0/8",
                           QUEUE_MAX_BYTES="256MiB")


def head(tool, length, *more):
    lines = [f"POST /webhooks/{tool} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


def problem(r, status, reason, w):
    assert r.status == status and r.header("Content-Type") == "application/problem+json", r
    wait_until(lambda: f"reason={reason}" in w.log(), 60)


def stored(w, tool, n):
    wait_until(lambda: w.db.value(f"SELECT count(*) FROM weir.events WHERE tool = '{tool}'") >= n, 60)
    return w.db.query("SELECT event_id, event_type, content_type, body, headers::text FROM weir.events "
                      f"WHERE tool = '{tool}' ORDER BY received_at, uid")


def test_rate(w):
    got = [w.post("rated", b"{}", []) for _ in range(8)]
    assert [r.status for r in got] == [200] * 3 + [429] * 5
    assert 3000 < int(got[-1].header("Retry-After")) <= 3600
    assert w.metric("webhooks_received_total", tool_id="rated", outcome="rate_limited") == 5
    assert all(w.post("other", b'{"id":%d}' % i, []).status == 200 for i in range(20))


def test_refused_before_the_body(w):
    """The answer comes while the body is still awaited."""
    for lines, tool, status in (([], "rated", 429), ([], "near", 403), (["Content-Type: text/plain"], "json", 415),
                                (["Content-Encoding: br"], "zip", 415), (["Content-Encoding: gzip"], "other", 415)):
        while tool == "rated" and w.post("rated", b"{}", []).status != 429:
            pass
        with w.conn() as c:
            c.send(head(tool, 100000, *lines))
            r = c.read("POST")
            assert r.status == status, (tool, r)
            if "Content-Encoding: br" in lines:
                assert r.header("Accept-Encoding") == "gzip"


def test_refusals_say_what_would_allow_them(w):
    """Tool, limit and setting stand in the log with the answer's id; the sender is told less."""
    for tool, length, limit, setting in (("zip", 300000, 262144, "max_body"), ("json", 28 << 20, 26 << 20, "MAX_BODY_SIZE")):
        with w.conn() as c:
            c.send(head(tool, length, "Content-Type: application/json"))
            r = c.read("POST")
        assert r.status == 413 and setting.encode() not in r.body, r
        wait_until(lambda: any(f"tool={tool} limit={limit} setting={setting}" in line and r.header("X-Request-Id") in line
                               for line in w.log().splitlines()), 60)
    bomb = gzip.compress(bytes(40 << 20))
    assert w.post("ziphub", bomb, sign.github(bomb, SECRET) + [("Content-Encoding", "gzip")]).status == 413
    wait_until(lambda: "tool=ziphub status=413 reason=gzip_ratio limit=100" in w.log(), 60)
    for tool, body, headers, line in (
            ("zip", gzip.compress(os.urandom(200000) + bytes(100000)), GZ, "status=413 reason=decoded_too_large limit=262144 setting=max_body"),
            ("ce", b"[" + b"1," * 10000 + b"1]", [("Content-Type", CE.replace("+", "-batch+"))], "status=413 reason=too_many_events limit=10000"),
            ("named", b"{}", [], "status=400 reason=id_missing setting=require_id")):
        assert str(w.post(tool, body, headers).status) in line
        wait_until(lambda: f"tool={tool} {line}" in w.log(), 60)


def test_max_in_flight(w):
    """However a request ends, its place is free again: answered, given up, or its client gone."""
    with w.conn() as a, w.conn() as b:
        a.send(head("few", 2))
        b.send(head("few", 2))
        wait_until(lambda: w.post("few", b"{}", []).status == 503, 60)
        r = w.post("few", b"{}", [])
        problem(r, 503, "in_flight", w)
        assert int(r.header("Retry-After")) >= 1
        assert w.post("other", b"{}", []).status == 200
        a.send(b"{}")
        assert a.read("POST").status == 200
        assert w.post("few", b"{}", []).status == 200
        b.close(reset=True)
    wait_until(lambda: [w.post("few", b"{}", []).status for _ in range(4)] == [200] * 4, 60)


def test_content_types(w):
    for headers, status in (([("Content-Type", "application/json; charset=utf-8")], 200), ([("Content-Type", "application/xml")], 415), ([], 415)):
        assert w.post("json", b"{}", headers).status == status


def from_proxy(w, tool, *forwarded):
    c = http.Conn.__new__(http.Conn)
    c.sock, c.buf = socket.create_connection(("127.0.0.1", w.port), 15, ("127.0.0.2", 0)), b""
    with c:
        return c.request("POST", f"/webhooks/{tool}", [("X-Forwarded-For", f) for f in forwarded], b"{}").status


def test_allow_from(w):
    problem(w.post("near", b"{}", []), 403, "sender_network", w)
    assert w.post("here", b"{}", []).status == 200
    # Not everybody may say who it is.
    assert w.post("near", b"{}", [("X-Forwarded-For", "198.51.100.7")]).status == 403
    assert from_proxy(w, "near", "198.51.100.7") == 200
    assert from_proxy(w, "near", "forged, 198.51.100.7", "10.1.1.1") == 200
    assert from_proxy(w, "near", "198.51.100.7, 203.0.113.77") == 403
    assert from_proxy(w, "here") == 200
    assert from_proxy(w, "other", "198.51.100.7, unknown") == 400
    wait_until(lambda: "peer=203.0.113.77" in w.log() and "reason=forwarded_for" in w.log(), 60)


def test_silence(w):
    def tools():
        h = w.get("/health")
        return h.status, h.json()["status"], h.json()["components"]["tools"]
    wait_until(lambda: tools()[2]["status"] == "degraded", 60)
    status, whole, part = tools()
    assert status == 200 and whole == "degraded"
    assert [t["tool"] for t in part["details"]["silent"]] == ["quiet"] and part["details"]["silent_count"] == 1
    assert part["details"]["silent"][0]["expect_every_seconds"] == 1 and part["details"]["silent"][0]["since"].endswith("Z")
    assert w.metric("webhook_tool_silent", tool_id="quiet") == 1 and w.metric("webhook_tool_silent", tool_id="calm") == 0
    assert w.metric("webhook_tool_last_event_timestamp_seconds", tool_id="quiet") is None
    assert w.post("quiet", b"{}", []).status == 200
    assert w.metric("webhook_tool_last_event_timestamp_seconds", tool_id="quiet") > 1.7e9
    # Said again of the event, not of the start.
    wait_until(lambda: tools()[2]["status"] == "degraded", 60)
    assert tools()[2]["details"]["silent"][0]["since"] > part["details"]["silent"][0]["since"]


GZ = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]


def test_row19_gzip_is_verified_as_sent(w):
    """The signature is over the bytes as they came; what is stored is what they hold."""
    plain = b'{"id":"z1", "text":"' + b"water " * 1000 + b'"}'
    assert w.post("zip", gzip.compress(plain), GZ).status == 200
    assert w.post("zip", plain, GZ[:1]).status == 200
    [(event_id, _, content_type, body, headers)] = stored(w, "zip", 1)[:1]
    assert (event_id, content_type, bytes(body)) == ("z1", "application/json", plain)
    assert "ncoding" not in headers
    packed = gzip.compress(b'{"zen":"x"}')
    assert w.post("ziphub", packed, sign.github(packed, SECRET) + GZ[1:]).status == 200
    assert w.post("ziphub", packed, sign.github(b'{"zen":"x"}', SECRET) + GZ[1:]).status == 401
    # Large ones take several turns of the loop, and are the same in the end.
    large = json.dumps({"zen": os.urandom(3 << 20).hex()}).encode()
    packed = gzip.compress(large, 1)
    headers = sign.github(packed, SECRET) + GZ[1:]
    assert w.post("ziphub", packed, headers).status == 200
    assert w.post("ziphub", packed[:-1], sign.github(packed[:-1], SECRET) + GZ[1:]).status == 400
    assert w.post("ziphub", packed[:-1], headers).status == 401
    wait_until(lambda: w.db.value("SELECT count(*) FROM weir.events WHERE tool = 'ziphub' AND body = %s", [large]) == 1, 60)


def test_row19_bad_gzip(w):
    """Bombs, nested, truncated and followed data are refused, and cost no memory that stays."""
    packed = gzip.compress(b'{"id":"z2"}')
    bomb = gzip.compress(bytes(64 << 20))
    for body, status, reason in ((packed[:-1], 400, "gzip_truncated"), (packed + b"x", 400, "gzip_trailing"),
                                 (packed + packed, 400, "gzip_trailing"), (gzip.compress(packed), 400, "gzip_nested"),
                                 (b"{}", 400, "gzip_malformed"), (b"", 400, "gzip_truncated"),
                                 (gzip.compress(os.urandom(200000) + bytes(100000)), 413, "decoded_too_large"),
                                 (bomb, 413, "decoded_too_large")):
        problem(w.post("zip", body, GZ), status, reason, w)
    before = w.metric("webhook_memory_allocated_bytes")
    big = [w.post("ziphub", bomb, sign.github(bomb, SECRET) + GZ[1:]).status for _ in range(5)]
    assert big == [413] * 5
    assert w.metric("webhook_memory_allocated_bytes") - before < 1 << 20
    problem(w.post("ziphub", bomb, sign.github(bomb, SECRET) + GZ[1:]), 413, "gzip_ratio", w)
    # A stranger's is not opened.
    assert w.post("ziphub", bomb, sign.github(bomb, "wrong") + GZ[1:]).status == 401
    # Ten megabytes that would be ten gigabytes, and a bomb of bombs.
    vast = ten_gigabytes()
    assert 9 << 20 < len(vast) < 12 << 20
    for body in (vast, gzip.compress(vast)):
        problem(w.post("ziphub", body, sign.github(body, SECRET) + GZ[1:]), 413, "gzip_ratio", w)
    assert w.metric("webhook_memory_peak_bytes") < 128 << 20
    assert w.metric("webhook_memory_allocated_bytes") - before < 1 << 20


def ten_gigabytes():
    """Of zeros: the same megabyte again and again, behind a head that begins none anew."""
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = z.compress(bytes(1 << 20)) + z.flush(zlib.Z_FULL_FLUSH)
    again = z.compress(bytes(1 << 20)) + z.flush(zlib.Z_FULL_FLUSH)
    return head + again * (10 << 10)


def test_cloudevents(w):
    one = {"specversion": "1.0", "id": "1", "source": "/mill", "type": "gate.opened", "data": [1, 2]}
    assert w.post("ce", json.dumps(one).encode(), [("Content-Type", CE)]).status == 200
    batch = json.dumps([one | {"id": "2"}, one | {"id": "3", "source": "urn:x"}]).encode()
    r = w.post("ce", batch, [("Content-Type", "application/cloudevents-batch+json; charset=utf-8")])
    assert r.status == 200 and len(r.json()["ids"]) == 2
    r = w.post("ce", b"[1,2]", [("Content-Type", "application/json"), ("ce-specversion", "1.0"), ("ce-id", "4"), ("ce-source", "/a%20b"), ("ce-type", "bin")])
    assert len(r.json()["ids"]) == 1
    rows = sorted(r[:4] for r in stored(w, "ce", 4))
    assert [(i, t, c) for i, t, c, _ in rows] == [("/a b:4", "bin", "application/json"), ("/mill:1", "gate.opened", CE),
                                                  ("/mill:2", "gate.opened", CE), ("urn:x:3", "gate.opened", CE)]
    assert bytes(rows[0][3]) == b"[1,2]"
    # The same event once more, in another mode.
    assert w.post("ce", b"[1,2]", [("Content-Type", CE)]).status == 200  # no attributes: stored all the same
    assert w.post("ce", b"{}", [("Content-Type", "application/cloudevents-batch+json")]).status == 400


def test_answers_as_the_sender_wants(w):
    """The status is the recipe's; 204 has no body, and nothing else of the connection suffers."""
    with w.conn() as c:
        for n in range(3):
            c.send(http.build("POST", "/webhooks/terse", [("Content-Type", "application/json")], b'{"id":%d}' % n))
            r = c.read("POST")
            assert r.status == 204 and r.body == b"" and r.header("Content-Length") is None, r
        c.send(http.build("POST", "/webhooks/other", [], b"{}"))
        assert c.read("POST").status == 200
    r = w.post("later", b'[{"id":1},{"id":2}]', [sign.JSON])
    assert r.status == 202 and len(r.json()["ids"]) == 2
    r = w.post("later", b"[]", [sign.JSON])
    assert r.status == 202 and r.json()["ids"] == [] and w.post("later", b"{}", [sign.JSON]).status == 400
    assert len(stored(w, "terse", 3)) == 3 and len(stored(w, "later", 2)) == 2


def test_skew(w):
    """A host whose clock is wrong refuses everything: the gauge says why."""
    body = b'{"type":"event_callback"}'
    for off, status in ((0, 200), (-100, 200), (200, 200), (4000, 401)):
        assert w.post("slack", body, sign.slack(body, SECRET, int(time.time()) - off)).status == status
        assert abs(w.metric("webhook_signature_skew_seconds", tool_id="slack") - off) < 60
    w.post("slack", body, sign.slack(body, "wrong", 0))
    assert abs(w.metric("webhook_signature_skew_seconds", tool_id="slack") - 4000) < 60


def test_metrics_are_clean(w):
    w.post("other", b"{}", [])
    r = subprocess.run(["promtool", "check", "metrics"], input=w.metrics(), capture_output=True, text=True)
    assert r.returncode == 0 and not r.stderr, r.stderr


FLOOD = 40


def test_a_flood_leaves_room(weir, db, redis_db):
    """One tool's bodies, sent slowly and never whole, fill what they may fill; another tool's requests
    are answered 200, each of them, and the flood is let go when it ends."""
    w = weir(db, redis_db, tools=[{"id": "a", "auth": "none"}, {"id": "b", "auth": "none"}],
             MAX_MEMORY="64MiB", MAX_BODY_SIZE="4MiB")
    conns, refused = [], 0
    for _ in range(FLOOD):
        c = w.conn()
        conns.append(c)
        try:
            c.send(head("a", 1000000) + b"x" * 900000)
        except OSError:
            pass  # refused while it was still sending
    wait_until(lambda: (w.metric("webhooks_received_total", tool_id="a", outcome="overload") or 0) >= 1, 60)
    got = [w.post("b", b"y" * 300000, []).status for _ in range(30)]
    assert got == [200] * 30
    for c in conns:
        c.close(reset=True)
    wait_until(lambda: w.post("a", b"z" * 900000, []).status == 200, 60)


def paced(w, conn, n=40):
    """Seconds that each of some requests took that come one by one, sorted."""
    took = []
    for _ in range(n):
        started = time.monotonic()
        assert conn.request("POST", "/webhooks/other", [], b'{"id":"paced"}').status == 200
        took.append(time.monotonic() - started)
        time.sleep(0.005)
    return sorted(took)


def test_a_flood_leaves_latency(w):
    """One tool is flooded over its rate and its requests in flight, with large and with slow bodies;
    another tool's requests take about as long as in the pauses between. What else the machine does
    disturbs some of the rounds, so there are more until it shows; a flood that is let in makes each of
    them a hundred times as slow."""
    median, p95, shows = [], [], False
    with w.conn() as c:
        paced(w, c)
        while not shows and len(median) < 12:
            wait_until(lambda: w.metric("webhook_queue_depth") == 0, 60)
            quiet = paced(w, c)
            with Flood(w.port, "noisy"):
                flooded = paced(w, c)
            median.append(flooded[20] / quiet[20])
            p95.append(flooded[38] / quiet[38])
            refused = [w.metric("webhooks_received_total", tool_id="noisy", outcome=o) or 0 for o in ("rate_limited", "overload")]
            shows = refused[0] >= 10 and refused[1] >= 1 and min(median) < 12 and min(p95) < 20
    assert shows, (refused, median, p95)


def test_bad_settings(work_dir):
    tools = os.path.join(work_dir, "tools.json")
    for member, value in (("rate", "100"), ("rate", "0/s"), ("burst", 5), ("max_in_flight", 0), ("content_types", ["json"]), ("content_types", []),
                          ("allow_from", ["10.0.0.1/8"]), ("allow_from", []), ("expect_every", "0s"), ("gzip", "yes"), ("signed_encoding", "sent"), ("format", "xml")):
        write_tools(tools, [{"id": "t", "auth": "none", member: value}])
        r = run("check-config", env={"TOOLS_FILE": tools})
        assert r.rc == 78 and "t\"" in r.err and f"{member}:" in r.err, r
    write_tools(tools, [{"id": "t", "auth": "none", "format": "cloudevents", "recipe": {"id": "json:id"}}])
    r = run("check-config", env={"TOOLS_FILE": tools})
    assert r.rc == 78 and "format" in r.err and "recipe.id" in r.err, r
    write_tools(tools, [{"id": "t", "secrets": ["k"], "gzip": True, "recipe": {"sig": "json:sig", "signed": "{header:x}"}}])
    r = run("check-config", env={"TOOLS_FILE": tools})
    assert r.rc == 78 and "signed_encoding" in r.err, r
    r = run("check-config", env={"TRUSTED_PROXIES": "10.0.0.1/8"})
    assert r.rc == 78 and "TRUSTED_PROXIES" in r.err and "10.0.0.1/8" in r.err, r
