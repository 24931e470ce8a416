// The page and the service worker share this.

async function request(method, path, value) {
  const response = await fetch(path, { method, body: value && JSON.stringify(value) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function base64url(buffer) {
  const text = btoa(String.fromCharCode(...new Uint8Array(buffer)));
  return text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

// Stores the subscription that the browser has for the server's key; subscribes if it has none.
async function renew(registration, previous) {
  const applicationServerKey = await request('GET', 'key');
  let subscription = await registration.pushManager.getSubscription();
  if (subscription && base64url(subscription.options.applicationServerKey) !== applicationServerKey) {
    previous = subscription.endpoint;
    await subscription.unsubscribe(); // subscribe() fails while there is one for another key
    subscription = null;
  }
  subscription ??= await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
  await request('POST', 'subscriptions', { subscription, previous });
}
