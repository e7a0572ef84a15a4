// Requests as the providers' own packages sign them, one JSON object a line:
// {suite, name, tool, type, id, headers: [[name, value], ...], body: base64, expect: status}
import { createRequire } from "node:module";
import { sign } from "@octokit/webhooks-methods";
import Stripe from "stripe";

const require = createRequire(import.meta.url);
const standard = require("standardwebhooks");
const svix = require("svix");
const [githubSecret, stripeSecret, whsec, wrongWhsec] = process.argv.slice(2);

function emit(suite, name, tool, type, id, headers, body, expect) {
  const line = { suite, name, tool, type, id, expect, body: Buffer.from(body).toString("base64") };
  line.headers = [["Content-Type", "application/json"], ...headers];
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
  for (const [suite, lib, prefix] of [["standardwebhooks", standard, "webhook"], ["svix", svix, "svix"]]) {
    const id = `msg_${suite}_${name}`;
    const signature = new lib.Webhook(wrong ? wrongWhsec : whsec).sign(id, new Date(timestamp * 1000), body);
    emit(suite, name, suite, "invoice.paid", id,
      [[`${prefix}-id`, id], [`${prefix}-timestamp`, String(timestamp)], [`${prefix}-signature`, signature]],
      sent(body), expect);
  }
}
