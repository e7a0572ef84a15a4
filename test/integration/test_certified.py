"""SNS and PayPal with certificates of the test's own behind a local HTTPS server, and Mailgun's tokens."""
import base64
import datetime
import hashlib
import hmac
import json
import time
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import SECRET, module_weir
from harness import sign
from harness.https import Https, Signer
from harness.wait import wait_until
from harness.weir import Weir, run

TOPIC, WEBHOOK = "arn:aws:sns:eu-west-1:17:mail", "WH-17"


@pytest.fixture(scope="module")
def https():
    server = Https()
    signer = server.signer = Signer(server.tls)
    for path, page in {"/a.pem": (200, signer.cert, {}), "/own.pem": (200, signer.own, {}), "/held.pem": (200, signer.cert, {}),
                       "/expired.pem": (200, signer.expired, {}), "/none.pem": (200, b"no certificate", {}),
                       "/huge.pem": (200, b"x" * 70000 + signer.cert, {}), "/wrong.pem": (500, signer.cert, {}),
                       "/redirect.pem": (302, b"", {"Location": "/target.pem"}), "/target.pem": (200, signer.cert, {}),
                       "/held-for-long.pem": (200, signer.cert, {}), "/late.pem": (200, signer.cert, {}), "/": (200, b"<ok/>", {}),
                       "/v1/notifications/certs/CERT-1": (200, signer.cert, {}),
                       "/v1/notifications/certs/CERT-own": (200, signer.own, {})}.items():
        server.pages[path] = page
    yield server
    server.close()


@pytest.fixture(scope="module")
def w(request, redis_server, pg_server, template_db, https):
    hand = {"when": "json:Type=SubscriptionConfirmation", "verify": True, "fetch": "json:SubscribeURL", "hosts": [https.host]}
    tools = [{"id": "ses", "preset": "ses", "secrets": [TOPIC], "recipe": {"cert_hosts": [https.host], "hand": [hand]}},
             {"id": "paypal", "preset": "paypal", "secrets": ["WH-16", WEBHOOK], "recipe": {"cert_hosts": [https.host]}},
             {"id": "mailgun", "preset": "mailgun", "secrets": [SECRET]},
             {"id": "connect", "preset": "jira-connect", "secrets": [SECRET], "url": "https://hooks.example"},
             {"id": "sms", "preset": "twilio", "secrets": [SECRET], "url": "https://hooks.example/sms"}]
    yield from module_weir(request, redis_server, pg_server, template_db, tools, FETCH_CA_FILE=https.tls.ca)


def iso(shift=0):
    return datetime.datetime.fromtimestamp(time.time() + shift, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def sns(https, path="/a.pem", version="2", kind="Notification", subscribe=None, host=None, **more):
    """A message as SNS sends it, and signed as its documentation says."""
    m = {"Type": kind, "MessageId": str(uuid.uuid4()), "TopicArn": TOPIC, "Timestamp": iso(),
         "Message": json.dumps({"eventType": "Delivery", "mail": {"messageId": "m-é"}}), "SignatureVersion": version,
         "SigningCertURL": https.url(path, host), "UnsubscribeURL": "https://x"}
    if subscribe:
        m |= {"Token": "t" * 40, "SubscribeURL": subscribe}
    m |= more
    keys = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{k}\n{m[k]}\n" for k in keys if k in m)
    m["Signature"] = base64.b64encode(https.signer.sign(text.encode(), "sha1" if version == "1" else "sha256")).decode()
    return m


def post(w, message):
    return w.post("ses", json.dumps(message).encode(), [("Content-Type", "text/plain; charset=UTF-8")])


@pytest.mark.parametrize("version", ["1", "2"])
def test_sns(w, https, version):
    m = sns(https, version=version, Subject="the mill")
    assert post(w, m).status == 200
    assert post(w, m | {"Message": m["Message"].replace("Delivery", "Bounce")}).status == 401
    assert post(w, m | {"SignatureVersion": "12"[version == "1"]}).status == 401
    assert post(w, m | {"Subject": "the Mill"}).status == 401
    assert post(w, sns(https, TopicArn="arn:aws:sns:eu-west-1:17:other")).status == 401
    assert post(w, sns(https, Timestamp=iso(-3960))).status == 401
    wait_until(lambda: w.db.query("SELECT event_type FROM weir.events WHERE event_id = %s", (m["MessageId"],)) == [("Delivery",)])
    assert https.count("/a.pem") == 1


def test_one_fetch_for_many(w, https):
    """All of them wait for the one fetch; then the certificate is kept."""
    messages = [sns(https, "/held.pem") for _ in range(12)]
    https.gate.clear()
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(post, w, m) for m in messages]
        wait_until(lambda: https.count("/held.pem") == 1)
        assert sum(a.done() for a in answers) == 0
        https.gate.set()
        assert [a.result().status for a in answers] == [200] * 12
    assert post(w, sns(https, "/held.pem")).status == 200
    assert https.count("/held.pem") == 1


