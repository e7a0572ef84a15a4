"""The command line: settings, exit codes, what is printed, and how serve starts and reloads."""
import json
import os
import re
import signal

import pytest

from conftest import GITHUB, SECRET
from harness import sign
from harness.proc import free_port
from harness.servers import Postgres, Redis, Database
from harness.wait import wait_until
from harness.weir import run, write_tools

FAILED, USAGE, UNREACHABLE, CONFIG = 1, 2, 69, 78


def test_help_and_version():
    assert run("--version").out.startswith("weir ")
    for args in (["--help"], ["help"]):
        names = re.findall(r"^  ([a-z][a-z-]+) ", run(*args).out, re.M)
        assert {"serve", "dev", "migrate", "check-config", "config", "healthcheck", "send-test"} <= set(names)
    for name in names:
        r = run(name, "--help")
        assert r.rc == 0 and f"weir {name}" in r.out and r.err == ""
        assert run(name, "-h").out == run("help", name).out == r.out
        assert run(name, "--version").out == run("--version").out
        # What an unknown option is told is what the help explains, no more and no less; and so with exit codes.
        wrong = run(name, "--no-such-option")
        assert wrong.rc == USAGE and "there is no option --no-such-option" in wrong.err, wrong
        known = set(re.findall(r"--[a-z-]+", wrong.err.split("there are:")[1].splitlines()[0]))
        assert known == set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", r.out, re.M)), name
        assert all(len(line) <= 101 for line in r.out.splitlines()), name
        flat = " ".join(r.out.split())
        assert "Exit 0" in flat and "2 wrong use" in flat, name


@pytest.mark.parametrize("args", [[], ["nothing"], ["serve", "--nothing"], ["serve", "more"], ["migrate"], ["config"],
                                  ["migrate", "sideways"], ["send-test"], ["dev", "--dir", "x", "--ephemeral"],
                                  ["serve", "--wait-for", "soon"]])
def test_usage_errors(args):
    r = run(*args)
    assert r.rc == USAGE and "usage" in r.err and r.out == ""


@pytest.mark.parametrize("args, says", [
    (["serve", "-x"], "there is no option -x; there are: --config FILE; --migrate; --wait-for TIME; -h, --help; --version"), (["serve", "--help=x"], "there is no option --help=x"),
    (["serve", "--config"], "lacks its value: --config FILE"), (["serve", "--wait-for"], "lacks its value: --wait-for TIME"),
    (["serve", "--wait-for", "soon"], "--wait-for soon: must be a duration"),
    (["migrate", "status", "-o"], "lacks its value: -o, --output table|json"),
    (["migrate", "status", "--output", "xml"], "--output xml: must be table or json"),
    (["migrate", "sideways"], "up, status or down"), (["tools", "sing"], "list, show, put, delete or test"),
    (["openapi", "x"], "takes no arguments"), (["openapi", "--migrate"], "there is no option --migrate"),
    (["serve", "--migrate=yes"], "--migrate=yes"), (["config", "--dump", "--markdown"], "one of them"),
    (["sign", "t", "-o", "xml"], "curl, http or headers"), (["verify", "t", "-H", "x"], "Name: value"),
    (["bench", "t", "--rate", "0"], "--rate 0: must be above 0"), (["bench", "t", "--connections", "0"], "1 to 10000"),
    (["healthcheck", "--url", "http://x/", "--ready"], "--ready"), (["verify", "t", "--at", "noon"], "seconds since 1970")])
def test_usage_errors_say_what_is_allowed(args, says):
    r = run(*args)
    assert r.rc == USAGE and says in r.err and r.out == "", r


