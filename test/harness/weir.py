"""The binary under test."""
import json
import os
import re
import signal
import subprocess

from . import http, oracle
from .proc import Child, free_port, new_dir
from .wait import wait_until

SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|UndefinedBehaviorSanitizer")


def binary():
    path = os.environ.get("WEIR_BINARY") or os.path.join(os.path.dirname(__file__), "..", "..", "weir")
    path = os.path.abspath(path)
    assert os.access(path, os.X_OK), f"{path} is not built"
    return path


def base_env():
    """Nothing of the caller's settings reaches weir."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/"),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":exitcode=99:abort_on_error=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}


class Result:
    def __init__(self, rc, out, err):
        self.rc, self.out, self.err = rc, out, err

    def __repr__(self):
        return f"<exit {self.rc}\n--- stdout\n{self.out}\n--- stderr\n{self.err}>"


def run(*args, env=None, timeout=60, cwd=None):
    """Runs one command to its end. A sanitizer's report is a failure whatever the test expects."""
    r = subprocess.run([binary(), *args], env=base_env() | (env or {}), capture_output=True, text=True, timeout=timeout,
                       stdin=subprocess.DEVNULL, cwd=cwd, errors="replace")
    assert not SANITIZER.search(r.stderr), r.stderr
    return Result(r.returncode, r.stdout, r.stderr)


def write_tools(path, tools, **more):
    """Puts the tools file in place as an editor would: written apart, then renamed."""
    text = tools if isinstance(tools, str) else json.dumps({"tools": tools, **more})
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)
    return path


class Weir:
    """`weir serve` with settings as keyword arguments. start() waits until it is ready."""

    def __init__(self, env, args=(), name="weir"):
        self.name, self.dir = name, new_dir(name)
        self.port, self.health_port = free_port(), free_port()
        self.env = {"HOST": "127.0.0.1", "PORT": str(self.port), "HEALTH_ENDPOINT": f"127.0.0.1:{self.health_port}",
                    "SHUTDOWN_DELAY": "0s", "SHUTDOWN_GRACE": "15s", **env}
        self.args, self.child, self.reaped = ["serve", *args], None, True
        self.base = None  # its size when it was first ready: see oracle.py
        self.log_path = os.path.join(self.dir, "weir.log")
        self.binary, self.wrap = None, ()  # another binary; what it is started by

    @property
    def pid(self):
        return self.child.pid

    def start(self, wait=True, timeout=60, output=None):
        assert self.child is None or not self.child.alive()
        self.child = Child(self.name, [*self.wrap, self.binary or binary(), *self.args], self.log_path, env=base_env() | self.env, cwd=self.dir, output=output)
        self.reaped = False
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=60):
        def ready():
            if not self.child.alive():
                return True
            return self.get("/health/ready", timeout=2).status == 200
        wait_until(ready, timeout, f"{self.name} ready")
        assert self.child.alive(), f"{self.name} ended with {self.child.poll()}:\n{self.log()[-4000:]}"
        self.base = self.base or oracle.size(self)

    # -- requests

    def get(self, path, health=True, headers=(), timeout=60):
        return http.request(self.health_port if health else self.port, "GET", path, headers, timeout=timeout)

    def request(self, method, path, headers=(), body=None, timeout=60):
        return http.request(self.port, method, path, headers, body, timeout)

    def post(self, tool, body, headers, timeout=60):
        return self.request("POST", f"/webhooks/{tool}", headers, body, timeout)

    def conn(self, timeout=60):
        return http.Conn(self.port, timeout=timeout)

    def metrics(self):
        return self.get("/metrics").body.decode()

    def metric(self, name, **labels):
        """The sum over the samples of `name` that bear these labels; None when there is none."""
        total = None
        for line in self.metrics().splitlines():
            m = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", line)
            if not m or m.group(1) != name:
                continue
            have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m.group(2) or ""))
            if all(have.get(k) == v for k, v in labels.items()):
                total = (total or 0.0) + float(m.group(3))
        return total

    # -- life

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def reload(self):
        self.child.send(signal.SIGHUP)

    def kill(self):
        self.child.kill()
        self.reaped = True
        self.check_log()

    def term(self, timeout=60):
        """SIGTERM, the exit code."""
        rc = self.child.end(signal.SIGTERM, timeout)
        self.reaped = True
        self.check_log()
        return rc

    def restart(self):
        assert self.term() == 0
        return self.start()

    def check_log(self):
        m = SANITIZER.search(self.log())
        assert not m, f"{self.name}: sanitizer report\n{self.log()[max(0, m.start() - 200):][:8000]}"

    def close(self):
        """Teardown: a weir that still runs must end well; one that ended on its own must have too,
        unless the test took its exit code."""
        if self.child is None:
            return
        if not self.reaped:
            alive = self.child.alive()
            rc = self.child.end(signal.SIGTERM, 60)
            self.check_log()
            assert rc == 0, f"{self.name} {'ended' if alive else 'had ended by itself'} with {rc}\n{self.log()[-4000:]}"
        self.check_log()
