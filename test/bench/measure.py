"""Instruments: processor time, memory, wrk, requests, and the machine itself."""
import hashlib
import hmac
import json
import os
import platform
import random
import re
import statistics
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TOOLS = os.path.join(ROOT, "build", "release", "bench")
TICK = os.sysconf("SC_CLK_TCK")
SECRET = "bench secret"
TOOL = {"id": "bench", "secrets": [SECRET],
        "recipe": {"sig": "header:x-signature", "parse": "plain:sha256=", "id": "header:x-event-id", "type": "json:action"}}

commands = []


class Miss(RuntimeError):
    """A measurement that did not measure what it says."""


def note(argv, env=None):
    """Keeps a command line for the report."""
    line = " ".join([f"{k}={v}" for k, v in (env or {}).items()] + [str(a) for a in argv])
    if line not in commands:
        commands.append(line)


# -- processes

def cpu(pid, family=False):
    """Seconds of processor time, of user and system; with `family` also of all children, those that
    ended included."""
    pids, total = [pid], 0
    for p in pids:
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
            if family:
                total += int(fields[13]) + int(fields[14])
                with open(f"/proc/{p}/task/{p}/children") as f:
                    pids += [int(c) for c in f.read().split()]
        except OSError:
            pass
    return total / TICK


class Cpu:
    """What several processes spend between two looks."""

    def __init__(self, **children):
        self.children = children
        self.start = self._read()

    def _read(self):
        return {n: cpu(c.pid, family=n == "postgres") for n, c in self.children.items()}

    def spent(self):
        now = self._read()
        return {n: now[n] - self.start[n] for n in now}

    def usec(self, count):
        """µs for each of `count` things, by process."""
        return {n: s * 1e6 / count for n, s in self.spent().items()}


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) / 1024


# -- requests

def body(size):
    """A JSON object of exactly `size` bytes, nested and worded like what providers send."""
    rnd, words = random.Random(size), "gate water mill wheel stone flood level pond bank reed heron sluice".split()

    def text(n):
        return " ".join(rnd.choice(words) for _ in range(n))

    def item(i):
        return {"id": rnd.randrange(10**9), "node_id": f"{rnd.getrandbits(96):024x}", "name": text(2), "private": False,
                "url": f"https://api.example.com/repos/mill/weir/items/{i}", "score": rnd.random(), "owner": None}

    event = {"action": "opened", "number": 17, "sender": {"login": "miller", "id": 12, "site_admin": False}, "items": []}
    rest = {"note": ""}
    while len(json.dumps(event | rest)) < size - 260:
        event["items"].append(item(len(event["items"])))
    rest["note"] = text(400)[:size - len(json.dumps(event | rest))]
    data = json.dumps(event | rest).encode()
    if len(data) != size:
        raise Miss(f"a body of {len(data)} bytes instead of {size}")
    return data


def request_file(path, size):
    """The request of post.lua: signed once, the id outside of what is signed."""
    data = body(size)
    mac = hmac.new(SECRET.encode(), data, hashlib.sha256).hexdigest()
    head = ["POST /webhooks/bench HTTP/1.1", "Host: bench.example.com", "User-Agent: wrk", "Content-Type: application/json",
            f"Content-Length: {len(data)}", f"X-Signature: sha256={mac}", "X-Event-Id: @@ID@@"]
    with open(path, "wb") as f:
        f.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
    return path


def wrk(port, request, seconds, connections=64, threads=1):
    """One run; every answer must be 2xx or 3xx. Rates a second, latencies in ms."""
    argv = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s",
            os.path.join(HERE, "post.lua"), f"http://127.0.0.1:{port}/webhooks/bench", "--"]
    note([os.path.relpath(a, ROOT) if os.path.isabs(a) else a for a in argv[:-2]] + ["URL", "--", "REQUEST", "PREFIX"])
    r = subprocess.run([*argv, request, f"{os.urandom(6).hex()}-"], capture_output=True, text=True, timeout=seconds + 60)
    m = re.search(r"^JSON (\{.*\})$", r.stdout, re.M)
    if not m:
        raise Miss(f"wrk: {r.stdout}{r.stderr}")
    out = json.loads(m.group(1))
    bad = {k: out[k] for k in ("bad_status", "connect", "read", "write", "timeout") if out[k]}
    if bad or not out["requests"]:
        raise Miss(f"wrk had failures: {bad or 'no requests'}")
    return {"requests": out["requests"], "rate": out["requests"] * 1e6 / out["usec"],
            **{k + "_ms": out[k] / 1000 for k in ("p50", "p90", "p99", "p999", "max")}}


def together(runs):
    """Several runs of wrk as one: rate and CPU of all requests; of the latencies the run in the middle."""
    requests = sum(r["requests"] for r in runs)
    out = {k: median([r[k] for r in runs]) for k in runs[0] if k.endswith("_ms")}
    return out | {"requests": requests, "rate": requests / sum(r["requests"] / r["rate"] for r in runs),
                  "cpu_usec": {n: sum(r["cpu_usec"][n] * r["requests"] for r in runs) / requests for n in runs[0]["cpu_usec"]}}


# -- time

def until(cond, timeout, what, interval=0.02):
    """Waits for a condition and says how many seconds that took."""
    start = time.monotonic()
    while not cond():
        if time.monotonic() - start > timeout:
            raise Miss(f"{what}: not within {timeout} s")
        time.sleep(interval)
    return time.monotonic() - start


def median(values):
    return statistics.median(values)


def histogram_delta(before, after, name):
    """Counts by upper bound of one Prometheus histogram between two texts, summed over labels."""
    def read(text):
        out = {}
        for labels, value in re.findall(rf"^{name}_bucket\{{(.*)\}} (\S+)$", text, re.M):
            le = re.search(r'le="([^"]+)"', labels).group(1)
            out[float(le.replace("+Inf", "inf"))] = out.get(float(le.replace("+Inf", "inf")), 0) + float(value)
        return out
    a, b = read(before), read(after)
    return {le: b[le] - a.get(le, 0) for le in sorted(b)}


def quantile(buckets, share):
    """Of cumulated counts, interpolated within the bucket."""
    total, below, lower = max(buckets.values()), 0, 0.0
    for le, n in buckets.items():
        if n >= share * total:
            if le == float("inf"):
                return lower
            return lower + (le - lower) * (share * total - below) / max(n - below, 1)
        below, lower = n, le
    return lower


# -- the machine

def _run(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def _fsync_usec(directory):
    """One fdatasync after 4 KiB, median; what each durable commit has to pay."""
    path, times = os.path.join(directory, "fsync"), []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    for _ in range(101):
        os.write(fd, b"x" * 4096)
        t = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - t)
    os.close(fd)
    os.unlink(path)
    return median(times) * 1e6


def machine(directory):
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    with open("/proc/meminfo") as f:
        mem = int(re.search(r"MemTotal:\s+(\d+)", f.read()).group(1)) // 1024
    return {"cpu": model.group(1) if model else "?", "cores": os.cpu_count(), "memory_mb": mem, "kernel": platform.release(),
            "fdatasync_usec": round(_fsync_usec(directory)), "load": os.getloadavg()[0],
            "weir": _run("./weir", "--version"), "commit": _run("git", "rev-parse", "--short", "HEAD"),
            "redis": _run("redis-server", "--version").split(" sha")[0], "compiler": _run("cc", "--version").split("\n")[0],
            "libraries": _run("dpkg-query", "-W", "-f", "${Package} ${Version}, ", "libevhtp0", "libevent-2.1-7",
                              "libhiredis0.14", "libpq5", "libssl3", "postgresql-15", "wrk").rstrip(", ")}
