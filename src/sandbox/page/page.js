'use strict';

// Payloads are hostile: text goes into the page by textContent and value alone.

/** How many messages stay on the page. */
const SHOWN = 200;

/** What is known of origins and subscriptions, as /page.json gives it. */
let overview = { origins: [], subscriptions: [] };

/** The ids of the messages on the page. */
const seen = new Set();

const byId = (id) => document.getElementById(id);

/** Makes an element with a text, properties and children. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sends a request, and shows why it failed if it did. */
async function request(path, options) {
  let problem = '';
  try {
    const response = await fetch(path, options);
    if (response.ok) return response;
    problem = (await response.json()).error;
  } catch {
    problem = 'The sandbox does not answer.';
  } finally {
    byId('problem').textContent = problem;
  }
  return null;
}

/** What a subscription can be told to do, in the words of its service. */
function behaviours(origin) {
  const ask = (answer, status) => (origin.answers.includes(answer) ? { answer } : { status });
  return {
    accept: {},
    gone: origin.answers.includes('gone') ? { answer: 'gone' } : ask('not_found', 410),
    'throttle 30 s': { ...ask('throttled', 429), headers: { 'Retry-After': '30' } },
    'slow (5 s)': { delay: '5s' },
    down: ask('unavailable', 503),
  };
}

const serviceName = (origin) => (origin.service === 'other' ? 'a push service' : origin.service);

async function reload() {
  const response = await request('page.json');
  if (!response) return;
  overview = await response.json();
  const buttons = overview.origins.map((origin, number) => {
    const several = overview.origins.filter((other) => other.service === origin.service).length > 1;
    const where = several ? ` (${origin.origin})` : '';
    const button = element('button', { type: 'button', textContent: `Subscribe at ${serviceName(origin)}${where}` });
    button.addEventListener('click', () => subscribe(number));
    return button;
  });
  // Elements that are the same stay, so that the focus stays with them.
  if (buttons.length !== byId('origins').childElementCount) byId('origins').replaceChildren(...buttons);
  for (const card of [...byId('subscriptions').children]) {
    if (!overview.subscriptions.some((one) => card.dataset.endpoint === one.subscription.endpoint)) card.remove();
  }
  for (const one of [...overview.subscriptions].reverse()) showSubscription(one);
}

async function subscribe(origin) {
  const response = await request('subscriptions', { method: 'POST', body: JSON.stringify({ origin }) });
  if (!response) return;
  const { id } = await response.json();
  await reload();
  byId(`json-${id}`)?.focus();
}

/** Shows a subscription, or what it does if it is on the page. */
function showSubscription({ origin, answer, subscription }) {
  const { id, endpoint } = subscription;
  const choices = behaviours(overview.origins[origin]);
  const written = JSON.stringify(answer ?? {});
  const chosen = Object.keys(choices).find((name) => JSON.stringify(choices[name]) === written);
  let select = byId(`behaviour-${id}`);
  if (!select) {
    select = element('select', { id: `behaviour-${id}` });
    select.append(...Object.keys(choices).map((name) => element('option', { value: name, textContent: name })));
    select.append(element('option', { value: '', textContent: 'scripted', disabled: true }));
    select.addEventListener('change', () => {
      request(`subscriptions/${id}/answer`, { method: 'PUT', body: JSON.stringify(choices[select.value]) }).then(reload);
    });
    byId('subscriptions').prepend(subscriptionCard(id, origin, subscription, select));
    byId('subscriptions').firstChild.dataset.endpoint = endpoint;
  }
  select.value = chosen ?? '';
}

function subscriptionCard(id, origin, subscription, select) {
  const json = element('textarea', {
    id: `json-${id}`,
    readOnly: true,
    spellcheck: false,
    value: JSON.stringify(subscription, null, 1),
    ariaLabel: `Subscription ${id} as JSON`,
  });
  json.addEventListener('focus', () => json.select());
  const copy = element('button', { type: 'button', textContent: 'Copy', ariaLabel: `Copy subscription ${id}` });
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(json.value);
      copy.textContent = 'Copied';
    } catch {
      json.focus();
      copy.textContent = 'Selected; press Ctrl+C';
    }
  });
  const service = element('span', { className: 'quiet', textContent: serviceName(overview.origins[origin]) });
  const label = element('label', { htmlFor: select.id, textContent: 'Answers: ' });
  const heading = element('h3', { textContent: id });
  return element('li', { className: 'card' },
    element('div', { className: 'row' }, heading, service),
    json,
    element('div', { className: 'row' }, element('span', {}, label, select), copy));
}

