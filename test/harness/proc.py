"""Child processes and temporary directories that are gone when the tests are, however they end."""
import atexit
import ctypes
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from .wait import wait_until

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_children = {}
_roots = {}
MEMORY = "/dev/shm"


def root_dir(place="/tmp"):
    """This session's directory there; others may pass through it, not list it."""
    if place not in _roots:
        _sweep(place)
        _roots[place] = tempfile.mkdtemp(prefix=f"weir-test-{os.getpid()}-", dir=place)
        os.chmod(_roots[place], 0o711)
    return _roots[place]


def new_dir(name):
    return tempfile.mkdtemp(prefix=name + "-", dir=root_dir())


def new_memory_dir(name, room):
    """In memory, where that many bytes are free there; containers often have a few megabytes only."""
    try:
        free = os.statvfs(MEMORY)
        if os.path.ismount(MEMORY) and free.f_bavail * free.f_frsize >= room:
            return tempfile.mkdtemp(prefix=name + "-", dir=root_dir(MEMORY))
    except OSError:
        pass
    return new_dir(name)


def _sweep(place):
    """Removes what sessions left that were killed with SIGKILL."""
    for entry in os.scandir(place):
        m = re.match(r"weir-test-(\d+)-", entry.name)
        if m and entry.is_dir(follow_symlinks=False) and not os.path.exists(f"/proc/{m.group(1)}"):
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                shutil.rmtree(entry.path, ignore_errors=True)


def cleanup():
    """Ends every child that still lives, by its pid, and removes the session's directories."""
    for child in list(_children.values()):
        child.destroy()
    for root in _roots.values():
        if not os.environ.get("WEIR_KEEP"):
            shutil.rmtree(root, ignore_errors=True)
    _roots.clear()


atexit.register(cleanup)


def server_user():
    """Postgres refuses to run as root: the account it runs as then, else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("neither a user postgres nor nobody")


def _preexec(user, death_signal):
    def run():
        if user:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        # After setuid, which clears it.
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    return run


class Child:
    """One process with its output in a file, or wherever the descriptor `output` leads."""

    def __init__(self, name, argv, log_path, env=None, user=None, death_signal=signal.SIGKILL, cwd=None, output=None):
        self.name, self.log_path, self.stopped = name, log_path, False
        self.death_signal = death_signal
        with open(log_path, "ab") as log:
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log if output is None else output, env=env, cwd=cwd,
                preexec_fn=_preexec(user, death_signal))
        self.pid = self.popen.pid
        _children[self.pid] = self

    def alive(self):
        return self.poll() is None

    def poll(self):
        rc = self.popen.poll()
        if rc is not None:
            _children.pop(self.pid, None)
        return rc

    def family(self):
        """The process and its descendants, parents first."""
        pids, todo = [], [self.pid]
        while todo:
            pid = todo.pop(0)
            pids.append(pid)
            try:
                with open(f"/proc/{pid}/task/{pid}/children") as f:
                    todo += [int(p) for p in f.read().split()]
            except OSError:
                pass
        return pids

    def send(self, sig, family=False):
        for pid in self.family() if family else [self.pid]:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass

    def stop(self):
        """SIGSTOP, the parent first so that it forks no more."""
        self.stopped = True
        self.send(signal.SIGSTOP, family=True)

    def cont(self):
        self.stopped = False
        self.send(signal.SIGCONT, family=True)

    def wait(self, timeout=60):
        rc = self.popen.wait(timeout)
        _children.pop(self.pid, None)
        return rc

    def kill(self):
        if self.alive():
            self.send(signal.SIGKILL, family=True)
            self.wait()
        self.stopped = False

    def end(self, sig=signal.SIGTERM, timeout=60):
        """Asks it to end and returns its exit code; kills it when it does not."""
        if not self.alive():
            return self.popen.returncode
        if self.stopped:
            self.cont()
        self.send(sig)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout} s of signal {sig}")

    def destroy(self):
        """The last resort at the end of a session. Postgres gets its SIGQUIT: a kill would leave
        its shared memory segment."""
        try:
            if self.death_signal != signal.SIGKILL and self.alive():
                self.cont()
                self.send(self.death_signal)
                self.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            self.kill()
        except Exception:
            pass

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()


_port_rng = random.Random(os.getpid() ^ int.from_bytes(os.urandom(4), "little"))
_given = set()


def _my_ports():
    """Below the kernel's ephemeral range; pytest-xdist's workers take nothing from each other."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return range(15000 + int(worker[2:]), 32000, int(workers))


def free_port():
    """A loopback port, never given twice in a session."""
    for _ in range(1000):
        port = _port_rng.choice(_my_ports())
        if port in _given:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")


def wait_port(port, timeout=60, host="127.0.0.1"):
    def up():
        with socket.create_connection((host, port), timeout=1):
            return True
    wait_until(up, timeout, f"port {port}")
