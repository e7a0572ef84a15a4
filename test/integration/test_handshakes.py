"""Handshakes over HTTP: they are answered as the provider wants and store nothing. And what is told
to whoever is refused."""
import json
import re
import time

import pytest

from conftest import SECRET, module_weir
from harness import sign
from harness.wait import wait_until

WHSEC = "whsec_" + "c2VjcmV0" * 4
TOOLS = [{"id": "slack", "preset": "slack", "secrets": [SECRET]},
         {"id": "meta", "preset": "meta", "secrets": [SECRET], "verify_token": "meaty & ham"},
         {"id": "intercom", "preset": "intercom", "secrets": [SECRET]},
         {"id": "cloudevents", "preset": "cloudevents", "secrets": [SECRET]},
         {"id": "grid", "preset": "event-grid", "secrets": [SECRET]},
         {"id": "okta", "preset": "okta", "secrets": [SECRET]},
         {"id": "graph", "preset": "microsoft-graph", "secrets": [SECRET]},
         {"id": "stripe", "preset": "stripe", "secrets": [SECRET]},
         {"id": "svix", "preset": "svix", "secrets": [WHSEC]},
         {"id": "github", "preset": "github", "secrets": [SECRET]},
         {"id": "mailgun", "preset": "mailgun", "secrets": [SECRET]}]


@pytest.fixture(scope="module")
def w(request, redis_server, pg_server, template_db):
    yield from module_weir(request, redis_server, pg_server, template_db, tools=TOOLS)


def plain(r, body):
    assert r.status == 200 and r.body == body, r
    assert r.header("Content-Type") == "text/plain; charset=utf-8"
    assert r.header("X-Content-Type-Options") == "nosniff"


def test_slack_challenge(w):
    body = b'{"type":"url_verification","challenge":"abc.123"}'
    plain(w.post("slack", body, sign.slack(body, SECRET)), b"abc.123")
    assert w.post("slack", body, [sign.JSON]).status == 401


def test_meta_get(w):
    path = "/webhooks/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    plain(w.request("GET", path + "meaty+%26%20ham"), b"1158201444")
    r = w.request("GET", path + "meaty")
    assert r.status == 403 and r.header("Content-Type") == "application/problem+json" and b"1158201444" not in r.body
    assert w.request("GET", "/webhooks/meta").status == 405
    assert w.request("GET", path.replace("1158201444", "%3Cscript%3E") + "meaty+%26%20ham").status == 400


def test_head_and_options(w):
    r = w.request("HEAD", "/webhooks/intercom")
    assert r.status == 200 and r.body == b""
    assert w.request("HEAD", "/webhooks/slack").status == 405
    r = w.request("OPTIONS", "/webhooks/cloudevents", [("WebHook-Request-Origin", "events.example.com")])
    assert r.status == 200 and r.header("WebHook-Allowed-Origin") == "events.example.com"
    assert r.header("WebHook-Allowed-Rate") == "*" and r.header("Allow") == "POST"
    r = w.request("OPTIONS", "/webhooks/cloudevents")
    assert r.status == 405 and r.header("WebHook-Allowed-Origin") is None


def test_graph_validation(w):
    plain(w.request("POST", "/webhooks/graph?validationToken=Validation%3A%20x%20y", [], b""), b"Validation: x y")


def test_json_answers_are_no_markup(w):
    def ask_grid(code):
        body = json.dumps([{"id": "1", "data": {"validationCode": code}}]).encode()
        return w.post("grid", body, [sign.JSON, ("aeg-event-type", "SubscriptionValidation"), ("X-Weir-Token", SECRET)])

    def ask_okta(code):
        return w.request("GET", "/webhooks/okta", [("Authorization", SECRET), ("X-Okta-Verification-Challenge", code)])

    for ask, member in (ask_grid, "validationResponse"), (ask_okta, "verification"):
        r = ask("512d38b6-c7b8-40c8")
        assert r.status == 200 and json.loads(r.body) == {member: "512d38b6-c7b8-40c8"}, r
        assert r.header("Content-Type") == "application/json"
        assert r.header("X-Content-Type-Options") == "nosniff"
        r = ask("<script>alert(1)</script>")
        assert r.status == 400 and r.header("Content-Type") == "application/problem+json" and b"script" not in r.body, r


