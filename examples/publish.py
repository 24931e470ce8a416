"""Publishes notification events, one JSON document a line of standard input.

    echo '{"subscription": {...}, "payload": "hello"}' | python3 publish.py shop.default
"""

import os
import sys

import pika

url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
prefix = os.environ.get("WEBPUSH_PREFIX", "webpush")
routing_key = sys.argv[1]  # <app>.<lane>

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.confirm_delivery()  # from the broker's confirm on, pushrider answers for the event
persistent = pika.BasicProperties(content_type="application/json", delivery_mode=2)
for event in sys.stdin:
    channel.basic_publish(f"{prefix}.events", routing_key, event.encode(), persistent, mandatory=True)
connection.close()
