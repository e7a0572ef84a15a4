"""A sender that keeps to nothing, as a process of its own so that it takes no turn from whoever
measures: `flood.py PORT TOOL`. Large bodies and slow ones, and after each refusal the next at once.
Says "flooding" when its first refusal came, and stops when its standard input ends."""
import os
import select
import socket
import subprocess
import sys
import threading

LARGE, LARGE_BYTES, SLOW = 6, 4 << 20, 6
PAUSE = 0.05  # of one sender; the machine is to have time for others


def _send(port, tool, slow, done):
    """One request; true when it was refused."""
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        s.sendall(f"POST /webhooks/{tool} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE_BYTES}\r\n\r\n".encode())
        left, piece = LARGE_BYTES, b"x" * (16 if slow else 65536)
        while left and not done.wait(PAUSE if slow else 0):
            if select.select([s], [], [], 0)[0]:
                break
            s.sendall(piece[:left])
            left -= min(left, len(piece))
        return not done.is_set() and s.recv(4096).split(b" ")[1:2] in ([b"429"], [b"503"])


def _run(port, tool, slow, done, refused):
    while not done.wait(PAUSE):
        try:
            if _send(port, tool, slow, done):
                refused.set()
        except OSError:
            refused.set()  # the answer was not waited for


def main(port, tool):
    done, refused = threading.Event(), threading.Event()
    for i in range(LARGE + SLOW):
        threading.Thread(target=_run, args=(port, tool, i < SLOW, done, refused), daemon=True).start()
    refused.wait(60)
    print("flooding", flush=True)
    sys.stdin.read()
    done.set()
    os._exit(0)


class Flood:
    def __init__(self, port, tool):
        self.argv = [sys.executable, __file__, str(port), tool]

    def __enter__(self):
        self.child = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdout.readline() == b"flooding\n"
        return self

    def __exit__(self, *exc):
        self.child.stdin.close()
        self.child.wait(60)
        self.child.stdout.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