def svix(body, secret, ts=None):
    return sign.standard(body, secret, ts, prefix="svix")


def mailgun(secret, ts=None, token="t", event="delivered"):
    t = str(sign.now(ts))
    sig = sign.mac(secret, (t + token).encode()).hexdigest()
    return json.dumps({"signature": {"timestamp": t, "token": token, "signature": sig}, "event-data": {"id": "m1", "event": event}}).encode()


def test_refusals_are_the_same_to_the_byte(w):
    """Unknown key, wrong signature, stale, from the future, used before: the log tells which, the
    answer does not; but for what is of the request alone."""
    body, now, off = b'{"type":"event_callback"}', int(time.time()), 1000000
    cases = {}

    def told(tool, reason, sent, headers):
        """One answer, if its line is in the log: that takes so many of a kind a second."""
        r = w.post(tool, sent, headers)
        assert r.status == 401, (tool, reason, r)
        uid = r.header("X-Request-Id")
        return r if any(uid in line and f"reason={reason}" in line for line in w.log().splitlines()) else None

    def refuse(tool, reason, sent, headers):
        r = wait_until(lambda: told(tool, reason, sent, headers), 60, reason, interval=0.1)
        text = (r.head + b"\r\n\r\n" + r.body).replace(r.header("X-Request-Id").encode(), b"ID")
        cases.setdefault(tool, {}).setdefault(re.sub(rb"(?m)^Date: .*$", b"Date", text), []).append(reason)

    for tool, make, secret in (("slack", sign.slack, SECRET), ("stripe", sign.stripe, SECRET), ("svix", svix, WHSEC)):
        refuse(tool, "signature_wrong", body, make(body, "whsec_" + "b3RoZXJz" * 4))
        refuse(tool, "signature_wrong", body + b" ", make(body, secret))
        refuse(tool, "timestamp_stale", body, make(body, secret, now - off))
        refuse(tool, "timestamp_future", body, make(body, secret, now + off))
        refuse(tool, "timestamp_stale", body + b" ", make(body, secret, now - off))
    refuse("github", "signature_wrong", body, sign.github(body, "other"))
    refuse("github", "signature_wrong", body + b" ", sign.github(body, SECRET))
    refuse("mailgun", "signature_wrong", mailgun("other"), [sign.JSON])
    refuse("mailgun", "timestamp_stale", mailgun(SECRET, now - off), [sign.JSON])
    refuse("mailgun", "timestamp_future", mailgun(SECRET, now + off), [sign.JSON])
    once = mailgun(SECRET, now, "once")
    assert [w.post("mailgun", once, [sign.JSON]).status for _ in range(2)] == [200, 200]
    refuse("mailgun", "token_reused", mailgun(SECRET, now, "once", "opened"), [sign.JSON])
    assert {tool: len(texts) for tool, texts in cases.items()} == dict.fromkeys(cases, 1), cases
    assert len({next(iter(texts)) for texts in cases.values()}) == 1, cases


def test_nothing_is_stored(w):
    test_slack_challenge(w)
    body = b'{"type":"event_callback","event_id":"E1","event":{"type":"app_mention"}}'
    assert w.post("slack", body, sign.slack(body, SECRET)).status == 200
    wait_until(lambda: w.db.value("SELECT count(*) FROM weir.events WHERE tool = 'slack'") >= 1, 60)
    assert w.db.query("SELECT event_id, event_type FROM weir.events WHERE tool = 'slack'") == [("E1", "app_mention")]