@pytest.mark.parametrize("name, value, allowed", [
    ("PORT", "80000", "65535"), ("PORT", "http", None), ("WEBHOOK_BATCH_SIZE", "0", None),
    ("WEBHOOK_FLUSH_INTERVAL", "soon", None), ("SHUTDOWN_GRACE", "-1s", None), ("STRICT_DURABILITY", "maybe", "true"),
    ("ROLES", "ingest,cook", "worker"), ("INGEST_ENDPOINTS", "some", "webhooks"), ("LOG_LEVEL", "loud", "debug"),
    ("LOG_FORMAT", "xml", "json"), ("MAX_BODY_SIZE", "big", None), ("HEALTH_ENDPOINT", "nowhere", None),
    ("REDIS_DB", "-1", None), ("DATABASE_SSL_MODE", "maybe", "disable"), ("DATABASE_PORT", "99999999999999999999", None),
])
def test_bad_settings(name, value, allowed):
    for command in (["serve"], ["check-config"]):
        r = run(*command, env={name: value})
        assert r.rc == CONFIG, r
        assert name in r.err and (not value or value in r.err), r
        assert allowed is None or allowed in r.err, r


@pytest.mark.parametrize("value", ["TRUE", "no", "Off", "1"])
def test_booleans_ignore_case(value):
    assert run("check-config", env={"STRICT_DURABILITY": value, "LOG_FORMAT": "JSON", "ROLES": "Ingest,WORKER"}).rc == 0


def test_config_file(work_dir):
    path = os.path.join(work_dir, "weir.conf")

    def write(text):
        with open(path, "w") as f:
            f.write(text)
    write("# a comment\n\nPORT=9001\nWEBHOOK_FLUSH_INTERVAL=250\nSERVICE_NAME=from file\n")
    r = run("config", "--dump", "--config", path, env={"PORT": "9002"})
    assert r.rc == 0
    assert re.search(r"^PORT=9002$", r.out, re.M) and re.search(r"^SERVICE_NAME=from file$", r.out, re.M)
    assert re.search(r"^WEBHOOK_FLUSH_INTERVAL=(250|250ms)$", r.out, re.M)
    for text, what in (("PORT=9001\nPROT=1\n", "PROT"), ("PORT=x\n", "PORT"), ("just words\n", "NAME=value")):
        write(text)
        r = run("check-config", "--config", path)
        assert r.rc == CONFIG and what in r.err and f"{path}:{text.count(chr(10))}:" in r.err, r
    r = run("check-config", "--config", path + ".none")
    assert r.rc == CONFIG and path + ".none" in r.err


def test_print_default_is_a_config_file(work_dir):
    r = run("config", "--print-default")
    assert r.rc == 0
    for name in ("PORT", "REDIS_ADDR", "WEBHOOK_BATCH_SIZE", "SHUTDOWN_GRACE", "MAX_BODY_SIZE", "TOOLS_FILE"):
        assert re.search(rf"^#?\s*{name}=", r.out, re.M), name
    path = os.path.join(work_dir, "weir.conf")
    with open(path, "w") as f:
        f.write(r.out)
    assert run("check-config", "--config", path).rc == 0
    with open(path, "w") as f:
        f.write(re.sub(r"^#\s*([A-Z_]+=)", r"\1", r.out, flags=re.M))
    r = run("check-config", "--config", path)
    assert r.rc == 0, r


def test_manual_page(work_dir):
    """All commands and settings, and nothing that roff would take for its own."""
    r = run("config", "--man")
    assert r.rc == 0 and r.out.startswith(".TH WEIR 1 ")
    names = re.findall(r"^([A-Z_]+)=", run("config", "--print-default").out, re.M)
    assert re.findall(r"^\.BR ([A-Z_]+)", r.out, re.M) == names
    assert re.findall(r'^\.SS "weir (.*)"$', r.out, re.M) == [
        n.replace("-", "\\-") for n in re.findall(r"^  ([a-z][a-z-]+) ", run("--help").out, re.M)]
    known = {".TH", ".SH", ".SS", ".B", ".BR", ".I", ".PP", ".TP", ".nf", ".fi"}
    assert {line.split()[0] for line in r.out.splitlines() if line[:1] in (".", "'")} == known
    assert set(re.findall(r"\\(.)", r.out)) <= set("-e&")
    assert "  \\-\\-wait\\-for TIME" in r.out and "Default: 0.0.0.0." in r.out


def test_dump_masks_secrets():
    r = run("config", "--dump", env={"DATABASE_URL": "postgres://me:hush1@db.example/x?password=hush2", "REDIS_PASSWORD": "hush3",
                                     "WEBHOOK_SECRET": "hush4", "DATABASE_PASSWORD": "hush5"})
    assert r.rc == 0 and "hush" not in r.out and "db.example" in r.out


