"""Decrypts requests of pushrider with PyPI's http-ece, and verifies their VAPID tokens with py-vapid.

Reads a list in JSON, writes another; any failure ends it.
"""

import json
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid01, Vapid02


def decode(text):
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parameters(header):
    """Of a header such as `dh=…;p256ecdsa=…`."""
    return dict(parameter.split("=", 1) for parameter in header.split(";"))


def is_draft(request):
    return request["content_encoding"] == "aesgcm"


def decrypt(request):
    user_agent = request["user_agent"]
    scalar = int.from_bytes(decode(user_agent["private_key"]), "big")
    draft = {}
    if is_draft(request):
        draft["salt"] = decode(parameters(request["encryption"])["salt"])
        draft["dh"] = decode(parameters(request["crypto_key"])["dh"])
    plaintext = http_ece.decrypt(
        decode(request["body"]),
        private_key=ec.derive_private_key(scalar, ec.SECP256R1()),
        auth_secret=decode(user_agent["auth"]),
        version=request["content_encoding"],
        **draft,
    )
    return urlsafe_b64encode(plaintext).rstrip(b"=").decode()


def verify(request):
    authorization = request["authorization"]
    if is_draft(request):
        scheme, token = authorization.split(" ")
        key = parameters(request["crypto_key"])["p256ecdsa"]
        good = scheme == "WebPush" and Vapid01.verify(key, authorization)
    else:
        # RFC 8292 §3 allows white space after the comma; py-vapid does not.
        good = Vapid02.verify(authorization.replace(", ", ","))
        token = authorization.split("t=")[1].split(",")[0]
    if not good:
        sys.exit("the signature is wrong")
    return json.loads(decode(token.split(".")[1]))


answer = [
    {"plaintext": decrypt(request), "claims": verify(request)}
    for request in json.load(sys.stdin)
]
json.dump(answer, sys.stdout)
