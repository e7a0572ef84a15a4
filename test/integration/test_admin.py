"""The admin API and the tools of the table: who may, what is refused, what is recorded, and that
changes reach every process while requests go on."""
import json
import os
import re
import threading
import time

import jsonschema
import pytest

from conftest import GITHUB, SECRET, module_weir
from harness import http, sign
from harness.http import Conn, build
from harness.proc import free_port
from harness.wait import wait_until
from harness.weir import run, write_tools

TOKEN, READ_TOKEN = "admin-token-0123456789", "read-token-0123456789abc"
ONE, TWO = "first-secret-" + "1" * 20, "second-secret-" + "2" * 20
MARK = "may-be-nowhere-" + "x" * 20
BODY = b'{"action":"opened"}'


class Admin:
    """The API of one process."""

    def __init__(self, port, token=TOKEN):
        self.port, self.token, self.answers = port, token, []

    def call(self, method, path, body=None, token=True, headers=(), raw=None):
        h = list(headers)
        if token:
            h.append(("Authorization", f"Bearer {self.token if token is True else token}"))
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            h.append(("Content-Type", "application/json"))
        r = http.request(self.port, method, path, h, raw)
        self.answers.append(r.head + r.body)
        return r

    def get(self, tool=None, **kw):
        return self.call("GET", "/api/v1/tools" + (f"/{tool}" if tool else ""), **kw)

    def put(self, tool, body, **kw):
        return self.call("PUT", f"/api/v1/tools/{tool}", body, **kw)

    def delete(self, tool, **kw):
        return self.call("DELETE", f"/api/v1/tools/{tool}", **kw)


def admin_env(**more):
    return {"ADMIN_ADDR": f"127.0.0.1:{free_port()}", "ADMIN_TOKEN": TOKEN, "ADMIN_READ_TOKEN": READ_TOKEN,
            "HOOK_SECRET": ONE, "HOOK_SECRET_2": TWO, "MARK_SECRET": MARK, **more}


def admin_of(w):
    return Admin(int(w.env["ADMIN_ADDR"].rsplit(":", 1)[1]))


def by_env(*names, **more):
    return {"preset": "github", "secrets": [{"env": n} for n in names], **more}


def send(w, tool, secret, delivery=None):
    return w.post(tool, BODY, sign.github(BODY, secret, "issues", delivery)).status


@pytest.fixture(scope="module")
def served(request, redis_server, pg_server, template_db):
    tools = [GITHUB, {"id": "marked", "preset": "github", "secrets": [{"value": MARK}, MARK + "2", {"env": "MARK_SECRET"}]}]
    yield from module_weir(request, redis_server, pg_server, template_db, tools=tools, **admin_env())


@pytest.fixture(scope="module")
def admin(served):
    a = admin_of(served)
    wait_until(lambda: a.get().json()["table"] == "read", 20)
    return a


# ---- who may ----

