"""A small HTTPS server of the test's own, with an authority of its own: what it answers stands in a
dict, what it was asked is counted."""
import http.server
import os
import ssl
import subprocess
import threading

from harness.servers import Tls


class Https:
    def __init__(self):
        self.tls, self.pages, self.asked, self.lock = Tls(), {}, [], threading.Lock()
        self.gate = threading.Event()  # answers of paths with "held" wait for it
        self.gate.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with outer.lock:
                    outer.asked.append(self.path)
                if "held" in self.path:
                    outer.gate.wait(30)
                status, body, headers = outer.pages.get(self.path.split("?")[0], (404, b"", {}))
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the client had a deadline

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.cert, self.tls.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path, host=None):
        return f"https://{host or self.host}{path}"

    def count(self, path):
        with self.lock:
            return sum(p.split("?")[0] == path for p in self.asked)

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, input=data).stdout


class Signer:
    """An RSA key with certificates: of the authority, of itself, and one that has expired."""

    def __init__(self, tls):
        self.key = os.path.join(tls.dir, "signer.key")
        csr, out = os.path.join(tls.dir, "signer.csr"), os.path.join(tls.dir, "signer.crt")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key, "-out", csr, "-subj", "/CN=signing.example")
        openssl("x509", "-req", "-in", csr, "-CA", tls.ca, "-CAkey", tls.ca_key, "-CAcreateserial", "-days", "2", "-out", out)
        self.cert = open(out, "rb").read()
        self.own = openssl("x509", "-req", "-in", csr, "-signkey", self.key, "-days", "2")
        self.expired = openssl("x509", "-req", "-in", csr, "-signkey", self.key, "-days", "-1")

    def sign(self, text, digest="sha256"):
        return openssl("dgst", "-" + digest, "-sign", self.key, data=text)
