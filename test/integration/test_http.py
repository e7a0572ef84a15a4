"""Routes, refusals, health and metrics: what answers look like."""
import subprocess
import time
import uuid

import pytest

from conftest import SECRET, module_weir
from harness import sign
from harness.http import build
from harness.wait import wait_until
from harness.weir import run


@pytest.fixture(scope="module")
def w(request, redis_server, pg_server, template_db):
    yield from module_weir(request, redis_server, pg_server, template_db, MAX_BODY_SIZE="1MiB")


def problem(r, status):
    assert r.status == status, r
    assert r.header("Content-Type") == "application/problem+json"
    p = r.json()
    assert p["status"] == status and p["title"] and isinstance(p["detail"], str)
    assert r.header("X-Request-Id")
    return p


def good(w):
    body = uuid.uuid4().hex.encode()
    assert w.post("github", body, sign.github(body, SECRET)).status == 200


def test_unknown_tool(w):
    problem(w.post("nobody", b"{}", [sign.JSON]), 404)
    assert w.metric("webhooks_received_total", tool_id="-", outcome="unknown_tool") >= 1


@pytest.mark.parametrize("path", ["/nothing", "/webhooks", "/webhooks/", "/webhooks/github/", "/webhooks/github/x",
                                  "/WEBHOOKS/github", "//webhooks/github", "/webhooks//github", "/health/", "/metrics/",
                                  "/webhooks/GitHub"])
def test_paths_match_exactly(w, path):
    body = b"{}"
    problem(w.request("POST", path, sign.github(body, SECRET), body), 404)


def test_path_is_decoded_once(w):
    body = b"{}"
    assert w.request("POST", "/webhooks/%67ithub", sign.github(body, SECRET), body).status == 200
    problem(w.request("POST", "/webhooks/%2567ithub", sign.github(body, SECRET), body), 404)
    assert w.request("POST", "/webhooks/github?x=1", sign.github(body, SECRET), body).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_webhooks_are_posted(w, method):
    r = w.request(method, "/webhooks/github")
    assert r.status == 405 and r.header("Allow") == "POST"


def test_404_goes_before_405(w):
    assert w.request("GET", "/webhooks/nobody").status == 404


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/live", "/health/simple", "/metrics"])
def test_head_where_get_is(w, path):
    for health in (True, False):
        port = w.health_port if health else w.port
        from harness import http
        r = http.request(port, "HEAD", path)
        assert r.status == 200 and r.body == b"" and int(r.header("Content-Length")) > 0
        r = http.request(port, "POST", path, (), b"")
        assert r.status == 405 and r.header("Allow") == "GET, HEAD"
        assert http.request(port, "GET", path).status == 200


def test_request_id(w):
    body = b"{}"
    headers = sign.github(body, SECRET)
    assert w.post("github", body, headers + [("X-Request-Id", "abc.DEF_1-2")]).header("X-Request-Id") == "abc.DEF_1-2"
    for bad in ("", "a b", "x" * 129, "a\u00e9", "a/b"):
        got = w.post("github", body, headers + [("X-Request-Id", bad)]).header("X-Request-Id")
        assert got and got != bad
    first, second = (w.get("/health").header("X-Request-Id") for _ in range(2))
    assert first != second
    assert problem(w.post("nobody", b"", [("X-Request-Id", "mine")]), 404)
    assert w.post("nobody", b"", [("X-Request-Id", "mine")]).header("X-Request-Id") == "mine"


def test_body_over_the_limit_with_length(w):
    """Refused at the head: no body byte need be sent."""
    with w.conn() as c:
        c.send(b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
        problem(c.read(), 413)
        assert c.closed()
    assert w.metric("webhooks_received_total", outcome="too_large") >= 1
    good(w)


def test_body_over_the_limit_chunked(w):
    with w.conn() as c:
        c.send(b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(40):
                c.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
        except OSError:
            pass  # it need not listen to all of it
        problem(c.read(), 413)
    good(w)


def test_body_at_the_limit(w):
    body = b"a" * 1048576
    assert w.post("github", body, sign.github(body, SECRET)).status == 200


def test_chunked_body(w):
    body = b'{"a":1}' * 100
    head = build("POST", "/webhooks/github", sign.github(body, SECRET) + [("Transfer-Encoding", "chunked")])
    with w.conn() as c:
        c.send(head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:1], body[1:500], body[500:])) + b"0\r\n\r\n")
        assert c.read().status == 200


def test_row19_content_encoding_is_refused(w):
    body = b"\x1f\x8b"
    problem(w.post("github", body, sign.github(body, SECRET) + [("Content-Encoding", "gzip")]), 415)
    assert w.post("github", b"{}", sign.github(b"{}", SECRET) + [("Content-Encoding", "identity")]).status == 200


