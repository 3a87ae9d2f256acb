// Sends one event, then a batch, with the official CloudEvents SDK.
//   npm ci && IMPACT_URL=http://127.0.0.1:8080 IMPACT_KEY=imp_... node send.js
import { CloudEvent, HTTP } from "cloudevents";

const RETRIED = new Set([408, 429, 502, 503, 504]);
const GIVE_UP_MS = 60_000;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The id must be the event's own, made once where it happens: a resend has the same.
const visit = (number) =>
  new CloudEvent({
    id: `js-${number}`,
    source: "/clinic/examples",
    type: "clinic.visit.v1",
    time: "2026-01-31T12:00:00Z",
    subject: `person-${number}`,
    data: { minutes: 15, client: "js" },
  });

const batch = (events) => ({
  headers: { "content-type": "application/cloudevents-batch+json" },
  body: JSON.stringify(events),
});

// Until the service has answered for good; sending the same events again is safe.
async function send({ headers, body }) {
  const authorization = `Bearer ${process.env.IMPACT_KEY}`;
  const deadline = Date.now() + GIVE_UP_MS;
  for (let delay = 500; ; delay = Math.min(2 * delay, 10_000)) {
    let wait = delay;
    try {
      const url = `${process.env.IMPACT_URL}/v1/events`;
      const answer = await fetch(url, { method: "POST", headers: { ...headers, authorization }, body });
      const after = answer.headers.get("retry-after");
      wait = after === null ? delay : 1000 * Number(after);
      if (!RETRIED.has(answer.status) || Date.now() + wait > deadline) return answer;
    } catch (error) {
      if (Date.now() + wait > deadline) throw error;
    }
    await pause(wait);
  }
}

for (const message of [HTTP.binary(visit(1)), batch([visit(2), visit(3)])]) {
  const answer = await send(message);
  console.log(answer.status, await answer.text());
  if (answer.status !== 202) process.exitCode = 1;
}
