"""Providers' signatures, written here a second time so that weir's are checked against others. Each
returns the headers of a signed request as a list of (name, value)."""
import base64
import hashlib
import hmac
import time
import uuid

JSON = ("Content-Type", "application/json")


def mac(secret, data, algo="sha256"):
    key = secret if isinstance(secret, bytes) else secret.encode()
    return hmac.new(key, data, algo)


def now(ts):
    return int(time.time()) if ts is None else int(ts)


def github(body, secret, event="push", delivery=None):
    return [JSON, ("X-GitHub-Event", event), ("X-GitHub-Delivery", delivery or str(uuid.uuid4())),
            ("X-Hub-Signature-256", "sha256=" + mac(secret, body).hexdigest())]


def gitlab(body, secret, event="Push Hook", uid=None):
    return [JSON, ("X-Gitlab-Event", event), ("Idempotency-Key", uid or str(uuid.uuid4())), ("X-Gitlab-Token", secret)]


def bitbucket(body, secret, event="repo:push", uid=None):
    return [JSON, ("X-Event-Key", event), ("X-Request-UUID", uid or str(uuid.uuid4())),
            ("X-Hub-Signature", "sha256=" + mac(secret, body).hexdigest())]


def jira(body, secret, uid=None):
    return [JSON, ("X-Atlassian-Webhook-Identifier", uid or str(uuid.uuid4())),
            ("X-Hub-Signature", "sha256=" + mac(secret, body).hexdigest())]


def stripe(body, secret, ts=None, extra=""):
    t = now(ts)
    return [JSON, ("Stripe-Signature", f"t={t},v1={mac(secret, b'%d.' % t + body).hexdigest()}{extra}")]


def slack(body, secret, ts=None):
    t = now(ts)
    return [JSON, ("X-Slack-Request-Timestamp", str(t)),
            ("X-Slack-Signature", "v0=" + mac(secret, b"v0:%d:" % t + body).hexdigest())]


def shopify(body, secret, topic="orders/create", uid=None):
    return [JSON, ("X-Shopify-Topic", topic), ("X-Shopify-Event-Id", uid or str(uuid.uuid4())),
            ("X-Shopify-Hmac-Sha256", base64.b64encode(mac(secret, body).digest()).decode())]


def standard(body, secret, ts=None, uid=None, prefix="webhook"):
    """`secret` is whsec_ + base64. prefix 'svix' gives Svix's own header names."""
    t, uid = now(ts), uid or "msg_" + uuid.uuid4().hex
    key = base64.b64decode(secret.removeprefix("whsec_"))
    sig = base64.b64encode(mac(key, f"{uid}.{t}.".encode() + body).digest()).decode()
    return [JSON, (prefix + "-id", uid), (prefix + "-timestamp", str(t)), (prefix + "-signature", "v1," + sig)]


def linear(body, secret, event="Issue", uid=None):
    return [JSON, ("Linear-Event", event), ("Linear-Delivery", uid or str(uuid.uuid4())),
            ("Linear-Signature", mac(secret, body).hexdigest())]


def sentry(body, secret, resource="issue", uid=None):
    return [JSON, ("Sentry-Hook-Resource", resource), ("Request-ID", uid or uuid.uuid4().hex),
            ("Sentry-Hook-Signature", mac(secret, body).hexdigest())]


def replace(headers, name, value):
    """The same headers with one value changed, or without it (value None)."""
    return [(n, value if n.lower() == name.lower() else v) for n, v in headers
            if value is not None or n.lower() != name.lower()]


def sha256(data):
    return hashlib.sha256(data).hexdigest()
