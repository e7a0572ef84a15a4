"""weir sign, weir verify, and weir send-test for every preset."""
import json
import os
import re

import pytest

from harness import sign
from harness.wait import wait_until
from harness.weir import run, write_tools

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
USAGE, CONFIG = 2, 78
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def provider_files():
    folder = os.path.join(ROOT, "deploy", "providers")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as f:
            yield json.load(f)


PROVIDERS = {p["name"]: p for p in provider_files()}
# Where the private key is a provider's: a pair of our own, of this kind.
ASYMMETRIC = {n for n, p in PROVIDERS.items() if p["recipe"].get("scheme") in ("ed25519", "ecdsa-p256", "rsa-pkcs1")}
# Their signatures need a certificate that lies on a pinned host.
CERTIFIED = {n for n, p in PROVIDERS.items() if p["recipe"].get("scheme") in ("builtin:sns", "builtin:paypal")}
PRESETS = [n for n in PROVIDERS if n not in CERTIFIED]


def secret_of(name):
    recipe = PROVIDERS[name]["recipe"]
    if name == "ses":
        return "arn:aws:sns:eu-west-1:17:mail"
    if recipe.get("scheme") == "basic":
        return "user:pass:word"
    return WHSEC if recipe.get("keys", "").startswith("whsec") else "hush"


