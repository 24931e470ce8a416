"""Decrypts what pushrider encrypted with PyPI's http-ece, and verifies its VAPID header with py-vapid.

Reads one JSON document, writes another; any failure ends it.
"""

import json
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02


def decode(text):
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def decrypt(case):
    scalar = int.from_bytes(decode(case["private_key"]), "big")
    plaintext = http_ece.decrypt(
        decode(case["body"]),
        private_key=ec.derive_private_key(scalar, ec.SECP256R1()),
        auth_secret=decode(case["auth"]),
        version="aes128gcm",
    )
    return urlsafe_b64encode(plaintext).rstrip(b"=").decode()


def verify(authorization):
    # RFC 8292 §3 allows white space after the comma; py-vapid does not.
    authorization = authorization.replace(", ", ",")
    if not Vapid02.verify(authorization):
        sys.exit("the signature is wrong")
    token = authorization.split("t=")[1].split(",")[0]
    return json.loads(decode(token.split(".")[1]))


given = json.load(sys.stdin)
answer = {
    "plaintexts": [decrypt(case) for case in given["cases"]],
    "claims": verify(given["authorization"]),
}
json.dump(answer, sys.stdout)
