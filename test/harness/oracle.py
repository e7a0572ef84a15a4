"""What must be true once a storm is over: nothing answered is missing, nothing is there twice or
altered, and every process is as small as it was."""
import os

from .wait import wait_until

MIB = 1 << 20
FEW = 2           # descriptors: a probe under way, a connection that is made anew at this moment
KEPT = 8 * MIB    # counted heap: what is remembered of the last minute's events, and buffers that stay for the next
MAX_MEMORY = 256  # MiB, the default


def settle(ledger, db, timeout=60, dead=0):
    """Waits until nothing answered is missing. `dead`: how many dead letters there have to be."""
    def whole():
        missing, twice, other = ledger.compare(db)
        assert not twice and not other, (twice[:5], other[:5])
        return not missing
    try:
        wait_until(whole, timeout, "all that was answered is stored", 0.1)
    except AssertionError:
        missing, twice, other = ledger.compare(db)
        raise AssertionError(f"of {ledger.count()} answered: missing {len(missing)} {missing[:5]}, "
                             f"twice {len(twice)} {twice[:5]}, altered {len(other)} {other[:5]}") from None
    assert ledger.count() > 0
    rows = db.query("SELECT event_id, stage, error_class, sqlstate, message FROM weir.dead_letters")
    assert len(rows) == dead, rows[:5]
    for w in db.weirs:
        if w.child and w.child.alive():
            as_small_as_before(w)


def as_small_as_before(w, timeout=60):
    """Back to the descriptors and, but for caches, to the memory that it had when it was first ready; at no time over
    its bound. (By what weir counts: under a sanitizer, resident memory says nothing.)"""
    def fits():
        now = size(w)
        return (now["memory"] <= w.base["memory"] + KEPT and now["other"] <= w.base["other"] + FEW
                and now["postgres"] <= int(w.env.get("WEBHOOK_MAX_WORKERS", 10)) + FEW)
    assert w.base, "nobody waited until it was ready"
    try:
        wait_until(fits, timeout, f"{w.name} is small again", 0.1)
    except AssertionError:
        raise AssertionError(f"{w.name} was {w.base} and is {size(w)}") from None
    assert w.metric("webhook_memory_peak_bytes") <= memory_bound(w)


def memory_bound(w):
    text = w.env.get("MAX_MEMORY", "")
    return (int(text.removesuffix("MiB")) if text else MAX_MEMORY) * MIB


def size(w):
    """Counted heap, connections to Postgres (a pool that grows and shrinks), all other descriptors."""
    port = w.env.get("DATABASE_PORT", "5432")
    try:
        held = descriptors(w.pid)
        postgres, all_of_them = sum(d == f"socket to {port}" for d in held), len(held)
    except PermissionError:
        postgres, all_of_them = w.metric("webhook_pg_connections", state="open") or 0, fds(w)
    return {"memory": w.metric("webhook_memory_allocated_bytes"), "postgres": postgres, "other": all_of_them - postgres}


def descriptors(pid):
    """What each open descriptor is; of a connection, the port at its other end."""
    ends, out = {}, []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as f:
            for line in list(f)[1:]:
                fields = line.split()
                ends[f"socket:[{fields[9]}]"] = f"socket to {int(fields[2].rsplit(':', 1)[1], 16)}"
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        out.append(ends.get(link, link))
    return sorted(out)


def more(load, n, timeout=60):
    """Waits until n more events were answered 2xx."""
    base = load.ledger.count()
    wait_until(lambda: load.ledger.count() >= base + n, timeout, f"{n} more answers; so far {load.ledger.statuses()}")


def saw(load, status, timeout=60):
    base = load.ledger.statuses().get(status, 0)
    wait_until(lambda: load.ledger.statuses().get(status, 0) > base, timeout, f"a {status}")


def drained(redis_client, stream="webhook_events", group="webhook_workers"):
    """Both streams are read to their ends and acknowledged."""
    for key in (stream, stream + ":large"):
        for g in redis_client.xinfo_groups(key) if redis_client.exists(key) else []:
            last = redis_client.xinfo_stream(key)["last-generated-id"]
            if g["name"].decode() == group and (g["pending"] or g["last-delivered-id"] != last):
                return False
    return True


def fds(w):
    """A release keeps its descriptors from other processes of its user, as it may hold secrets; then its own word counts."""
    try:
        return len(os.listdir(f"/proc/{w.pid}/fd"))
    except PermissionError:
        return int(w.metric("process_open_fds"))


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024
