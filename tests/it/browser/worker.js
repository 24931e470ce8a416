// Runs the service worker of examples/browser with stubs for what a browser gives it.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const vm = require('node:vm');

const folder = path.join(__dirname, '../../../examples/browser');
const code = (name) => new vm.Script(fs.readFileSync(path.join(folder, name), 'utf8'), { filename: name });
const [worker, renew] = ['worker.js', 'renew.js'].map(code);
const KEY = 'AAEC-_8';
const keyBytes = Uint8Array.from(Buffer.from(KEY, 'base64url')).buffer;

// A browser with the subscription `current`, and what the worker did to it.
function browser({ current = null, windows = [], answers = {} } = {}) {
  const did = { shown: [], fetched: [], subscribed: [], unsubscribed: [], opened: [], focused: [] };
  const listeners = {};
  const subscription = (endpoint, applicationServerKey) => ({
    endpoint, options: { applicationServerKey }, toJSON: () => ({ endpoint, keys: {} }),
    unsubscribe: async () => { did.unsubscribed.push(endpoint); current = null; return true; },
  });
  if (current) current = subscription(current.endpoint, current.key);
  const self = {
    location: new URL('http://localhost:8080/worker.js'),
    skipWaiting() {},
    addEventListener(type, listener) { listeners[type] = listener; },
    registration: {
      scope: 'http://localhost:8080/',
      async showNotification(title, options) { did.shown.push({ title: String(title), ...structuredClone(options) }); },
      pushManager: {
        getSubscription: async () => current,
        async subscribe(options) { did.subscribed.push({ ...options }); return (current = subscription('https://push.example/new', keyBytes)); },
      },
    },
    clients: {
      matchAll: async () => windows.map((url) => ({ url, async focus() { did.focused.push(url); } })),
      async openWindow(url) { did.opened.push(url); },
    },
  };
  async function fetch(url, { method, body }) {
    did.fetched.push({ url, method, ...(body && { body: JSON.parse(body) }) });
    const { status = 200, value = null } = answers[url] ?? (url === 'key' ? { value: KEY } : {});
    return { ok: status < 400, json: async () => value, text: async () => String(status) };
  }
  const context = vm.createContext({ self, fetch, URL, btoa, importScripts: () => renew.runInContext(context) });
  worker.runInContext(context);
  // Fires an event and waits for all that it was extended by.
  did.fire = async (type, event) => {
    const waits = [];
    listeners[type]({ ...event, waitUntil: (wait) => waits.push(wait) });
    assert.equal(waits.length, 1, `${type} calls waitUntil at once`);
    await Promise.all(waits);
  };
  return did;
}

const data = (text) => ({ text: () => text, json: () => JSON.parse(text) });

test('an ordinary payload is shown, and the receipt is posted after that', async () => {
  const did = browser();
  await did.fire('push', { data: data('{"title":"Shipped","body":"Today","tag":"t","navigate":"/x","data":{"receipt":"r"}}') });
  const [{ title, body, tag, data: kept }] = did.shown;
  assert.deepEqual([title, body, tag, kept], ['Shipped', 'Today', 't', { navigate: '/x' }]);
  assert.deepEqual(did.fetched, [{ url: 'receipts', method: 'POST', body: { receipt: 'r' } }]);
});

test('a declarative payload is shown', async () => {
  const did = browser();
  const notification = { title: 'Shipped', body: 'Today', navigate: 'http://localhost:8080/x', data: { receipt: 'r' } };
  await did.fire('push', { data: data(JSON.stringify({ web_push: 8030, notification })) });
  assert.deepEqual([did.shown[0].title, did.shown[0].data.navigate], ['Shipped', 'http://localhost:8080/x']);
  assert.equal(did.fetched.length, 1);
});

test('a declarative payload that the browser has read is shown', async () => {
  const did = browser();
  await did.fire('push', { data: null, notification: { title: 'Shipped', body: '', navigate: '/x', data: { receipt: 'r' } } });
  assert.deepEqual([did.shown[0].title, did.fetched.length], ['Shipped', 1]);
});