def test_tokens(served, admin):
    for path in ("/api/v1/tools", "/api/v1/tools/github", "/api/openapi.json", "/nothing", "/"):
        for token, error in ((None, ""), ("", "invalid_token"), ("wrong", "invalid_token"), (TOKEN[:-1], "invalid_token"),
                             (TOKEN + "x", "invalid_token"), (TOKEN.upper(), "invalid_token")):
            r = admin.call("GET", path, token=token if token is not None else False,
                           headers=() if token is None or token else [("Authorization", "Bearer ")])
            assert r.status == 401 and r.header("WWW-Authenticate").startswith('Bearer realm="weir"'), (path, token, r)
            assert error in r.header("WWW-Authenticate") and r.json()["status"] == 401
    for headers in ([("Authorization", "Basic " + TOKEN)], [("Authorization", TOKEN)],
                    [("Authorization", "Bearer " + TOKEN)] * 2):
        assert admin.get(token=False, headers=headers).status == 401
    assert admin.get(token=False, headers=[("Authorization", "bearer " + TOKEN)]).status == 200
    assert admin.get(token=READ_TOKEN).status == 200
    assert admin.call("HEAD", "/api/v1/tools", token=READ_TOKEN).status == 200
    for r in (admin.put("x", by_env("HOOK_SECRET"), token=READ_TOKEN), admin.delete("x", token=READ_TOKEN)):
        assert r.status == 403 and "insufficient_scope" in r.header("WWW-Authenticate")
    assert admin.put("x", by_env("HOOK_SECRET"), token="wrong").status == 401
    assert admin.get("x").status == 404
    # A body that comes without a token is not waited for.
    with Conn(admin.port) as c:
        c.send(b"PUT /api/v1/tools/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        assert c.read().status == 401
    # The other listeners know nothing of it.
    assert served.get("/api/v1/tools").status == 404 and served.request("GET", "/api/v1/tools").status == 404


def test_paths_and_methods(admin):
    for path in ("/", "/api/v1/tools/", "/api/v1/tools/github/", "/api/v1/tools/a/b", "/api/v1", "/api/v1/toolsx"):
        assert admin.call("GET", path).status == 404, path
    for method, path, allow in (("POST", "/api/v1/tools", "GET, HEAD"), ("PATCH", "/api/v1/tools/x", "GET, HEAD, PUT, DELETE"),
                                ("DELETE", "/api/openapi.json", "GET, HEAD")):
        r = admin.call(method, path)
        assert r.status == 405 and r.header("Allow") == allow, r
    for headers in ((), [("Content-Type", "text/plain")], [("Content-Type", "application/jsonx")]):
        assert admin.call("PUT", "/api/v1/tools/x", raw=b"{}", headers=headers).status == 415
    assert admin.call("PUT", "/api/v1/tools/x", raw=b"{", headers=[("Content-Type", "application/json; charset=utf-8")]).status == 422
    assert admin.put("x", b"[" * 300000).status == 413
    assert admin.put("x", b"").status == 400


def test_settings():
    r = run("check-config", env={"ADMIN_TOKEN": "short"})
    assert r.rc == 78 and "ADMIN_TOKEN" in r.err and "16" in r.err and "short" not in r.err, r
    r = run("check-config", env={"ADMIN_TOKEN": TOKEN, "ADMIN_READ_TOKEN": TOKEN})
    assert r.rc == 78 and "ADMIN_READ_TOKEN" in r.err and TOKEN not in r.err, r
    r = run("check-config", env={"ADMIN_TOKEN": TOKEN, "ADMIN_ADDR": "127.0.0.1:8000"})
    assert r.rc == 78 and "ADMIN_ADDR" in r.err, r
    assert run("check-config", env={"ADMIN_ADDR": "127.0.0.1:8000"}).rc == 0
    r = run("config", "--dump", env={"ADMIN_TOKEN": TOKEN, "ADMIN_READ_TOKEN": READ_TOKEN})
    assert r.rc == 0 and "ADMIN_TOKEN" in r.out and TOKEN not in r.out and READ_TOKEN not in r.out


# ---- the description ----

def test_openapi(admin):
    doc = admin.call("GET", "/api/openapi.json").json()
    assert doc == json.loads(run("openapi").out) and doc["openapi"].startswith("3.1.")
    refs = set()

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                refs.add(node["$ref"])
            for v in node.values():
                walk(v)
        elif isinstance(node, list):
            for v in node:
                walk(v)
    walk(doc)
    for ref in refs:
        node = doc
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
    for schema in doc["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [op["operationId"] for path in doc["paths"].values() for name, op in path.items() if name != "parameters"]
    assert len(set(ids)) == len(ids)

    def valid(name, value):
        jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": doc["components"]},
                            cls=jsonschema.Draft202012Validator)
    valid("ToolList", admin.get().json())
    valid("Tool", admin.get("github").json())
    valid("Problem", admin.get("nothing").json())
    # What the document lists is there, and nothing else is.
    for path, methods in doc["paths"].items():
        for method in ("get", "put", "delete", "post", "patch"):
            r = admin.call(method.upper(), path.replace("{id}", "nothing"), headers=[("Content-Type", "application/json")], raw=b"{}")
            assert (r.status == 405) == (method not in methods), (method, path, r)


# ---- tools ----

def test_life_of_a_tool(served, admin):
    assert send(served, "hook", ONE) == 404
    r = admin.put("hook", by_env("HOOK_SECRET"), headers=[("X-Request-Id", "req-1")])
    assert r.status == 201, r.body
    t = r.json()
    assert t["origin"] == "table" and t["state"] == "active" and t["error"] is None and t["preset"] == "github"
    assert r.header("ETag") == f'"{t["version"]}"' and t["process"]["pid"] == served.pid
    assert t["definition"] == by_env("HOOK_SECRET") and "4xx" in t["provider"]["answers"]
    # The answer means that it is in force here.
    assert send(served, "hook", ONE) == 200 and send(served, "hook", TWO) == 401
    assert admin.put("hook", by_env("HOOK_SECRET")).status == 200
    assert admin.get("hook").json()["version"] == t["version"]  # nothing changed
    r = admin.put("hook", {"id": "hook", **by_env("HOOK_SECRET_2")})
    assert r.status == 200 and r.json()["version"] > t["version"]
    assert send(served, "hook", ONE) == 401 and send(served, "hook", TWO) == 200
    r = admin.delete("hook", headers=[("X-Request-Id", "req-2")])
    assert r.status == 200 and r.json()["deleted"] == "hook"
    assert send(served, "hook", TWO) == 404 and admin.get("hook").status == 404 and admin.delete("hook").status == 404
    rows = served.db.query("SELECT actor, peer, request_id, action, before, after FROM weir.audit_log WHERE object = 'hook' ORDER BY id")
    assert [r[3] for r in rows] == ["tool.put", "tool.put", "tool.delete"]
    assert rows[0][:3] == ("admin", "127.0.0.1", "req-1") and rows[0][4] is None and rows[0][5] == by_env("HOOK_SECRET")
    assert rows[1][4] == by_env("HOOK_SECRET") and rows[1][5] == {"id": "hook", **by_env("HOOK_SECRET_2")}
    assert rows[2][2] == "req-2" and rows[2][4] == rows[1][5] and rows[2][5] is None


def test_conditions(served, admin):
    new = [("If-None-Match", "*")]
    r = admin.put("cond", by_env("HOOK_SECRET"), headers=new)
    assert r.status == 201
    seen = [("If-Match", r.header("ETag"))]
    r = admin.put("cond", by_env("HOOK_SECRET_2"), headers=new)
    assert r.status == 412 and "If-None-Match: *" in r.json()["detail"] and "already" in r.json()["detail"]
    now = admin.put("cond", by_env("HOOK_SECRET_2"), headers=seen).header("ETag")
    for r in (admin.put("cond", by_env("HOOK_SECRET"), headers=seen), admin.delete("cond", headers=seen)):
        assert r.status == 412 and seen[0][1] in r.json()["detail"] and f"at {now} now" in r.json()["detail"], r.json()
    r = admin.put("absent", by_env("HOOK_SECRET"), headers=seen)
    assert r.status == 412 and "no such tool" in r.json()["detail"]
    assert admin.put("cond", by_env("HOOK_SECRET"), headers=[("If-Match", "7")]).status == 400
    assert admin.delete("cond", headers=[("If-Match", admin.get("cond").header("ETag"))]).status == 200


def test_refusals_are_check_config_s(served, admin, work_dir):
    bad = [{"preset": "githup", "secrets": [{"env": "HOOK_SECRET"}]}, {"preset": "github"}, {"colour": "red"},
           by_env("NOT_THERE"), by_env("HOOK_SECRET", max_body="1TiB"), by_env("HOOK_SECRET", mode="x"),
           {"preset": "github", "secrets": [{"file": "/nowhere/secret"}]}, {"recipe": {"scheme": "hmac", "colour": 1}}]
    for d in bad:
        r = admin.put("bad", d)
        assert r.status == 422, (d, r)
        path = write_tools(os.path.join(work_dir, "t.json"), [{"id": "bad", **d}])
        c = run("check-config", env={"TOOLS_FILE": path, "HOOK_SECRET": ONE})
        assert c.rc == 78
        text = r.json()["detail"].removeprefix("weir.tools: ")
        assert text in c.err, (text, c.err)
    for secret in (MARK, {"value": MARK}):
        r = admin.put("bad", {"preset": "github", "secrets": [secret]})
        assert r.status == 422 and "not stored in the table" in r.json()["detail"], r.body
        r = admin.put("bad", {"preset": "meta", "secrets": [{"env": "HOOK_SECRET"}], "verify_token": secret})
        assert r.status == 422 and "verify_token" in r.json()["detail"], r.body
    for tool, body in (("bad", b"{"), ("bad", b"[]"), ("bad", b'{"id":"other"}'), ("bad", b'{"preset":"github","preset":"x"}'),
                       ("weir", json.dumps(by_env("HOOK_SECRET")).encode()), ("Bad", b"{}"), ("x" * 65, b"{}")):
        assert admin.put(tool, body).status == 422, (tool, body)
    assert served.db.value("SELECT count(*) FROM weir.tools WHERE id IN ('bad', 'weir')") == 0
    assert served.db.value("SELECT count(*) FROM weir.audit_log WHERE object = 'bad'") == 0
    for d in ({"secrets": [MARK]}, {"secrets": MARK}, {"secrets": [{"value": MARK}]}, {"verify_token": MARK}):
        with pytest.raises(Exception, match="tools_no_literal_secret"):
            served.db.query("INSERT INTO weir.tools (id, definition) VALUES ('bad', %s)", (json.dumps(d),))


def test_tools_of_the_file(served, admin):
    t = admin.get("github").json()
    assert t["origin"] == "file" and t["version"] is None and t["definition"]["secrets"] == ["***"]
    for r in (admin.put("github", by_env("HOOK_SECRET")), admin.delete("github")):
        assert r.status == 409 and "TOOLS_FILE" in r.json()["detail"]
    # Put there by hand it has no effect.
    served.db.query("INSERT INTO weir.tools (id, definition) VALUES ('github', %s)", (json.dumps(by_env("HOOK_SECRET")),))
    wait_until(lambda: "has no effect" in served.log(), 15)
    assert send(served, "github", SECRET) == 200 and send(served, "github", ONE) == 401
    assert admin.get("github").json()["origin"] == "file" and served.metric("webhook_tools_failed") == 1
    served.db.query("DELETE FROM weir.tools WHERE id = 'github'")
    wait_until(lambda: served.metric("webhook_tools_failed") == 0, 15)


def test_a_row_that_cannot_be_used(served, admin):
    served.db.query("INSERT INTO weir.tools (id, definition) VALUES ('broken', %s), ('sound', %s)",
                    (json.dumps(by_env("NOT_THERE")), json.dumps(by_env("HOOK_SECRET"))))
    wait_until(lambda: send(served, "sound", ONE) == 200, 15)
    r = served.post("broken", BODY, sign.github(BODY, ONE))
    assert r.status == 503 and r.header("Retry-After") and b"not ready" in r.body
    t = admin.get("broken").json()
    assert t["state"] == "failed" and "NOT_THERE" in t["error"]
    assert served.metric("webhook_tools_failed") == 1 and "NOT_THERE" in served.log()
    assert admin.delete("broken").status == 200 and send(served, "broken", ONE) == 404
    assert served.metric("webhook_tools_failed") == 0 and admin.delete("sound").status == 200


def test_pages(served, admin):
    names = [f"page-{i:03}" for i in range(25)]
    served.db.query("INSERT INTO weir.tools (id, definition) SELECT x, %s::jsonb FROM unnest(%s::text[]) x", (json.dumps(by_env("HOOK_SECRET")), names))
    wait_until(lambda: admin.get(names[-1]).status == 200, 15)
    seen, cursor = [], ""
    while cursor is not None:
        r = admin.call("GET", f"/api/v1/tools?limit=7{'&cursor=' + cursor if cursor else ''}").json()
        seen += [t["id"] for t in r["tools"]]
        cursor = r["next"]
    assert seen == sorted(["github", "marked", *names])
    assert [t["id"] for t in admin.get().json()["tools"]] == seen
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=%00", "cursor=A"):
        assert admin.call("GET", "/api/v1/tools?" + query).status == 400, query
    served.db.query("TRUNCATE weir.tools")
    wait_until(lambda: admin.get(names[0]).status == 404, 15)


def test_evidence_of_rotation(served, admin):
    r = admin.put("rotated", by_env("HOOK_SECRET", "HOOK_SECRET_2")).json()
    old, new = r["secrets"]
    assert [old["position"], new["position"]] == [0, 1] and old["fingerprint"] != new["fingerprint"]
    assert old["matches"] == new["matches"] == 0 and old["last_used_at"] is None
    for _ in range(3):
        assert send(served, "rotated", ONE) == 200
    assert send(served, "rotated", TWO) == 200
    old, new = admin.get("rotated").json()["secrets"]
    assert (old["matches"], new["matches"]) == (3, 1) and new["last_used_at"] >= old["last_used_at"]
    labels = {"tool_id": "rotated", "secret": "1", "fingerprint": new["fingerprint"]}
    assert served.metric("webhook_secret_matches_total", **labels) == 1
    assert served.metric("webhook_secret_last_use_timestamp_seconds", **labels) > time.time() - 60
    # The new one moves up; what is known of it goes along.
    only, = admin.put("rotated", by_env("HOOK_SECRET_2")).json()["secrets"]
    assert only["position"] == 0 and only["fingerprint"] == new["fingerprint"] and only["matches"] == 1
    assert admin.delete("rotated").status == 200


# ---- many processes, load, outages ----

class Sender(threading.Thread):
    """One keep-alive connection that sends to one tool until it is told to stop."""

    def __init__(self, w, tool, secret, name):
        super().__init__(daemon=True)
        self.w, self.tool, self.secret, self.name = w, tool, secret, name
        self.statuses, self.done, self.error = [], threading.Event(), None

    def run(self):
        try:
            with self.w.conn(60) as c:
                while not self.done.is_set():
                    n = len(self.statuses)
                    c.send(build("POST", f"/webhooks/{self.tool}", sign.github(BODY, self.secret, "push", f"{self.name}-{n}"), BODY))
                    self.statuses.append(c.read("POST").status)
        except Exception as e:
            self.error = e


def change_under_load(w, a, name):
    """Adds, changes and removes a tool while 64 connections send to it and to another. Returns who sent to
    the other and who to this one."""
    steady = [Sender(w, "github", SECRET, f"{name}-s{i}") for i in range(32)]
    moving = [Sender(w, "moving", (ONE, TWO)[i % 2], f"{name}-m{i}") for i in range(32)]
    for s in steady + moving:
        s.start()
    try:
        for i in range(12):
            assert a.put("moving", by_env(("HOOK_SECRET", "HOOK_SECRET_2")[i % 2])).status == (201 if i % 4 == 0 else 200)
            # Those with the right secret get through, the others do not: a few of each before the next change.
            before = [len(s.statuses) for s in moving]
            wait_until(lambda: all(len(s.statuses) >= n + 3 or s.error for s, n in zip(moving, before)), 60)
            for s, n in zip(moving, before):
                want = 200 if s.secret == (ONE, TWO)[i % 2] else 401
                assert {c for c in s.statuses[n + 1:] if c != 503} <= {want}, (i, s.name, s.statuses[n:])
            if i % 4 == 3:
                assert a.delete("moving").status == 200
    finally:
        for s in steady + moving:
            s.done.set()
        for s in steady + moving:
            s.join(60)
    assert not [s.error for s in steady + moving if s.error]
    return steady, moving


def test_changes_under_load(weir, db, redis_db):
    w = weir(db, redis_db, **admin_env())
    a = admin_of(w)
    wait_until(lambda: a.get().json()["table"] == "read", 20)
    accepted = 0
    for name in "abcd":
        told = len(w.log())
        steady, moving = change_under_load(w, a, name)
        accepted += sum(s.statuses.count(200) for s in steady + moving)
        # On a machine so busy that Redis has not answered for a second, requests get 503 for that: once more then.
        if "reason=no_answer" not in w.log()[told:]:
            break
    assert {c for s in steady for c in s.statuses} == {200} and all(s.statuses for s in steady)
    assert {c for s in moving for c in s.statuses} <= {200, 401, 404}
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == accepted, 60)