/** Reads a declarative notification; none if it is not one. */
function declarative(text) {
  try {
    const read = JSON.parse(text);
    return read.web_push === 8030 && typeof read.notification?.title === 'string' ? read : null;
  } catch {
    return null;
  }
}

const text = (value) => (typeof value === 'string' ? value : JSON.stringify(value));

function notification({ notification: shown, app_badge: badge }) {
  const line = (name, value) => (value === undefined ? null
    : element('p', { className: 'quiet', textContent: `${name} ${text(value)}` }));
  const actions = Array.isArray(shown.actions) ? shown.actions : [];
  return element('article', { className: 'notification', ariaLabel: 'Declarative notification' },
    element('strong', { textContent: shown.title }),
    shown.body === undefined ? null : element('p', { textContent: text(shown.body) }),
    ...actions.map((action) => element('span', { className: 'action', textContent: text(action?.title ?? '') })),
    line('opens', shown.navigate),
    line('badge', shown.app_badge ?? badge));
}

function payload(message) {
  if (message.text !== null) {
    const raw = element('pre', { tabIndex: 0, textContent: message.text });
    const read = declarative(message.text);
    if (!read) return [raw];
    const source = element('details', {}, element('summary', { textContent: 'Payload' }), raw);
    return [notification(read), source];
  }
  if (message.plaintext !== null) {
    return [element('p', { textContent: 'The payload is not UTF-8; in base64url:' }),
      element('pre', { tabIndex: 0, textContent: message.plaintext })];
  }
  const nothing = message.content_encoding === null ? 'No payload.' : 'Not decrypted.';
  return [element('p', { className: 'quiet', textContent: nothing })];
}

/** The answer, as a text and whether it was a good one. */
function answered({ status, fault, error }) {
  const said = [status, fault].filter((part) => part !== null).join(' ');
  const taken = status !== null && status < 300;
  if (error === null) return [said, taken];
  return [`${said}, ${taken ? 'taken, though wrong' : 'refused'}: ${error}`, false];
}

function facts(message) {
  const { vapid } = message;
  const expires = vapid && new Date(vapid.exp * 1000);
  const shown = expires && !Number.isNaN(expires.getTime()) ? expires.toISOString() : vapid?.exp;
  const encoding = message.content_encoding && `${message.content_encoding}, ${message.body_length ?? 'too many'} bytes`;
  return {
    TTL: message.ttl,
    Urgency: message.urgency,
    Topic: message.topic,
    'Content-Encoding': encoding,
    VAPID: vapid ? 'verified' : 'not verified',
    aud: vapid && vapid.aud,
    exp: vapid && shown,
    sub: vapid && vapid.sub,
    key: message.key,
    HTTP: message.http_version.replace('HTTP/', ''),
  };
}

function showMessage(message) {
  if (seen.has(message.id)) return;
  seen.add(message.id);
  const [answer, good] = answered(message);
  const list = element('dl');
  for (const [name, value] of Object.entries(facts(message))) {
    if (value !== null && value !== undefined) {
      list.append(element('dt', { textContent: name }), element('dd', { textContent: String(value) }));
    }
  }
  const time = element('time', { className: 'quiet', dateTime: message.received_at });
  time.textContent = new Date(message.received_at).toLocaleTimeString();
  const heading = element('h3', {}, `${message.subscription} `,
    element('span', { className: good ? 'good' : 'bad', textContent: answer }));
  const card = element('li', { className: 'card' }, element('div', { className: 'row' }, heading, time));
  card.dataset.id = message.id;
  card.append(...payload(message), list);
  byId('messages').prepend(card);
  byId('empty').hidden = true;
  const last = byId('messages').children[SHOWN];
  if (last) {
    seen.delete(Number(last.dataset.id));
    last.remove();
  }
  if (!byId(`behaviour-${message.subscription}`)) reloadSoon();
}

/** Asks once for the subscriptions of many messages. */
function reloadSoon() {
  clearTimeout(reloadSoon.timer);
  reloadSoon.timer = setTimeout(reload, 200);
}

function clearMessages() {
  seen.clear();
  byId('messages').replaceChildren();
  byId('empty').hidden = false;
}

byId('forget').addEventListener('click', async () => {
  if (await request('messages', { method: 'DELETE' })) clearMessages();
});

const events = new EventSource('events');
events.addEventListener('open', () => {
  // The sandbox may have been started anew; what it keeps comes again.
  clearMessages();
  byId('connection').textContent = 'live';
  reload();
});
events.addEventListener('error', () => { byId('connection').textContent = 'not connected; tries again'; });
events.addEventListener('message', (event) => showMessage(JSON.parse(event.data)));
