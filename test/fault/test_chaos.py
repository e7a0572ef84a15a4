"""Everything dies at random: three weirs in one group, Redis (appendfsync always) and Postgres are
killed under load, in an order drawn from a seed, and the ledger is exact afterwards.

WEIR_FAULT_ROUNDS (5) is how many kills there are, WEIR_FAULT_SEED repeats a run. WEIR_SOAK_MINUTES
makes the soak of `make soak` out of the last test: the same with a bad network on all legs."""
import os
import random
import time

from conftest import SECRET
from harness.load import Load
from harness.oracle import drained, fds, more, rss_mb, settle
from harness.proxy import FaultProxy
from harness.wait import wait_until

ROUNDS = int(os.environ.get("WEIR_FAULT_ROUNDS", "5"))
MINUTES = float(os.environ.get("WEIR_SOAK_MINUTES", "0"))
SEED = int(os.environ.get("WEIR_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


class Storm:
    """Three weirs on one Redis and one Postgres, senders at all three, and what may befall them."""

    def __init__(self, weir, pg_db, redis, rng, proxies=None, **settings):
        self.db, self.redis, self.rng, self.counts = pg_db, redis, rng, {}
        self.proxies = proxies or {}
        self.weirs = [weir(pg_db, redis, start=False, name=f"weir-{n}", WORKER_CONSUMER_NAME=n, QUEUE_CLAIM_IDLE="3s", **settings)
                      for n in "abc"]
        for w in self.weirs:
            w.start()

    def ports(self):
        return [self.proxies["http"][i].port if "http" in self.proxies else w.port for i, w in enumerate(self.weirs)]

    def pause(self):
        """Down for a moment, now and then for longer than a deadline."""
        time.sleep(self.rng.choice([0, 0.05, 0.2, 1.2]))

    def kill_weir(self):
        w = self.rng.choice(self.weirs)
        w.kill()
        self.pause()
        w.start(wait=False)

    def kill_redis(self):
        self.redis.kill()
        self.pause()
        self.redis.start()

    def kill_postgres(self):
        self.db.close()
        self.db.server.kill()
        self.pause()
        self.db.server.start()

    def kill_all(self):
        """The machine loses its power."""
        for w in self.weirs:
            w.kill()
        self.redis.kill()
        self.kill_postgres()
        self.redis.start()
        for w in self.weirs:
            w.start(wait=False)

    def round(self):
        what = self.rng.choices([self.kill_weir, self.kill_redis, self.kill_postgres, self.kill_all], [5, 2, 2, 1])[0]
        self.counts[what.__name__] = self.counts.get(what.__name__, 0) + 1
        what()

    def up_again(self):
        for w in self.weirs:
            wait_until(lambda: w.child.alive() and w.get("/health/ready", timeout=2).status == 200, 60, f"{w.name} ready")

    def end(self, ledger):
        """Exact, drained, and as small as it was."""
        with self.redis.client(timeout=30) as c:
            wait_until(lambda: drained(c), 120, "all entries acknowledged", 0.2)
        settle(ledger, self.db, 60)
        for w in self.weirs:
            assert fds(w) < 200, (w.name, fds(w))
            assert w.term(60) == 0
        print(f"{self.counts}; answered {ledger.count()}, tries {ledger.statuses()}")


def test_row01_row03_row09_everything_is_killed(weir, own_pg, own_redis):
    print(f"WEIR_FAULT_SEED={SEED}")
    rng = random.Random(SEED)
    storm = Storm(weir, own_pg(), own_redis(aof="always"), rng)
    with Load(storm.ports(), SECRET, threads=6, rate=600, repeat=True) as load:
        for _ in range(ROUNDS):
            more(load, rng.randrange(1, 200))
            storm.round()
        storm.up_again()
        more(load, 50)
        ledger = load.stop()
    assert set(ledger.statuses()) <= {200, 503, "reset", "unsent"}, ledger.statuses()
    storm.end(ledger)


class Weather:
    """What the proxies do to the three legs, changed now and then: a twentieth of all pieces resets
    the connection, 200 ms of delay, half-closed connections, single bytes, silence."""

    def __init__(self, rng, proxies):
        self.rng, self.proxies = rng, proxies

    def fair(self):
        for p in self.proxies:
            p.heal()

    def turn(self):
        p = self.rng.choice(self.proxies)
        p.heal()
        kind = self.rng.choice(["cut", "delay", "half", "single", "swallow", "fair", "refuse"])
        if kind == "cut":
            p.cut_rate = 0.05
        elif kind == "delay":
            p.delay = (0, 0.2)
        elif kind == "half":
            p.half_close()
        elif kind == "single":
            p.single_bytes = True
        elif kind == "swallow":
            p.swallow = self.rng.choice(["up", "down", "both"])
        elif kind == "refuse":
            p.refuse = True
            p.cut()
        return kind


def test_row36_bad_weather(weir, own_pg, own_redis):
    """A bad network on all legs at once; with WEIR_SOAK_MINUTES also kills, for so long."""
    print(f"WEIR_FAULT_SEED={SEED}")
    rng = random.Random(SEED)
    db, redis = own_pg(), own_redis(aof="always")
    with FaultProxy(redis.port, seed=SEED) as to_redis, FaultProxy(db.server.port, seed=SEED) as to_pg:
        storm = Storm(weir, db, redis, rng, REDIS_ADDR=f"127.0.0.1:{to_redis.port}", DATABASE_PORT=to_pg.port)
        http = [FaultProxy(w.port, seed=SEED + i).start() for i, w in enumerate(storm.weirs)]
        storm.proxies = {"http": http}
        weather = Weather(rng, [to_redis, to_pg, *http])
        sizes = []
        try:
            with Load(storm.ports(), SECRET, threads=6, rate=300, repeat=True) as load:
                start = time.monotonic()
                turns = 0
                while turns < 12 or time.monotonic() - start < MINUTES * 60:
                    weather.turn()
                    turns += 1
                    time.sleep(rng.uniform(0.2, 1.0 if MINUTES == 0 else 3.0))
                    if MINUTES and turns % 7 == 0:
                        storm.round()
                    if MINUTES and turns % 20 == 0:
                        weather.fair()
                        storm.up_again()
                        sizes.append(max(rss_mb(w.pid) for w in storm.weirs))
                weather.fair()
                storm.up_again()
                more(load, 50, 120)
                ledger = load.stop()
            assert set(ledger.statuses()) <= {200, 408, 503, "reset", "unsent"}, ledger.statuses()
            storm.end(ledger)
            # Bounded: the last third is no larger than the second, but for what the allocator keeps.
            third = len(sizes) // 3
            if third:
                assert max(sizes[-third:]) < 1.5 * max(sizes[third:2 * third]) + 30, sizes
            print(f"turns {turns}, MB over time {[round(s) for s in sizes]}")
        finally:
            for p in http:
                p.close()
