// Decrypts what pushrider encrypted with npm's http_ece, and verifies its VAPID header with node's
// own crypto. Reads one JSON document, writes another; any failure ends it.
"use strict";

const assert = require("node:assert");
const crypto = require("node:crypto");
const { readFileSync } = require("node:fs");
const ece = require("http_ece");

const input = JSON.parse(readFileSync(0, "utf8"));

function decrypt({ private_key, auth, body }) {
  const receiver = crypto.createECDH("prime256v1");
  receiver.setPrivateKey(private_key, "base64url");
  return ece
    .decrypt(Buffer.from(body, "base64url"), {
      version: "aes128gcm",
      privateKey: receiver,
      authSecret: auth,
    })
    .toString("base64url");
}

function verify(authorization) {
  const [, token, key] = /^vapid t=([\w.-]+), ?k=([\w-]+)$/.exec(authorization);
  const point = Buffer.from(key, "base64url");
  const jwk = {
    kty: "EC",
    crv: "P-256",
    x: point.subarray(1, 33).toString("base64url"),
    y: point.subarray(33, 65).toString("base64url"),
  };
  const [header, claims, signature] = token.split(".");
  const publicKey = crypto.createPublicKey({ key: jwk, format: "jwk" });
  const good = crypto.verify(
    "sha256",
    Buffer.from(`${header}.${claims}`),
    { key: publicKey, dsaEncoding: "ieee-p1363" },
    Buffer.from(signature, "base64url"),
  );
  assert(good, "the signature is wrong");
  assert.deepStrictEqual(JSON.parse(Buffer.from(header, "base64url")), { typ: "JWT", alg: "ES256" });
  return JSON.parse(Buffer.from(claims, "base64url"));
}

const plaintexts = input.cases.map(decrypt);
const claims = verify(input.authorization);
process.stdout.write(JSON.stringify({ plaintexts, claims }));
