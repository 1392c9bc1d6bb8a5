"""Sends a push event to Emberpost over RabbitMQ: two patient records are the same person. Waits for the answer."""

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


def patient(identifier):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "https://ward.example.org/patients", "value": identifier}],
    }


def message():
    """A new message has new ids. The same message, sent again, must keep its ids: so it is known as the same."""
    header, first, second = (f"urn:uuid:{uuid.uuid4()}" for _ in range(3))
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
                    "eventCoding": {"system": "http://hl7.org/fhir/message-events", "code": "patient-link"},
                    "source": {"endpoint": "https://ward.example.org/fhir"},
                    "destination": [{"endpoint": "https://lab.example.org/fhir"}],
                    "focus": [{"reference": first}, {"reference": second}],
                },
            },
            {"fullUrl": first, "resource": patient("1001")},
            {"fullUrl": second, "resource": patient("1077")},
        ],
    }


def answer(channel, queue, correlation_id):
    """The answer to this message, None when there is none in time."""
    deadline = time.monotonic() + ANSWER_SECONDS
    for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
        if method is not None and properties.correlation_id == correlation_id:
            return json.loads(body)
        if time.monotonic() > deadline:
            return None


def main():
    bundle = message()
    own_id = bundle["entry"][0]["resource"]["id"]
    connection = pika.BlockingConnection(pika.URLParameters(BROKER))
    channel = connection.channel()
    # From now on basic_publish waits until the broker has the message, and raises when it does not take it.
    channel.confirm_delivery()
    # A queue of our own for the answer, gone with this connection.
    replies = channel.queue_declare("", exclusive=True).method.queue
    try:
        channel.basic_publish(
            exchange="",
            routing_key=INBOUND_QUEUE,
            body=json.dumps(bundle).encode(),
            mandatory=True,  # without it, a message for a queue that is not there is lost without a word
            properties=pika.BasicProperties(
                content_type="application/fhir+json",
                delivery_mode=2,  # on disk
                message_id=own_id,
                reply_to=replies,
                correlation_id=own_id,
            ),
        )
    except pika.exceptions.UnroutableError:
        sys.exit(f"the broker has no queue {INBOUND_QUEUE}: is Emberpost running?")
    print(f"sent {own_id}", flush=True)

    told = answer(channel, replies, own_id)
    connection.close()
    if told is None:
        print("no answer yet: Emberpost or the broker has the message, and goes on with it")
    elif told["resourceType"] == "OperationOutcome":
        sys.exit(f"refused: {json.dumps(told)}")  # it could not even be read as a message
    else:
        code = told["entry"][0]["resource"]["response"]["code"]
        print(f"answered {code}")
        if code != "ok":
            sys.exit(json.dumps(told))


if __name__ == "__main__":
    main()
