"""Private Redis and Postgres servers. They run on loopback, on free ports, in a directory of the
session, and can be restarted, killed and stopped while weir talks to them."""
import glob
import os
import shutil
import signal
import subprocess

import psycopg
import redis as redis_py

from .proc import Child, free_port, new_dir, new_memory_dir, server_user
from .wait import wait_until


class Server:
    """What all of them can be told. One has a directory, `dir`, and a process once it was started."""
    child = None

    def stop(self):
        self.child.stop()

    def cont(self):
        self.child.cont()

    def kill(self):
        self.child.kill()

    def end(self):
        return self.child.end(signal.SIGTERM) if self.child else None

    def close(self):
        if self.child:
            self.child.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Redis(Server):
    """`aof` is appendfsync's value, or None for no AOF at all."""

    def __init__(self, aof="always", tls=None, maxmemory=None, password=None, databases=1024, extra=(), env=None):
        self.dir, self.port = new_dir("redis"), free_port()
        self.aof, self.tls, self.maxmemory, self.password = aof, tls, maxmemory, password
        self.databases, self.extra, self.environ = databases, list(extra), env or {}
        self.log_path = os.path.join(self.dir, "redis.log")

    def argv(self):
        a = ["redis-server", "--bind", "127.0.0.1", "--dir", self.dir, "--save", "", "--daemonize", "no",
             "--databases", str(self.databases), "--maxmemory-policy", "noeviction",
             "--tls-port" if self.tls else "--port", str(self.port)]
        if self.tls:
            a += ["--port", "0", "--tls-cert-file", self.tls.cert, "--tls-key-file", self.tls.key,
                  "--tls-ca-cert-file", self.tls.ca, "--tls-auth-clients", "no"]
        if self.aof:
            a += ["--appendonly", "yes", "--appendfsync", self.aof, "--no-appendfsync-on-rewrite", "no"]
        if self.maxmemory:
            a += ["--maxmemory", str(self.maxmemory)]
        if self.password:
            a += ["--requirepass", self.password]
        return a + self.extra

    def start(self, wait=True):
        self.child = Child("redis-server", self.argv(), self.log_path, env={"PATH": os.environ["PATH"], "LC_ALL": "C"} | self.environ)
        if wait:
            self.wait_up()
        return self

    def wait_up(self):
        def up():
            if not self.child.alive():
                raise RuntimeError("redis-server ended")
            with self.client() as c:
                return c.ping()
        wait_until(up, 60, "redis-server")

    def client(self, db=0, timeout=30):
        kw = {"ssl": True, "ssl_ca_certs": self.tls.ca} if self.tls else {}
        return redis_py.Redis("127.0.0.1" if not self.tls else "localhost", self.port, db=db, password=self.password,
                              socket_timeout=timeout, socket_connect_timeout=timeout, **kw)

    def env(self, db=0):
        e = {"REDIS_ADDR": f"{'localhost' if self.tls else '127.0.0.1'}:{self.port}", "REDIS_DB": str(db)}
        if self.password:
            e["REDIS_PASSWORD"] = self.password
        if self.tls:
            e |= {"REDIS_TLS_ENABLED": "true", "REDIS_TLS_CA_FILE": self.tls.ca}
        return e

    def restart(self):
        self.end()
        self.start()


class RedisDb:
    """One numbered database of a shared server: a test's own keys."""

    def __init__(self, server, n):
        self.server, self.n = server, n
        self.client = server.client(n)

    def env(self):
        return self.server.env(self.n)


def postgres_bin():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda p: int(p.split("/")[4]))
    path = os.path.dirname(found[-1]) if found else None
    if not path:
        one = shutil.which("postgres")
        if not one:
            raise RuntimeError("no Postgres server found (Debian package postgresql-15)")
        path = os.path.dirname(os.path.realpath(one))
    return path


_initdb_dir = None
PASSWORD = "weir-test"


def _initdb():
    """A fresh cluster, made once per session and copied from then on."""
    global _initdb_dir
    if _initdb_dir:
        return _initdb_dir
    base, user = new_dir("initdb"), server_user()
    data, pw = os.path.join(base, "data"), os.path.join(base, "pw")
    with open(pw, "w") as f:
        f.write(PASSWORD + "\n")
    os.mkdir(data, 0o700)
    _own(base, user)
    log = os.path.join(base, "initdb.log")
    child = Child("initdb", [os.path.join(postgres_bin(), "initdb"), "-D", data, "-U", "weir", "-A", "scram-sha-256",
                             "--pwfile", pw, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], log,
                  env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, user=user, cwd=base)
    if child.wait(120) != 0:
        raise RuntimeError("initdb failed:\n" + child.log())
    _initdb_dir = data
    return data


