"""A TCP proxy that misbehaves on demand: between weir and Redis, Postgres or a client. Its faults
are drawn from a seed, so that a failing run can be run again."""
import asyncio
import random
import threading

from .proc import free_port


class FaultProxy:
    """Forwards 127.0.0.1:port to (host, target). While running, any thread may set:

    delay         seconds before each piece is passed on (a number, or (low, high) drawn)
    single_bytes  pass on one byte at a time
    swallow       'up', 'down' or 'both': read and forget (a half-open connection). TCP never goes on
                  behind a hole: what lost a piece is reset when the next one comes after it was healed
    cut_rate      probability for each piece that the connection is reset instead
    cut_on        bytes; a piece from the client that holds them is passed on, then both ends are cut
    refuse        close new connections at once
    replace       (old, new), bytes: in what the client sends, as far as it stands in one piece
    """

    def __init__(self, target, host="127.0.0.1", seed=1):
        self.target, self.host, self.port = target, host, free_port()
        self.rng = random.Random(seed)
        self.delay, self.single_bytes, self.swallow = 0, False, None
        self.cut_rate, self.cut_on, self.refuse, self.replace = 0.0, None, False, None
        self.connections, self.cuts = 0, 0
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)

    def start(self):
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.close()

    def cut(self, reset=True):
        """Ends all connections now: by RST, or by FIN."""
        self._call(self._cut_all, reset)

    def half_close(self):
        """Sends FIN to both ends and keeps reading."""
        self._call(lambda: [w.write_eof() for w in list(self._writers) if w.can_write_eof()])

    def heal(self):
        self.delay, self.single_bytes, self.swallow = 0, False, None
        self.cut_rate, self.cut_on, self.refuse, self.replace = 0.0, None, False, None

    def _call(self, fn, *args):
        done = threading.Event()

        def run():
            try:
                fn(*args)
            finally:
                done.set()
        self._loop.call_soon_threadsafe(run)
        assert done.wait(60)

    def _main(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._cut_all(True)
        for t in asyncio.all_tasks(self._loop):
            t.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _cut_all(self, reset):
        for w in list(self._writers):
            self._end(w, reset)

    def _end(self, writer, reset):
        self.cuts += 1
        self._writers.discard(writer)
        if reset:
            writer.transport.abort()
        else:
            writer.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        if self.refuse:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer, writer, "up"), self._pump(up_reader, writer, up_writer, "down"),
                             return_exceptions=True)
        for w in (writer, up_writer):
            self._writers.discard(w)
            w.transport.abort()

    async def _pump(self, reader, writer, other, way):
        hole = False
        while True:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            if not data:
                if not writer.is_closing() and writer.can_write_eof():
                    writer.write_eof()
                return
            if self.delay:
                await asyncio.sleep(self.rng.uniform(*self.delay) if isinstance(self.delay, tuple) else self.delay)
            if self.swallow in (way, "both"):
                hole = True
                continue
            if hole or (self.cut_rate and self.rng.random() < self.cut_rate):
                return self._both(writer, other)
            if way == "up" and self.replace:
                data = data.replace(*self.replace)
            await self._pass(writer, data)
            if way == "up" and self.cut_on and self.cut_on in data:
                return self._both(writer, other)

    async def _pass(self, writer, data):
        if not self.single_bytes:
            writer.write(data)
            return await writer.drain()
        for i in range(len(data)):
            writer.write(data[i:i + 1])
            await writer.drain()
            await asyncio.sleep(0)

    def _both(self, *writers):
        for w in writers:
            self._end(w, True)
