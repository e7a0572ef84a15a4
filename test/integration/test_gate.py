"""The HTTP gate by raw sockets: every malformed request gets its problem+json, the connection is
closed, and the server goes on serving others. Then the good requests that are hard: cut, slow,
pipelined, half-closed, chunked."""
import os
import re
import socket
import threading
import time

import pytest

from harness import echo, http
from harness.servers import Database, RedisDb
from harness.wait import wait_until
from harness.weir import Weir, write_tools

HOST = b"Host: x\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HOST
GET = b"GET /x HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="session")
def echo_binary():
    return echo.binary()


@pytest.fixture
def server(request, echo_binary):
    """server(NAME=value, ...) starts an http_echo of the test's own."""
    made = []

    def make(wrap=(), **options):
        made.append(echo.Echo(echo_binary, wrap, **options))
        request.node.weir_logs = made
        return made[-1]
    yield make
    for s in made:
        s.close()


@pytest.fixture(scope="session")
def shared_echo(echo_binary):
    s = echo.Echo(echo_binary)
    yield s
    s.close()


class Target:
    def __init__(self, port, good, limit):
        self.port, self.good, self.limit = port, good, limit

    def conn(self):
        return http.Conn(self.port)

    def serves(self):
        return http.request(self.port, "GET", self.good).status == 200


@pytest.fixture(scope="module")
def shared_weir(pg_server, template_db, redis_server):
    with pg_server.connect("postgres") as c:
        c.execute(f'CREATE DATABASE gate TEMPLATE "{template_db}"')
    db, redis = Database(pg_server, "gate"), RedisDb(redis_server, redis_server.databases - 1)
    w = Weir(db.env() | redis.env() | {"MAX_BODY_SIZE": "1MiB"}, name="gate")
    w.env["TOOLS_FILE"] = write_tools(os.path.join(w.dir, "tools.json"), [{"id": "x", "auth": "none"}])
    yield w.start()
    w.close()
    redis.client.close()
    db.close()
    with pg_server.connect("postgres") as c:
        c.execute("DROP DATABASE gate WITH (FORCE)")


@pytest.fixture(params=["echo", "weir"])
def target(request):
    """What the gate stands before: the bare server, and weir itself."""
    if request.param == "echo":
        return Target(request.getfixturevalue("shared_echo").port, "/x", 1 << 20)
    return Target(request.getfixturevalue("shared_weir").port, "/health/live", 1 << 20)


def many(n):
    return b"".join(b"X-%d: v\r\n" % i for i in range(n))