def _own(path, user):
    if user:
        for d, dirs, files in os.walk(path):
            for p in [d] + [os.path.join(d, f) for f in files + dirs]:
                os.chown(p, user.pw_uid, user.pw_gid, follow_symlinks=False)


def faketime_lib():
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        raise RuntimeError("no libfaketime found (Debian package libfaketime)")
    return found[0]


class Postgres(Server):
    """With `clock_offset` (seconds) the server's wall clock is faked, and set_clock_offset() moves
    it while the server runs; what measures time spans stays true. One `in_memory` makes and drops
    databases in a fifth of the time, but its disk is as quick as none is."""

    def __init__(self, clock_offset=None, in_memory=False, **settings):
        self.user = server_user()
        self.dir, self.port = new_memory_dir("pg", 4 << 30) if in_memory else new_dir("pg"), free_port()
        self.data = os.path.join(self.dir, "data")
        self.settings = {"max_connections": 100, "shared_buffers": "64MB", "log_checkpoints": "off",
                         "dynamic_shared_memory_type": "mmap", "fsync": "on", **settings}
        subprocess.run(["cp", "-a", _initdb(), self.data], check=True)
        _own(self.dir, self.user)
        self.log_path = os.path.join(self.dir, "postgres.log")
        self.child_env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        if clock_offset is not None:
            self.set_clock_offset(clock_offset)
            self.child_env |= {"LD_PRELOAD": faketime_lib(), "FAKETIME_TIMESTAMP_FILE": self._clock_file(),
                               "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
                               "FAKETIME_DISABLE_SHM": "1"}

    def _clock_file(self):
        return os.path.join(self.dir, "clock")

    def set_clock_offset(self, seconds):
        path = self._clock_file()
        with open(path + ".new", "w") as f:
            f.write(f"{seconds:+.3f}\n")
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    def start(self, wait=True):
        argv = [os.path.join(postgres_bin(), "postgres"), "-D", self.data, "-p", str(self.port), "-k", self.dir]
        conf = {"listen_addresses": "127.0.0.1", **self.settings}
        for k, v in conf.items():
            argv += ["-c", f"{k}={v}"]

        def begin():
            self.child = Child("postgres", argv, self.log_path, env=self.child_env, user=self.user,
                               death_signal=signal.SIGQUIT, cwd=self.dir)
        begin()

        def up():
            # Backends of a killed server may hold its shared memory for a moment.
            if not self.child.alive():
                begin()
            with self.connect("postgres"):
                return True
        if wait:
            wait_until(up, 60, "postgres", 0.02)
        return self

    def connect(self, dbname, **kw):
        return psycopg.connect(host="127.0.0.1", port=self.port, dbname=dbname, user="weir", password=PASSWORD,
                               connect_timeout=30, autocommit=True, **kw)

    def env(self, dbname):
        return {"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": str(self.port), "DATABASE_NAME": dbname,
                "DATABASE_USER": "weir", "DATABASE_PASSWORD": PASSWORD, "DATABASE_SSL_MODE": "disable"}

    def end(self, mode="fast"):
        sig = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        return self.child.end(sig, 60)

    def restart(self, mode="fast"):
        self.end(mode)
        self.start()

    def close(self):
        if self.child and self.child.alive():
            try:
                self.end("immediate")  # takes its shared memory along, which a kill would not
            except AssertionError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


class Database:
    """One database of a server, with a connection that survives the server's restarts."""

    def __init__(self, server, name):
        self.server, self.name, self._conn = server, name, None
        self.weirs = []  # that use it

    def env(self):
        return self.server.env(self.name)

    def query(self, sql, params=None):
        for attempt in (0, 1):
            try:
                if self._conn is None or self._conn.closed:
                    self._conn = self.server.connect(self.name)
                cur = self._conn.execute(sql, params)
                return cur.fetchall() if cur.description else []
            except psycopg.OperationalError:
                self.close()
                if attempt:
                    raise

    def value(self, sql, params=None):
        rows = self.query(sql, params)
        return rows[0][0] if rows else None

    def close(self):
        if self._conn is not None:
            self._conn.close()
            self._conn = None


class Tls:
    """A throw-away CA and a certificate for localhost and 127.0.0.1."""

    def __init__(self):
        self.dir = new_dir("tls")
        self.ca, self.ca_key = self._p("ca.crt"), self._p("ca.key")
        self.cert, self.key = self._p("server.crt"), self._p("server.key")
        csr, ext = self._p("server.csr"), self._p("ext")
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                  "-keyout", self.ca_key, "-out", self.ca, "-subj", "/CN=weir test CA")
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-keyout", self.key, "-out", csr, "-subj", "/CN=localhost")
        with open(ext, "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._run("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial",
                  "-days", "2", "-extfile", ext, "-out", self.cert)

    def _p(self, name):
        return os.path.join(self.dir, name)

    def _run(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)
