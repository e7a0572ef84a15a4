"""weir dev: starts, shows the way, cleans up after itself whatever happened."""
import glob
import os
import re
import shlex
import signal
import socket
import subprocess
import time

import pytest

from harness.proc import Child, free_port, new_dir
from harness.wait import wait_until
from harness.weir import SANITIZER, base_env, binary, run


class Dev:
    def __init__(self, cwd, *args, **env):
        self.cwd = cwd
        self.log_path = os.path.join(new_dir("dev"), "dev.log")
        self.child = Child("weir dev", [binary(), "dev", *args], self.log_path, env=base_env() | env, cwd=cwd)

    def ready(self):
        wait_until(lambda: "Ctrl-C" in self.child.log() or not self.child.alive(), 60, "weir dev")
        assert self.child.alive(), self.child.log()
        return self

    def end(self, sig=signal.SIGTERM):
        rc = self.child.end(sig, 60)
        assert not SANITIZER.search(self.child.log()), self.child.log()
        return rc

    def pid(self, name):
        with open(os.path.join(self.cwd, ".weir", name + ".pid")) as f:
            return int(f.read())

    def port(self):
        return int(re.search(r"http://127\.0\.0\.1:(\d+)/webhooks", self.child.log()).group(1))

    def sample(self, mark):
        """The indented command of the welcome that holds `mark`."""
        text = self.child.log().replace("\\\n", " ")
        return next(line.strip() for line in text.splitlines() if line.startswith("  ") and mark in line)


