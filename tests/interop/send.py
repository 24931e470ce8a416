"""Sends one push with PyPI's pywebpush, signed with a key of its own making.

Reads {subscription, payload, content_encoding}, writes {status, public_key, private_key}.
"""

import json
import sys
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid01, Vapid02
from pywebpush import webpush


def encode(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


given = json.load(sys.stdin)
vapid = Vapid01() if given["content_encoding"] == "aesgcm" else Vapid02()
vapid.generate_keys()
response = webpush(
    subscription_info=given["subscription"],
    data=given["payload"],
    vapid_private_key=vapid,
    vapid_claims={"sub": "mailto:push@example.net"},
    ttl=60,
    content_encoding=given["content_encoding"],
    headers={"Urgency": "high", "Topic": "interop"},
)
public_key = vapid.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
private_key = vapid.private_key.private_numbers().private_value.to_bytes(32, "big")
answer = {
    "status": response.status_code,
    "public_key": encode(public_key),
    "private_key": encode(private_key),
}
json.dump(answer, sys.stdout)
