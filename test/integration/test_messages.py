"""What weir says when something is wrong: the exit code, the text, and whether they name what is to
be changed."""
import os
import signal
import socket
import time

import pytest

from conftest import GITHUB, SECRET, module_weir
from harness import sign
from harness.proc import free_port
from harness.servers import Database
from harness.wait import wait_until
from harness.weir import run, write_tools

FAILED, USAGE, UNREACHABLE, CONFIG = 1, 2, 69, 78


@pytest.fixture
def bare_db(pg_server):
    """A database without the schema."""
    with pg_server.connect("postgres") as c:
        c.execute("CREATE DATABASE bare")
    database = Database(pg_server, "bare")
    yield database
    database.close()
    with pg_server.connect("postgres") as c:
        c.execute("DROP DATABASE bare WITH (FORCE)")


# ---- settings ----

@pytest.mark.parametrize("url", ["postgres://u@localhost:99999/x", "postgres://u@localhost:0/x",
                                 "postgres://u@a:5432,b:70000/x", "host=localhost port=http"])
def test_port_in_database_url(url):
    for command in ("check-config", "serve"):
        r = run(command, env={"DATABASE_URL": url})
        assert r.rc == CONFIG and "DATABASE_URL" in r.err and "1 to 65535" in r.err, r
    assert run("migrate", "status", env={"DATABASE_URL": url}).rc == CONFIG


def test_all_faults_are_told(work_dir):
    tools = write_tools(os.path.join(work_dir, "tools.json"), [
        {"id": "one", "preset": "githup", "secrets": ["s"]}, GITHUB, {"id": "two"},
        {**GITHUB, "id": "large", "max_body": "2MiB"}, {**GITHUB, "id": "fits", "max_body": "1MiB"}])
    conf = os.path.join(work_dir, "weir.conf")
    with open(conf, "w") as f:
        f.write(f"PROT=1\nWEBHOOK_BATCH_SIZE=0\nMAX_BODY_SIZE=1MiB\nTOOLS_FILE={tools}\n")
    r = run("check-config", "--config", conf, env={
        "PORT": "80000", "LOG_LEVEL": "loud", "HOST": "nowhere", "DATABASE_URL": "postgres://h:99999/x",
        "HEALTH_ENDPOINT": "nowhere", "SHUTDOWN_DELAY": "1m"})
    lines = r.err.splitlines()
    for mark in ("PROT", "WEBHOOK_BATCH_SIZE", "PORT=80000", "LOG_LEVEL", "HOST=nowhere", "HEALTH_ENDPOINT=nowhere", "DATABASE_URL", "SHUTDOWN_DELAY",
                 'tool "one"', 'tool "two"', 'tool "large"'):
        assert sum(mark in line for line in lines) == 1, (mark, r)
    assert r.rc == CONFIG and "11 faults" in lines[-1] and len(lines) == 12 and r.out == "", r
    assert '"fits"' not in r.err


TWO = """{"tools": [
  {"id": "fine", "preset": "github", "secrets": ["s"]},
  {
    "id": "two", "colour": "red",
    "mode": "x",
    "require_id": 3, "max_body": "many",
    "secrets": [{"env": "NOT_SET_1"}, "good",
      {"file": "/nowhere"}],
    "allow_from": ["10.0.0.1/8",
      "x"],
    "recipe": {"sig": "headr:x",
      "enc": "xx", "what": 1,
      "ts": "header:t years",
      "signed": "{ts}.{bod}",
      "id": ["json:a", "jso:b"]},
    "recipient": {"message_id": "json:a",
      "words": {"a": "b"}}
  },
  {"id": "Three"},
  4, {"id": "fine",
   "preset": "githup"},
  {"id": "five", %s}
]}
"""


