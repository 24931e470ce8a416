// Decrypts requests of pushrider with npm's http_ece, and verifies their VAPID tokens with node's own
// crypto. Reads a list in JSON, writes another; any failure ends it.
"use strict";

const assert = require("node:assert");
const crypto = require("node:crypto");
const { readFileSync } = require("node:fs");
const ece = require("http_ece");

// Of a header such as `dh=…;p256ecdsa=…`.
const parameter = (header, name) => new RegExp(`(?:^|;)${name}=([\\w-]+)(?:;|$)`).exec(header)[1];

function decrypt({ user_agent, content_encoding, encryption, crypto_key, body }) {
  const receiver = crypto.createECDH("prime256v1");
  receiver.setPrivateKey(user_agent.private_key, "base64url");
  const draft = () => ({
    salt: parameter(encryption, "salt"),
    dh: parameter(crypto_key, "dh"),
  });
  return ece
    .decrypt(Buffer.from(body, "base64url"), {
      version: content_encoding,
      privateKey: receiver,
      authSecret: user_agent.auth,
      ...(content_encoding === "aesgcm" && draft()),
    })
    .toString("base64url");
}

function credential({ content_encoding, authorization, crypto_key }) {
  if (content_encoding === "aesgcm") {
    const [, token] = /^WebPush ([\w.-]+)$/.exec(authorization);
    return [token, parameter(crypto_key, "p256ecdsa")];
  }
  assert.strictEqual(crypto_key, null);
  return /^vapid t=([\w.-]+), ?k=([\w-]+)$/.exec(authorization).slice(1);
}

function verify(request) {
  const [token, key] = credential(request);
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

const requests = JSON.parse(readFileSync(0, "utf8"));
const answer = requests.map((request) => ({
  plaintext: decrypt(request),
  claims: verify(request),
}));
process.stdout.write(JSON.stringify(answer));
