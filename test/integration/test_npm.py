"""Providers' own packages: what they sign is accepted, what weir signs they accept, and what one of the
two refuses, the other does. The packages come from the npm registry at test time; the lock
file beside them names their hashes, not where they lie."""
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import module_weir
from harness.http import build
from harness.wait import wait_until
from harness.weir import run, write_tools

HERE = os.path.join(os.path.dirname(__file__), "npm")
BUILD = os.path.join(os.path.dirname(__file__), "..", "..", "build", "npm")
GITHUB_SECRET, STRIPE_SECRET = "It's a Secret to Everybody", "whsec_stripe_test"
WHSEC, WRONG_WHSEC = "whsec_plJ3nmyCDGBKInavdOK15jsl", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHARED, URL = "a token & more", "https://hooks.example.com"


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, input=data).stdout.decode()


def ec_key():
    """Private key, and its public half as SendGrid shows it."""
    private = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
    public = openssl("ec", "-pubout", data=private.encode())
    return private, "".join(public.splitlines()[1:-1])


SENDGRID_KEY, SENDGRID_PUBLIC = ec_key()

TOOLS = [{"id": "github", "preset": "github", "secrets": [GITHUB_SECRET]},
         {"id": "stripe", "preset": "stripe", "secrets": [STRIPE_SECRET]},
         {"id": "standardwebhooks", "preset": "standard-webhooks", "secrets": [WHSEC]},
         {"id": "svix", "preset": "svix", "secrets": [WHSEC]},
         {"id": "twilio", "preset": "twilio", "secrets": [SHARED], "url": URL + "/webhooks/twilio"},
         {"id": "jira-connect", "preset": "jira-connect", "secrets": [SHARED], "url": URL},
         {"id": "hubspot", "preset": "hubspot", "secrets": [SHARED], "url": URL + "/webhooks/hubspot"},
         {"id": "sendgrid", "preset": "sendgrid", "secrets": [SENDGRID_PUBLIC]},
         {"id": "cloudevents", "preset": "cloudevents", "secrets": [SHARED]}]


def install():
    """npm ci into build/npm, once per lock file."""
    digest = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        with open(os.path.join(HERE, name), "rb") as f:
            digest.update(f.read())
    stamp = os.path.join(BUILD, "stamp")
    if not os.path.exists(stamp) or open(stamp).read() != digest.hexdigest():
        os.makedirs(BUILD, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(HERE, name), BUILD)
        r = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=BUILD, text=True,
                           capture_output=True, timeout=300, stdin=subprocess.DEVNULL)
        assert r.returncode == 0, "npm ci failed (is the registry reachable?)\n" + r.stdout + r.stderr
        with open(stamp, "w") as f:
            f.write(digest.hexdigest())
    for name in ("emit.mjs", "check.mjs"):
        shutil.copy(os.path.join(HERE, name), BUILD)


