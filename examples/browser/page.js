const [on, off, state, form, list] = ['on', 'off', 'state', 'form', 'list'].map((id) => document.getElementById(id));
// Always this URL: one with a version in it leaves the old worker to the pages that know it.
const registered = navigator.serviceWorker?.register('worker.js').then(() => navigator.serviceWorker.ready);

async function subscribe() {
  if (!('PushManager' in window)) throw new Error('There is no Web Push here. On iOS, add the page to the home screen.');
  if (await Notification.requestPermission() !== 'granted') throw new Error('Notifications are not permitted.');
  await renew(await registered);
  localStorage.setItem('subscribed', 'yes');
}

async function unsubscribe() {
  localStorage.removeItem('subscribed');
  const subscription = await (await registered)?.pushManager.getSubscription();
  if (!subscription) return;
  await subscription.unsubscribe();
  await request('DELETE', 'subscriptions', { endpoint: subscription.endpoint });
}

// On each load: browsers lose subscriptions, servers lose rows, keys change.
async function synchronize() {
  if (localStorage.getItem('subscribed') && Notification.permission === 'granted') await renew(await registered);
}

async function notify() {
  const { declarative, ...texts } = Object.fromEntries(new FormData(form));
  await request('POST', 'notifications', { ...texts, declarative: declarative === 'on' });
}

async function refresh() {
  const { subscriptions, notifications } = await request('GET', 'counts');
  state.textContent = `${localStorage.getItem('subscribed') ? 'Subscribed' : 'Not subscribed'}. Stored: ${subscriptions}.`;
  list.replaceChildren(...notifications.map(({ title, shown, recipients }) => {
    const item = document.createElement('li');
    item.textContent = `${title}: shown by ${shown} of ${recipients}`; // never innerHTML: anybody may write a title
    return item;
  }));
}

const run = (action) => action().then(refresh).catch((error) => { state.textContent = error.message; });
on.addEventListener('click', () => run(subscribe)); // browsers show the question only after a click
off.addEventListener('click', () => run(unsubscribe));
form.addEventListener('submit', (event) => { event.preventDefault(); run(notify); });
window.addEventListener('focus', () => run(async () => {}));
run(synchronize);
