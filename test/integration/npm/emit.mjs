// Requests as the providers' own packages sign them, one JSON object a line:
// {suite, name, tool, query, type, id, headers: [[name, value], ...], body: base64, expect: status}
import { createRequire } from "node:module";
import { sign } from "@octokit/webhooks-methods";
import Stripe from "stripe";
import { Webhook as Svix } from "svix";

const require = createRequire(import.meta.url);
const standard = require("standardwebhooks");
const jwt = require("atlassian-jwt");
const twilio = require("twilio/lib/webhooks/webhooks.js");
const { Signature } = require("@hubspot/api-client/lib/src/utils/signature.js");
const { Ecdsa, PrivateKey } = require("starkbank-ecdsa"); // what @sendgrid/eventwebhook verifies with
const { CloudEvent, HTTP } = require("cloudevents");
const [githubSecret, stripeSecret, whsec, wrongWhsec, shared, publicUrl, sendgridKey, otherKey] = process.argv.slice(2);

function emit(suite, name, tool, type, id, headers, body, expect, query = "") {
  const line = { suite, name, tool, query, type, id, expect, body: Buffer.from(body).toString("base64") };
  line.headers = headers.some(([n]) => n === "Content-Type") ? headers : [["Content-Type", "application/json"], ...headers];
  process.stdout.write(JSON.stringify(line) + "\n");
}

const sets = ["api.github.com", "ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35"];
for (const set of sets) {
  for (const event of require(`@octokit/webhooks-examples/${set}/index.json`)) {
    for (const [n, example] of event.examples.entries()) {
      const body = JSON.stringify(example);
      const id = `${set}-${event.name}-${n}`;
      const headers = [["X-GitHub-Event", event.name], ["X-GitHub-Delivery", id],
        ["X-Hub-Signature-256", await sign(githubSecret, body)]];
      emit("github", id, "github", event.name, id, headers, body, 200);
    }
  }
}

const now = Math.floor(Date.now() / 1000);
// [name, age in seconds, sign with the wrong key, change the body after signing, status]
const cases = [["good", 0, false, false, 200], ["late", 250, false, false, 200], ["early", -250, false, false, 200],
  ["old", 400, false, false, 401], ["future", -400, false, false, 401],
  ["tampered", 0, false, true, 401], ["wrong-key", 0, true, false, 401]];

for (const [name, age, wrong, tampered, expect] of cases) {
  const timestamp = now - age;
  const sent = (body) => (tampered ? body.replace("1099", "9") : body);

  const stripeId = `evt_${name}`;
  const stripeBody = JSON.stringify({ id: stripeId, object: "event", type: "charge.succeeded", data: { amount: 1099 } });
  const header = new Stripe("sk_test_none").webhooks.generateTestHeaderString(
    { payload: stripeBody, secret: wrong ? "whsec_other" : stripeSecret, timestamp });
  emit("stripe", name, "stripe", "charge.succeeded", stripeId, [["Stripe-Signature", header]], sent(stripeBody), expect);

  const body = JSON.stringify({ type: "invoice.paid", data: { amount: 1099 } });
  for (const [suite, lib, prefix] of [["standardwebhooks", standard.Webhook, "webhook"], ["svix", Svix, "svix"]]) {
    const id = `msg_${suite}_${name}`;
    const signature = new lib(wrong ? wrongWhsec : whsec).sign(id, new Date(timestamp * 1000), body);
    emit(suite, name, suite, "invoice.paid", id,
      [[`${prefix}-id`, id], [`${prefix}-timestamp`, String(timestamp)], [`${prefix}-signature`, signature]],
      sent(body), expect);
  }

  const id = `e_${name}`;
  const hubspotBody = JSON.stringify([{ eventId: id, subscriptionType: "contact.creation", amount: 1099 }]);
  const hubspotSignature = Signature.getSignature("POST", "v3", { clientSecret: wrong ? "other" : shared,
    url: publicUrl + "/webhooks/hubspot", requestBody: hubspotBody, timestamp: timestamp * 1000 });
  emit("hubspot", name, "hubspot", "contact.creation", id, [["X-HubSpot-Signature-v3", hubspotSignature],
    ["X-HubSpot-Request-Timestamp", String(timestamp * 1000)]], sent(hubspotBody), expect);

  // A day's retries are taken, so "old" is older here.
  const sentAt = String(now - (name === "old" ? 100000 : age));
  const sendgridBody = JSON.stringify([{ sg_event_id: id, event: "delivered", email: "ada@example.com", amount: 1099 }]);
  const signature = Ecdsa.sign(sentAt + sendgridBody, PrivateKey.fromPem(wrong ? otherKey : sendgridKey)).toBase64();
  emit("sendgrid", name, "sendgrid", "delivered", id, [["X-Twilio-Email-Event-Webhook-Signature", signature],
    ["X-Twilio-Email-Event-Webhook-Timestamp", sentAt]], sent(sendgridBody), expect);
}

