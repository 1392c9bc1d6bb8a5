// Sends a push event to Emberpost over RabbitMQ: two patient records are the same person. Waits for the answer.

import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const env = process.env;
const BROKER = env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";
const INBOUND_QUEUE = env.INBOUND_QUEUE ?? "fhir.inbound";
const ANSWER_SECONDS = Number(env.ANSWER_SECONDS ?? "30");

const patient = (identifier) => ({
  resourceType: "Patient",
  identifier: [{ system: "https://ward.example.org/patients", value: identifier }],
});

// A new message has new ids. The same message, sent again, must keep its ids: so it is known as the same.
function message() {
  const [id, first, second] = [randomUUID(), `urn:uuid:${randomUUID()}`, `urn:uuid:${randomUUID()}`];
  const header = {
    resourceType: "MessageHeader",
    id,
    eventCoding: { system: "http://hl7.org/fhir/message-events", code: "patient-link" },
    source: { endpoint: "https://ward.example.org/fhir" },
    destination: [{ endpoint: "https://lab.example.org/fhir" }],
    focus: [{ reference: first }, { reference: second }],
  };
  return {
    resourceType: "Bundle",
    id: randomUUID(),
    type: "message",
    timestamp: new Date().toISOString(),
    entry: [
      { fullUrl: `urn:uuid:${id}`, resource: header },
      { fullUrl: first, resource: patient("1001") },
      { fullUrl: second, resource: patient("1077") },
    ],
  };
}

// Resolves when the broker has the message. It tells of one that no queue takes before it confirms it.
function publish(channel, queue, body, properties) {
  return new Promise((resolve, reject) => {
    let returned = false;
    channel.once("return", () => (returned = true));
    const options = { ...properties, contentType: "application/fhir+json", persistent: true, mandatory: true };
    channel.publish("", queue, Buffer.from(JSON.stringify(body)), options, (error) => {
      if (error) reject(error);
      else if (returned) reject(new Error(`the broker has no queue ${queue}: is Emberpost running?`));
      else resolve();
    });
  });
}

// The answer that has this correlation id; undefined when there is none in time.
function answer(channel, queue, correlationId) {
  return new Promise((resolve) => {
    setTimeout(resolve, ANSWER_SECONDS * 1000);
    const take = (came) => came?.properties.correlationId === correlationId && resolve(JSON.parse(came.content));
    channel.consume(queue, take, { noAck: true });
  });
}

const bundle = message();
const ownId = bundle.entry[0].resource.id;
const connection = await amqp.connect(BROKER);
const channel = await connection.createConfirmChannel();
// A queue of our own for the answer, gone with this connection.
const { queue: replyTo } = await channel.assertQueue("", { exclusive: true });
await publish(channel, INBOUND_QUEUE, bundle, { messageId: ownId, replyTo, correlationId: ownId });
console.log(`sent ${ownId}`);

const told = await answer(channel, replyTo, ownId);
await connection.close();
// To what could not even be read, the answer is a bare OperationOutcome.
const code = told?.entry?.[0].resource.response.code;
if (told === undefined) console.log("no answer yet: Emberpost or the broker has the message, and goes on with it");
else console.log(`answered ${code ?? JSON.stringify(told)}`);
process.exit(told === undefined || code === "ok" ? 0 : 1);
