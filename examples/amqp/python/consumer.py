"""Receives the messages of the laboratory, a participant with an AMQP channel, and answers them. Ctrl-C ends it."""

import json
import os
import uuid
from datetime import datetime, timezone

import pika

BROKER = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
QUEUE = os.environ.get("LAB_QUEUE", "lab.in")
OWN_ADDRESS = "https://lab.example.org/fhir"

# The answers given so far, by message. A consumer for daily use keeps them in its database, in the transaction of its work:
# this one forgets them when it ends.
answers = {}


def identity(message, headers):
    """What stays the same when a message comes again. Ids are unique per sender, so the source belongs to it."""
    if headers.get("fhirVersion", "").startswith("5"):
        return headers.get("source"), message["identifier"]["value"]
    return headers.get("source"), message.get("id"), message["entry"][0]["resource"].get("id")


def work(message):
    header = message["entry"][0]["resource"]
    print(f"took {header['id']} {header['eventCoding']['code']}", flush=True)


def response(message):
    """The answer: a message of the same event, whose response.identifier is the MessageHeader.id of the request (R4)."""
    request = message["entry"][0]["resource"]
    header_id = str(uuid.uuid4())
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "type": "message",
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "entry": [
            {
                "fullUrl": f"urn:uuid:{header_id}",
                "resource": {
                    "resourceType": "MessageHeader",
                    "id": header_id,
                    "eventCoding": request["eventCoding"],
                    "source": {"endpoint": OWN_ADDRESS},
                    "destination": [{"endpoint": request["source"]["endpoint"]}],
                    "response": {"identifier": request["id"], "code": "ok"},
                },
            }
        ],
    }


def on_message(channel, method, properties, body):
    message = json.loads(body)
    key = identity(message, properties.headers or {})
    if key in answers:
        print(f"again {properties.message_id}", flush=True)
    else:
        work(message)
        answers[key] = json.dumps(response(message)).encode()
    # Only requests that want an answer have reply_to; answers, for example, do not.
    if properties.reply_to:
        channel.basic_publish(
            exchange="",
            routing_key=properties.reply_to,
            body=answers[key],
            mandatory=True,
            properties=pika.BasicProperties(
                content_type="application/fhir+json",
                delivery_mode=2,
                correlation_id=properties.correlation_id,
            ),
        )
    # Last: whatever ends this program before here makes the broker bring the message again, and nothing is lost.
    channel.basic_ack(method.delivery_tag)


def main():
    connection = pika.BlockingConnection(pika.URLParameters(BROKER))
    channel = connection.channel()
    channel.confirm_delivery()
    # One at a time: they come in order, and stay in order.
    channel.basic_qos(prefetch_count=1)
    # Not declared here: Emberpost declares the queue, with arguments of its own.
    channel.basic_consume(QUEUE, on_message)
    print(f"waiting for messages in {QUEUE}", flush=True)
    try:
        channel.start_consuming()
    except KeyboardInterrupt:
        connection.close()


if __name__ == "__main__":
    main()