def public_of(work_dir, name):
    """Makes the key, as a user does who has not configured the tool yet; its public half as printed."""
    key = os.path.join(work_dir, name + ".pem")
    env = PROVIDERS[name]["tool"]["secrets"][0]["env"]
    tools = write_tools(os.path.join(work_dir, name + ".json"), [PROVIDERS[name]["tool"]])
    r = run("send-test", name, "--key", key, env={"TOOLS_FILE": tools})
    assert r.rc == CONFIG and env in r.err, r
    assert os.stat(key).st_mode & 0o777 == 0o600
    return key, re.search(env + "=(.+)", r.err).group(1)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A tool for every preset: its own entry, with a secret that is written out."""
    path = str(tmp_path_factory.mktemp("sign"))
    keys, tools = {}, []
    for name in PROVIDERS:
        tool = dict(PROVIDERS[name]["tool"])
        if name in CERTIFIED:
            keys[name], text = os.path.join(path, name + ".pem"), secret_of(name)
        elif name in ASYMMETRIC:
            keys[name], text = public_of(path, name)
        else:
            text = secret_of(name)
        tool["secrets"] = [text]
        if "verify_token" in tool:
            tool["verify_token"] = "token"
        tools.append(tool)
    return {"keys": keys, "tools": tools, "dir": path, "env": {"TOOLS_FILE": write_tools(os.path.join(path, "tools.json"), tools)}}


def key_args(work, name):
    return ["--key", work["keys"][name]] if name in work["keys"] else []


def test_send_test_every_preset(weir, db, redis_db, work):
    w = weir(db, redis_db, tools=work["tools"])
    for name in PRESETS:
        r = run("send-test", name, *key_args(work, name), env=w.env)
        assert r.rc == 0 and str(PROVIDERS[name]["recipe"].get("status", 200)) in r.out, (name, r)
        r = run("send-test", name, "--bad-signature", *key_args(work, name), env=w.env)
        assert r.rc == 0 and "401" in r.out, (name, r)
    rows = wait_until(lambda: (lambda q: q if len(q) == len(PRESETS) else None)(
        db.query("SELECT tool, event_type FROM weir.events")))
    assert dict(rows) == {n: PROVIDERS[n]["sample"]["type"] for n in PRESETS}


@pytest.mark.parametrize("name", PRESETS)
def test_verify_takes_what_sign_makes(work, name):
    args = key_args(work, name)
    good = run("sign", name, "-o", "http", *args, env=work["env"])
    assert good.rc == 0, good
    path = os.path.join(work["dir"], name + ".http")
    with open(path, "w", newline="") as f:
        f.write(good.out)
    r = run("verify", name, path, env=work["env"])
    assert r.rc == 0 and "authentic, by secret 1" in r.out and PROVIDERS[name]["sample"]["type"] in r.out, r
    bad = run("sign", name, "-o", "http", "--bad-signature", *args, env=work["env"])
    with open(path, "w", newline="") as f:
        f.write(bad.out)
    r = run("verify", name, path, env=work["env"])
    assert r.rc == 1 and "refused with 401" in r.out, r


@pytest.mark.parametrize("name", sorted(CERTIFIED))
def test_verify_takes_a_certificate(work, name):
    """It stands at a URL in the request, which nobody asks here."""
    good = run("sign", name, "-o", "http", *key_args(work, name), env=work["env"])
    pem = re.search("-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n", good.err, re.S).group(0)
    cert, path = os.path.join(work["dir"], name + ".crt"), os.path.join(work["dir"], name + ".http")
    for file, text in ((cert, pem), (path, good.out)):
        with open(file, "w") as f:
            f.write(text)
    r = run("verify", name, path, env=work["env"])
    assert r.rc == 1 and "certificate_missing" in r.out and "https://" in r.out and "--cert" in r.out, r
    env = {**work["env"], "FETCH_CA_FILE": cert}
    r = run("verify", name, path, "--cert", cert, env=env)
    assert r.rc == 0 and "authentic" in r.out and PROVIDERS[name]["sample"]["type"] in r.out, r
    bad = run("sign", name, "-o", "http", "--bad-signature", *key_args(work, name), env=work["env"])
    with open(path, "w") as f:
        f.write(bad.out)
    assert "signature_wrong" in run("verify", name, path, "--cert", cert, env=env).out
    assert run("verify", name, path, "--cert", path, env=env).rc == 1  # no certificate


def test_verify_says_which_step_failed(work):
    env, body = work["env"], os.path.join(work["dir"], "body")
    with open(body, "wb") as f:
        f.write(b'{"a":"\xc3\xa9\t\\"}\n')

    def verify(tool, *args):
        return run("verify", tool, *args, env=env)
    lines = run("sign", "stripe", body, "-o", "headers", "--at", "1700000000", env=env).out.splitlines()
    headers = [a for line in lines for a in ("-H", line)]
    r = verify("stripe", body, *headers)
    assert r.rc == 1 and "timestamp_stale" in r.out and "2023-11-14T22:13:20" in r.out, r
    r = verify("stripe", body, *headers, "--at", "2023-11-14T22:13:20Z")
    assert r.rc == 0 and r'1700000000.{"a":"\xc3\xa9\t\\"}\n' in r.out, r
    assert verify("stripe", body, *headers, "--at", "1700000300").rc == 0
    assert "timestamp_stale" in verify("stripe", body, *headers, "--at", "1700000301").out
    assert "timestamp_future" in verify("stripe", body, *headers, "--at", "1699999699").out
    r = verify("github", body, "-H", "X-Hub-Signature-256: sha256=" + "00" * 32)
    assert r.rc == 1 and "signature_wrong" in r.out
    with open(body, "rb") as f:
        assert sign.mac("hush", f.read()).hexdigest() in r.out
    assert "signature_missing" in verify("github", body, "-H", "X-Other: 1").out
    assert "signature_encoding" in verify("github", body, "-H", "X-Hub-Signature-256: sha256=0").out
    twice = ["-H", "X-Hub-Signature-256: sha256=" + "00" * 32] * 2
    assert "header_doubled" in verify("github", body, *twice).out
    # Tokens are secrets: neither the right nor the shown one is printed.
    r = verify("gitlab", body, "-H", "X-Gitlab-Token: hussh")
    assert r.rc == 1 and "signature_wrong" in r.out and "hush" not in r.out and "hussh" not in r.out
    r = verify("linear", body, "-H", "Linear-Signature: " + "00" * 32)
    assert r.rc == 1 and "webhookTimestamp is not there" in r.out.replace("json:", ""), r


def test_verify_reads_a_log_of_curl(work):
    env, path, body = work["env"], os.path.join(work["dir"], "curl.log"), os.path.join(work["dir"], "curl.body")
    with open(body, "wb") as f:
        f.write(b"{}")
    lines = run("sign", "github", body, "-o", "headers", env=env).out.splitlines()
    with open(path, "w") as f:
        f.write("*   Trying 127.0.0.1:8000...\n* Connected\n> POST /webhooks/github HTTP/1.1\n> Host: x\n" +
                "".join(f"> {line}\n" for line in lines) + "> \n* upload completely sent off\n< HTTP/1.1 401 Unauthorized\n")
    assert run("verify", "github", path, "--body", body, env=env).rc == 0
    r = run("verify", "github", path, env=env)
    assert r.rc == 1 and "--body" in r.out


def test_signed_bytes_alone(work):
    r = run("sign", "slack", "-o", "http", "--at", "1700000000", env=work["env"])
    path = os.path.join(work["dir"], "slack.raw")
    with open(path, "w", newline="") as f:
        f.write(r.out)
    raw = run("verify", "slack", path, "-o", "raw", env=work["env"])
    body = r.out.split("\n\n", 1)[1]
    assert raw.rc == 0 and raw.out == "v0:1700000000:" + body
    mac = re.search("x-slack-signature: v0=(.*)", r.out).group(1)
    assert sign.mac("hush", raw.out.encode()).hexdigest() == mac


def test_sign_prints_a_curl_line(weir, db, redis_db, work):
    """The line does what it says, body in a file or in the line itself."""
    w = weir(db, redis_db, tools=work["tools"])
    body = os.path.join(work["dir"], "it's a body.json")
    with open(body, "wb") as f:
        f.write(b'{"it\'s":"$HOME `x`\\n"}\n')
    for name, args in (("github", [body]), ("github", []), ("mailgun", []), ("event-grid", []), ("postmark", [])):
        r = run("sign", name, *args, env=w.env)
        assert r.rc == 0 and r.out.startswith("curl -i "), r
        got = os.popen(r.out.replace("curl -i", "curl -s -o /dev/null -w '%{http_code}'")).read()
        assert got == "200", (r.out, got)
    rows = wait_until(lambda: (lambda q: q if len(q) == 2 else None)(
        [bytes(b) for (b,) in db.query("SELECT body FROM weir.events WHERE tool = 'github'")]))
    with open(body, "rb") as f:
        assert f.read() in rows


def test_wrong_use(work):
    env = work["env"]
    assert run("sign", "discord", env=env).rc == USAGE  # whose private key?
    assert run("sign", "github", "--key", os.path.join(work["dir"], "no.pem"), env=env).rc == USAGE
    assert not os.path.exists(os.path.join(work["dir"], "no.pem"))
    assert run("sign", "nobody", env=env).rc == 1
    assert run("sign", "github", os.path.join(work["dir"], "none"), env=env).rc == 1
    assert run("verify", "github", os.path.join(work["dir"], "none"), env=env).rc == USAGE
    for args in (["sign"], ["verify"], ["sign", "github", "-o", "xml"], ["verify", "github", "--at", "soon"],
                 ["verify", "github", "-H", "no line"], ["verify", "a", "b", "c"]):
        r = run(*args, env=env)
        assert r.rc == USAGE and "usage" in r.err, (args, r)
    # A key of another kind is none.
    assert run("sign", "sendgrid", "--key", work["keys"]["discord"], env=env).rc == 1
