// Sends one push with npm's web-push, signed with a key of its own making.
// Reads {subscription, payload, content_encoding}, writes {status, public_key, private_key}.
"use strict";

const { readFileSync } = require("node:fs");
const webPush = require("web-push");

const { subscription, payload, content_encoding } = JSON.parse(readFileSync(0, "utf8"));
const keys = webPush.generateVAPIDKeys();
const options = {
  vapidDetails: { subject: "mailto:push@example.net", ...keys },
  TTL: 60,
  urgency: "high",
  topic: "interop",
  contentEncoding: content_encoding,
};

webPush.sendNotification(subscription, payload, options).then(
  ({ statusCode }) => {
    const answer = { status: statusCode, public_key: keys.publicKey, private_key: keys.privateKey };
    process.stdout.write(JSON.stringify(answer));
  },
  (error) => {
    console.error(error.statusCode, error.body, error.message);
    process.exit(1);
  },
);
