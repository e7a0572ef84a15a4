"""An HTTP/1.1 client that sends exactly the bytes it is given, and says exactly what came back."""
import json
import select
import socket


class Response:
    def __init__(self, status, headers, body, head):
        self.status, self.headers, self.body, self.head = status, headers, body, head

    def header(self, name):
        """The value, None when absent; several of a name are joined by ', '."""
        found = [v for n, v in self.headers if n.lower() == name.lower()]
        return ", ".join(found) if found else None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Closed(ConnectionError):
    """The peer closed or reset the connection before a whole answer came."""


class Conn:
    def __init__(self, port, host="127.0.0.1", timeout=60):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""

    def send(self, data):
        self.sock.sendall(data)

    def shutdown(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError) as e:
            raise Closed(f"{e}; so far {self.buf[:200]!r}") from e
        if not data:
            raise Closed(f"closed; so far {self.buf[:200]!r}")
        self.buf += data

    def _until(self, mark):
        while mark not in self.buf:
            self._more()
        head, self.buf = self.buf.split(mark, 1)
        return head

    def _exactly(self, n):
        while len(self.buf) < n:
            self._more()
        data, self.buf = self.buf[:n], self.buf[n:]
        return data

    def read(self, method="GET"):
        """The next answer; 1xx answers are passed over."""
        while True:
            head = self._until(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ", 2)[1])
            headers = [tuple(p.strip() for p in line.split(":", 1)) for line in lines[1:]]
            if status >= 200:
                break
        low = {n.lower(): v for n, v in headers}
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif low.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while True:
                size = int(self._until(b"\r\n").split(b";")[0], 16)
                body += self._exactly(size)
                self._until(b"\r\n")
                if size == 0:
                    break
        elif "content-length" in low:
            body = self._exactly(int(low["content-length"]))
        else:
            body = self.rest()
        return Response(status, headers, body, head)

    def rest(self):
        """Everything until the peer closes."""
        try:
            while True:
                self._more()
        except Closed:
            data, self.buf = self.buf, b""
            return data

    def gone(self):
        """Whether the peer has closed or reset the connection by now."""
        try:
            return bool(select.select([self.sock], [], [], 0)[0]) and self.sock.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def closed(self):
        """Waits for the peer's close; False when it sends something instead."""
        if self.buf:
            return False
        try:
            self._more()
        except Closed:
            return True
        return False

    def request(self, method, path, headers=(), body=None):
        self.send(build(method, path, headers, body))
        return self.read(method)


def build(method, path, headers=(), body=None, host="127.0.0.1"):
    if isinstance(headers, dict):
        headers = headers.items()
    headers = list(headers)
    names = {n.lower() for n, _ in headers}
    out = [f"{method} {path} HTTP/1.1".encode()]
    if "host" not in names:
        out.append(f"Host: {host}".encode())
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        out.append(b"Content-Length: %d" % len(body))
    for n, v in headers:
        out.append(n.encode("latin-1") + b": " + (v if isinstance(v, bytes) else str(v).encode("latin-1")))
    return b"\r\n".join(out) + b"\r\n\r\n" + (body or b"")


def request(port, method, path, headers=(), body=None, timeout=60):
    with Conn(port, timeout=timeout) as c:
        return c.request(method, path, headers, body)
