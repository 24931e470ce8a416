// Publishes one event, then prints results and dead subscriptions until it is stopped.
//
//     AMQP_URL=amqp://localhost node client.js shop < subscription.json
const fs = require('node:fs');
const { setTimeout: wait } = require('node:timers/promises');
const amqp = require('amqplib');

const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672';
const app = process.argv[2];

// A PushSubscription has getters and no properties: {...subscription} is empty. JSON.stringify calls its
// toJSON(), so store and send what that gives. A Date is written with its offset, as it must be.
function eventFor(subscription) {
  const expires_at = new Date(Date.now() + 3600_000);
  return { id: 'node-1', app, subscription, payload: { title: 'Grüße' }, expires_at };
}

// Resolves after the broker's confirm. An event that no queue takes is returned first.
function publish(channel, event) {
  const options = { persistent: true, mandatory: true, contentType: 'application/json' };
  return new Promise((resolve, reject) => {
    channel.once('return', () => reject(new Error('no queue takes the event; is the daemon set up?')));
    channel.publish('webpush.events', `${app}.default`, Buffer.from(JSON.stringify(event)), options,
      (error) => (error ? reject(error) : resolve()));
  }).finally(() => channel.removeAllListeners('return'));
}

function take(channel, delivery) {
  if (delivery === null) { channel.connection.close().catch(() => {}); return; } // the queue is gone
  const message = JSON.parse(delivery.content);
  if (message.change === 'gone') {
    // DELETE … WHERE endpoint = ? AND updated_at < ?
    console.log('gone', message.recipient.endpoint, message.sent_at);
  } else if (message.outcome) {
    console.log('result', message.event_id, message.outcome, message.reason);
  }
  channel.ack(delivery); // after the work is done
}

async function run(unpublished) {
  const connection = await amqp.connect(url);
  connection.on('error', (error) => console.error(error.message)); // 'close' follows
  const closed = new Promise((resolve) => connection.once('close', resolve));
  try {
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => connection.close().catch(() => {})); // an unheard 'error' ends the process
    await channel.prefetch(100);
    const { queue } = await channel.assertQueue(`${app}.results`, { arguments: { 'x-queue-type': 'quorum' } });
    await channel.bindQueue(queue, 'webpush.results', `delivery.${app}.#`);
    for (const name of [queue, 'webpush.dead-subscriptions']) await channel.consume(name, (it) => take(channel, it));
    for (; unpublished.length > 0; unpublished.shift()) await publish(channel, unpublished[0]);
    await closed;
  } finally {
    await connection.close().catch(() => {}); // it may be closed
  }
}

(async (unpublished) => {
  for (;; await wait(1000)) await run(unpublished).catch((error) => console.error(`connecting again: ${error.message}`));
})([eventFor(JSON.parse(fs.readFileSync(0, 'utf8')))]);