def processes(mark):
    """Command lines of live processes that name `mark`."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                line = f.read()
        except OSError:
            continue
        if mark.encode() in line:
            found.append(line)
    return found


@pytest.fixture
def place(work_dir):
    os.chmod(work_dir, 0o755)
    yield work_dir
    assert wait_until(lambda: not processes(work_dir), 60, "the end of all that ran there")
    for path in glob.glob(os.path.join(work_dir, "**/.weir/data"), recursive=True, include_hidden=True):
        if os.path.islink(path):
            subprocess.run(["rm", "-rf", os.path.realpath(path)], check=True)


def shell(command):
    r = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r
    return r.stdout


def test_first_event(place):
    """As the welcome says, by copying its lines."""
    start = time.monotonic()
    dev = Dev(place).ready()
    assert " 200 OK" in shell(dev.sample("curl"))
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md")) as f:
        first = re.search(r"^curl .*\n(?:  .*\n)+", f.read(), re.M).group(0)
    flat = first.replace(":8000/", f":{dev.port()}/").replace("\\\n", " ").split()
    assert flat == dev.sample("curl").split()
    psql = dev.sample("psql")
    wait_until(lambda: "Keep it logically awesome" in shell(psql), 60, "the first event's row")
    assert time.monotonic() - start < 60
    args = shlex.split(dev.sample("send-test"))[1:]
    for more in ([], ["--bad-signature"]):
        r = run(*args, *more, cwd=place)
        assert r.rc == 0, r
    wait_until(lambda: "(2 rows)" in shell(psql), 60)
    r = run(*shlex.split(dev.sample("tools list"))[1:], cwd=place)
    assert r.rc == 0 and "demo" in r.out, r
    token = re.search(r"token: ([0-9a-f]{32})", dev.child.log()).group(1)
    conf = os.path.join(place, ".weir", "weir.conf")
    assert f"ADMIN_TOKEN={token}" in open(conf).read() and os.stat(conf).st_mode & 0o077 == 0
    assert dev.end(signal.SIGINT) == 0
    # The data is there at the next start.
    dev = Dev(place).ready()
    assert "(2 rows)" in shell(dev.sample("psql"))
    assert dev.end() == 0


def test_second_is_refused(place):
    dev = Dev(place).ready()
    r = run("dev", cwd=place)
    assert r.rc == 1 and "another" in r.err and str(dev.child.pid) in r.err, r
    assert dev.end() == 0


def test_killed_leaves_nothing_and_starts_again(place):
    dev = Dev(place).ready()
    os.kill(dev.child.pid, signal.SIGKILL)
    dev.child.wait()
    wait_until(lambda: not processes(place), 60, "the servers' end")
    dev = Dev(place).ready()
    # Servers that cannot notice: stopped ones.
    for name in ("redis", "postgres"):
        os.kill(dev.pid(name), signal.SIGSTOP)
    os.kill(dev.child.pid, signal.SIGKILL)
    dev.child.wait()
    assert processes(os.path.join(place, ".weir"))
    dev = Dev(place).ready()
    assert "of a former run" in dev.child.log()
    assert dev.end() == 0


@pytest.mark.parametrize("name", ["redis", "postgres", "serve"])
def test_a_child_that_dies_ends_all(place, name):
    dev = Dev(place).ready()
    os.kill(dev.pid(name), signal.SIGKILL)
    assert dev.child.wait(60) == 1
    assert "was ended by signal 9" in dev.child.log()


def test_stale_pid_files(place):
    dev = Dev(place).ready()
    assert dev.end() == 0
    data = os.path.join(place, ".weir", "data", "postgres")
    for path in (os.path.join(data, "postmaster.pid"), os.path.join(place, ".weir", "redis.pid")):
        with open(path, "w") as f:
            f.write(f"{os.getpid()}\n{data}\n")
    dev = Dev(place).ready()
    assert dev.end() == 0


def test_taken_port_and_odd_folder(place):
    folder = os.path.join(place, "l" * 70, "it's, a folder")
    os.makedirs(folder)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = s.getsockname()[1]
        dev = Dev(folder, PORT=str(taken)).ready()
    assert f"port {taken} is taken" in dev.child.log() and dev.port() != taken
    assert " 200 OK" in shell(dev.sample("curl"))
    wait_until(lambda: "(1 row)" in shell(dev.sample("psql")), 60)
    sockets = re.search(r"psql -h (\S+)", dev.child.log()).group(1)
    assert len(sockets) < 90 and dev.end() == 0
    assert not os.path.exists(os.path.dirname(sockets)) or sockets.startswith(place)


def test_folder_that_only_root_may_enter(place):
    os.mkdir(os.path.join(place, "private"), 0o700)
    dev = Dev(os.path.join(place, "private")).ready()
    assert dev.end() == 0
    dev = Dev(os.path.join(place, "private")).ready()
    assert dev.end() == 0


def test_two_at_once_get_ports_of_their_own(place):
    """Started together, so that both look for a port before either has bound one."""
    folders = [os.path.join(place, f"d{i}") for i in range(3)]
    port = free_port()
    for folder in folders:
        os.mkdir(folder)
    devs = [Dev(folder, PORT=str(port)) for folder in folders]
    ports = [dev.ready().port() for dev in devs]
    assert len(set(ports)) == 3 and min(ports) == port, ports
    for dev in devs:
        assert " 200 OK" in shell(dev.sample("curl"))
        wait_until(lambda: "(1 row)" in shell(dev.sample("psql")), 60)
    for dev in devs:
        assert dev.end() == 0


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True])
def test_make_run_passes_signals_on(place, sig, group):
    """To make's own process id, and, as a terminal does, to all of its group."""
    script = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "run-dev")
    with open(os.path.join(place, "Makefile"), "w") as f:
        f.write(f"run:\n\t@{os.path.abspath(script)} {binary()}\n")
    log = open(os.path.join(place, "log"), "w+")
    make = subprocess.Popen(["make", "run"], cwd=place, env=base_env(), stdin=subprocess.DEVNULL, stdout=log,
                            stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: "Ctrl-C" in open(log.name).read() or make.poll() is not None, 60, "weir dev")
        (os.killpg if group else os.kill)(make.pid, sig)
        assert make.wait(60) != 0  # make's own rule for an interrupted run
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
    wait_until(lambda: not processes(place), 90, "the end of all that ran there")
    text = open(log.name).read()
    assert "to=ENDED" in text and "second signal" not in text, text


def test_ephemeral(place):
    dev = Dev(place, "--ephemeral").ready()
    folder = re.search(r"nothing is kept of (\S+)", dev.child.log()).group(1)
    assert os.path.isdir(folder)
    assert " 200 OK" in shell(dev.sample("curl"))
    assert dev.end() == 0
    assert not os.path.exists(folder) and not os.listdir(place)


def test_stopped_while_starting(place):
    dev = Dev(place)
    wait_until(lambda: os.path.exists(os.path.join(place, ".weir", "initdb.log")), 90)
    dev.child.send(signal.SIGINT)
    assert dev.child.wait(60) != 0
    wait_until(lambda: not processes(place), 90)
    dev = Dev(place).ready()
    assert dev.end() == 0
