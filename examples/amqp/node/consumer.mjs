// Receives the messages of the laboratory, a participant with an AMQP channel, and answers them. Ctrl-C ends it.

import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const BROKER = process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";
const QUEUE = process.env.LAB_QUEUE ?? "lab.in";
const OWN_ADDRESS = "https://lab.example.org/fhir";

// The answers given so far, by message. A consumer for daily use keeps them in its database, in the transaction of its work:
// this one forgets them when it ends.
const answers = new Map();

// What stays the same when a message comes again. Ids are unique per sender, so the source belongs to it.
function identity(message, { fhirVersion = "", source }) {
  const header = message.entry[0].resource;
  const own = fhirVersion.startsWith("5") ? [message.identifier.value] : [message.id, header.id];
  return JSON.stringify([source, ...own]);
}

function work(message) {
  const header = message.entry[0].resource;
  console.log(`took ${header.id} ${header.eventCoding.code}`);
}

// The answer: a message of the same event, whose response.identifier is the MessageHeader.id of the request (R4).
function response(message) {
  const request = message.entry[0].resource;
  const id = randomUUID();
  const header = {
    resourceType: "MessageHeader",
    id,
    eventCoding: request.eventCoding,
    source: { endpoint: OWN_ADDRESS },
    destination: [{ endpoint: request.source.endpoint }],
    response: { identifier: request.id, code: "ok" },
  };
  return {
    resourceType: "Bundle",
    id: randomUUID(),
    type: "message",
    timestamp: new Date().toISOString(),
    entry: [{ fullUrl: `urn:uuid:${id}`, resource: header }],
  };
}

function publish(channel, queue, content, correlationId) {
  return new Promise((resolve, reject) => {
    const options = { contentType: "application/fhir+json", persistent: true, mandatory: true, correlationId };
    channel.publish("", queue, content, options, (error) => (error ? reject(error) : resolve()));
  });
}

async function onMessage(channel, came) {
  const { headers, messageId, replyTo, correlationId } = came.properties;
  const message = JSON.parse(came.content);
  const key = identity(message, headers);
  if (answers.has(key)) {
    console.log(`again ${messageId}`);
  } else {
    work(message);
    answers.set(key, Buffer.from(JSON.stringify(response(message))));
  }
  // Only requests that want an answer have reply_to; answers, for example, do not.
  if (replyTo) await publish(channel, replyTo, answers.get(key), correlationId);
  // Last: whatever ends this program before here makes the broker bring the message again, and nothing is lost.
  channel.ack(came);
}

const connection = await amqp.connect(BROKER);
const channel = await connection.createConfirmChannel();
// An answer that no queue takes: its request comes again when this program has ended.
channel.on("return", (returned) => {
  console.error(`the broker has no queue ${returned.fields.routingKey} to answer to`);
  process.exit(1);
});
// One at a time: they come in order, and stay in order.
await channel.prefetch(1);
// Not declared here: Emberpost declares the queue, with arguments of its own. The broker sends null when it ends the consumer.
await channel.consume(QUEUE, (came) => (came ? onMessage(channel, came) : process.exit(1)));
console.log(`waiting for messages in ${QUEUE}`);