# ---- the tools file ----

@pytest.mark.parametrize("text, says", [
    ("{", ":1:"), ('{"tools":[}', ":1:"), ("[]", "object"), ('{"tools":{}}', "tools"), ('{"tolls":[]}', "tolls"),
    ('{"tools":[{"preset":"github"}]}', "id"),
    ('{"tools":[{"id":"A b","preset":"github","secrets":["s"]}]}', "A b"),
    ('{"tools":[{"id":"weir","preset":"github","secrets":["s"]}]}', "weir"),
    ('{"tools":[{"id":"x","preset":"githup","secrets":["s"]}]}', "githup"),
    ('{"tools":[{"id":"x","preset":"github"}]}', "secrets"),
    ('{"tools":[{"id":"x","preset":"github","secrets":[]}]}', "secrets"),
    ('{"tools":[{"id":"x","preset":"github","secrets":[""]}]}', "secrets"),
    ('{"tools":[{"id":"x"}]}', "auth"),
    ('{"tools":[{"id":"x","preset":"github","secrets":["s"],"colour":1}]}', "colour"),
    ('{"tools":[{"id":"x","preset":"github","secrets":[{"env":"WEIR_NOT_SET"}]}]}', "WEIR_NOT_SET"),
    ('{"tools":[{"id":"x","preset":"github","secrets":[{"file":"/nonexistent/secret"}]}]}', "/nonexistent/secret"),
    ('{"tools":[{"id":"x","preset":"github","secrets":["s"]},{"id":"x","preset":"gitlab","secrets":["s"]}]}', "x"),
    ('{"tools":[{"id":"x","preset":"standard-webhooks","secrets":["no base64!"]}]}', "secrets"),
])
def test_bad_tools_file(work_dir, text, says):
    path = write_tools(os.path.join(work_dir, "tools.json"), text)
    for command in (["serve"], ["check-config"]):
        r = run(*command, env={"TOOLS_FILE": path})
        assert r.rc == CONFIG and says in r.err, r


def test_secrets_from_env_and_file(weir, db, redis_db, work_dir):
    path = os.path.join(work_dir, "secret")
    with open(path, "w") as f:
        f.write("from-file\n")
    w = weir(db, redis_db, tools=[{**GITHUB, "secrets": [{"env": "MY_SECRET"}, {"file": path}]}], MY_SECRET="from-env")
    for secret, status in (("from-env", 200), ("from-file", 200), ("from-file\n", 401)):
        assert w.post("github", b"{}", sign.github(b"{}", secret)).status == status


def test_check_config(db, redis_db, work_dir):
    path = write_tools(os.path.join(work_dir, "tools.json"), [GITHUB])
    env = db.env() | redis_db.env() | {"TOOLS_FILE": path}
    r = run("check-config", env=env)
    assert r.rc == 0 and f"1 tool from {path}\n" in r.out, r
    assert "neither TOOLS_FILE nor WEBHOOK_SECRET" in run("check-config").out
    assert " tools from WEBHOOK_SECRET\n" in run("check-config", env={"WEBHOOK_SECRET": "x"}).out
    r = run("check-config", "--connect", env=env)
    assert r.rc == 0 and "warning" not in r.out, r
    assert run("check-config", "--connect", env=env | {"REDIS_ADDR": f"127.0.0.1:{free_port()}"}).rc == UNREACHABLE
    assert run("check-config", "--connect", env=env | {"DATABASE_PORT": str(free_port())}).rc == UNREACHABLE
    r = run("check-config", "--connect", env=env | {"REDIS_TLS_ENABLED": "true"})
    assert r.rc == UNREACHABLE and "does it speak TLS on this port?" in r.out, r


def test_weak_durability_is_told(db, own_redis):
    server = own_redis(aof="everysec")
    r = run("check-config", "--connect", env=db.env() | server.env())
    assert r.rc == 0 and "appendfsync" in r.out, r
    r = run("check-config", "--connect", env=db.env() | server.env() | {"STRICT_DURABILITY": "true"})
    assert r.rc == CONFIG and "appendfsync is everysec, not always: " in r.out and "CONFIG SET appendfsync always" in r.out, r
    assert "serve would not start" in r.err and "STRICT_DURABILITY" in r.err, r


