"""The durability audit: what is not safe, or not known, has a gauge, a warning and a place on the
health page; with STRICT_DURABILITY weir does not start with it."""
import pytest

from conftest import SECRET
from harness import sign
from harness.proc import free_port
from harness.servers import Database, Postgres
from harness.weir import run
from harness.wait import wait_until

CONFIG, UNREACHABLE = 78, 69


def gauge(w, setting=None):
    if setting is None:
        return w.metric("webhook_durability")
    return w.metric("webhook_durability_setting", setting=setting)


def known(w):
    wait_until(lambda: w.metrics().count("webhook_durability_setting{") >= 7
               and w.get("/health").json()["components"]["durability"]["details"]["overall"] != "unknown", 30, "the audit")


def reconnect(server):
    with server.client() as c:
        c.client_kill_filter(_type="normal", skipme=True)


def refused(w):
    """The exit code of a weir that does not start, and its log."""
    w.start(wait=False)
    rc = w.child.wait(60)
    w.reaped = True
    w.check_log()
    return rc, w.log()


def test_all_is_safe(weir, db, own_redis):
    w = weir(db, own_redis(), STRICT_DURABILITY="true")
    known(w)
    assert gauge(w) == 1
    lines = [line for line in w.metrics().splitlines() if line.startswith("webhook_durability_setting{")]
    assert len(lines) == 13 and all(line.endswith(" 1") for line in lines), lines
    assert "level=warn" not in w.log()
    c = w.get("/health").json()["components"]["durability"]
    assert c["status"] == "healthy" and c["details"]["redis"]["appendfsync"] == {"state": "safe", "value": "always"}
    assert c["details"]["postgres"]["schema"]["value"].startswith("current")


@pytest.mark.parametrize("setting, value", [
    ("appendonly", "no"), ("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes"),
    ("maxmemory-policy", "allkeys-lru")])
def test_weak_redis(weir, db, own_redis, setting, value):
    """Each of them is told, refused when strict, and told again when it is put right."""
    server = own_redis()
    with server.client() as c:
        good = c.config_get(setting)[setting]
        c.config_set(setting, value)
    rc, log = refused(weir(db, server, start=False, STRICT_DURABILITY="true"))
    assert rc == CONFIG and f"redis: {setting} is {value}, not {good}: " in log, log
    assert f"To do: CONFIG SET {setting} {good}, and in redis.conf" in log and "set STRICT_DURABILITY=false" in log, log
    assert log.count('msg="not durable"') == 1, log
    w = weir(db, server)
    wait_until(lambda: gauge(w, setting) == 0, 30)
    assert gauge(w) == 0
    line = next(x for x in w.log().splitlines() if 'msg="not durable"' in x)
    assert f"setting={setting}" in line and f"value={value}" in line and f"should_be={good}" in line and "otherwise=" in line
    c = w.get("/health").json()["components"]["durability"]
    assert c["status"] == "degraded" and c["details"]["redis"][setting]["should_be"] == good
    with server.client() as c:
        c.config_set(setting, good)
    reconnect(server)
    wait_until(lambda: gauge(w, setting) == 1 and gauge(w) == 1, 30, "after a reconnect it is looked at again")
    assert w.log().count('msg="not durable"') == 1 and 'msg="durable again"' in w.log()
    assert w.post("github", b"{}", sign.github(b"{}", SECRET)).status == 200


def test_redis_that_does_not_tell(weir, db, own_redis):
    """Managed servers forbid CONFIG: what INFO tells is known, the rest is not, which is not safe."""
    server = own_redis()
    with server.client() as c:
        c.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-config")
    env = {"REDIS_USERNAME": "app", "REDIS_PASSWORD": "secret"}
    w = weir(db, server, **env)
    wait_until(lambda: gauge(w, "appendonly") == 1, 30)
    assert [gauge(w, s) for s in ("appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy", "role")] == [-1, -1, 1, 1]
    assert gauge(w) == -1
    assert 'msg="durability unknown"' in w.log() and "NOPERM" in w.log()
    assert w.get("/health").json()["components"]["durability"]["details"]["redis"]["appendfsync"]["state"] == "unknown"
    rc, log = refused(weir(db, server, start=False, STRICT_DURABILITY="true", **env))
    assert rc == CONFIG and "appendfsync is not known" in log and "NOPERM" in log, log
    r = run("check-config", "--connect", env=db.env() | server.env() | env)
    assert r.rc == 0 and "warning  redis: appendfsync is not known" in r.out, r


def test_replicas(weir, db, own_redis):
    """A primary with a replica takes no writes while none is near, or a fail-over loses them."""
    primary, replica = own_redis(), own_redis()
    with replica.client() as c:
        c.replicaof("127.0.0.1", primary.port)
        wait_until(lambda: c.info("replication")["master_link_status"] == "up", 30)
    w = weir(db, primary)
    wait_until(lambda: gauge(w, "min-replicas-to-write") == 0, 30)
    with primary.client() as c:
        c.config_set("min-replicas-to-write", 1)
    reconnect(primary)
    wait_until(lambda: gauge(w, "min-replicas-to-write") == 1, 30)


def test_weak_postgres(weir, own_pg, redis_db):
    db = own_pg(fsync="off", full_page_writes="off", synchronous_commit="off")
    rc, log = refused(weir(db, redis_db, start=False, STRICT_DURABILITY="true"))
    assert rc == CONFIG and "postgres: fsync is off, not on: " in log and "full_page_writes is off" in log, log
    w = weir(db, redis_db)
    wait_until(lambda: gauge(w, "fsync") == 0 and gauge(w, "full_page_writes") == 0, 30)
    # That one weir sets by itself.
    assert gauge(w, "synchronous_commit") == 1
    db.query("ALTER SYSTEM SET full_page_writes = on")
    db.close()
    db.server.settings |= {"fsync": "on", "full_page_writes": "on"}
    db.server.restart()
    wait_until(lambda: gauge(w) == 1, 60, "looked at again after the restart")


def test_ingest_alone_needs_no_postgres(weir, redis_db):
    w = weir(None, redis_db, ROLES="ingest", STRICT_DURABILITY="true")
    wait_until(lambda: gauge(w) == 1, 30)
    assert gauge(w, "fsync") is None


def test_strict_waits_for_its_servers(weir, db, redis_db):
    w = weir(db, redis_db, start=False, args=("--wait-for", "1s"), STRICT_DURABILITY="true", DATABASE_PORT=free_port())
    rc, log = refused(w)
    assert rc == UNREACHABLE and "waiting for the servers" in log and "could not be asked" in log, log