for (const text of ['{"title":', 'hello', '', 'null', '7', '"x"', '[]', '{}', '{"title":7,"body":{"toString":1}}', '{"data":7}',
  '{"web_push":8030}', '{"web_push":8030,"notification":7}', '{"title":"","icon":[],"data":{"receipt":{}}}']) {
  test(`one notification is shown for the payload ${text}`, async () => {
    const did = browser();
    await did.fire('push', { data: data(text) });
    assert.deepEqual([did.shown.length, did.fetched.length], [1, 0]);
    assert.equal(did.shown[0].title, 'News');
  });
}

test('one notification is shown for a push without a payload', async () => {
  const did = browser();
  await did.fire('push', { data: null });
  assert.equal(did.shown.length, 1);
});

test('a receipt that is refused changes nothing', async () => {
  const did = browser({ answers: { receipts: { status: 503 } } });
  await did.fire('push', { data: data('{"title":"Shipped","data":{"receipt":"r"}}') });
  assert.deepEqual([did.shown.length, did.fetched.length], [1, 1]);
});

test('a change with both sides null subscribes again', async () => {
  const did = browser();
  await did.fire('pushsubscriptionchange', { oldSubscription: null, newSubscription: null });
  assert.deepEqual(did.subscribed, [{ userVisibleOnly: true, applicationServerKey: KEY }]);
  assert.deepEqual(did.fetched[1].body, { subscription: { endpoint: 'https://push.example/new', keys: {} } });
});

test('a change that brings a new subscription stores it in place of the old one', async () => {
  const did = browser({ current: { endpoint: 'https://push.example/2', key: keyBytes } });
  await did.fire('pushsubscriptionchange', { oldSubscription: { endpoint: 'https://push.example/1' }, newSubscription: {} });
  assert.deepEqual(did.subscribed, []);
  const { subscription, previous } = did.fetched[1].body;
  assert.deepEqual([subscription.endpoint, previous], ['https://push.example/2', 'https://push.example/1']);
});

test('a subscription for another key is replaced', async () => {
  const did = browser({ current: { endpoint: 'https://push.example/1', key: new Uint8Array([4]).buffer } });
  await did.fire('pushsubscriptionchange', { oldSubscription: null, newSubscription: null });
  assert.deepEqual([did.unsubscribed, did.subscribed.length], [['https://push.example/1'], 1]);
  assert.equal(did.fetched[1].body.previous, 'https://push.example/1');
});

test('a key that does not come leaves the subscription alone', async () => {
  const did = browser({ current: { endpoint: 'https://push.example/1', key: null }, answers: { key: { status: 503 } } });
  await assert.rejects(did.fire('pushsubscriptionchange', {}));
  assert.deepEqual([did.unsubscribed, did.fetched.length], [[], 1]);
});

async function click(navigate, windows) {
  const did = browser({ windows });
  let closed = 0;
  await did.fire('notificationclick', { notification: { close: () => { closed += 1; }, data: navigate && { navigate } } });
  assert.equal(closed, 1);
  return { opened: did.opened, focused: did.focused };
}

test('a click focuses the window that shows the page', async () => {
  const windows = ['http://localhost:8080/', 'http://localhost:8080/x'];
  assert.deepEqual(await click('/x', windows), { opened: [], focused: ['http://localhost:8080/x'] });
});

test('a click opens the page if no window shows it', async () => {
  assert.deepEqual(await click('/x', ['http://localhost:8080/']), { opened: ['http://localhost:8080/x'], focused: [] });
  assert.deepEqual(await click(undefined, []), { opened: ['http://localhost:8080/'], focused: [] });
});

for (const navigate of ['https://evil.example/', 'javascript:alert(1)', '//evil.example/x', 'http://[']) {
  test(`a click does not leave the site for ${navigate}`, async () => {
    assert.deepEqual((await click(navigate, [])).opened, ['http://localhost:8080/']);
  });
}