@pytest.mark.parametrize("path", ["/expired.pem", "/none.pem", "/huge.pem", "/wrong.pem", "/redirect.pem", "/missing.pem"])
def test_bad_certificates(w, https, path):
    """It is not the sender's fault: 503, and not asked for again at once."""
    for _ in range(3):
        r = post(w, sns(https, path))
        assert r.status == 503 and int(r.header("Retry-After")) >= 1, r
    assert https.count(path) == 1 and https.count("/target.pem") == 0


def test_slow_certificate(w, https):
    https.gate.clear()
    start = time.monotonic()
    assert post(w, sns(https, "/held-for-long.pem")).status == 503
    assert 2.5 < time.monotonic() - start < 20
    https.gate.set()


def test_other_hosts(w, https):
    before = len(https.asked)
    for host in (f"localhost:{https.port}", "127.0.0.1", f"127.0.0.1:{https.port}@127.0.0.1:{https.port}", "sns.eu-west-1.amazonaws.com"):
        assert post(w, sns(https, "/a.pem", host=host)).status == 401, host
    m = sns(https)
    for url in (https.url("/a.pem").replace("https", "http"), https.url("/a.crt"), https.url("/x/../a.pem"), https.url("/a.pem?b.pem")):
        assert post(w, m | {"SigningCertURL": url}).status == 401, url
    assert len(https.asked) == before


def test_subscription(w, https):
    kind = "SubscriptionConfirmation"
    url = https.url("/") + "?Action=ConfirmSubscription&TopicArn=" + TOPIC + "&Token=abc"
    m = sns(https, kind=kind, subscribe=url)
    assert post(w, m | {"Signature": sns(https)["Signature"]}).status == 401
    assert post(w, sns(https, kind=kind, subscribe=url.replace("127.0.0.1", "localhost"))).status == 400
    assert post(w, sns(https, kind=kind, subscribe=url.replace("https", "http"))).status == 400
    assert https.count("/") == 0
    assert post(w, m).status == 200
    wait_until(lambda: w.metric("webhook_confirmations_total", tool_id="ses", outcome="ok") == 1)
    assert https.count("/") == 1 and https.asked[-1].endswith("&Token=abc")
    assert post(w, sns(https, kind=kind, subscribe=https.url("/gone"))).status == 200
    wait_until(lambda: w.metric("webhook_confirmations_total", tool_id="ses", outcome="failed") == 1)
    assert w.db.value("SELECT count(*) FROM weir.events WHERE event_type = %s", (kind,)) == 0


def paypal(https, body, cert="CERT-1", webhook=WEBHOOK, **changed):
    h = {"id": str(uuid.uuid4()), "time": changed.pop("time", None) or iso().replace(".000", ""), "algo": "SHA256withRSA",
         "cert": https.url("/v1/notifications/certs/" + cert)}
    text = f"{h['id']}|{h['time']}|{webhook}|{zlib.crc32(body)}"
    h["sig"] = base64.b64encode(https.signer.sign(text.encode())).decode()
    h |= changed
    return [sign.JSON, ("PAYPAL-TRANSMISSION-ID", h["id"]), ("PAYPAL-TRANSMISSION-TIME", h["time"]), ("PAYPAL-AUTH-ALGO", h["algo"]),
            ("PAYPAL-CERT-URL", h["cert"]), ("PAYPAL-TRANSMISSION-SIG", h["sig"])]


def test_paypal(w, https):
    body = b'{"id":"WH-EVENT-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}'
    assert w.post("paypal", body, paypal(https, body)).status == 200
    assert w.post("paypal", body + b" ", paypal(https, body)).status == 401
    assert w.post("paypal", body, paypal(https, body, webhook="WH-18")).status == 401
    assert w.post("paypal", body, paypal(https, body, algo="SHA1withRSA")).status == 401
    assert w.post("paypal", body, paypal(https, body, cert=https.url("/a.pem"))).status == 401
    assert w.post("paypal", body, paypal(https, body, cert="../../../a.pem")).status == 401
    assert w.post("paypal", body, paypal(https, body, cert="CERT-own")).status == 503  # nobody vouches for it
    assert https.count("/v1/notifications/certs/CERT-1") == 1
    assert w.post("paypal", body, paypal(https, body) + [("PAYPAL-CERT-URL", "https://x")]).status == 400
    wait_until(lambda: w.db.query("SELECT event_type FROM weir.events WHERE event_id = 'WH-EVENT-1'") == [("PAYMENT.CAPTURE.COMPLETED",)])


def jwt(issued, secret=SECRET):
    def part(v):
        return base64.urlsafe_b64encode(v if isinstance(v, bytes) else json.dumps(v).encode()).rstrip(b"=")
    qsh = hashlib.sha256(b"POST&/webhooks/connect&").hexdigest()
    text = part({"alg": "HS256"}) + b"." + part({"iat": issued, "exp": issued + 180, "qsh": qsh})
    return [sign.JSON, ("Authorization", "JWT " + (text + b"." + part(sign.mac(secret, text).digest())).decode())]


