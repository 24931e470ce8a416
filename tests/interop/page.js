// Uses the sandbox's page in Chromium, as a developer does: subscribes, sees a push, makes the subscription gone.
// Arguments: the control listener, and optionally a folder for screenshots. AMQP_URL names the broker.
"use strict";

const assert = require("node:assert");
const amqp = require("amqplib");
const { chromium } = require("playwright-core");

const [control, screenshots] = process.argv.slice(2);
const ARGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking " +
  "--disable-component-update --disable-sync";
const HOSTILE = "<img src=x onerror=\"document.title='scripted'\">";

async function publish(channel, subscription, payload) {
  const event = Buffer.from(JSON.stringify({ subscription, payload, ttl: 600, urgency: "high" }));
  channel.publish("webpush.events", "shop.default", event, { persistent: true, mandatory: true });
  await channel.waitForConfirms();
}

async function shoot(page) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const [name, width, height] of [["wide", 1000, 640], ["phone", 390, 844]]) {
      await page.setViewportSize({ width, height });
      await page.screenshot({ path: `${screenshots}/${colorScheme}-${name}.png` });
    }
  }
}

async function use(page, channel) {
  const foreign = [];
  page.on("request", (request) => request.url().startsWith(control) || request.url().startsWith("data:")
    || foreign.push(request.url()));
  page.on("pageerror", (error) => foreign.push(String(error)));
  await page.goto(control);
  await page.getByRole("button", { name: "Subscribe at" }).focus();
  await page.keyboard.press("Enter");
  const json = await page.getByLabel("Subscription s1 as JSON").inputValue();
  const subscription = JSON.parse(json);

  await publish(channel, subscription, HOSTILE);
  await page.locator("#messages pre", { hasText: HOSTILE }).waitFor();
  const notification = { title: "Shipped", body: "Your order is on its way.", navigate: "https://shop.example/orders/1" };
  await publish(channel, subscription, { web_push: 8030, notification });
  await page.getByRole("article").getByText("Shipped", { exact: true }).waitFor();
  assert.match(await page.locator("#messages li").first().innerText(), /high[^]*verified/);
  assert.equal(await page.title(), "pushrider sandbox");

  const script = page.waitForResponse((response) => response.request().method() === "PUT");
  await page.getByLabel("Answers:").selectOption("gone");
  assert.equal((await script).status(), 204);
  await publish(channel, subscription, "after the end");
  await page.locator("#messages h3", { hasText: "410" }).waitFor();
  if (screenshots) await shoot(page);
  assert.deepEqual(foreign, []);
  return subscription;
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ARGS.split(" ") });
  try {
    const subscription = await use(await browser.newPage(), await connection.createConfirmChannel());
    console.log(subscription.endpoint);
  } finally {
    await browser.close();
    await connection.close();
  }
}

main();