def test_any_content_type_is_taken(w):
    body = b"payload=%7B%7D"
    h = sign.replace(sign.github(body, SECRET), "Content-Type", "application/x-www-form-urlencoded")
    assert w.post("github", body, h).status == 200
    assert w.post("github", body, sign.replace(h, "Content-Type", None)).status == 200


def test_pipelined_requests_are_answered_in_order(w):
    with w.conn() as c:
        out = b""
        for i in range(20):
            body = b'{"p":%d}' % i
            secret = SECRET if i % 3 else "wrong"
            out += build("POST", "/webhooks/github", sign.github(body, secret) + [("X-Request-Id", f"r{i}")], body)
        c.send(out)
        for i in range(20):
            r = c.read()
            assert (r.header("X-Request-Id"), r.status) == (f"r{i}", 200 if i % 3 else 401)


def test_connection_close_and_http_1_0(w):
    with w.conn() as c:
        assert c.request("GET", "/health/live", [("Connection", "close")]).status == 200
        assert c.closed()
    with w.conn() as c:
        c.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert c.read().status == 200
        assert c.closed()


def test_health(w):
    wait_until(lambda: w.get("/health").json()["status"] == "healthy" and w.get("/health").json()["components"]["queue"]["details"])
    for health in (True, False):
        r = w.get("/health", health)
        assert r.status == 200 and r.header("Content-Type") == "application/json"
        h = r.json()
        assert h["status"] == "healthy" and h["service_name"] == "weir"
        assert set(h) >= {"mode", "processing", "processing_count", "last_processing_time", "timestamp", "components",
                          "execution_count", "last_execution_time", "next_execution_time", "uptime_seconds"}
        c = h["components"]
        assert c["database"]["status"] == c["redis"]["status"] == "healthy"
        assert {"open_connections", "query_duration_ms"} <= set(c["database"]["details"])
        assert {"queue_depth", "pending", "oldest_pending_seconds"} <= set(c["queue"]["details"])
        assert {"memory_alloc_mb", "open_fds", "loop_lag_ms", "active_requests"} <= set(
            c["worker"]["details"]["runtime"])
    assert w.get("/health/live").json() == {"status": "ok"} == w.get("/health/simple").json()
    assert w.get("/health/ready").status == 200


def test_service_page(w):
    s = w.get("/", health=False).json()
    assert {"service_name", "version", "mode", "status", "processing", "processing_count", "last_processing_time"} <= set(s)
    assert w.get("/", health=True).status == 404


def test_metrics_are_clean(w):
    good(w)
    w.post("github", b"{}", [sign.JSON])
    r = w.get("/metrics")
    assert r.status == 200 and r.header("Content-Type").startswith("text/plain; version=0.0.4")
    check = subprocess.run(["promtool", "check", "metrics"], input=r.body, capture_output=True, timeout=60)
    assert check.returncode == 0 and not check.stdout and not check.stderr, check
    text = r.body.decode()
    for name in ("webhook_events_received_total", "webhook_events_processed_total", "webhooks_received_total",
                 "webhook_event_processing_duration_seconds", "webhook_queue_depth",
                 "webhook_batch_size", "webhook_processing_duration_seconds", "webhook_loop_lag_seconds",
                 "webhook_redis_reconnects_total", "webhook_pg_reconnects_total", "webhook_pg_connections",
                 "webhook_queue_acks_forgotten_total", "webhook_http_connections", "webhook_http_late_replies_total",
                 "webhook_loop_turn_seconds", "webhook_memory_allocated_bytes", "process_open_fds",
                 "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"):
        assert f"# TYPE {name} " in text, name


def test_metrics_as_json(w):
    want = {"total_processing_count", "average_duration", "success_rate", "changes_detection_rate", "currently_processing"}
    for r in (w.get("/metrics?format=json"), w.get("/metrics", headers=[("Accept", "application/json")])):
        assert r.header("Content-Type") == "application/json" and set(r.json()) == want


def test_event_types_of_a_tool_are_bounded(w):
    """Past 200 types the label says 'other'; the rows keep the type."""
    with w.conn() as c:
        for i in range(230):
            body = b'{"t":%d}' % i
            assert c.request("POST", "/webhooks/github", sign.github(body, SECRET, f"type-{i}"), body).status == 200
    text = w.metrics()
    types = {line.split('event_type="')[1].split('"')[0] for line in text.splitlines()
             if line.startswith("webhook_events_received_total{")}
    assert len(types) <= 201 and "other" in types


def test_ingest_may_be_webhooks_only(weir, db, redis_db):
    w = weir(db, redis_db, INGEST_ENDPOINTS="webhooks")
    assert w.get("/health", health=False).status == 404
    assert w.get("/metrics", health=False).status == 404
    good(w)