# ---- migrations ----

def test_migrate(pg_server):
    with pg_server.connect("postgres") as c:
        c.execute("CREATE DATABASE migrating")
    database = Database(pg_server, "migrating")
    env = database.env()
    try:
        assert run("migrate", "status", env=env).rc == 1
        assert run("migrate", "up", env=env).rc == 0
        assert run("migrate", "up", env=env).rc == 0
        r = run("migrate", "status", env=env)
        assert r.rc == 0 and "0001" in r.out
        assert database.value("SELECT weir.body_json('{\"a\":1}')") == {"a": 1}
        while database.value("SELECT to_regclass('weir.events')::text"):
            assert run("migrate", "down", "--yes", env=env).rc == 0
        assert run("migrate", "up", env=env).rc == 0
    finally:
        database.close()
        with pg_server.connect("postgres") as c:
            c.execute("DROP DATABASE migrating WITH (FORCE)")
    assert run("migrate", "up", env=env | {"DATABASE_PORT": str(free_port())}).rc == UNREACHABLE


def test_serve_can_migrate(pg_server, redis_db, weir):
    with pg_server.connect("postgres") as c:
        c.execute("CREATE DATABASE unmigrated")
    database = Database(pg_server, "unmigrated")
    try:
        w = weir(database, redis_db, args=("--migrate",))
        assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
        wait_until(lambda: database.value("SELECT count(*) FROM weir.events") == 1)
        assert w.term() == 0
    finally:
        database.close()
        with pg_server.connect("postgres") as c:
            c.execute("DROP DATABASE unmigrated WITH (FORCE)")


# ---- starting ----

def test_neither_server_answers(weir):
    w = weir(start=False, args=("--wait-for", "1s"), REDIS_ADDR=f"127.0.0.1:{free_port()}",
             DATABASE_HOST="127.0.0.1", DATABASE_PORT=free_port()).start(wait=False)
    rc = w.child.wait(60)
    w.reaped = True
    assert rc == UNREACHABLE, w.log()


def test_no_time_to_wait_is_enough_for_servers_that_are_there(weir, db, redis_db):
    w = weir(db, redis_db, args=("--wait-for", "0s"))
    assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200


@pytest.mark.parametrize("args, setting", [(("--migrate", "--wait-for", "60s"), None), (("--wait-for", "60s"), "true"),
                                           (("--wait-for", "60s"), None)])
def test_ended_while_it_waits_for_servers(weir, args, setting):
    """A reload does not end it, SIGTERM does, with exit code 0; and so where it is a container's first
    process, whom the kernel's default for a signal does not end."""
    dead = {"REDIS_ADDR": f"127.0.0.1:{free_port()}", "DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": free_port()}
    w = weir(start=False, args=args, STRICT_DURABILITY=setting, **dead).start(wait=False)
    wait_until(lambda: "refused" in w.log(), 60)
    with open(f"/proc/{w.pid}/status") as f:
        caught = int(re.search(r"SigCgt:\s*(\w+)", f.read()).group(1), 16)
    assert caught >> (signal.SIGTERM - 1) & caught >> (signal.SIGINT - 1) & 1
    for _ in range(3):
        w.child.send(signal.SIGHUP)
    assert w.term() == 0


def test_early_reload_is_not_forgotten(weir, own_redis, own_pg):
    """One that comes before the service runs is done when it does."""
    db, redis = own_pg(), own_redis()
    db.server.stop()
    w = weir(db, redis, start=False, args=("--migrate", "--wait-for", "60s")).start(wait=False)

    def blocked():
        with open(f"/proc/{w.pid}/status") as f:
            return int(re.search(r"SigBlk:\s*(\w+)", f.read()).group(1), 16) >> (signal.SIGHUP - 1) & 1
    wait_until(blocked, 60)
    w.child.send(signal.SIGHUP)
    db.server.cont()
    w.wait_ready(60)
    wait_until(lambda: "reloaded" in w.log(), 60)


