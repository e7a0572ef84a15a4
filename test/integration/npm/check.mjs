// What the providers' own packages say of requests. Reads one JSON object a line:
// {tool, secret, url, method, headers: {lower-case name: value}, body: base64}
// and writes for each {tool, verdict: true | false}, or {tool, error} where it cannot be judged.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { LinearWebhookClient } from "@linear/sdk/webhooks";
import { verify as verifyGithub } from "@octokit/webhooks-methods";
import "@shopify/shopify-api/adapters/node";
import { ApiVersion, shopifyApi } from "@shopify/shopify-api";
import Stripe from "stripe";
import { Webhook as Svix } from "svix";

const require = createRequire(import.meta.url);
const { Webhook } = require("standardwebhooks");
const { EventWebhook } = require("@sendgrid/eventwebhook");
const { verifyKey } = require("discord-interactions");
const { isValidSlackRequest } = require("@slack/bolt/dist/receivers/verify-request.js");
const { Signature } = require("@hubspot/api-client/lib/src/utils/signature.js");
const { WebhooksHelper } = require("square");
const { validateRequest } = require("twilio/lib/webhooks/webhooks.js");
const { HTTP } = require("cloudevents");

// Those that throw say no by it.
const thrown = async (f) => {
  try {
    await f();
    return true;
  } catch (e) {
    return e instanceof ReferenceError || e instanceof TypeError ? Promise.reject(e) : false;
  }
};

// Shopify's package also wants headers that are not signed.
const shopify = (r) => shopifyApi({ apiKey: "key", apiSecretKey: r.secret, scopes: [], hostName: "hooks.example.com",
  apiVersion: Object.values(ApiVersion)[0], isEmbeddedApp: false, logger: { log: () => {} } }).webhooks.validate({
  rawBody: r.text, rawResponse: {},
  rawRequest: { method: "POST", url: r.url, headers: { "x-shopify-shop-domain": "mill.myshopify.com",
    "x-shopify-api-version": "2026-07", "x-shopify-webhook-id": "w1", ...r.headers } } });

const checks = {
  github: (r) => verifyGithub(r.secret, r.text, r.headers["x-hub-signature-256"]),
  stripe: (r) => thrown(() => new Stripe("sk_test_none").webhooks.constructEvent(r.body, r.headers["stripe-signature"], r.secret)),
  "standard-webhooks": (r) => thrown(() => new Webhook(r.secret).verify(r.text, r.headers)),
  svix: (r) => thrown(() => new Svix(r.secret).verify(r.text, r.headers)),
  twilio: (r) => validateRequest(r.secret, r.headers["x-twilio-signature"], r.url, Object.fromEntries(new URLSearchParams(r.text))),
  slack: (r) => isValidSlackRequest({ signingSecret: r.secret, body: r.text, headers: r.headers }),
  sendgrid: (r) => {
    const w = new EventWebhook();
    return w.verifySignature(w.convertPublicKeyToECDSA(r.secret), r.text,
      r.headers["x-twilio-email-event-webhook-signature"], r.headers["x-twilio-email-event-webhook-timestamp"]);
  },
  discord: (r) => verifyKey(r.body, r.headers["x-signature-ed25519"], r.headers["x-signature-timestamp"], r.secret),
  linear: (r) => thrown(() => new LinearWebhookClient(r.secret).verify(r.body, r.headers["linear-signature"])),
  shopify: async (r) => (await shopify(r)).valid,
  square: (r) => WebhooksHelper.verifySignature({ requestBody: r.text, signatureHeader: r.headers["x-square-hmacsha256-signature"],
    signatureKey: r.secret, notificationUrl: r.url }),
  hubspot: (r) => thrown(() => {
    const ok = Signature.isValid({ signatureVersion: "v3", signature: r.headers["x-hubspot-signature-v3"], method: r.method,
      clientSecret: r.secret, requestBody: r.text, url: r.url, timestamp: Number(r.headers["x-hubspot-request-timestamp"]) });
    if (!ok) throw new Error("invalid");
  }),
  // No signature: is it an event by the specification, and which?
  cloudevents: (r) => {
    const e = HTTP.toEvent({ headers: r.headers, body: r.text });
    return e.validate() && `${e.source}:${e.id} ${e.type}`;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const r = JSON.parse(line);
  r.body = Buffer.from(r.body, "base64");
  r.text = r.body.toString();
  let out;
  try {
    out = { tool: r.tool, verdict: await checks[r.tool](r) };
  } catch (e) {
    out = { tool: r.tool, error: String(e.stack) };
  }
  process.stdout.write(JSON.stringify(out) + "\n");
}
