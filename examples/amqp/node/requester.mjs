// Sends a pull event to Emberpost over RabbitMQ: which codes are in this value set? Prints the codes of the answer.

import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const env = process.env;
const BROKER = env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";
const INBOUND_QUEUE = env.INBOUND_QUEUE ?? "fhir.inbound";
const ANSWER_SECONDS = Number(env.ANSWER_SECONDS ?? "30");
// Who is asked: Emberpost itself, by its base_url.
const DESTINATION = env.DESTINATION ?? "http://127.0.0.1:8080/fhir";
const VALUE_SET = "http://emberpost.org/fhir/ValueSet/pull-events";

function request() {
  const [id, focus] = [randomUUID(), `urn:uuid:${randomUUID()}`];
  const header = {
    resourceType: "MessageHeader",
    id,
    eventCoding: { system: "http://hl7.org/fhir/message-events", code: "valueset-expand" },
    source: { endpoint: "https://ward.example.org/fhir" },
    destination: [{ endpoint: DESTINATION }],
    focus: [{ reference: focus }],
  };
  return {
    resourceType: "Bundle",
    id: randomUUID(),
    type: "message",
    timestamp: new Date().toISOString(),
    entry: [
      { fullUrl: `urn:uuid:${id}`, resource: header },
      { fullUrl: focus, resource: { resourceType: "ValueSet", url: VALUE_SET, status: "active" } },
    ],
  };
}

// Publishes with where to answer (replyTo) and a word to know the answer by (correlationId), and waits for it.
async function ask(channel, bundle) {
  const correlationId = bundle.entry[0].resource.id;
  const { queue: replyTo } = await channel.assertQueue("", { exclusive: true });
  return new Promise((resolve, reject) => {
    const late = new Error("no answer in time; the same message, sent again, gets the same answer");
    setTimeout(() => reject(late), ANSWER_SECONDS * 1000);
    const take = (came) => came?.properties.correlationId === correlationId && resolve(JSON.parse(came.content));
    channel.consume(replyTo, take, { noAck: true }).catch(reject);
    channel.once("return", () => reject(new Error(`the broker has no queue ${INBOUND_QUEUE}: is Emberpost running?`)));
    const properties = { messageId: correlationId, replyTo, correlationId };
    const options = { ...properties, contentType: "application/fhir+json", persistent: true, mandatory: true };
    const confirmed = (error) => error && reject(error);
    channel.publish("", INBOUND_QUEUE, Buffer.from(JSON.stringify(bundle)), options, confirmed);
  });
}

const connection = await amqp.connect(BROKER);
const told = await ask(await connection.createConfirmChannel(), request());
await connection.close();
// To what could not even be read, the answer is a bare OperationOutcome.
if (told.entry?.[0].resource.response.code !== "ok") {
  console.log(`refused: ${JSON.stringify(told)}`);
  process.exit(1);
}
const valueSet = told.entry.map((entry) => entry.resource).find((resource) => resource.resourceType === "ValueSet");
console.log("answered ok");
for (const concept of valueSet.expansion.contains) console.log(concept.code);
process.exit(0);