def test_started_without_standard_streams(weir, db, redis_db):
    """No connection may get the number that the log is written to."""
    w = weir(db, redis_db, start=False)
    w.wrap = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    w.start()
    if os.access(f"/proc/{w.pid}/fd", os.R_OK):  # a release of one's own user cannot be looked into
        assert [os.readlink(f"/proc/{w.pid}/fd/{n}") for n in range(3)] == ["/dev/null"] * 3
    for _ in range(20):
        assert w.post("github", b"{}", sign.github(b"{}", "wrong")).status == 401
    assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1, 60)


def test_started_before_its_servers(weir, request):
    """Ports are known, servers come later: weir is there, takes events once Redis is, stores them
    once Postgres is."""
    redis, pg = Redis(), Postgres()
    database = Database(pg, "late")
    try:
        w = weir(database, redis, start=False, args=("--wait-for", "60s", "--migrate")).start(wait=False)
        redis.start()
        pg.start()
        with pg.connect("postgres") as c:
            c.execute("CREATE DATABASE late")
        w.wait_ready(60)
        assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
        wait_until(lambda: database.value("SELECT count(*) FROM weir.events") == 1, 60)
        assert w.term() == 0
    finally:
        database.close()
        redis.close()
        pg.close()


@pytest.mark.parametrize("wrong, says", [
    ({"DATABASE_NAME": "no-such-database"}, "DATABASE_NAME"), ({"DATABASE_PASSWORD": "wrong"}, "DATABASE_PASSWORD"),
    ({"DATABASE_USER": "nobody", "DATABASE_PASSWORD": "x"}, "DATABASE_USER")])
def test_database_that_refuses(db, redis_db, wrong, says):
    """A wrong name or password is bad configuration, for every command and whether Redis is there or not. (The port
    is one that nobody has, so that a serve that goes on is no other test's.)"""
    env = db.env() | redis_db.env() | wrong | {"HOST": "127.0.0.1", "PORT": str(free_port()),
                                               "HEALTH_ENDPOINT": f"127.0.0.1:{free_port()}"}
    for more in ({}, {"ROLES": "ingest"}, {"REDIS_ADDR": f"127.0.0.1:{free_port()}"}, {"STRICT_DURABILITY": "true", "ROLES": "worker"}):
        r = run("serve", env=env | more)
        assert r.rc == CONFIG and "FATAL" in r.err and 'msg="serving"' not in r.err, (more, r)
        assert "STRICT_DURABILITY" in more or says in r.err, r
    for args in (["serve", "--migrate", "--wait-for", "300ms"], ["migrate", "status"], ["check-config", "--connect"]):
        r = run(*args, env=env)
        assert r.rc == CONFIG and "FATAL" in r.out + r.err, r
    # Of several servers one may be the right one once it is there.
    url = "postgres://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{DATABASE_PORT},127.0.0.1:{dead}/{DATABASE_NAME}"
    r = run("serve", "--wait-for", "300ms", env=env | {"DATABASE_URL": url.format(dead=free_port(), **env),
                                                       "REDIS_ADDR": f"127.0.0.1:{free_port()}"})
    assert r.rc == UNREACHABLE, r


def test_database_that_refuses_later(weir, own_pg, redis_db):
    """Once it runs it goes on, whatever somebody does to the password: events wait in the queue."""
    db = own_pg()
    w = weir(db, redis_db)
    db.query("ALTER ROLE weir PASSWORD 'another'")
    db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'weir'")
    wait_until(lambda: "password authentication failed" in w.log(), 60)
    assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
    db.query("ALTER ROLE weir PASSWORD 'weir-test'")
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1, 60)