def heard(ws, told, secret):
    """For each process: seconds from then to its first answer by the new secret."""
    took = {}

    def wait(w):
        wait_until(lambda: send(w, "shared", secret) == 200, 60)
        took[w] = time.monotonic() - told
    threads = [threading.Thread(target=wait, args=(w,)) for w in ws]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(took) == len(ws), "a process did not hear of it"
    return max(took.values())


def test_every_process_hears_of_it(weir, db, redis_db):
    ws = [weir(db, redis_db, **admin_env()) for _ in range(2)]
    # One without the worker, one without a token: both take part all the same.
    ws.append(weir(db, redis_db, ROLES="ingest", HOOK_SECRET=ONE, HOOK_SECRET_2=TWO))
    a, b = admin_of(ws[0]), admin_of(ws[1])
    for w in ws:
        wait_until(lambda: send(w, "none", ONE) == 404, 20)
    assert a.put("shared", by_env("HOOK_SECRET")).status == 201
    heard(ws, time.monotonic(), ONE)
    # Each process looks by itself half a minute after it last read: without notifications these
    # changes would take so long one after the other. With them a quiet moment shows a second to be
    # ample; a busy machine may need more for some, and more of them until there is such a moment.
    took = []
    for i in range(20):
        name, secret = (("HOOK_SECRET_2", TWO), ("HOOK_SECRET", ONE))[i % 2]
        assert (a, b)[i % 2].put("shared", by_env(name)).status == 200
        took.append(heard(ws, time.monotonic(), secret))
        if len(took) >= 5 and min(took) < 1:
            break
    assert max(took) < 20 and min(took) < 1, took
    version = b.get("shared").json()["version"]
    assert a.delete("shared").status == 200
    for w in ws:
        wait_until(lambda: send(w, "shared", secret) == 404, 20)
    assert b.put("shared", by_env("HOOK_SECRET")).json()["version"] > version
    wait_until(lambda: send(ws[2], "shared", ONE) == 200, 20)


