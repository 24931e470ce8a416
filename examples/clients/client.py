"""Publishes one event, then prints results and dead subscriptions until it is stopped.

    AMQP_URL=amqp://localhost python3 client.py shop < subscription.json
"""

import json
import os
import sys
import time
from datetime import datetime, timedelta, timezone
import pika
from pika.exceptions import AMQPError
url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
app = sys.argv[1]

def event(subscription):
    # datetime.now() without a time zone writes no offset, which is refused.
    expires_at = datetime.now(timezone.utc) + timedelta(hours=1)
    return {"id": "python-1", "app": app, "subscription": subscription, "payload": {"title": "Grüße"},
            "expires_at": expires_at.isoformat()}

def publish(channel, event):
    # Raises UnroutableError or NackError where the broker did not take the event: publish it again.
    body = json.dumps(event, ensure_ascii=False).encode()  # an escaped character takes 6 bytes of payload
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("webpush.events", f"{app}.default", body, properties, mandatory=True)

def take(channel, method, _properties, body):
    message = json.loads(body)
    if message.get("change") == "gone":
        # DELETE … WHERE endpoint = ? AND updated_at < ?
        print("gone", message["recipient"]["endpoint"], message["sent_at"], flush=True)
    elif "outcome" in message:
        print("result", message["event_id"], message["outcome"], message["reason"], flush=True)
    channel.basic_ack(method.delivery_tag)  # after the work is done

unpublished = [event(json.load(sys.stdin))]
while True:
    connection = None
    try:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=100)
        queue = f"{app}.results"
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(queue, "webpush.results", f"delivery.{app}.#")
        channel.basic_consume(queue, take)
        channel.basic_consume("webpush.dead-subscriptions", take)
        while unpublished:
            publish(channel, unpublished[0])
            unpublished.pop(0)  # after the confirm
        channel.start_consuming()
    except AMQPError as error:
        print(f"connecting again: {error!r}", file=sys.stderr)
        if connection and connection.is_open:
            connection.close()
        time.sleep(1)