def test_all_faults_of_a_tool_are_told(work_dir):
    """Each with its line and its member; of one tool, so many."""
    text = TWO % ", ".join(f'"m{i}": 1' for i in range(50))
    path = write_tools(os.path.join(work_dir, "tools.json"), text)
    r = run("check-config", env={"TOOLS_FILE": path})
    lines = r.err.splitlines()
    want = [(4, "two", "colour"), (5, "two", "mode"), (6, "two", "require_id"), (6, "two", "max_body"), (9, "two", "allow_from"),
            (9, "two", "allow_from"), (7, "two", "secrets[0]"), (8, "two", "secrets[2]"), (12, "two", "recipe.what"), (11, "two", "recipe.sig"),
            (14, "two", "recipe.signed"), (13, "two", "recipe.ts"), (15, "two", "recipe.id"), (12, "two", "recipe.enc"),
            (16, "two", "recipient.address"), (16, "two", "recipient.status"), (17, "two", "recipient.words"),
            (19, "Three", "preset"), (20, "fine", "id"), (21, "fine", "preset")]
    for line, tool, member in want:
        assert any(x.startswith(f'weir: {path}:{line}: tool "{tool}": {member}: ') for x in lines), (line, tool, member, r)
    assert f'weir: {path}:19: tools[2]: id "Three" must match' in r.err and f"weir: {path}:20: tools[3]: must be an object" in r.err, r
    five = [x for x in lines if 'tool "five"' in x]
    assert len(five) == 21 and all(f"{path}:22:" in x for x in five) and "31 more faults of this tool" in five[-1], r
    assert r.rc == CONFIG and len(lines) == len(want) + 2 + len(five) + 1 and f"{len(lines) - 1} faults" in lines[-1], r
    # Who starts with it is told the first.
    r = run("serve", env={"TOOLS_FILE": path})
    assert r.rc == CONFIG and r.err == lines[0] + "\n", r


def test_max_body_over_the_service_s(weir, db, redis_db):
    tools = [{**GITHUB, "max_body": 2 << 20}]
    w = weir(db, redis_db, tools=tools, start=False, MAX_BODY_SIZE="1MiB")
    r = run("serve", env=w.env)
    assert r.rc == CONFIG and "max_body" in r.err and "MAX_BODY_SIZE" in r.err, r
    write_tools(w.tools_file, [GITHUB])
    w.start()
    write_tools(w.tools_file, tools)
    w.reload()
    wait_until(lambda: "reload refused" in w.log() and "MAX_BODY_SIZE" in w.log(), 60)


def test_ca_file(work_dir):
    path = os.path.join(work_dir, "ca.pem")
    env = {"REDIS_TLS_ENABLED": "true", "REDIS_TLS_CA_FILE": path}
    r = run("check-config", env=env)
    assert r.rc == CONFIG and path in r.err and "No such file" in r.err and "error:" not in r.err, r
    with open(path, "w") as f:
        f.write("not a certificate\n")
    r = run("check-config", env=env)
    assert r.rc == CONFIG and path in r.err and "no certificate" in r.err and "error:" not in r.err, r


def test_signature_that_leaves_the_body_out(work_dir):
    recipe = {"sig": "header:x-sig", "signed": "{header:x-time}"}
    key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    path = write_tools(os.path.join(work_dir, "tools.json"), [
        {"id": "odd", "secrets": ["s"], "recipe": recipe}, GITHUB, {"id": "mg", "preset": "mailgun", "secrets": ["s"]},
        {"id": "public", "secrets": [key], "recipe": {**recipe, "scheme": "ed25519", "keys": "hexpub"}}])
    r = run("check-config", env={"TOOLS_FILE": path})
    assert r.rc == 0 and r.err.count("does not cover the body") == 2 and "tool=odd" in r.err and "tool=public" in r.err, r


# ---- servers that refuse ----

