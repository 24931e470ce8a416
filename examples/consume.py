"""Prints what comes back: a result for every recipient, an event for every dead subscription.

    python3 consume.py COUNT    ends after so many messages
"""

import os
import sys

import pika

url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
prefix = os.environ.get("WEBPUSH_PREFIX", "webpush")
count = int(sys.argv[1])

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, f"{prefix}.results", "#")
print("listening", flush=True)

for method, _properties, body in channel.consume(queue, inactivity_timeout=30):
    if method is None:
        sys.exit(f"nothing came for 30 s; {count} more were expected")
    print(method.routing_key, body.decode(), flush=True)
    channel.basic_ack(method.delivery_tag)
    count -= 1
    if count == 0:
        break
connection.close()
