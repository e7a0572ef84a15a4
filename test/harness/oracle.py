"""What must be true once a storm is over: nothing answered is missing, nothing is there twice or
altered, and the process is as small as it was."""
import os

from .wait import wait_until


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


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024