REFUSED = {
    # where the body ends
    "length and chunked": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked and length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 6\r\n\r\nabcdef"),
    "two equal lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "two encodings": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "gzip, chunked": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "xchunked": (501, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "identity": (501, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "empty encoding": (501, POST + b"Transfer-Encoding:\r\n\r\n"),
    "chunked in 1.0": (400, b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "length negative": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "length signed": (400, POST + b"Content-Length: +5\r\n\r\nabcde"),
    "length list": (400, POST + b"Content-Length: 5, 5\r\n\r\nabcde"),
    "length empty": (400, POST + b"Content-Length:\r\n\r\n"),
    "length word": (400, POST + b"Content-Length: abc\r\n\r\n"),
    "length hex": (400, POST + b"Content-Length: 0x5\r\n\r\nabcde"),
    "length 2^64": (400, POST + b"Content-Length: 18446744073709551616\r\n\r\n"),
    "length 2^64 + 5": (400, POST + b"Content-Length: 18446744073709551621\r\n\r\nabcde"),
    # headers
    "blank before colon": (400, POST + b"Content-Length : 5\r\n\r\nabcde"),
    "blank in name": (400, GET + b"X Y: 1\r\n\r\n"),
    "blank before name": (400, b"GET /x HTTP/1.1\r\n Host: x\r\n\r\n"),
    "empty name": (400, GET + b": v\r\n\r\n"),
    "no colon": (400, GET + b"nonsense\r\n\r\n"),
    "name with bracket": (400, GET + b"X(): 1\r\n\r\n"),
    "name beyond ASCII": (400, GET + b"X-\xc3\xa9: 1\r\n\r\n"),
    "folded": (400, POST + b"Content-Length: 5\r\n\t0\r\n\r\nabcde"),
    "folded with blanks": (400, GET + b"X: 1\r\n  2\r\n\r\n"),
    "bare LF": (400, b"GET /x HTTP/1.1\nHost: x\n\n"),
    "bare LF in headers": (400, GET + b"X: 1\nY: 2\r\n\r\n"),
    "bare CR in value": (400, GET + b"X: a\rb\r\n\r\n"),
    "CR CR LF": (400, GET + b"X: a\r\r\n\r\n"),
    "NUL in name": (400, GET + b"X\0Y: 1\r\n\r\n"),
    "NUL in value": (400, GET + b"X: a\0b\r\n\r\n"),
    "DEL in value": (400, GET + b"X: a\x7fb\r\n\r\n"),
    "control in value": (400, GET + b"X: a\x01b\r\n\r\n"),
    "101 headers": (431, GET + many(100) + b"\r\n"),
    "33 KiB of headers": (431, GET + b"X: " + b"a" * 33000 + b"\r\n\r\n"),
    "endless headers": (431, GET + b"X: " + b"a" * 300000),
    # request line
    "HTTP/2.0": (505, b"GET /x HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/1.2": (505, b"GET /x HTTP/1.2\r\nHost: x\r\n\r\n"),
    "HTTP/0.9 version": (505, b"GET /x HTTP/0.9\r\nHost: x\r\n\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /x\r\n"),
    "version in lower case": (400, b"GET /x http/1.1\r\nHost: x\r\n\r\n"),
    "version with more": (400, b"GET /x HTTP/1.10\r\nHost: x\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two blanks": (400, b"GET  /x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "blank in target": (400, b"GET /x y HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab in target": (400, b"GET /x\ty HTTP/1.1\r\nHost: x\r\n\r\n"),
    "NUL in target": (400, b"GET /x\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "DEL in target": (400, b"GET /x\x7f HTTP/1.1\r\nHost: x\r\n\r\n"),
    "fragment": (400, b"GET /x#y HTTP/1.1\r\nHost: x\r\n\r\n"),
    "relative target": (400, b"GET x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "star for GET": (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "authority form": (400, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "other scheme": (400, b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "userinfo": (400, b"GET http://u:p@x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "bad escape": (400, b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"),
    "cut escape": (400, b"GET /a%4 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "escaped NUL": (400, b"GET /x%00y HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method no token": (400, b"G@T /x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target too long": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "endless request line": (414, b"GET /" + b"a" * 300000),
    "TLS to the plain port": (400, bytes.fromhex("160301020001") + b"\0" * 50),
    "many blank lines": (400, b"\r\n" * 20),
    # Host
    "no Host": (400, b"GET /x HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, GET + b"Host: y\r\n\r\n"),
    "two Hosts in 1.0": (400, b"GET /x HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n"),
    "bad Host": (400, b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "Host with path": (400, b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    # Expect
    "other Expect": (417, POST + b"Content-Length: 3\r\nExpect: something\r\n\r\nabc"),
    # chunks
    "size 2^64 + 5": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nabcde\r\n0\r\n\r\n"),
    "size 2^63": (413, POST + b"Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n"),
    "size negative": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n"),
    "size with 0x": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n"),
    "size empty": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n\r\nabcde\r\n0\r\n\r\n"),
    "size with blank": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n5 \r\nabcde\r\n0\r\n\r\n"),
    "size ends in LF": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n"),
    "chunk too long": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdef\r\n0\r\n\r\n"),
    "chunk without CRLF": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde0\r\n\r\n"),
    "extension with NUL": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n5;a=\0\r\nabcde\r\n0\r\n\r\n"),
    "long extension": (413, POST + b"Transfer-Encoding: chunked\r\n\r\n5;a=" + b"x" * 5000),
    "bad trailer": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n"),
    "folded trailer": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n"),
    "long trailers": (413, POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 9000),
}


def is_problem(r, status):
    assert r.status == status, r
    assert r.head.startswith(b"HTTP/1.1 %d " % status)
    assert r.header("Content-Type") == "application/problem+json"
    assert r.header("Connection") == "close"
    doc = r.json()
    assert doc["status"] == status and doc["type"] == "about:blank" and doc["title"] and doc["detail"]
    assert doc["instance"] == r.header("X-Request-Id")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(target, name):
    status, raw = REFUSED[name]
    with target.conn() as c:
        c.send(raw)
        is_problem(c.read(), status)
        assert c.closed()
    assert target.serves()


@pytest.mark.parametrize("name", ["two lengths", "bare LF", "folded", "no Host", "HTTP/2.0", "size 2^64 + 5", "bad trailer"])
def test_refused_byte_by_byte(target, name):
    status, raw = REFUSED[name]
    with target.conn() as c:
        try:
            for i in range(len(raw)):
                c.send(raw[i:i + 1])
        except OSError:
            pass  # it may be refused before the last byte
        is_problem(c.read(), status)
    assert target.serves()


def test_smuggled_tail_is_not_run(server):
    s = server()
    with s.conn() as c:
        c.send(POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n")
        assert c.rest().count(b"HTTP/1.1 ") == 1
    assert s.stats()["requests"] == 1  # the stats call itself


# -- sizes


def test_length_over_the_limit_is_refused_before_the_body(target):
    with target.conn() as c:
        c.send(POST + b"Content-Length: %d\r\n\r\n" % (target.limit + 1))
        is_problem(c.read(), 413)
    assert target.serves()


def test_expect_over_the_limit_gets_no_100(target):
    with target.conn() as c:
        c.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (target.limit + 1))
        assert c.rest().startswith(b"HTTP/1.1 413 ")


def test_chunks_over_the_limit(target):
    with target.conn() as c:
        c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            for _ in range(target.limit // 65536 + 1):
                c.send(piece)
        except OSError:
            pass
        is_problem(c.read(), 413)
    assert target.serves()


def test_answer_survives_an_unread_upload(server):
    """The client sends all of a refused body before it reads: no reset may eat the answer."""
    s = server(max_body=1000)
    with s.conn() as c:
        c.send(POST + b"Content-Length: 8000000\r\n\r\n" + b"x" * 8000000)
        is_problem(c.read(), 413)


@pytest.mark.parametrize("n", [0, 1, 1023, 4096, 65536, 1 << 20])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_come_back(shared_echo, n, framing):
    body = os.urandom(n)
    if framing == "length":
        raw = http.build("POST", "/echo", body=body)
    else:
        cuts = [body[i:i + 10007] for i in range(0, n, 10007)]
        raw = http.build("POST", "/echo", {"Transfer-Encoding": "chunked"},
                         b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in cuts) + b"0\r\nT: v\r\n\r\n")
    with shared_echo.conn() as c:
        for _ in range(2):  # the connection is good for another
            c.send(raw)
            r = c.read()
            assert r.status == 200 and r.body == body


def test_body_over_a_handlers_limit(shared_echo):
    assert shared_echo.post("/small", b"x" * 10).status == 200
    assert shared_echo.post("/small", b"x" * 11).status == 413
    with shared_echo.conn() as c:
        c.send(b"POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n")
        is_problem(c.read(), 413)


def test_head_handler_answers_before_the_body(shared_echo):
    with shared_echo.conn() as c:
        c.send(b"POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        r = c.read()
        assert r.status == 404 and r.header("Connection") == "close"
        assert c.closed()


def test_head_handlers_answer_keeps_the_connection_when_the_body_is_there(shared_echo):
    with shared_echo.conn() as c:
        c.send(http.build("POST", "/no", body=b"abc") + http.build("POST", "/echo", body=b"def"))
        assert c.read().status == 404
        assert c.read().body == b"def"


def test_memory_bound_of_all_bodies(server):
    s = server(max_body=1 << 20, max_body_total=1 << 20)
    with s.conn() as c:
        c.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 900000)
        wait_until(lambda: s.stats()["body_bytes"] > 500000)
        r = s.post("/echo", b"y" * 600000)
        assert r.status == 503 and r.header("Retry-After")
        c.send(b"x" * 100000)
        assert c.read().status == 200
    assert s.post("/echo", b"y" * 600000).status == 200
    assert s.stats()["overload"] == 1


def test_a_claimed_length_costs_nothing(server):
    s = server(max_body=26 << 20)
    before = s.stats()
    conns = [s.conn() for _ in range(50)]
    for c in conns:
        c.send(POST + b"Content-Length: %d\r\n\r\nx" % (26 << 20))
    wait_until(lambda: s.stats()["active"] == 51)
    assert s.stats()["mem"] - before["mem"] < 50 * 100_000
    for c in conns:
        c.close()
    wait_until(lambda: s.stats()["gone"] == 50)


# -- good requests


def test_cut_at_every_byte(shared_echo):
    raw = http.build("POST", "/echo", {"X-A": "1"}, b"body")
    with shared_echo.conn() as c:
        for i in range(1, len(raw)):
            c.send(raw[:i])
            wait_until(lambda: shared_echo.stats() is not None)  # a turn of the server in between
            c.send(raw[i:])
            assert c.read().body == b"body"


def test_byte_by_byte(shared_echo):
    raw = http.build("POST", "/echo", {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n0\r\nX: y\r\n\r\n")
    with shared_echo.conn() as c:
        for i in range(len(raw)):
            c.send(raw[i:i + 1])
        assert c.read().body == b"abc"


@pytest.mark.parametrize("raw, status", [
    (b"\r\n\r\n" + GET + b"\r\n", 200),
    (b"GET http://example.com/x?y HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    (b"GET https://example.com HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    (b"GET /%78 HTTP/1.1\r\nHost:\r\n\r\n", 200),
    (b"GET /x?a=%zz&b=/?: HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200),
    (b"BREW /x HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (b"get /x HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (GET + many(99) + b"\r\n", 200),
    (GET + b"X:" + b"a" * 30000 + b"\r\n\r\n", 200),
    (GET + b"X: \xff\xfe\t obs-text \r\n\r\n", 200),
    (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", 200),
    (POST + b"content-length:0000000000000000000000003 \r\n\r\nabc", 200),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n3 ;a=b\r\nabc\r\n000\r\n\r\n", 200),
])
def test_accepted(shared_echo, raw, status):
    with shared_echo.conn() as c:
        c.send(raw)
        assert c.read().status == status
        c.send(GET + b"\r\n")
        assert c.read().status == 200


def test_headers_as_sent_and_no_trailers(shared_echo):
    raw = (b"POST /headers HTTP/1.1\r\nhOsT: x\r\nX-Two: a\r\nX-Two: \t b \r\nX-Empty:\r\nX-L: \xe9\r\n"
           b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: t\r\nContent-Length: 5\r\n\r\n")
    with shared_echo.conn() as c:
        c.send(raw)
        assert c.read().json() == [["hOsT", "x"], ["X-Two", "a"], ["X-Two", "b"], ["X-Empty", ""],
                                   ["X-L", "\xe9"], ["Transfer-Encoding", "chunked"]]


def test_head_has_no_body(shared_echo):
    with shared_echo.conn() as c:
        r = c.request("HEAD", "/x")
        assert r.status == 200 and r.header("Content-Length") == "21"
        assert c.request("GET", "/x").body == b'{"status":"accepted"}'


def test_request_id(shared_echo):
    assert shared_echo.get("/x", headers={"X-Request-Id": "my.id-1_2"}).header("X-Request-Id") == "my.id-1_2"
    for bad in ("", "a b", "x" * 129, "a\xe9", "<script>"):
        made = shared_echo.get("/x", headers={"X-Request-Id": bad}).header("X-Request-Id")
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", made)


def test_expect_continue(shared_echo):
    with shared_echo.conn() as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
        assert c._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        c.send(b"abc")
        assert c.read().body == b"abc"
        # not when the body comes along, and not for a refused head
        c.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        assert c._until(b"\r\n").startswith(b"HTTP/1.1 200")
    with shared_echo.conn() as c:
        c.send(b"POST /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert c._until(b"\r\n").startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("raw, keeps", [
    (GET + b"\r\n", True),
    (GET + b"Connection: close\r\n\r\n", False),
    (GET + b"Connection: foo, CLOSE\r\n\r\n", False),
    (GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n", False),
    (b"GET /x HTTP/1.0\r\n\r\n", False),
    (b"GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
])
def test_keep_alive(shared_echo, raw, keeps):
    with shared_echo.conn() as c:
        c.send(raw)
        r = c.read()
        assert r.status == 200
        if keeps:
            assert r.header("Connection") == (None if b"HTTP/1.1" in raw else "keep-alive")
            c.send(raw)
            assert c.read().status == 200
        else:
            assert r.header("Connection") == "close"
            assert c.closed()


# -- pipelining


def test_three_pipelined(shared_echo):
    with shared_echo.conn() as c:
        c.send(b"".join(http.build("POST", "/echo", body=b) for b in (b"one", b"two", b"three")))
        assert [c.read().body for _ in range(3)] == [b"one", b"two", b"three"]


def test_pipelined_behind_a_slow_answer(shared_echo):
    with shared_echo.conn() as c:
        c.send(http.build("POST", "/later/200") + http.build("POST", "/echo", body=b"2"))
        wait_until(lambda: shared_echo.stats()["active"] >= 2)
        c.send(http.build("POST", "/echo", body=b"3") + http.build("POST", "/later/50") + http.build("GET", "/x"))
        got = [c.read() for _ in range(5)]
        assert [r.status for r in got] == [200] * 5
        assert got[0].body == b"later\n" and got[1].body == b"2" and got[2].body == b"3" and got[3].body == b"later\n"


def test_many_pipelined(shared_echo):
    n = 5000
    raw = b"".join(http.build("POST", "/echo", body=b"%d" % i) for i in range(n))
    with shared_echo.conn() as c:
        sender = threading.Thread(target=c.send, args=(raw,))
        sender.start()
        assert all(c.read().body == b"%d" % i for i in range(n))
        sender.join()


def test_many_pipelined_behind_slow_answers(shared_echo):
    """More than all buffers hold, each answered a turn later: the client is pushed back, not cut."""
    n = 4000
    raw = b"".join(http.build("POST", "/later/0", {"X-Pad": "p" * 200}) for i in range(n))
    with shared_echo.conn() as c:
        sender = threading.Thread(target=c.send, args=(raw,))
        sender.start()
        assert all(c.read().body == b"later\n" for _ in range(n))
        sender.join()


def test_nothing_is_run_behind_close(server):
    s = server()
    with s.conn() as c:
        c.send(POST + b"Connection: close\r\nContent-Length: 0\r\n\r\n" + GET + b"\r\n")
        assert c.rest().count(b"HTTP/1.1 ") == 1
    assert s.stats()["requests"] == 2


def test_malformed_behind_a_good_one(shared_echo):
    with shared_echo.conn() as c:
        c.send(http.build("POST", "/later/50") + b"GET /x HTTP/1.1\r\n\r\n")
        assert c.read().status == 200
        is_problem(c.read(), 400)
        assert c.closed()


def test_half_closed_client_gets_its_answers(shared_echo):
    with shared_echo.conn() as c:
        c.send(http.build("POST", "/later/100") + http.build("POST", "/echo", body=b"2"))
        c.shutdown()
        assert c.read().body == b"later\n"
        assert c.read().body == b"2"
        assert c.closed()
    with shared_echo.conn() as c:
        c.send(http.build("POST", "/echo", body=b"1"))
        c.shutdown()
        assert c.read().body == b"1"
        assert c.closed()


# -- time


def test_slow_header(server):
    s = server(header_ms=400)
    with s.conn() as c:
        start = time.monotonic()
        c.send(b"GET /x HTTP/1.1\r\n")
        stop = threading.Event()
        dripper = threading.Thread(target=drip, args=(c, b"X: y\r\n", stop))
        dripper.start()
        is_problem(c.read(), 408)
        stop.set()
        dripper.join()
        assert 0.3 < time.monotonic() - start < 30
    assert s.get("/x").status == 200
    assert s.stats()["timeout"] == 1


def drip(c, piece, stop):
    try:
        while not stop.wait(0.03):
            c.send(piece)
    except OSError:
        pass


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_slow_body(server, framing):
    s = server(body_ms=400)
    with s.conn() as c:
        c.send(POST + framing + b"\r\n\r\n")
        stop = threading.Event()
        dripper = threading.Thread(target=drip, args=(c, b"1\r\nx\r\n", stop))
        dripper.start()
        is_problem(c.read(), 408)
        stop.set()
        dripper.join()
    assert s.get("/x").status == 200
    assert s.stats()["timeout"] == 1


def test_idle_is_closed_silently(server):
    s = server(idle_ms=300)
    with s.conn() as c, s.conn() as blank:
        blank.send(b"\r\n")
        c.send(GET + b"\r\n")
        assert c.read().status == 200
        assert c.closed() and blank.closed()
    assert s.stats()["timeout"] == 0


def test_slow_reader_is_cut(server):
    s = server(write_ms=400)
    with s.conn() as c:
        c.send(http.build("GET", "/large/50000000"))
        wait_until(lambda: s.stats()["gone"] == 1)
        assert len(c.rest()) < 50000000
    assert s.get("/x").status == 200


def test_slow_reader_gets_all(server):
    s = server()
    with s.conn() as c:
        c.send(http.build("GET", "/large/20000000") + http.build("POST", "/echo", body=b"next"))
        wait_until(lambda: s.stats()["active"] == 2)  # no socket buffer takes all of it
        r = c.read()
        assert r.status == 200 and r.body == b"x" * 20000000
        assert c.read().body == b"next"


# -- clients that leave


def test_client_gone_before_the_answer(server):
    s = server()
    for i in range(20):
        c = s.conn()
        c.send(http.build("POST", "/later/300"))
        wait_until(lambda: s.stats()["active"] >= 2)
        c.close(reset=True)
        wait_until(lambda: s.stats()["active"] == 1)
    st = wait_until(lambda: (lambda t: t if t["late"] == 20 else None)(s.stats()))
    assert st["gone"] == 20
    assert s.get("/x").status == 200


@pytest.mark.parametrize("part", [b"G", GET, POST + b"Content-Length: 10\r\n\r\nabc",
                                  POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"])
@pytest.mark.parametrize("reset", [False, True])
def test_client_gone_in_mid_request(server, part, reset):
    s = server()
    c = s.conn()
    c.send(part)
    if len(part) > len(GET):
        wait_until(lambda: s.stats()["active"] == 2)
    c.close(reset=reset)
    wait_until(lambda: s.stats()["gone"] == 1 or (reset and s.stats()["connections"] == 1))
    wait_until(lambda: s.stats()["connections"] == 1)
    assert s.get("/x").status == 200


def test_forgotten_ticket_is_answered_500(shared_echo):
    r = shared_echo.get("/drop")
    assert r.status == 500 and r.header("Content-Type") == "application/problem+json"


# -- limits of connections


def test_too_many_connections(server):
    s = server(max_connections=16)
    conns = [s.conn() for _ in range(16)]
    wait_until(lambda: all(c.request("GET", "/x").status == 200 for c in conns))
    with s.conn() as c:
        c.send(GET + b"\r\n")
        r = c.read()
        is_problem(r, 503)
        assert r.header("Retry-After")
    more = [s.conn() for _ in range(40)]  # past the margin they wait in the accept queue
    for c in conns + more:
        c.close()
    wait_until(lambda: s.get("/x").status == 200)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_out_of_descriptors(server):
    s = server(wrap=("prlimit", "--nofile=64"))
    conns = [s.conn() for _ in range(200)]
    wait_until(lambda: "cannot accept connections" in s.log())
    before = cpu_seconds(s.child.pid)
    time.sleep(1)  # how much it burns in a second
    assert cpu_seconds(s.child.pid) - before < 0.3
    assert s.log().count("cannot accept connections") < 20
    for c in conns:
        c.close()
    assert wait_until(lambda: s.get("/x").status == 200)


# -- the end


def test_drain(server):
    s = server()
    idle, busy, part = s.conn(), s.conn(), s.conn()
    assert idle.request("GET", "/x").status == 200
    busy.send(http.build("POST", "/later/700"))
    part.send(POST + b"Content-Length: 3\r\n\r\n")
    wait_until(lambda: s.stats()["active"] == 3)
    s.child.send(15)
    wait_until(lambda: refused(s.port))
    part.send(b"abc")
    r = part.read()
    assert r.status == 200 and r.header("Connection") == "close" and part.closed()
    r = busy.read()
    assert r.body == b"later\n" and r.header("Connection") == "close" and busy.closed()
    assert idle.closed()
    assert s.child.wait(60) == 0


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True


def test_drain_takes_the_accept_queue(server):
    """Stopped, so that connections gather in the queue; none of them is reset."""
    s = server()
    s.child.stop()
    conns = [s.conn() for _ in range(200)]
    for c in conns:
        c.send(GET + b"\r\n")
    s.child.send(15)
    s.child.cont()
    assert all(c.read().status == 200 for c in conns)
    assert s.child.wait(60) == 0


def test_no_reset_while_draining_under_load(server):
    s = server()
    failures, answered, connected = [], [], []

    def client():
        try:
            with s.conn() as c:
                connected.append(c)
                while True:
                    r = c.request("POST", "/x", body=b"x" * 100)
                    answered.append(r.status)
                    if r.header("Connection") == "close":
                        return
        except (http.Closed, OSError) as e:
            failures.append(repr(e))
    threads = [threading.Thread(target=client) for _ in range(16)]
    for t in threads:
        t.start()
    wait_until(lambda: len(answered) > 500 and len(connected) == len(threads))
    s.child.send(15)
    for t in threads:
        t.join()
    assert not failures and set(answered) == {200}
    assert s.child.wait(60) == 0
