// Sends a message, waits for the answer, and prints its response code. Usage: node sender.mjs BASE FILE
import { readFile } from "node:fs/promises";

const [base, file] = process.argv.slice(2);
const headers = { "Content-Type": "application/fhir+json", Accept: "application/fhir+json" };
const reply = await fetch(`${base}/$process-message`, { method: "POST", headers, body: await readFile(file) });
let answer = reply.status === 204 ? null : await reply.json();
if (reply.status >= 400) throw new Error(answer.issue[0].diagnostics); // an OperationOutcome
const statusUrl = reply.headers.get("Content-Location");
while (reply.status === 202 && statusUrl) {
  await new Promise((wake) => setTimeout(wake, 1000 * (reply.headers.get("Retry-After") ?? 2)));
  const poll = await fetch(statusUrl, { headers });
  if (poll.status === 200) { // a batch-response with one entry per receiver
    const [entry] = (await poll.json()).entry;
    answer = entry.resource ?? entry.response.outcome;
    break;
  }
}
const isMessage = answer?.resourceType === "Bundle";
console.log(isMessage ? answer.entry[0].resource.response.code : `accepted without an answer ${reply.status}`);