def skew(w, tool):
    return w.metric("webhook_signature_skew_seconds", tool_id=tool)


def test_skew(w, https):
    """What providers sign by rules of their own tells of the clocks, too, also where it is refused for them."""
    body = b'{"id":"WH-EVENT-2","event_type":"X"}'
    for off, ses, paid, connect in ((30, 200, 200, 200), (-100, 200, 200, 401), (4000, 401, 200, 401), (-400, 401, 401, 401), (270000, 401, 401, 401)):
        assert post(w, sns(https, Timestamp=iso(-off))).status == ses, off
        assert w.post("paypal", body, paypal(https, body, time=iso(-off))).status == paid, off
        assert w.post("connect", b"{}", jwt(int(time.time()) - off)).status == connect, off
        for tool in ("ses", "paypal", "connect"):
            assert abs(skew(w, tool) - off) < 25, (tool, off)
    # Whose clock is wrong shows by the first request already: its certificate is fetched although it is late.
    assert post(w, sns(https, "/late.pem", Timestamp=iso(-280000))).status == 401
    assert https.count("/late.pem") == 1 and abs(skew(w, "ses") - 280000) < 25
    assert w.post("connect", b"{}", jwt(0, "wrong")).status == 401
    assert post(w, sns(https, Timestamp=iso()) | {"Message": "another"}).status == 401
    assert w.post("paypal", body, paypal(https, body, time=iso()) + [("X", "y")]).status == 200
    assert abs(skew(w, "connect") - 270000) < 60 and abs(skew(w, "ses") - 280000) < 60 and abs(skew(w, "paypal")) < 25
    url = "https://hooks.example/sms"
    mac = base64.b64encode(hmac.new(SECRET.encode(), url.encode() + b"A1", "sha1").digest()).decode()
    assert w.post("sms", b"A=1", [("Content-Type", "application/x-www-form-urlencoded"), ("X-Twilio-Signature", mac)]).status == 200
    assert 'webhook_signature_skew_seconds{tool_id="sms"}' not in w.metrics()  # Twilio signs no time


@pytest.mark.parametrize("tool, path, event", [("ses", "/SimpleNotificationService-17.pem", "Delivery"),
                                               ("paypal", "/v1/notifications/certs/CERT-weir", "PAYMENT.CAPTURE.COMPLETED")])
def test_send_test(w, https, tool, path, event):
    """The key of a certificate that lies where the request says."""
    https.pages[path] = (200, https.signer.cert, {})
    r = run("send-test", tool, "--key", https.signer.key, env=w.env)
    assert r.rc == 0 and "BEGIN CERTIFICATE" in r.err and https.count(path) == 1, r
    r = run("send-test", tool, "--key", https.signer.key, "--bad-signature", env=w.env)
    assert r.rc == 0 and "401" in r.out, r
    wait_until(lambda: w.db.value("SELECT count(*) FROM weir.events WHERE tool = %s AND event_type = %s", (tool, event)))


def mailgun(token, event="delivered", uid="e-1"):
    ts = str(int(time.time()))
    mac = sign.mac(SECRET, (ts + token).encode()).hexdigest()
    return json.dumps({"signature": {"timestamp": ts, "token": token, "signature": mac}, "event-data": {"id": uid, "event": event}}).encode()


def test_token_once(w):
    """A token is one body's, in all processes; the body again is a retry."""
    body, other = mailgun("tok-1"), mailgun("tok-1", uid="e-2")
    assert [w.post("mailgun", body, [sign.JSON]).status for _ in range(2)] == [200, 200]
    before = w.metric("webhook_refusals_total", tool_id="mailgun", reason="token_reused") or 0
    r = w.post("mailgun", other, [sign.JSON])
    assert r.status == 401 and b"the signature is wrong, or its time is over" in r.body
    assert w.metric("webhook_refusals_total", tool_id="mailgun", reason="token_reused") == before + 1
    second = Weir(w.env | {"FETCH_CA_FILE": ""})
    second.env |= {"PORT": str(second.port), "HEALTH_ENDPOINT": f"127.0.0.1:{second.health_port}"}
    second.start()
    try:
        assert second.post("mailgun", other, [sign.JSON]).status == 401
        assert second.post("mailgun", body, [sign.JSON]).status == 200
        assert second.post("mailgun", mailgun("tok-2", uid="e-3"), [sign.JSON]).status == 200
        assert w.post("mailgun", mailgun("tok-2", uid="e-4"), [sign.JSON]).status == 401
    finally:
        second.close()
    wait_until(lambda: w.db.value("SELECT count(*) FROM weir.events WHERE tool = 'mailgun'") == 2)
    assert w.db.query("SELECT event_id FROM weir.events WHERE tool = 'mailgun' ORDER BY 1") == [("e-1",), ("e-3",)]