def emitted():
    install()
    r = subprocess.run(["node", "emit.mjs", GITHUB_SECRET, STRIPE_SECRET, WHSEC, WRONG_WHSEC, SHARED, URL, SENDGRID_KEY,
                        ec_key()[0]], cwd=BUILD, capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr.decode()
    out = []
    for line in r.stdout.decode().splitlines():
        one = json.loads(line)
        one["body"] = base64.b64decode(one["body"])
        out.append(one)
    return out


@pytest.fixture(scope="module")
def requests():
    return emitted()


@pytest.fixture(scope="module")
def w(request, redis_server, pg_server, template_db):
    yield from module_weir(request, redis_server, pg_server, template_db, TOOLS)


def post(conn, one, body=None):
    body = one["body"] if body is None else body
    conn.send(build("POST", "/webhooks/" + one["tool"] + one["query"], one["headers"], body))
    return conn.read().status


def rows(w, tool):
    return {r[0]: (r[1], bytes(r[2])) for r in
            w.db.query("SELECT event_id, event_type, body FROM weir.events WHERE tool = %s", (tool,))}


def test_github_examples(w, requests):
    """Every payload twice and once tampered: stored once, byte for byte, with type and delivery id."""
    examples = [r for r in requests if r["suite"] == "github"]
    assert len(examples) > 700

    def send(some):
        with w.conn() as c:
            for one in some:
                assert (post(c, one), post(c, one)) == (200, 200), one["name"]
                assert post(c, one, one["body"].replace(b"{", b"{ ", 1)) == 401, one["name"]
    with ThreadPoolExecutor(8) as pool:  # one after the other each would wait for Redis' disk alone
        list(pool.map(send, [examples[i::8] for i in range(8)]))
    want = {one["id"]: (one["type"], one["body"]) for one in examples}
    wait_until(lambda: w.metric("webhook_events_processed_total", tool_id="github", status="duplicate") == len(examples), 60)
    assert rows(w, "github") == want
    assert w.db.value("SELECT count(*) FROM weir.events WHERE tool = 'github'") == len(examples)
    assert w.db.value("SELECT count(*) FROM weir.events WHERE weir.body_json(body) IS NULL") == 0


@pytest.mark.parametrize("suite", ["stripe", "standardwebhooks", "svix", "hubspot", "sendgrid"])
def test_package_signatures(w, requests, suite):
    cases = [r for r in requests if r["suite"] == suite]
    assert len(cases) == 7
    with w.conn() as c:
        assert {one["name"]: post(c, one) for one in cases} == {one["name"]: one["expect"] for one in cases}
    good = {one["id"]: (one["type"], inner(one["body"])) for one in cases if one["expect"] == 200}
    wait_until(lambda: len(rows(w, suite)) == len(good))
    assert rows(w, suite) == good


def inner(body):
    """A splitting tool's event is the array's item."""
    return body[1:-1] if body.startswith(b"[") else body


def test_cloud_events(w, requests):
    cases = [r for r in requests if r["suite"] == "cloudevents"]
    with w.conn() as c:
        assert {one["name"]: post(c, one) for one in cases} == {one["name"]: one["expect"] for one in cases}
    wait_until(lambda: len(rows(w, "cloudevents")) == 2)
    assert {(k, v[0]) for k, v in rows(w, "cloudevents").items()} == {(one["id"], one["type"]) for one in cases}


# ---- what weir signs ----

# How old a request is refused by both; None: it bears no time, or the package does not look at it.
AGES = {"github": None, "stripe": 1000, "standard-webhooks": 1000, "svix": 1000, "twilio": None, "slack": 1000, "sendgrid": None,
        "discord": None, "linear": 100, "shopify": None, "square": None, "hubspot": 1000}
KEYS = {"sendgrid", "discord"}


def tool_of(name, secret):
    return {"id": name, "preset": name, "secrets": [secret], **({"url": f"{URL}/webhooks/{name}"} if name in ("twilio", "square", "hubspot") else {})}


class Signing:
    """Requests as `weir sign` prints them, with a secret that is right and one that is not."""

    def __init__(self, path):
        self.path, self.secrets, self.envs, self.keys = path, {}, {}, {}
        for which in ("right", "wrong"):
            self.secrets[which] = {name: self.secret(which, name) for name in AGES} | {"cloudevents": SHARED}
            tools = [tool_of(name, s) for name, s in self.secrets[which].items()]
            self.envs[which] = {"TOOLS_FILE": write_tools(os.path.join(path, which + ".json"), tools)}
        self.tools = [tool_of(name, s) for name, s in self.secrets["right"].items()]

    def secret(self, which, name):
        if name in KEYS:
            self.keys[which, name] = os.path.join(self.path, f"{which}-{name}.pem")
            tools = write_tools(os.path.join(self.path, "none.json"), [tool_of(name, {"env": "NOT_THERE"})])
            r = run("sign", name, "--key", self.keys[which, name], env={"TOOLS_FILE": tools})
            return re.search(r"^[A-Z_]+=(\S+)$", r.err, re.M).group(1)
        if name in ("standard-webhooks", "svix"):
            return WHSEC if which == "right" else WRONG_WHSEC
        return SHARED if which == "right" else "another secret"

    def __call__(self, name, *args, which="right"):
        """(headers, body); the secret is the right one to whoever judges."""
        key = ["--key", self.keys[which, name]] if name in KEYS else []
        r = run("sign", name, "-o", "http", *key, *args, env=self.envs[which])
        assert r.rc == 0, r
        head, body = r.out.split("\n\n", 1)
        headers = [tuple(line.split(": ", 1)) for line in head.splitlines()[1:]]
        return [h for h in headers if h[0] not in ("Host", "Content-Length")], body.encode()

    def cases(self, name):
        """(what, headers, body, whether it is authentic)"""
        headers, body = self(name)
        yield "good", headers, body, True
        yield "tampered", headers, body.replace(b"e", b"E", 1), False
        yield "longer", headers, body + b" ", False
        yield "spoiled", *self(name, "--bad-signature"), False
        yield "wrong key", *self(name, which="wrong"), False
        if AGES[name]:
            yield "old", *self(name, "--at", str(int(time.time()) - AGES[name])), False


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    return Signing(str(tmp_path_factory.mktemp("npm")))


@pytest.fixture(scope="module")
def other(request, redis_server, pg_server, template_db, signing):
    yield from module_weir(request, redis_server, pg_server, template_db, signing.tools)


def judge(requests):
    lines = [json.dumps({"tool": tool, "secret": secret, "url": f"{URL}/webhooks/{tool}", "method": "POST", "body": base64.b64encode(body).decode(),
                         "headers": {n.lower(): v for n, v in headers}}) for tool, secret, headers, body in requests]
    r = subprocess.run(["node", "check.mjs"], cwd=BUILD, input="\n".join(lines).encode(), capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr.decode()
    out = [json.loads(line) for line in r.stdout.decode().splitlines()]
    assert len(out) == len(lines) and not [o for o in out if "error" in o], out
    return [o["verdict"] for o in out]


def test_packages_take_what_weir_signs(other, signing):
    """One verdict of both on every request: as signed, tampered, longer, spoiled, by another key, too old."""
    install()
    cases = [(name, *case) for name in AGES for case in signing.cases(name)]
    with other.conn() as c:
        ours = {(name, what): post(c, {"tool": name, "query": "", "headers": headers, "body": body}) for name, what, headers, body, _ in cases}
    theirs = judge([(name, signing.secrets["right"][name], headers, body) for name, _, headers, body, _ in cases])
    wanted = {(name, what): good for name, what, _, _, good in cases}
    assert {k: s < 300 for k, s in ours.items()} == wanted
    assert set(ours.values()) <= {200, 204, 400, 401}
    assert dict(zip(wanted, theirs)) == wanted


def test_cloud_events_package_reads_samples(signing):
    install()
    headers, body = signing("cloudevents")
    event = json.loads(body)
    assert judge([("cloudevents", "", headers, body)]) == [f"{event['source']}:{event['id']} {event['type']}"]


@pytest.mark.parametrize("suite, tool, count", [("twilio", "twilio", 16), ("jwt", "jira-connect", 8)])
def test_built_in_schemes(w, suite, tool, count):
    cases = [r for r in emitted() if r["suite"] == suite]  # a token that has just run out is taken for half a minute
    assert len(cases) == count
    with w.conn() as c:
        assert {one["name"]: post(c, one) for one in cases} == {one["name"]: one["expect"] for one in cases}
    good = {one["id"]: (one["type"], one["body"]) for one in cases if one["expect"] == 200}
    wait_until(lambda: len(rows(w, tool)) == len(good))
    assert rows(w, tool) == good