def test_row07_redis_that_refuses(db, own_redis):
    """So is a wrong Redis password, whether Postgres is there or not; the log tells no password."""
    server, dead = own_redis(password="right-one"), str(free_port())
    env = db.env() | server.env() | {"HOST": "127.0.0.1", "PORT": str(free_port()), "HEALTH_ENDPOINT": f"127.0.0.1:{free_port()}"}
    for wrong, code, setting in (({"REDIS_PASSWORD": "wrong-one"}, "WRONGPASS", "REDIS_PASSWORD"), ({"REDIS_PASSWORD": ""}, "NOAUTH", "REDIS_PASSWORD"),
                                 ({"REDIS_USERNAME": "nobody"}, "WRONGPASS", "REDIS_USERNAME"), ({"REDIS_DB": "5000"}, "out of range", "REDIS_DB")):
        for more in ({}, {"ROLES": "ingest"}, {"ROLES": "worker"}, {"DATABASE_PORT": dead}, {"STRICT_DURABILITY": "true"}):
            r = run("serve", env=env | wrong | more)
            assert r.rc == CONFIG and 'msg="serving"' not in r.err, (wrong, more, r)
            assert code in r.err and setting in r.err and "wrong-one" not in r.err, (wrong, more, r)
        r = run("check-config", "--connect", env=env | wrong)
        assert r.rc == CONFIG and code in r.out and setting in r.out, (wrong, r)


def test_row07_redis_that_refuses_later(weir, db, own_redis):
    """Once it runs it goes on: events go straight to the database until the password fits again."""
    server = own_redis(password="right-one")
    w, client = weir(db, server), server.client()
    wait_until(lambda: "to=RUNNING" in w.log(), 60)
    client.config_set("requirepass", "another")
    client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: "WRONGPASS" in w.log(), 60)
    wait_until(lambda: w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200, 60)
    client.config_set("requirepass", "right-one")
    wait_until(lambda: "connected again" in w.log(), 60)
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events") == 1, 60)


def test_port_is_taken(weir, served):
    """By somebody who does not share it."""
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        r = run("serve", env={**served.env, "PORT": str(port), "HEALTH_ENDPOINT": f"127.0.0.1:{free_port()}"})
        assert r.rc == FAILED and str(port) in r.err, r


# ---- reload ----

def test_reload_good_and_bad(served):
    w = served
    post = lambda tool, secret: w.post(tool, b"{}", sign.github(b"{}", secret)).status  # noqa: E731
    assert (post("github", SECRET), post("second", "two")) == (200, 404)
    write_tools(w.tools_file, [GITHUB, {**GITHUB, "id": "second", "secrets": ["two"]}])
    w.reload()
    wait_until(lambda: post("second", "two") == 200, 60, "the new tool")
    assert post("github", SECRET) == 200
    write_tools(w.tools_file, '{"tools":[{"id":"third"}]}')
    w.reload()
    wait_until(lambda: "refused" in w.log(), 60, "the refusal in the log")
    assert (post("github", SECRET), post("second", "two"), post("third", "x")) == (200, 200, 404)
    write_tools(w.tools_file, [{**GITHUB, "secrets": ["changed"]}])
    w.reload()
    wait_until(lambda: post("second", "two") == 404, 60, "the tool's end")
    assert (post("github", SECRET), post("github", "changed")) == (401, 200)


def test_reload_under_load(served, db):
    from harness.load import Load
    with Load([served.port], SECRET, threads=2) as load:
        for i in range(20):
            write_tools(served.tools_file, [GITHUB] + [{**GITHUB, "id": f"t{n}"} for n in range(i)] if i % 2 else "{")
            served.reload()
            wait_until(lambda: served.log().count("reload") >= i + 1, 60)
        ledger = load.stop()
    assert set(ledger.statuses()) == {200}
    wait_until(lambda: not ledger.compare(db)[0], 60)


def test_reload_of_settings(weir, db, redis_db, work_dir):
    path = os.path.join(work_dir, "weir.conf")

    def write(**values):
        with open(path, "w") as f:
            f.writelines(f"{k}={v}\n" for k, v in values.items())
    write(LOG_LEVEL="info", WEBHOOK_STREAM="one")
    w = weir(db, redis_db, args=("--config", path))
    write(LOG_LEVEL="debug", WEBHOOK_STREAM="two")
    w.reload()
    wait_until(lambda: "level=debug" in w.log() or "debug" in w.log().split("reload")[-1], 60)
    assert "WEBHOOK_STREAM" in w.log()
    write(LOG_LEVEL="loud")
    w.reload()
    wait_until(lambda: "LOG_LEVEL" in w.log(), 60)
    assert w.get("/health/ready").status == 200


# ---- installing ----

