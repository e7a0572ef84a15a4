"""What providers' own packages sign. The packages come from the npm registry at test time; the lock
file beside them names their hashes, not where they lie."""
import base64
import hashlib
import json
import os
import shutil
import subprocess

import pytest

from conftest import module_weir
from harness.http import build
from harness.wait import wait_until

HERE = os.path.join(os.path.dirname(__file__), "npm")
BUILD = os.path.join(os.path.dirname(__file__), "..", "..", "build", "npm")
GITHUB_SECRET, STRIPE_SECRET = "It's a Secret to Everybody", "whsec_stripe_test"
WHSEC, WRONG_WHSEC = "whsec_plJ3nmyCDGBKInavdOK15jsl", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHARED, URL = "a token & more", "https://hooks.example.com"

TOOLS = [{"id": "github", "preset": "github", "secrets": [GITHUB_SECRET]},
         {"id": "stripe", "preset": "stripe", "secrets": [STRIPE_SECRET]},
         {"id": "standardwebhooks", "preset": "standard-webhooks", "secrets": [WHSEC]},
         {"id": "svix", "preset": "svix", "secrets": [WHSEC]},
         {"id": "twilio", "preset": "twilio", "secrets": [SHARED], "url": URL + "/webhooks/twilio"},
         {"id": "jira-connect", "preset": "jira-connect", "secrets": [SHARED], "url": URL}]


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
    shutil.copy(os.path.join(HERE, "emit.mjs"), BUILD)


@pytest.fixture(scope="module")
def requests():
    install()
    r = subprocess.run(["node", "emit.mjs", GITHUB_SECRET, STRIPE_SECRET, WHSEC, WRONG_WHSEC, SHARED, URL], cwd=BUILD,
                       capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr.decode()
    out = []
    for line in r.stdout.decode().splitlines():
        one = json.loads(line)
        one["body"] = base64.b64decode(one["body"])
        out.append(one)
    return out


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
    with w.conn() as c:
        for one in examples:
            assert (post(c, one), post(c, one)) == (200, 200), one["name"]
            assert post(c, one, one["body"].replace(b"{", b"{ ", 1)) == 401, one["name"]
    want = {one["id"]: (one["type"], one["body"]) for one in examples}
    wait_until(lambda: w.metric("webhook_events_processed_total", tool_id="github", status="duplicate") == len(examples), 60)
    assert rows(w, "github") == want
    assert w.db.value("SELECT count(*) FROM weir.events WHERE tool = 'github'") == len(examples)
    assert w.db.value("SELECT count(*) FROM weir.events WHERE weir.body_json(body) IS NULL") == 0


@pytest.mark.parametrize("suite", ["stripe", "standardwebhooks", "svix"])
def test_package_signatures(w, requests, suite):
    cases = [r for r in requests if r["suite"] == suite]
    assert len(cases) == 7
    with w.conn() as c:
        assert {one["name"]: post(c, one) for one in cases} == {one["name"]: one["expect"] for one in cases}
    good = {one["id"]: (one["type"], one["body"]) for one in cases if one["expect"] == 200}
    wait_until(lambda: len(rows(w, suite)) == len(good))
    assert rows(w, suite) == good


@pytest.mark.parametrize("suite, tool, count", [("twilio", "twilio", 10), ("jwt", "jira-connect", 8)])
def test_built_in_schemes(w, requests, suite, tool, count):
    cases = [r for r in requests if r["suite"] == suite]
    assert len(cases) == count
    with w.conn() as c:
        assert {one["name"]: post(c, one) for one in cases} == {one["name"]: one["expect"] for one in cases}
    good = {one["id"]: (one["type"], one["body"]) for one in cases if one["expect"] == 200}
    wait_until(lambda: len(rows(w, tool)) == len(good))
    assert rows(w, tool) == good