def test_database_goes_and_comes(weir, own_pg, redis_db):
    db = own_pg()
    w = weir(db, redis_db, **admin_env())
    a = admin_of(w)
    wait_until(lambda: a.put("hook", by_env("HOOK_SECRET")).status == 201, 20)
    db.server.end("immediate")
    wait_until(lambda: a.put("other", by_env("HOOK_SECRET")).status == 503, 20)
    assert send(w, "hook", ONE) == 200 and send(w, "none", ONE) == 404
    # One that starts now knows the file's tools alone, and says so.
    late = weir(db, redis_db, start=False, **admin_env())
    late.start(wait=False)
    wait_until(lambda: late.get("/health/live").status == 200, 30)
    wait_until(lambda: send(late, "github", SECRET) == 200, 30)
    wait_until(lambda: late.get("/health/ready").status == 200, 20)
    r = late.post("hook", BODY, sign.github(BODY, ONE))
    assert r.status == 503 and r.header("Retry-After")
    assert late.post("No.Id", BODY, sign.github(BODY, ONE)).status == 404
    b = admin_of(late)
    assert b.get().json()["table"] == "unread" and b.get("hook").status == 503
    assert late.metric("webhooks_received_total", outcome="unavailable") >= 1
    # While nobody listens, the table changes.
    db.server.start()
    db.query("UPDATE weir.tools SET definition = %s", (json.dumps(by_env("HOOK_SECRET_2")),))
    for one in (w, late):
        wait_until(lambda: send(one, "hook", TWO) == 200, 30)
        assert send(one, "hook", ONE) == 401 and send(one, "none", ONE) == 404
    wait_until(lambda: a.put("other", by_env("HOOK_SECRET")).status in (200, 201), 30)


