"""Sends a pull event to Emberpost over RabbitMQ: which codes are in this value set? Prints the codes of the answer."""

import json
import os
import sys
import time
import uuid
from datetime import datetime, timezone

import pika

BROKER = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
INBOUND_QUEUE = os.environ.get("INBOUND_QUEUE", "fhir.inbound")
ANSWER_SECONDS = float(os.environ.get("ANSWER_SECONDS", "30"))
# Who is asked: Emberpost itself, by its base_url.
DESTINATION = os.environ.get("DESTINATION", "http://127.0.0.1:8080/fhir")
VALUE_SET = "http://emberpost.org/fhir/ValueSet/pull-events"


def request():
    header, focus = (f"urn:uuid:{uuid.uuid4()}" for _ in range(2))
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "type": "message",
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "entry": [
            {
                "fullUrl": header,
                "resource": {
                    "resourceType": "MessageHeader",
                    "id": header.removeprefix("urn:uuid:"),
                    "eventCoding": {"system": "http://hl7.org/fhir/message-events", "code": "valueset-expand"},
                    "source": {"endpoint": "https://ward.example.org/fhir"},
                    "destination": [{"endpoint": DESTINATION}],
                    "focus": [{"reference": focus}],
                },
            },
            {"fullUrl": focus, "resource": {"resourceType": "ValueSet", "url": VALUE_SET, "status": "active"}},
        ],
    }


def ask(channel, bundle):
    """Publishes with where to answer (reply_to) and a word to know the answer by (correlation_id), and waits for it."""
    own_id = bundle["entry"][0]["resource"]["id"]
    replies = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish(
        exchange="",
        routing_key=INBOUND_QUEUE,
        body=json.dumps(bundle).encode(),
        mandatory=True,
        properties=pika.BasicProperties(
            content_type="application/fhir+json",
            delivery_mode=2,
            message_id=own_id,
            reply_to=replies,
            correlation_id=own_id,
        ),
    )
    deadline = time.monotonic() + ANSWER_SECONDS
    for method, properties, body in channel.consume(replies, auto_ack=True, inactivity_timeout=1):
        if method is not None and properties.correlation_id == own_id:
            return json.loads(body)
        if time.monotonic() > deadline:
            sys.exit("no answer in time; the same message, sent again, gets the same answer")


def main():
    connection = pika.BlockingConnection(pika.URLParameters(BROKER))
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        told = ask(channel, request())
    except pika.exceptions.UnroutableError:
        sys.exit(f"the broker has no queue {INBOUND_QUEUE}: is Emberpost running?")
    connection.close()
    # To what could not even be read, the answer is a bare OperationOutcome.
    if told["resourceType"] != "Bundle" or told["entry"][0]["resource"]["response"]["code"] != "ok":
        sys.exit(f"refused: {json.dumps(told)}")
    value_set = next(entry["resource"] for entry in told["entry"] if entry["resource"]["resourceType"] == "ValueSet")
    print("answered ok")
    for concept in value_set["expansion"]["contains"]:
        print(concept["code"])


if __name__ == "__main__":
    main()
