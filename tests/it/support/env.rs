//! Everything a test of the whole needs: a virtual host, a sandbox, a daemon between them.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::types::FieldTable;
use pushrider::sandbox;
use pushrider::sandbox::{Message, Running, Script, SubscribeRequest, SubscriptionJson};
use serde_json::{Value, json};

use super::broker::Broker;
use super::daemon::Daemon;
use super::vhost::Vhost;
use super::{eventually, wanted};

/// The queue in which an environment gathers every result.
const RESULTS: &str = "test.results";

/// A virtual host, a sandbox and a daemon between them.
pub(crate) struct TestEnv {
    pub(crate) vhost: Vhost,
    pub(crate) sandbox: Running,
    pub(crate) daemon: Daemon,
    /// What the results queue has given so far.
    pub(crate) results: Vec<Value>,
}

impl TestEnv {
    /// Opens an environment on the shared broker, with a daemon that is ready.
    pub(crate) async fn open(more: &str) -> Self {
        Self::open_with(sandbox::Settings::default(), more).await
    }

    /// The same with a sandbox of one's own making.
    pub(crate) async fn open_with(settings: sandbox::Settings, more: &str) -> Self {
        let vhost = Broker::shared().vhost();
        let url = vhost.url();
        Self::open_at(vhost, &url, settings, more).await
    }

    /// The same on any broker, which the daemon reaches by `url`.
    pub(crate) async fn open_at(
        vhost: Vhost,
        url: &str,
        settings: sandbox::Settings,
        more: &str,
    ) -> Self {
        let sandbox = sandbox::start(settings).await.unwrap();
        let mut daemon = Daemon::new(url, &sandbox, more);
        daemon.start().await;
        vhost.queue(RESULTS, FieldTable::default()).await;
        vhost.bind(RESULTS, "webpush.results", "#").await;
        Self {
            vhost,
            sandbox,
            daemon,
            results: Vec::new(),
        }
    }

    /// Makes a subscription that answers as `answers` say, in JSON.
    pub(crate) fn subscribe(&self, answers: Value) -> SubscriptionJson {
        self.subscribe_at(0, answers)
    }

    /// The same at one of several origins.
    pub(crate) fn subscribe_at(&self, origin: usize, answers: Value) -> SubscriptionJson {
        let answer = Script::try_from(answers).unwrap();
        self.sandbox
            .subscribe(SubscribeRequest {
                answer,
                origin,
                ..SubscribeRequest::default()
            })
            .unwrap()
    }

    /// Publishes an event to the default lane.
    pub(crate) async fn publish(&self, event: &Value) {
        self.publish_bytes(event.to_string().as_bytes()).await;
    }

    /// Publishes any bytes.
    pub(crate) async fn publish_bytes(&self, body: &[u8]) {
        self.vhost
            .publish("webpush.events", "shop.default", body)
            .await;
    }

    /// Waits until the results queue has given `count` messages that `are` what is looked for.
    pub(crate) async fn gather(
        &mut self,
        count: usize,
        are: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let (vhost, results) = (&self.vhost, &mut self.results);
        eventually(Duration::from_secs(60), async || {
            for body in vhost.take_all(RESULTS).await {
                results.push(serde_json::from_slice(&body).unwrap());
            }
            let found: Vec<_> = results
                .iter()
                .filter(|result| are(result))
                .cloned()
                .collect();
            wanted(found, |found| found.len() >= count)
                .map_err(|found| format!("{} of {count}", found.len()))
        })
        .await
    }

    /// Waits for the delivery results of an event.
    pub(crate) async fn results_of(&mut self, event: &str, count: usize) -> Vec<Value> {
        let results = self
            .gather(count, |result| {
                is_delivery(result) && result["event_id"] == event
            })
            .await;
        assert_eq!(results.len(), count, "{results:#?}");
        results
    }

    /// Counts the delivery results of each event so far.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, usize> {
        let mut outcomes = BTreeMap::new();
        for result in self.results.iter().filter(|result| is_delivery(result)) {
            *outcomes.entry(result["event_id"].to_string()).or_default() += 1;
        }
        outcomes
    }

    /// Waits until the sandbox has kept `count` messages of a subscription.
    pub(crate) async fn arrived(&self, id: &str, count: usize) -> Vec<String> {
        eventually(Duration::from_secs(30), async || {
            let texts: Vec<_> = self
                .sandbox
                .messages(Some(id))
                .iter()
                .map(|it| text(it))
                .collect();
            wanted(texts, |texts| texts.len() >= count)
        })
        .await
    }

    /// Waits until nothing is left to do: every queue that is consumed is empty and settled.
    pub(crate) async fn settled(&self) {
        eventually(Duration::from_secs(30), async || {
            let open = self
                .daemon
                .metric("pushrider_deliveries_in_flight", "")
                .await;
            let mut ready = 0;
            for queue in ["webpush.lane.default", "webpush.due.default"] {
                ready += self.vhost.depth(queue).await;
            }
            wanted((open, ready), |it| *it == (0.0, 0))
        })
        .await;
    }
}

/// Tells a delivery result from summaries and subscription events.
pub(crate) fn is_delivery(result: &Value) -> bool {
    result.get("outcome").is_some()
}

/// Makes an event for one subscription.
pub(crate) fn event(id: &str, subscription: &SubscriptionJson, more: Value) -> Value {
    let mut event = json!({ "id": id, "subscription": subscription, "payload": "hello" });
    event
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event
}

fn text(message: &Message) -> String {
    message
        .text
        .clone()
        .or_else(|| message.error.clone())
        .unwrap_or_default()
}