def test_wrong_password_role_and_database(db, redis_db):
    env = db.env() | redis_db.env()
    for wrong in ({"DATABASE_PASSWORD": "wrong"}, {"DATABASE_USER": "nobody_here"}, {"DATABASE_NAME": "nothing_here"}):
        r = run("migrate", "status", env=env | wrong)
        assert r.rc == CONFIG and "FATAL" in r.err and "LOCATION" not in r.err, r
        r = run("check-config", "--connect", env=env | wrong)
        assert r.rc == CONFIG and "FATAL" in r.out, r
    r = run("serve", "--migrate", "--wait-for", "1s", env=env | {"DATABASE_PASSWORD": "wrong", "PORT": str(free_port())})
    assert r.rc == CONFIG and "password authentication failed" in r.err, r
    assert run("migrate", "status", env=env | {"DATABASE_PORT": str(free_port())}).rc == UNREACHABLE


def test_taken_port_names_its_setting(served):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        r = run("serve", env=served.env | {"PORT": str(port), "HEALTH_ENDPOINT": f"127.0.0.1:{free_port()}"})
        assert r.rc == FAILED and "HOST, PORT" in r.err and "another program has this port" in r.err, r
        r = run("serve", env=served.env | {"PORT": str(free_port()), "HEALTH_ENDPOINT": f"127.0.0.1:{port}"})
        assert r.rc == FAILED and "HEALTH_ENDPOINT" in r.err, r
    r = run("serve", env=served.env | {"HOST": "192.0.2.1", "PORT": str(free_port())})
    assert r.rc == CONFIG and "no such address" in r.err, r


def test_serve_without_the_schema(weir, bare_db, redis_db):
    w = weir(bare_db, redis_db)
    wait_until(lambda: "run `weir migrate up`" in w.log(), 60)
    health = wait_until(lambda: (lambda h: h if h["status"] == "degraded" else None)(w.get("/health").json()), 60)
    assert "weir migrate up" in health["reason"] and health["components"]["database"]["status"] == "degraded"
    ready = w.get("/health/ready")
    assert ready.status == 200 and "weir migrate up" in ready.json()["reasons"][0]
    assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
    assert run("migrate", "up", env=bare_db.env()).rc == 0
    wait_until(lambda: w.get("/health").json()["status"] == "healthy", 60)
    wait_until(lambda: bare_db.value("SELECT count(*) FROM weir.events") == 1, 60)
    assert w.get("/health/ready").json()["reasons"] == []
    assert w.log().count("run `weir migrate up`") == 1


def test_down_asks(bare_db):
    env = bare_db.env()
    assert run("migrate", "up", env=env).rc == 0
    for args in (["down"], ["down", "--to", "0"]):
        r = run("migrate", *args, env=env)
        assert r.rc == USAGE and "--yes" in r.err and "events" in r.err, r
    assert bare_db.value("SELECT to_regclass('weir.events')::text")
    assert run("migrate", "up", "--yes", env=env).rc == USAGE
    assert run("migrate", "down", "--to", "0", "--yes", env=env).rc == 0
    assert bare_db.value("SELECT to_regclass('weir.events')::text") is None


# ---- requests that are refused ----

@pytest.fixture(scope="module")
def w(request, redis_server, pg_server, template_db):
    tools = [GITHUB, {**GITHUB, "id": "small", "max_body": 1000}, {"id": "stripe", "preset": "stripe", "secrets": ["s"]},
             {"id": "lab", "preset": "gitlab", "secrets": ["s"]},
             {"id": "basic", "recipe": {"scheme": "basic"}, "secrets": ["u:p"]}]
    yield from module_weir(request, redis_server, pg_server, template_db, tools, MAX_BODY_SIZE="1MiB", HEADER_TIMEOUT="300ms")


def logged(w, r):
    """The log's line on this answer."""
    mark = "request_id=" + r.header("X-Request-Id")
    return wait_until(lambda: next((line for line in w.log().splitlines() if mark in line), None), 60, mark)


