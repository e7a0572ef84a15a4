"""Waiting for conditions, never for time. A deadline is there for a test that fails: it is far beyond what a slow and
busy machine needs, unless the time itself is what is promised."""
import time


class Timeout(AssertionError):
    pass


def wait_until(cond, timeout=60.0, what=None, interval=0.01):
    """Calls cond() until it returns something true, and returns that. Exceptions of cond() count as
    'not yet' and are shown when the time is over. `interval` grows to ten times itself."""
    end = time.monotonic() + timeout
    step, last = interval, None
    while True:
        try:
            last = cond()
            if last:
                return last
        except Exception as e:  # the condition's world may not be up yet
            last = repr(e)
        if time.monotonic() >= end:
            raise Timeout(f"{what or getattr(cond, '__name__', 'condition')}: not within {timeout} s; last: {last!r}")
        time.sleep(min(step, max(0.0, end - time.monotonic())))
        step = min(step * 1.3, interval * 10)


def holds_within(cond, seconds):
    """Whether cond() comes true so soon. For what may well not happen."""
    try:
        wait_until(cond, seconds)
    except Timeout:
        return False
    return True
