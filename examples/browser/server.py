"""Serves the page, stores its subscriptions, publishes notifications, and deletes subscriptions that are gone.

    APPLICATION_SERVER_KEY=$(pushrider keys public --config pushrider.toml) python3 server.py shop
"""

import hmac
import json
import os
import secrets
import sqlite3
import sys
import threading
import time
from contextlib import closing
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin
import pika
from pika.exceptions import AMQPError
app = sys.argv[1]
amqp = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672"))
application_server_key = os.environ.get("APPLICATION_SERVER_KEY") or sys.exit(
    "APPLICATION_SERVER_KEY is not set; set it to what `pushrider keys public` prints")

def sql(statement, *values):
    with closing(sqlite3.connect("browser.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()

sql("CREATE TABLE IF NOT EXISTS subscriptions (id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT UNIQUE,"
    " p256dh TEXT, auth TEXT, updated_at TEXT)")
sql("CREATE TABLE IF NOT EXISTS notifications (id TEXT PRIMARY KEY, title TEXT, recipients INTEGER)")
sql("CREATE TABLE IF NOT EXISTS receipts (notification TEXT, recipient TEXT, UNIQUE (notification, recipient))")
sql("CREATE TABLE IF NOT EXISTS receipt_key (id INTEGER PRIMARY KEY, key BLOB)")
sql("INSERT OR IGNORE INTO receipt_key VALUES (1, ?)", secrets.token_bytes(32))
receipt_key = sql("SELECT key FROM receipt_key")[0][0]

def text(value, name):
    if not isinstance(value, dict) or not isinstance(value.get(name), str):
        raise ValueError(f"{name}: expected a text")
    return value[name]

def store(request):
    endpoint, keys = text(request["subscription"], "endpoint"), request["subscription"]["keys"]
    # In the form of sent_at, so that the two compare as texts.
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sql("INSERT INTO subscriptions (endpoint, p256dh, auth, updated_at) VALUES (?, ?, ?, ?) ON CONFLICT (endpoint) DO"
        " UPDATE SET p256dh = excluded.p256dh, auth = excluded.auth, updated_at = excluded.updated_at",
        endpoint, text(keys, "p256dh"), text(keys, "auth"), now)
    if request.get("previous") not in (None, endpoint):
        delete({"endpoint": request["previous"]})

def delete(request):
    sql("DELETE FROM subscriptions WHERE endpoint = ?", text(request, "endpoint"))

def receipt(notification, recipient):
    signed = f"{notification}.{recipient}"
    return f"{signed}.{hmac.new(receipt_key, signed.encode(), 'sha256').hexdigest()}"

def count(request):
    notification, recipient, _ = text(request, "receipt").split(".")
    if not hmac.compare_digest(request["receipt"].encode(), receipt(notification, recipient).encode()):
        raise ValueError("receipt: the signature is wrong")
    sql("INSERT OR IGNORE INTO receipts VALUES (?, ?)", notification, recipient)  # a repeat counts once

def publish(request):
    notification, navigate = secrets.token_hex(8), urljoin(origin, text(request, "navigate"))
    if not navigate.startswith(f"{origin}/"):
        raise ValueError("navigate: expected a page of this site")
    message = {"title": text(request, "title"), "body": text(request, "body"), "navigate": navigate, "tag": notification}
    def payload(recipient):
        own = {**message, "data": {"receipt": receipt(notification, recipient)}}
        # mutable: a browser that could show it alone asks the worker first, which posts the receipt.
        return {"web_push": 8030, "mutable": True, "notification": own} if request.get("declarative") else own
    recipients = [
        {"id": str(row), "subscription": {"endpoint": endpoint, "p256dh": p256dh, "auth": auth}, "payload": payload(row)}
        for row, endpoint, p256dh, auth in sql("SELECT id, endpoint, p256dh, auth FROM subscriptions")]
    with closing(pika.BlockingConnection(amqp)) as connection:  # one of pika's connections serves one thread
        channel = connection.channel()
        channel.confirm_delivery()
        for start in range(0, len(recipients), 500):  # an event has at most 4 MiB
            event = {"id": f"{notification}-{start}", "app": app, "results": "failures",
                     "recipients": recipients[start:start + 500]}
            channel.basic_publish("webpush.events", f"{app}.default", json.dumps(event, ensure_ascii=False).encode(),
                                  pika.BasicProperties(content_type="application/json", delivery_mode=2), mandatory=True)
    sql("INSERT INTO notifications VALUES (?, ?, ?)", notification, message["title"], len(recipients))

def counts(_request):
    rows = sql("SELECT title, recipients, (SELECT count(*) FROM receipts WHERE notification = id) FROM notifications"
               " ORDER BY rowid DESC LIMIT 20")
    return {"subscriptions": sql("SELECT count(*) FROM subscriptions")[0][0],
            "notifications": [dict(zip(("title", "recipients", "shown"), row)) for row in rows]}

def take(channel, method, _properties, body):
    dead = json.loads(body)
    # One that the browser renewed since the push was sent stays.
    sql("DELETE FROM subscriptions WHERE endpoint = ? AND updated_at < ?", dead["recipient"]["endpoint"], dead["sent_at"])
    channel.basic_ack(method.delivery_tag)  # after the work is done

def consume():
    while True:
        try:
            with closing(pika.BlockingConnection(amqp)) as connection:
                channel = connection.channel()
                channel.basic_qos(prefetch_count=100)
                channel.basic_consume("webpush.dead-subscriptions", take)
                channel.start_consuming()
        except AMQPError as error:
            print(f"connecting again: {error!r}", file=sys.stderr)
        time.sleep(1)

FILES = {"/": ("index.html", "text/html"),
         **{f"/{name}": (name, "text/javascript") for name in ("page.js", "renew.js", "worker.js")}}
ROUTES = {"GET /key": lambda _request: application_server_key, "GET /counts": counts, "POST /subscriptions": store,
          "DELETE /subscriptions": delete, "POST /notifications": publish, "POST /receipts": count}

class Handler(BaseHTTPRequestHandler):
    timeout = 10  # seconds for a request to arrive

    def answer(self):
        # Another site reaches this port through the browser: by a name that resolves to 127.0.0.1, or by a form.
        sender = origin if self.command == "GET" else self.headers["Origin"]
        if {f"http://{self.headers['Host']}", sender} != {origin}:
            return self.send(403, f"only pages of {origin} may ask")
        path = self.path.partition("?")[0]
        if self.command == "GET" and path in FILES:
            return self.send(200, Path(__file__).with_name(FILES[path][0]).read_text("utf-8"), FILES[path][1])
        try:
            body = self.rfile.read(max(0, min(int(self.headers["Content-Length"] or 0), 8192)))
            action = ROUTES.get(f"{self.command} {path}")
            if action is None:
                return self.send(404, "there is no such page")
            self.send(200, json.dumps(action(json.loads(body or "{}"))), "application/json")
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            self.send(400, f"the request is not as expected: {error!r}")
        except AMQPError as error:
            self.send(503, f"the broker did not take the event: {error!r}")

    def send(self, status, body, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body.encode())))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = do_DELETE = answer

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler)
origin = f"http://localhost:{server.server_port}"
threading.Thread(target=consume, daemon=True).start()
print(origin, flush=True)
server.serve_forever()