def test_schema_without_the_table(weir, db, redis_db):
    """An older weir's schema, which is brought up to date while this one runs."""
    assert run("migrate", "down", "--yes", "--to", "0003", env=db.env()).rc == 0
    w = weir(db, redis_db, start=False, **admin_env())
    w.start(wait=False)
    wait_until(lambda: send(w, "github", SECRET) == 200, 30)
    wait_until(lambda: "cannot be read" in w.log(), 20)
    assert send(w, "hook", ONE) == 503
    a = admin_of(w)
    r = a.put("hook", by_env("HOOK_SECRET"))
    assert r.status == 503 and "put_tool" in r.json()["detail"], r.body
    assert run("migrate", "up", env=db.env()).rc == 0
    wait_until(lambda: send(w, "hook", ONE) == 404, 20)
    assert a.put("hook", by_env("HOOK_SECRET")).status == 201 and send(w, "hook", ONE) == 200
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") >= 2, 30)


def test_role_that_may_not_read_the_table(weir, db, redis_db):
    role = "r" + db.name
    db.query(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    db.query(f"GRANT ALL ON SCHEMA weir TO {role}")
    db.query(f"GRANT ALL ON ALL TABLES IN SCHEMA weir TO {role}")
    db.query(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA weir TO {role}")
    db.query(f"REVOKE ALL ON weir.tools FROM {role}")
    w = weir(db, redis_db, **(admin_env() | {"DATABASE_USER": role, "DATABASE_PASSWORD": "x"}))
    try:
        # Events are stored all the same.
        assert send(w, "github", SECRET) == 200
        wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1, 30)
        assert send(w, "hook", ONE) == 503 and "permission denied" in w.log()
        assert admin_of(w).put("hook", by_env("HOOK_SECRET")).status == 503
        db.query(f"GRANT ALL ON weir.tools TO {role}")
        wait_until(lambda: send(w, "hook", ONE) == 404, 20)
        assert admin_of(w).put("hook", by_env("HOOK_SECRET")).status == 201
    finally:
        w.term()
        db.query(f"DROP OWNED BY {role}")
        db.query(f"DROP ROLE {role}")


def test_without_a_database(weir, redis_db):
    w = weir(None, redis_db, ROLES="ingest", **admin_env())
    a = admin_of(w)
    assert send(w, "none", ONE) == 404 and a.get().json()["table"] == "none"
    assert a.put("x", by_env("HOOK_SECRET")).status == 409 and a.get("github").status == 200


# ---- secrets ----

def test_secrets_in_files(weir, db, redis_db, work_dir):
    paths = {n: os.path.join(work_dir, n) for n in ("a", "b")}

    def write(name, text, whole=True):
        with open(paths[name] + (".new" if whole else ""), "w") as f:
            f.write(text)
        if whole:
            os.rename(paths[name] + ".new", paths[name])
    write("a", ONE)
    write("b", ONE + "\n")
    w = weir(db, redis_db, tools=[GITHUB, {"id": "filed", "preset": "github", "secrets": [{"file": paths["a"]}]}], **admin_env())
    a = admin_of(w)
    wait_until(lambda: a.put("tabled", {"preset": "github", "secrets": [{"file": paths["b"]}]}).status == 201, 20)
    prints = {t: a.get(t).json()["secrets"][0]["fingerprint"] for t in ("filed", "tabled")}
    assert prints["filed"] == prints["tabled"]
    assert send(w, "filed", ONE) == send(w, "tabled", ONE) == 200
    # By rename, and in place.
    write("a", TWO)
    write("b", TWO, whole=False)
    for tool in ("filed", "tabled"):
        wait_until(lambda: send(w, tool, TWO) == 200, 20)
        assert send(w, tool, ONE) == 401
        assert a.get(tool).json()["secrets"][0]["fingerprint"] != prints[tool]
    assert w.metric("webhook_tool_secret_reads_total", outcome="applied") >= 2
    # What cannot be read leaves the old ones in force.
    os.unlink(paths["a"])
    write("b", "")
    for tool in ("filed", "tabled"):
        wait_until(lambda: a.get(tool).json()["state"] == "stale", 20)
        assert a.get(tool).json()["error"] and send(w, tool, TWO) == 200
    assert w.metric("webhook_tools_failed") == 2
    write("a", ONE)
    write("b", ONE)
    for tool in ("filed", "tabled"):
        wait_until(lambda: send(w, tool, ONE) == 200, 20)
        assert a.get(tool).json()["state"] == "active"
    # A row whose file is not there yet is in force once it is.
    missing = os.path.join(work_dir, "c")
    db.query("INSERT INTO weir.tools (id, definition) VALUES ('later', %s)",
             (json.dumps({"preset": "github", "secrets": [{"file": missing}]}),))
    wait_until(lambda: send(w, "later", ONE) == 503, 15)
    with open(missing, "w") as f:
        f.write(ONE)
    wait_until(lambda: send(w, "later", ONE) == 200, 20)
    w.reload()
    wait_until(lambda: "reloaded" in w.log(), 15)
    assert send(w, "filed", ONE) == send(w, "tabled", ONE) == 200


# ---- the command line ----

def test_tools_command(served, admin, work_dir):
    env = {**served.env, "HOME": work_dir}
    path = os.path.join(work_dir, "tool.json")
    with open(path, "w") as f:
        json.dump(by_env("HOOK_SECRET"), f)
    r = run("tools", "put", "cli", path, env=env)
    assert r.rc == 0 and send(served, "cli", ONE) == 200, r
    r = run("tools", "list", env=env)
    assert r.rc == 0 and {line.split()[0] for line in r.out.splitlines()[1:]} >= {"github", "marked", "cli"}, r
    listed = json.loads(run("tools", "list", "-o", "json", env=env).out)
    assert [t["id"] for t in listed["tools"]] == [t["id"] for t in admin.get().json()["tools"]]
    r = run("tools", "show", "cli", env=env)
    for mark in ("table", "active", "HOOK_SECRET", "FINGERPRINT", "GitHub", "4xx", str(served.pid)):
        assert mark in r.out, (mark, r)
    assert json.loads(run("tools", "show", "cli", "-o", "json", env=env).out)["secrets"][0]["matches"] == 1
    # With the read token alone reading works and changing does not.
    reader = {k: v for k, v in env.items() if k != "ADMIN_TOKEN"}
    assert run("tools", "show", "cli", env=reader).rc == 0 and run("tools", "put", "cli", path, env=reader).rc == 78
    with open(path, "w") as f:
        f.write('{"preset": "githup"}')
    r = run("tools", "put", "cli", path, env=env)
    assert r.rc == 1 and '"githup"' in r.err and "422" in r.err, r
    assert run("tools", "delete", "cli", env=env).rc == 0
    assert run("tools", "delete", "cli", env=env).rc == run("tools", "show", "cli", env=env).rc == 1
    assert run("tools", "put", "cli", path + ".not", env=env).rc == 1
    r = run("tools", "list", env={**env, "ADMIN_ADDR": f"127.0.0.1:{free_port()}"})
    assert r.rc == 69, r
    assert run("tools", "list", env={**env, "ADMIN_TOKEN": "x" * 20}).rc == 78
    for args in ((), ("frobnicate",), ("show",), ("list", "x"), ("put", "x"), ("list", "-o", "xml"), ("test", "x")):
        assert run("tools", *args, env=env).rc == 2, args
    # Without a token the file is read.
    alone = {"TOOLS_FILE": served.env["TOOLS_FILE"], "MARK_SECRET": MARK}
    r = run("tools", "list", env=alone)
    assert r.rc == 0 and "github" in r.out and "cli" not in r.out, r
    r = run("tools", "show", "github", env=alone)
    assert r.rc == 0 and "not told by a running weir" in r.out and "5xx" in r.out, r
    assert "without one, the same body within 600 s" in r.out and "not compared" not in r.out, r
    assert run("tools", "show", "nothing", env=alone).rc == 1
    with open(path, "w") as f:
        json.dump({"tools": [{"id": "zoom", "preset": "zoom", "secrets": ["s"]}, {"id": "all", "auth": "none", "dedup": "none"},
                       {"id": "intercom", "preset": "intercom", "secrets": ["s"]}]}, f)
    alone = {"TOOLS_FILE": path}
    assert "the same body within 5400 s" in run("tools", "show", "zoom", env=alone).out
    assert "events without one are all kept" in run("tools", "show", "all", env=alone).out
    assert "json:delivery_attempts" in run("tools", "show", "intercom", env=alone).out
    assert "json:delivery_attempts" in json.loads(run("tools", "show", "intercom", "-o", "json", env=alone).out)["volatile"]
    assert run("tools", "list", env={"TOOLS_FILE": "/nowhere"}).rc == 78


def write_request(path, headers, body, first=""):
    with open(path, "wb") as f:
        f.write(first.encode() + b"".join(f"{n}: {v}\n".encode() for n, v in headers) + b"\n" + body)
    return path


def test_tools_test(served, admin, work_dir):
    tools = write_tools(os.path.join(work_dir, "t.json"), [
        GITHUB, {"id": "stripe", "preset": "stripe", "secrets": ["whsec_x", "whsec_y"]},
        {"id": "many", "recipe": {"split": "[]", "id": "json:id", "type": "json:t"}, "auth": "none"},
        {"id": "queried", "recipe": {"scheme": "token", "sig": "query:key"}, "secrets": ["k"]}])
    env, path = {"TOOLS_FILE": tools}, os.path.join(work_dir, "request")

    def check(tool, *args, rc=0):
        r = run("tools", "test", tool, path, *args, env=env)
        assert r.rc == rc, r
        j = json.loads(run("tools", "test", tool, path, "-o", "json", *args, env=env).out)
        assert j["verified"] == (rc == 0)
        return r.out, j

    write_request(path, sign.github(BODY, SECRET, "issues", "id-1"), BODY)
    out, j = check("github")
    assert "verified" in out and "secret 0" in out and "id-1" in out and "issues" in out
    assert j["events"] == [{"id": "id-1", "type": "issues", "bytes": len(BODY)}] and j["fingerprint"] in out
    write_request(path, sign.github(BODY, SECRET), BODY + b" ")
    assert "signature_wrong" in check("github", rc=1)[0]
    write_request(path, [], BODY)
    assert "signature_missing" in check("github", rc=1)[0]
    write_request(path, sign.stripe(b'{"id":"evt_1","type":"a.b"}', "whsec_y", ts=1000), b'{"id":"evt_1","type":"a.b"}')
    out, j = check("stripe", rc=1)
    assert j["reason"] == "timestamp_stale" and j["age_seconds"] > 10**9
    out, j = check("stripe", "--at", "1010")
    assert j["secret"] == 1 and j["events"][0]["id"] == "evt_1"
    write_request(path, [], b'[{"id":"a","t":"x"},{"id":"b","t":"y"}]')
    out, j = check("many")
    assert [e["id"] for e in j["events"]] == ["a", "b"] and "not verified" in out and "one of an array" in out
    write_request(path, [], b"{}", first="POST /webhooks/queried?key=k HTTP/1.1\n")
    assert check("queried")[1]["secret"] == 0
    with open(path, "w") as f:
        f.write("this is no header\n\n{}")
    r = run("tools", "test", "github", path, env=env)
    assert r.rc == 1 and "line 1" in r.err, r
    # One of the table: its definition comes from the API, its secrets from here.
    assert admin.put("far", by_env("HOOK_SECRET")).status == 201
    write_request(path, sign.github(BODY, ONE), BODY)
    assert run("tools", "test", "far", path, env=served.env).rc == 0
    assert run("tools", "test", "far", path, env={**served.env, "HOOK_SECRET": TWO}).rc == 1
    r = run("tools", "test", "far", path, env={k: v for k, v in served.env.items() if k != "HOOK_SECRET"})
    assert r.rc == 78 and "HOOK_SECRET" in r.err, r
    assert admin.delete("far").status == 200


def test_tools_of_the_table_on_the_command_line(served, admin, work_dir):
    """Who acts as a provider or its judge finds a tool of the table too, without a token, and only reads."""
    assert admin.put("tabled-cli", by_env("HOOK_SECRET")).status == 201
    env = {k: v for k, v in served.env.items() if not k.startswith("ADMIN_")}
    path = os.path.join(work_dir, "request")

    def by_hand(tool, env, rc):
        write_request(path, sign.github(BODY, ONE), BODY, first=f"POST /webhooks/{tool} HTTP/1.1\n")
        runs = [run(*args, env=env) for args in (("send-test", tool), ("sign", tool), ("verify", tool, path), ("tools", "test", tool, path),
                                                 ("bench", tool, "--seconds", "100ms", "--connections", "1"))]
        assert [r.rc for r in runs] == [rc] * len(runs), runs
        return runs
    before = served.db.value("SELECT row_to_json(t)::text FROM weir.tools t WHERE id = 'tabled-cli'")
    by_hand("tabled-cli", env, 0)
    assert served.db.value("SELECT row_to_json(t)::text FROM weir.tools t WHERE id = 'tabled-cli'") == before
    # Its secrets are this process's.
    for r in by_hand("tabled-cli", {k: v for k, v in env.items() if k != "HOOK_SECRET"}, 78):
        assert "HOOK_SECRET" in r.err and "weir.tools" in r.err, r
    for r in by_hand("nobody", env, 1):
        assert "there is no tool 'nobody'" in r.err and re.search(r"weir\.tools: .*tabled-cli", r.err) and " github" in r.err, r
    for r in by_hand("tabled-cli", {k: v for k, v in env.items() if not k.startswith("DATABASE_")}, 1):
        assert "not looked at" in r.err and "DATABASE_URL" in r.err and " github" in r.err, r
    for r in by_hand("tabled-cli", env | {"DATABASE_PORT": str(free_port())}, 69):
        assert "cannot be read" in r.err, r
    by_hand("tabled-cli", env | {"DATABASE_PASSWORD": "wrong"}, 78)
    # A tool of the file needs no database.
    assert run("sign", "github", env=env | {"DATABASE_PORT": str(free_port())}).rc == 0
    assert admin.delete("tabled-cli").status == 200


def test_no_secret_shows(served, admin):
    """Runs on what the tests above left: every answer of the API, the log, the metrics, the table."""
    assert send(served, "marked", MARK) == 200
    assert admin.put("marked-too", by_env("MARK_SECRET")).status == 201
    assert send(served, "marked-too", MARK) == 200 and send(served, "marked-too", "wrong") == 401
    t = admin.get("marked").json()
    assert t["definition"]["secrets"] == [{"value": "***"}, "***", {"env": "MARK_SECRET"}]
    admin.get("marked-too")
    admin.get()
    served.reload()
    wait_until(lambda: "reloaded" in served.log(), 15)
    texts = [served.log(), served.metrics(), *(served.get(p).body.decode() for p in ("/health", "/health/ready"))]
    texts += [t.decode() for t in admin.answers]
    texts.append(json.dumps(served.db.query("SELECT definition, updated_by FROM weir.tools")))
    texts.append(json.dumps(served.db.query("SELECT actor, before, after FROM weir.audit_log")))
    for args in (("tools", "show", "marked"), ("tools", "show", "marked", "-o", "json"), ("tools", "list", "-o", "json")):
        for env in (served.env, {k: v for k, v in served.env.items() if not k.startswith("ADMIN_")}):
            r = run(*args, env=env)
            assert r.rc == 0, r
            texts.append(r.out + r.err)
    for text in texts:
        for secret in (MARK, ONE, TWO, TOKEN, READ_TOKEN):
            assert secret not in text, text[max(0, text.find(secret) - 300):][:600]
    assert admin.delete("marked-too").status == 200