// CloudEvents, in two modes of the package; the token is theirs who send it.
for (const [name, make] of [["binary", HTTP.binary], ["structured", HTTP.structured]]) {
  const { headers, body } = make(new CloudEvent({ id: `ce_${name}`, source: "/mill/gate", type: "com.example.opened", data: { cm: 1099, text: "ü" } }));
  const list = Object.entries(headers).map(([n, v]) => [n.toLowerCase() === "content-type" ? "Content-Type" : n, String(v)]);
  for (const [token, expect] of [[shared, 200], ["other", 401]]) {
    emit("cloudevents", `${name} ${expect}`, "cloudevents", "com.example.opened", `/mill/gate:ce_${name}`,
      [...list, ["Authorization", `Bearer ${token}`]], body, expect);
  }
}

// Twilio: forms, and JSON by its hash. [name, fields, key, change the body, URL, status]; behind "|" the query
// that was signed in place of the one that was sent.
const url = publicUrl + "/webhooks/twilio";
const fields = { MessageSid: "SM", MessageStatus: "sent", To: "+15558675310", Body: "naïve & 100 % 'é' 𝄞" };
const lists = { ...fields, MediaUrl: ["b", "a", "b"], Empty: "" };
for (const [name, params, key, tampered, at, expect] of [["form", fields, shared, false, url, 200],
  ["lists", lists, shared, false, url, 200], ["port", fields, shared, false, url.replace(".com", ".com:443"), 200],
  ["query", fields, shared, false, url + "?a=1&b=%20", 200],
  ["quote", fields, shared, false, url + "?a='b'|?a='b'", 200], ["quote-escaped", fields, shared, false, url + "?a='b'|?a=%27b%27", 200],
  ["quote-anew", fields, shared, false, url + "?a=%27b+c%2f%27&d|?a='b%20c%2F'&d=", 200],
  ["anew-port", fields, shared, false, url.replace(".com", ".com:443") + "?a=%27|?a='", 200],
  ["host", fields, shared, false, url.replace("hooks", "Hooks"), 401],
  ["other-quote", fields, shared, false, url + "?a='b'|?a=%27c%27", 401], ["tampered", fields, shared, true, url, 401],
  ["wrong-key", fields, "other", false, url, 401], ["wrong-port", fields, shared, false, url.replace(".com", ".com:8443"), 401],
  ["wrong-query", fields, shared, false, url + "?a=1", 401]]) {
  const sid = "SM" + name;
  const sent = { ...params, MessageSid: sid };
  const body = new URLSearchParams(Object.entries(sent).flatMap(([k, v]) => [].concat(v).map((one) => [k, one]))).toString();
  const [asked, signed] = at.split("|");
  const query = name === "wrong-query" ? "?a=2" : (asked.split("?")[1] ? "?" + asked.split("?")[1] : "");
  const signature = twilio.getExpectedTwilioSignature(key, signed === undefined ? at : asked.split("?")[0] + signed, sent);
  // What the package itself says of the request, where the URL is the tool's.
  if (!tampered && key === shared &&
      twilio.validateRequest(key, signature, url + query, sent) !== (expect === 200)) {
    throw new Error(`twilio: ${name} is not ${expect}`);
  }
  emit("twilio", name, "twilio", "sent", `${sid}:sent`, [["Content-Type", "application/x-www-form-urlencoded"],
    ["X-Twilio-Signature", signature]],
    tampered ? body.replace("sent", "read") : body, expect, query);
}
for (const [name, tampered, expect] of [["json", false, 200], ["json-tampered", true, 401]]) {
  const body = JSON.stringify({ a: 1099 });
  const query = "?x=1&bodySHA256=" + twilio.getExpectedBodyHash(body);
  emit("twilio", name, "twilio", "unknown", "", [["X-Twilio-Signature", twilio.getExpectedTwilioSignature(shared, url + query, {})]],
    tampered ? body.replace("1099", "9") : body, expect, query);
}

// Atlassian Connect. [name, iat, exp (both from now), key, algorithm, what was signed, what is asked, status]
for (const [name, iat, exp, key, alg, signed, asked, expect] of [["good", 0, 180, shared, "HS256", "", "", 200],
  ["query", 0, 180, shared, "HS256", "?b=2&a=y&a=x%20*&c=~%C3%A9", "?c=~é&a=x+*&b=2&a=y", 200], ["late", -200, -10, shared, "HS256", "", "", 200],
  ["expired", -300, -60, shared, "HS256", "", "", 401], ["future", 600, 780, shared, "HS256", "", "", 401],
  ["wrong-key", 0, 180, "other", "HS256", "", "", 401], ["wrong-algorithm", 0, 180, shared, "HS512", "", "", 401],
  ["wrong-query", 0, 180, shared, "HS256", "?a=1", "?a=2", 401]]) {
  const qsh = jwt.createQueryStringHash(jwt.fromMethodAndUrl("POST", "/webhooks/jira-connect" + signed), false, publicUrl);
  const token = jwt.encodeSymmetric({ iss: "k", iat: now + iat, exp: now + exp, qsh }, key, alg);
  emit("jwt", name, "jira-connect", "jira:issue_created", `j-${name}`,
    [["Authorization", "JWT " + token], ["X-Atlassian-Webhook-Identifier", `j-${name}`]],
    JSON.stringify({ webhookEvent: "jira:issue_created" }), expect, encodeURI(decodeURI(asked)));
}
