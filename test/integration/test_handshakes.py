"""Handshakes over HTTP: they are answered as the provider wants and store nothing."""
import json

import pytest

from conftest import SECRET, module_weir
from harness import sign

TOOLS = [{"id": "slack", "preset": "slack", "secrets": [SECRET]},
         {"id": "meta", "preset": "meta", "secrets": [SECRET], "verify_token": "meaty & ham"},
         {"id": "intercom", "preset": "intercom", "secrets": [SECRET]},
         {"id": "cloudevents", "preset": "cloudevents", "secrets": [SECRET]},
         {"id": "grid", "preset": "event-grid", "secrets": [SECRET]},
         {"id": "okta", "preset": "okta", "secrets": [SECRET]},
         {"id": "graph", "preset": "microsoft-graph", "secrets": [SECRET]}]


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


def test_nothing_is_stored(w):
    test_slack_challenge(w)
    body = b'{"type":"event_callback","event_id":"E1","event":{"type":"app_mention"}}'
    assert w.post("slack", body, sign.slack(body, SECRET)).status == 200
    from harness.wait import wait_until
    wait_until(lambda: w.db.value("SELECT count(*) FROM weir.events") >= 1, 20)
    assert w.db.query("SELECT event_id, event_type FROM weir.events") == [("E1", "app_mention")]
