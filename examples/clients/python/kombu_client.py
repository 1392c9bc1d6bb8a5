"""Kombu with its defaults: a dict (application/json, utf-8), a text (text/plain, utf-8), each with a reply queue.

Arguments: the broker's URL, the queue, a file with a message.
"""

import json
import sys
import uuid

from kombu import Connection, Queue

url, queue, path = sys.argv[1:]
text = open(path, encoding="utf-8").read()

with Connection(url) as connection, connection.channel() as channel:
    name = f"kombu.replies.{uuid.uuid4()}"
    reply_queue = Queue(name, channel=channel, exclusive=True, auto_delete=True, durable=False)
    producer = connection.Producer(channel)
    replies = []

    def on_reply(body, message):
        replies.append(body if isinstance(body, dict) else json.loads(body))
        message.ack()

    # FHIR's media types are not among the serializers that kombu decodes by itself.
    with connection.Consumer([reply_queue], callbacks=[on_reply], channel=channel, accept=None):
        for kind, body in [
            ("dict", json.loads(text.replace("PLACEHOLDER", "kombu-1"))),
            ("text", text.replace("PLACEHOLDER", "kombu-2")),
        ]:
            producer.publish(body, routing_key=queue, reply_to=reply_queue.name, correlation_id=kind)
            connection.drain_events(timeout=20)
            print(kind, replies.pop()["entry"][0]["resource"]["response"]["code"])
