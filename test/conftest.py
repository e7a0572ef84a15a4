"""Fixtures for test/integration and test/fault. Servers live for the session, databases for one
test; `own_redis` and `own_pg` make servers that a test may maltreat."""
import os
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import proc  # noqa: E402
from harness.servers import Database, Postgres, Redis, RedisDb, Tls  # noqa: E402
from harness.weir import Weir, run, write_tools  # noqa: E402

SECRET = "It's a Secret to Everybody"
GITHUB = {"id": "github", "preset": "github", "secrets": [SECRET]}
LOG_TAIL = 12000


def pytest_configure(config):
    def ended(signum, frame):
        raise KeyboardInterrupt(f"signal {signum}")
    signal.signal(signal.SIGTERM, ended)


def pytest_unconfigure(config):
    proc.cleanup()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of every server's log that it used."""
    report = (yield).get_result()
    if report.failed:
        for thing in dict.fromkeys(getattr(item, "weir_logs", [])):
            if thing.log_path and os.path.exists(thing.log_path):
                with open(thing.log_path, errors="replace") as f:
                    report.sections.append((f"log {thing.log_path}", f.read()[-LOG_TAIL:]))


def _logs(request, *things):
    if not hasattr(request.node, "weir_logs"):
        request.node.weir_logs = []
    request.node.weir_logs += things


@pytest.fixture(scope="session")
def redis_server():
    server = Redis().start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def pg_server():
    """On disk it would take a third of a second to make and drop a test's database. Tests that
    maltreat a Postgres have one of their own, on disk."""
    server = Postgres(in_memory=True, max_wal_size="256MB").start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def template_db(pg_server):
    """A database with the current schema; others are copied from it."""
    return _migrated(pg_server, "weir_template")


def _migrated(server, name):
    with server.connect("postgres") as c:
        c.execute(f'CREATE DATABASE "{name}"')
    r = run("migrate", "up", env=server.env(name))
    assert r.rc == 0, r
    return name


_counter = iter(range(1, 10**6))


@pytest.fixture
def new_db(request, pg_server, template_db):
    """new_db() gives a database of the test's own."""
    made = []

    def make():
        made.append(Database(pg_server, f"t{next(_counter)}"))
        _logs(request, pg_server)
        with pg_server.connect("postgres") as c:
            c.execute(f'CREATE DATABASE "{made[-1].name}" TEMPLATE "{template_db}"')
        return made[-1]
    yield make
    _end_weirs(request.node)
    for database in made:
        database.close()
        with pg_server.connect("postgres") as c:
            c.execute(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)')


@pytest.fixture
def db(new_db):
    return new_db()


@pytest.fixture
def new_redis_db(request, redis_server):
    """new_redis_db() gives an empty numbered database of the session's server."""
    made = []

    def make():
        made.append(RedisDb(redis_server, next(_counter) % redis_server.databases))
        _logs(request, redis_server)
        made[-1].client.flushdb()
        return made[-1]
    yield make
    _end_weirs(request.node)
    for one in made:
        one.client.flushdb()
        one.client.close()


@pytest.fixture
def redis_db(new_redis_db):
    return new_redis_db()


@pytest.fixture
def work_dir():
    path = proc.new_dir("work")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own_redis(request):
    """own_redis(aof='always', tls=None, maxmemory=None, ...) starts a Redis of the test's own."""
    made = []

    def make(**kw):
        made.append(Redis(**kw).start())
        _logs(request, made[-1])
        return made[-1]
    yield make
    _end_weirs(request.node)
    for server in made:
        server.close()


@pytest.fixture
def own_pg(request):
    """own_pg(**settings) starts a Postgres of the test's own; gives a migrated Database in it."""
    made = []

    def make(**settings):
        server = Postgres(**settings).start()
        made.append(server)
        _logs(request, server)
        return Database(server, _migrated(server, "weir"))
    yield make
    _end_weirs(request.node)
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def tls():
    return Tls()


def _end_weirs(node):
    """Ends the test's weirs; called before any server of theirs goes, whatever the order of the
    fixtures is."""
    things, node.weirs = getattr(node, "weirs", []), []
    failures = []
    for thing in reversed(things):
        try:
            thing.close()
        except AssertionError as e:
            failures.append(str(e))
    assert not failures, "\n".join(failures)


@pytest.fixture
def weir(request, work_dir):
    """weir(db, redis, tools=[...], start=True, args=(), NAME=value, ...): `db` and `redis` are what
    has an env(), or None. The tools file is weir.tools_file; settings of value None are left out."""
    node = request.node
    node.weirs = []

    def make(db=None, redis=None, tools=None, start=True, args=(), name=None, **settings):
        env = {}
        for part in (db, redis):
            env |= part.env() if part else {}
        path = os.path.join(work_dir, f"tools-{len(node.weirs)}.json")
        write_tools(path, [GITHUB] if tools is None else tools)
        env |= {"TOOLS_FILE": path} | {k: str(v) for k, v in settings.items()}
        w = Weir({k: v for k, v in env.items() if v != "None"}, args, name or f"weir{len(node.weirs)}")
        w.tools_file = path
        node.weirs.append(w)
        if db:
            db.weirs.append(w)
        _logs(request, w)
        return w.start() if start else w
    yield make
    _end_weirs(node)


@pytest.fixture
def served(weir, db, redis_db):
    """A weir with the tool github, on the session's servers."""
    return weir(db, redis_db)


def module_weir(request, redis_server, pg_server, template_db, tools=None, **settings):
    """For module-scoped fixtures: one weir on databases of its own, `yield from` it."""
    name, n = f"m{next(_counter)}", next(_counter) % redis_server.databases
    with pg_server.connect("postgres") as c:
        c.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_db}"')
    redis_server.client(n).flushdb()
    path = write_tools(os.path.join(proc.new_dir("tools"), "tools.json"), [GITHUB] if tools is None else tools)
    w = Weir(pg_server.env(name) | redis_server.env(n) | {"TOOLS_FILE": path} | {k: str(v) for k, v in settings.items()})
    w.start()
    w.db = Database(pg_server, name)
    yield w
    w.close()
    w.db.close()
    with pg_server.connect("postgres") as c:
        c.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