def test_health_server_spelling(weir, db, redis_db):
    from harness.proc import free_port
    port = free_port()
    w = weir(db, redis_db, start=False, HEALTH_SERVER_HOST="127.0.0.1", HEALTH_SERVER_PORT=port)
    del w.env["HEALTH_ENDPOINT"]
    w.health_port = port
    w.start()
    assert w.get("/").status == 200


# ---- the gate, by raw sockets: each refusal leaves the server serving others ----

def post(headers, body=b"", target=b"/webhooks/github", version=b"HTTP/1.1", host=b"Host: x\r\n"):
    return b"POST " + target + b" " + version + b"\r\n" + host + headers + b"\r\n" + body


MALFORMED = {
    "cl-and-te": (post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), {400}),
    "te-and-cl": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"), {400}),
    "two-cl": (post(b"Content-Length: 3\r\nContent-Length: 6\r\n", b"abcdef"), {400}),
    "two-equal-cl": (post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), {400}),
    "cl-list": (post(b"Content-Length: 3, 3\r\n", b"abc"), {400}),
    "cl-sign": (post(b"Content-Length: +3\r\n", b"abc"), {400}),
    "cl-negative": (post(b"Content-Length: -3\r\n", b"abc"), {400}),
    "cl-hex": (post(b"Content-Length: 0x3\r\n", b"abc"), {400}),
    "cl-empty": (post(b"Content-Length: \r\n", b"abc"), {400}),
    "cl-huge": (post(b"Content-Length: 99999999999999999999999\r\n"), {400, 413}),
    "te-xchunked": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), {400, 501}),
    "te-gzip-chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), {400, 501}),
    "te-identity": (post(b"Transfer-Encoding: identity\r\n", b""), {400, 501}),
    "two-te": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), {400}),
    "te-blank-before-colon": (post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), {400}),
    "no-host": (post(b"Content-Length: 0\r\n", host=b""), {400}),
    "two-hosts": (post(b"Host: y\r\nContent-Length: 0\r\n"), {400}),
    "version-9": (post(b"Content-Length: 0\r\n", version=b"HTTP/9.9"), {400, 505}),
    "version-2": (post(b"Content-Length: 0\r\n", version=b"HTTP/2.0"), {400, 505}),
    "no-version": (b"POST /webhooks/github\r\n\r\n", {400, 505}),
    "name-no-token": (post(b"Bad Name: 1\r\nContent-Length: 0\r\n"), {400}),
    "name-empty": (post(b": 1\r\nContent-Length: 0\r\n"), {400}),
    "no-colon": (post(b"NoColon\r\nContent-Length: 0\r\n"), {400}),
    "obs-fold": (post(b"A: 1\r\n  2\r\nContent-Length: 0\r\n"), {400}),
    "nul-in-value": (post(b"A: 1\x002\r\nContent-Length: 0\r\n"), {400}),
    "cr-in-value": (post(b"A: 1\r2\r\nContent-Length: 0\r\n"), {400}),
    "bare-lf": (b"POST /webhooks/github HTTP/1.1\nHost: x\nContent-Length: 0\n\n", {400}),
    "many-headers": (post(b"".join(b"A%d: 1\r\n" % i for i in range(150)) + b"Content-Length: 0\r\n"), {431}),
    "big-header": (post(b"A: " + b"x" * 40000 + b"\r\nContent-Length: 0\r\n"), {431}),
    "long-target": (post(b"Content-Length: 0\r\n", target=b"/" + b"x" * 40000), {414, 431}),
    "blank-in-target": (post(b"Content-Length: 0\r\n", target=b"/web hooks/github"), {400}),
    "bad-chunk-size": (post(b"Transfer-Encoding: chunked\r\n", b"zz\r\nabc\r\n0\r\n\r\n"), {400}),
    "chunk-overrun": (post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"), {400}),
    "chunk-size-huge": (post(b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n"), {400, 413}),
    "unknown-method": (b"FOO /webhooks/github HTTP/1.1\r\nHost: x\r\n\r\n", {405, 501}),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    "expect-unknown": (post(b"Expect: something\r\nContent-Length: 0\r\n"), {417}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_gate_refuses(w, name):
    data, want = MALFORMED[name]
    with w.conn() as c:
        c.send(data)
        r = c.read()
        assert r.status in want, r
        assert r.header("Content-Type") == "application/problem+json"
    good(w)


def test_nothing_is_smuggled(w):
    """What follows a refused request on the same connection is never run."""
    before = w.metric("webhooks_received_total", outcome="unknown_tool") or 0
    inner = b"POST /webhooks/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with w.conn() as c:
        c.send(post(b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % (5 + len(inner)), b"0\r\n\r\n" + inner))
        assert c.read().status == 400
        assert c.closed()
    good(w)
    assert (w.metric("webhooks_received_total", outcome="unknown_tool") or 0) == before


def test_trailers_are_no_headers(w):
    body = b"{}"
    signed = sign.github(body, SECRET)
    sig = [f"{n}: {v}\r\n".encode() for n, v in signed if n == "X-Hub-Signature-256"][0]
    head = build("POST", "/webhooks/github", sign.replace(signed, "X-Hub-Signature-256", None) +
                 [("Transfer-Encoding", "chunked")])
    with w.conn() as c:
        c.send(head + b"2\r\n{}\r\n0\r\n" + sig + b"\r\n")
        assert c.read().status in (400, 401)
    good(w)


def test_expect_100_continue(w):
    body = b"{}"
    with w.conn() as c:
        c.send(build("POST", "/webhooks/github", sign.github(body, SECRET) +
                     [("Expect", "100-continue"), ("Content-Length", "2")]))
        assert c._until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        c.send(body)
        assert c.read().status == 200


def test_client_that_leaves(w):
    """Before the body is whole, and before the answer; nothing is freed that is in use."""
    body = b"x" * 1000
    whole = build("POST", "/webhooks/github", sign.github(body, SECRET), body)
    for reset in (False, True):
        for cut in (10, len(whole) - 500, len(whole)):
            for _ in range(10):
                c = w.conn()
                c.send(whole[:cut])
                c.close(reset)
    good(w)


def test_slow_header_body_and_reader(weir, db, redis_db):
    w = weir(db, redis_db, HEADER_TIMEOUT="1s", BODY_TIMEOUT="1s", WRITE_TIMEOUT="1s", IDLE_TIMEOUT="30s")
    head, body, reader = w.conn(), w.conn(), w.conn()
    head.send(b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n")
    body.send(post(b"Content-Length: 100\r\n", b"abc"))
    # A drip of bytes must not extend an absolute deadline.
    import threading
    stop = threading.Event()

    def drip():
        while not stop.wait(0.2):
            try:
                head.send(b"X")
                body.send(b"y")
            except OSError:
                return
    t = threading.Thread(target=drip)
    t.start()
    try:
        assert head.read().status == 408
        assert body.read().status == 408
    finally:
        stop.set()
        t.join()
    reader.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
    good(w)
    # Cut off while it reads nothing; then what was under way comes, and the end.
    wait_until(lambda: w.metric("process_open_fds") is not None)
    start = time.monotonic()
    wait_until(lambda: _gone(w, reader), 10)
    assert time.monotonic() - start < 10
    for c in (head, body, reader):
        c.close()


def _gone(w, conn):
    """Whether the server has no connection from this socket's port any more."""
    port = conn.sock.getsockname()[1]
    with open("/proc/net/tcp") as f:
        for line in f.readlines()[1:]:
            local, remote, state = line.split()[1:4]
            if int(local.split(":")[1], 16) == w.port and int(remote.split(":")[1], 16) == port and state == "01":
                return False
    return True


def test_a_stall_of_ours_is_no_408(weir, db, redis_db):
    """Weir stands still for longer than the body may take: the client is not to blame."""
    w = weir(db, redis_db, BODY_TIMEOUT="1s")
    body = b"x" * 1000
    request = build("POST", "/webhooks/github", sign.github(body, SECRET), body)
    with w.conn() as c:
        c.send(request[:-500])
        w.child.stop()
        time.sleep(2.5)  # the stall itself
        w.child.cont()
        assert w.get("/health/live").status == 200
        c.send(request[-500:])
        assert c.read("POST").status == 200


def test_equal_ports_are_refused(weir, db, redis_db):
    for settings in ({"HEALTH_ENDPOINT": "127.0.0.1:9999", "PORT": "9999"}, {"HEALTH_ENDPOINT": ":9999", "PORT": "9999"},
                     {"HEALTH_ENDPOINT": "localhost:9999", "PORT": "9999"}, {"HEALTH_ENDPOINT": "[::ffff:127.0.0.1]:9999", "PORT": "9999"},
                     {"HEALTH_SERVER_HOST": "127.0.0.1", "HEALTH_SERVER_PORT": "9999", "PORT": "9999"}):
        env = {"HOST": "127.0.0.1", **settings}
        for command in ("serve", "check-config"):
            r = run(command, env=env)
            assert r.rc == 78 and "PORT=9999" in r.err, r


@pytest.mark.parametrize("name, value", [("HOST", "foo.example"), ("HEALTH_ENDPOINT", "bar:8088"), ("DATABASE_URL", "garbage"),
                                         ("REDIS_TLS_CA_FILE", "/nope"), ("ROLES", "deliver")])
def test_what_serve_refuses_check_config_refuses(name, value):
    for command in ("serve", "check-config"):
        r = run(command, env={"REDIS_TLS_ENABLED": "true", name: value})
        assert r.rc == 78 and name in r.err, r