def test_install(work_dir):
    """Everything lands below DESTDIR and PREFIX, and what the pages point at is there."""
    import subprocess
    from harness.weir import binary
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    mode = os.path.basename(os.path.dirname(binary()))
    subprocess.run(["make", "-s", "install", f"MODE={mode if mode in ('asan', 'cover') else 'release'}", f"DESTDIR={work_dir}/a stage",
                    "PREFIX=/opt/w"], cwd=root, check=True, env={"PATH": os.environ["PATH"]}, umask=0o077)
    top = os.path.join(work_dir, "a stage")
    assert os.listdir(top) == ["opt"] and os.listdir(f"{top}/opt") == ["w"]
    files = [os.path.join(d, f) for d, _, names in os.walk(top) for f in names]
    assert all(os.stat(f).st_mode & 0o444 == 0o444 for f in files)
    home = f"{top}/opt/w"
    r = subprocess.run([f"{home}/bin/weir", "--version"], capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout == run("--version").out
    for page in [f for f in files if f.endswith(".md")]:
        with open(page) as f:
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", f.read()):
                assert os.path.exists(os.path.join(os.path.dirname(page), link)), (page, link)
    presets = {f[:-5] for f in os.listdir(f"{home}/share/weir/providers")}
    assert presets and presets | {"README"} == {f[:-3] for f in os.listdir(f"{home}/share/doc/weir/providers")}
    with open(f"{home}/share/man/man1/weir.1") as f:
        assert f.read() == run("config", "--man").out
    with open(f"{home}/share/weir/openapi.json") as f:
        assert json.load(f)["openapi"] == "3.1.0"


def test_deb_deps(work_dir):
    """Nothing is done where all is there; else by sudo, and without it one is told what to type."""
    import subprocess
    script = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "deb-deps")
    with open(script) as f:
        packages = re.search(r'PACKAGES="([^"]*)"', f.read()).group(1).split()
    for tool in ("sh", "sed", "cat", "rm", "mktemp"):
        os.symlink(os.path.join("/bin" if os.path.exists(f"/bin/{tool}") else "/usr/bin", tool), os.path.join(work_dir, tool))

    def stub(name, text):
        path = os.path.join(work_dir, name)
        with open(path, "w") as f:
            f.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def deb_deps():
        return subprocess.run([script], env={"PATH": work_dir}, capture_output=True, text=True, timeout=30)

    def have(names):
        stub("dpkg-query", "\n".join(f"echo '{p} install ok installed'" for p in names) + "\nexit 1")
    stub("id", "echo 1000")
    have(packages)
    r = deb_deps()
    assert r.returncode == 0 and r.stdout == r.stderr == "", r
    have([p for p in packages if p not in ("wrk", "libevhtp-dev")])
    r = deb_deps()
    assert r.returncode == 1 and "neither root nor sudo" in r.stderr and "apt-get install --no-install-recommends libevhtp-dev wrk" in r.stderr, r
    stub("sudo", "exit 1")
    r = deb_deps()
    assert r.returncode == 1 and "sudo does not let us" in r.stderr and "wrk" in r.stderr, r
    log = os.path.join(work_dir, "log")
    stub("sudo", f'echo "$*" >>{log}; case "$*" in *tee*) cat >/dev/null ;; *install*) echo broken; exit 100 ;; esac')
    r = deb_deps()
    assert r.returncode == 1 and "broken" in r.stderr and "mirror" in r.stderr and "installing: libevhtp-dev wrk" in r.stdout, r
    stub("sudo", f'echo "$*" >>{log}; case "$*" in *tee*) cat >/dev/null ;; esac')
    r = deb_deps()
    assert r.returncode == 0 and r.stderr == "", r
    with open(log) as f:
        lines = f.read().splitlines()
    assert [x for x in lines if "apt-get install" in x] == ["env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libevhtp-dev wrk"] * 2
    if not os.path.exists("/usr/sbin/policy-rc.d"):
        assert lines.count("rm -f /usr/sbin/policy-rc.d") == 2


# ---- talking to a running weir ----

def test_healthcheck(served, own_redis):
    env = {k: v for k, v in served.env.items()}
    assert run("healthcheck", env=env).rc == 0
    assert run("healthcheck", "--ready", env=env).rc == 0
    assert run("healthcheck", "--url", f"http://127.0.0.1:{served.health_port}/health/live").rc == 0
    assert run("healthcheck", "--url", f"http://127.0.0.1:{served.health_port}/nothing").rc == 1
    assert run("healthcheck", "--url", f"http://127.0.0.1:{free_port()}/health").rc == UNREACHABLE


