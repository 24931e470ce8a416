// The service worker. Keep its URL and its scope: another scope is another registration, with a subscription of its own.
importScripts('renew.js');

self.addEventListener('install', () => self.skipWaiting());

// waitUntil keeps the worker alive until the notification is shown. A push that shows none costs the permission.
self.addEventListener('push', (event) => event.waitUntil(show(event)));

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.navigate));
});

// Both sides of the event may be null. If the browser subscribed already, getSubscription() has the new one.
self.addEventListener('pushsubscriptionchange', (event) =>
  event.waitUntil(renew(self.registration, event.oldSubscription?.endpoint)));

async function show(event) {
  const { title, body, tag, lang, icon, navigate, data } = read(event);
  const options = { body: text(body), tag: text(tag), lang: text(lang), icon: text(icon), data: { navigate: text(navigate) } };
  await self.registration.showNotification(text(title) || 'News', options);
  const receipt = text(data?.receipt);
  if (receipt) await request('POST', 'receipts', { receipt }).catch(() => {}); // shown is shown, counted or not
}

// Reads a declarative message or any other JSON object. A browser that knows declarative messages has read its own.
function read(event) {
  if (event.notification) return event.notification;
  try {
    const message = event.data?.json();
    return (message?.web_push === 8030 ? message.notification : message) ?? {};
  } catch {
    return { body: event.data.text() };
  }
}

// An object with a toString of its own would make showNotification throw.
function text(value) {
  return typeof value === 'string' ? value : undefined;
}

async function open(navigate = '') {
  const scope = self.registration.scope;
  const parsed = URL.canParse(navigate, scope) ? new URL(navigate, scope) : null;
  const url = parsed?.origin === self.location.origin ? parsed.href : scope;
  const windows = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const found = windows.find((it) => it.url === url);
  return found ? found.focus() : self.clients.openWindow(url);
}