def test_unknown_tool_is_named(w):
    before = w.metric("webhook_refusals_total", tool_id="-", reason="unknown_tool") or 0
    r = w.post("no%22body", b"{}", [sign.JSON])
    assert r.status == 404 and r.json()["detail"] == 'there is no tool "no"body"'
    assert r'asked="no\"body"' in logged(w, r)
    assert w.metric("webhook_refusals_total", tool_id="-", reason="unknown_tool") == before + 1
    r = w.post("x" * 4000, b"{}", [sign.JSON])
    assert r.status == 404 and len(r.json()["detail"]) < 120 and len(logged(w, r)) < 400
    r = w.post("%ff%0a", b"{}", [sign.JSON])
    assert r.status == 404 and r.json()["detail"] and logged(w, r)


def test_limits_are_named(w):
    body = b"x" * 1001
    r = w.post("small", body, sign.github(body, SECRET))
    line = logged(w, r)
    assert r.status == 413 and "1000 bytes" in r.json()["detail"] and "max_body" in line and "1000 bytes" in line
    r = w.request("POST", "/webhooks/github", [("Content-Length", str(2 << 20))], None)
    line = logged(w, r)
    assert r.status == 413 and str(1 << 20) in r.json()["detail"] and "MAX_BODY_SIZE" in line
    assert w.metric("webhooks_received_total", tool_id="github", outcome="too_large") == 1
    assert w.metric("webhooks_received_total", tool_id="small", outcome="too_large") == 1
    r = w.request("POST", "/health", [("Content-Length", "100000")], None)
    line = logged(w, r)
    assert r.status == 413 and "setting=" not in line, line
    assert w.metric("webhooks_received_total", tool_id="-", outcome="too_large") == 0


@pytest.mark.parametrize("method, path, status, reason", [
    ("POST", "/webhook/github", 404, "not_found"), ("GET", "/" + "x" * 3000, 404, "not_found"),
    ("POST", "/health", 405, "method"), ("TRACE", "/metrics", 501, "method")], ids=["path", "long", "method", "unknown"])
def test_refusals_elsewhere_are_counted_and_logged(w, method, path, status, reason):
    before = w.metric("webhook_http_refusals_total", reason=reason) or 0
    r = w.request(method, path)
    line = logged(w, r)
    assert r.status == status and f"reason={reason} status={status} method={method} path={path[:200]} peer=127.0.0.1" in line, line
    assert w.metric("webhook_http_refusals_total", reason=reason) == before + 1


def test_gate_s_lines_bear_the_request_id(w):
    with w.conn() as c:
        c.send(b"POST /webhooks/github HTTP/1.1\r\n\r\n")
        r = c.read()
        assert r.status == 400 and "Host" in logged(w, r)
    with w.conn() as c:
        c.send(b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n")
        r = c.read()
        assert r.status == 408 and "HEADER_TIMEOUT" in logged(w, r)


@pytest.mark.parametrize("off", [4000, -5000])
def test_how_far_a_timestamp_is_off(w, off):
    body = b'{"id":"evt_1","type":"t"}'
    r = w.post("stripe", body, sign.stripe(body, "s", time.time() - off))
    assert r.status == 401 and not any(c.isdigit() for c in r.json()["detail"])
    age = int(logged(w, r).split("age_seconds=")[1].split()[0])
    assert abs(age - off) < 30
    assert w.metric("webhook_refusals_total", tool_id="stripe", reason=logged(w, r).split("reason=")[1].split()[0]) >= 1


def test_401_bears_a_challenge(w):
    for tool, challenge in (("github", "Webhook-Signature "), ("lab", "Webhook-Token "), ("basic", "Basic ")):
        r = w.post(tool, b"{}", [sign.JSON])
        assert r.status == 401 and r.header("WWW-Authenticate").startswith(challenge + "realm="), r
    assert w.post("nobody", b"{}", [sign.JSON]).header("WWW-Authenticate") is None
