"""The HTTP server alone: test/bench/http_echo.c says what its paths answer."""
import os
import re
import signal
import subprocess

from . import http
from .proc import Child, new_dir
from .wait import wait_until
from .weir import SANITIZER, base_env

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def binary():
    """Built in the same mode as the weir under test."""
    m = re.search(r"/build/(\w+)/weir$", os.environ.get("WEIR_BINARY", ""))
    mode = m.group(1) if m else "asan"
    path = f"build/{mode}/bench/http_echo"
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    subprocess.run(["make", "-s", f"MODE={mode}", path], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    return os.path.join(ROOT, path)


class Echo:
    def __init__(self, path, wrap=(), **options):
        self.dir = new_dir("echo")
        self.log_path = os.path.join(self.dir, "echo.log")
        argv = [*wrap, path, "0", *(f"{k}={v}" for k, v in options.items())]
        self.child = Child("http_echo", argv, self.log_path, env=base_env())
        self.reaped = False
        self.port = wait_until(self._port, 60, "http_echo's port")

    def _port(self):
        assert self.child.alive()
        return int(re.search(r"^(\d+)$", self.log(), re.M).group(1))

    def log(self):
        return self.child.log()

    def conn(self, timeout=60):
        return http.Conn(self.port, timeout=timeout)

    def get(self, path, **kw):
        return http.request(self.port, "GET", path, **kw)

    def post(self, path, body=b"", **kw):
        return http.request(self.port, "POST", path, body=body, **kw)

    def stats(self):
        return self.get("/stats").json()

    def term(self, timeout=60):
        rc = self.child.end(signal.SIGTERM, timeout)
        self.reaped = True
        m = SANITIZER.search(self.log())
        assert not m, self.log()[m.start() - 200:m.start() + 4000]
        return rc

    def close(self):
        if not self.reaped:
            assert self.term() == 0, self.log()[-4000:]