PRESETS = {"github": "s", "gitlab": "s", "gitlab-signing": "s", "bitbucket": "s", "jira": "s", "stripe": "whsec_s", "slack": "s", "shopify": "s",
           "standard-webhooks": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "linear": "s", "sentry": "s",
           "twilio": "s", "jira-connect": "s", "mailgun": "s"}
URLS = {"twilio": "https://hooks.example.com/webhooks/twilio", "jira-connect": "https://hooks.example.com"}


def test_send_test(weir, db, redis_db):
    """Every preset's sample, as its provider would sign it."""
    w = weir(db, redis_db, tools=[{"id": p, "preset": p, "secrets": [s]} | ({"url": URLS[p]} if p in URLS else {}) for p, s in PRESETS.items()])
    for tool in PRESETS:
        r = run("send-test", tool, env=w.env)
        assert r.rc == 0 and "200" in r.out, (tool, r)
        r = run("send-test", tool, "--bad-signature", env=w.env)
        assert r.rc == 0 and "401" in r.out, (tool, r)
    rows = wait_until(lambda: (lambda q: q if len(q) == len(PRESETS) else None)(
        db.query("SELECT tool, event_type, event_id, weir.body_json(body) FROM weir.events")))
    assert {r[0] for r in rows} == set(PRESETS)
    assert all(r[1] != "unknown" and r[2] and (isinstance(r[3], dict) or r[0] == "twilio") for r in rows), rows  # twilio's is a form
    r = run("send-test", "github", "--event", "ping", env=w.env)
    assert r.rc == 0
    wait_until(lambda: db.value("SELECT count(*) FROM weir.events WHERE tool = 'github' AND event_type = 'ping'") == 1)
    assert run("send-test", "nobody", env=w.env).rc == 1
    assert run("send-test", "github", env={**w.env, "PORT": str(free_port())}).rc == UNREACHABLE
    assert run("send-test", "github", "--url", f"http://127.0.0.1:{w.port}/webhooks/nobody", env=w.env).rc == 1


# ---- providers' timestamps ----

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("tool, make", [("stripe", sign.stripe), ("slack", sign.slack), ("standard-webhooks", sign.standard)])
def test_stale_and_future_timestamps(weir, db, redis_db, tool, make):
    secret = WHSEC if tool == "standard-webhooks" else "s"
    w = weir(db, redis_db, tools=[{"id": tool, "preset": tool, "secrets": [secret]}])
    body = json.dumps({"id": "evt_1", "type": "t", "event_id": "Ev1"}).encode()
    for age, status in ((0, 200), (280, 200), (-280, 200), (330, 401), (-330, 401), (10**9, 401)):
        r = w.post(tool, body, make(body, secret, sign.now(None) - age))
        assert r.status == status, (age, r)


def test_log_is_json_when_asked(weir, db, redis_db):
    w = weir(db, redis_db, LOG_FORMAT="json")
    w.post("github", b"{}", sign.github(b"{}", "wrong") + [("X-Request-Id", "find-me"), ("X-Odd", "a\tb")])
    line = wait_until(lambda: [x for x in w.log().splitlines() if "find-me" in x])[0]
    assert json.loads(line)
    assert all(json.loads(x) for x in w.log().splitlines())


def test_blocked_log_pipe_does_not_stop_it(weir, db, redis_db):
    """Nobody reads the pipe that the log goes to."""
    import subprocess
    from harness.weir import base_env, binary
    w = weir(db, redis_db, start=False, LOG_LEVEL="debug")
    r, out = os.pipe()
    child = subprocess.Popen([binary(), "serve"], env=base_env() | w.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    os.close(out)
    try:
        wait_until(lambda: w.get("/health/ready", timeout=2).status == 200, 60)
        with w.conn() as c:
            for i in range(3000):
                assert c.request("POST", "/webhooks/github", sign.github(b"{}", "wrong"), b"{}").status == 401
        assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
        os.close(r)
