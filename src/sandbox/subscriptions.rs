//! The subscriptions of the user agents that the sandbox stands in for.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::Value;

use super::decrypt::{POINT_LENGTH, ReceiverKeys};
use super::dialect::Dialect;
use super::script::{Answer, Playback, Script};
use super::store::{StateFile, Stored};
use super::subscribe::{SUBSCRIPTIONS_LIMIT, SubscribeError, SubscribeRequest};
use super::vapid::point;
use crate::subscription::encode_base64url;

/// What a browser's `PushSubscription.toJSON()` returns (W3C Push API), and our name for it.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriptionJson {
    /// The name of the subscription at the control listener.
    pub id: String,
    /// The URL of the push resource.
    pub endpoint: String,
    /// When it expires by itself: never.
    #[serde(rename = "expirationTime")]
    pub expiration_time: Option<u64>,
    /// What to encrypt with.
    pub keys: KeysJson,
}

/// The keys of a subscription, base64url without padding.
#[derive(Clone, Debug, Serialize)]
pub struct KeysJson {
    /// The user agent's public key, an uncompressed point.
    pub p256dh: String,
    /// The authentication secret.
    pub auth: String,
}

impl KeysJson {
    /// Encodes the public keys of a user agent.
    pub(crate) fn of(keys: &ReceiverKeys) -> Self {
        Self {
            p256dh: encode_base64url(keys.public()),
            auth: encode_base64url(keys.auth()),
        }
    }
}

/// One subscription, seen from the push service and the user agent at once.
pub(crate) struct Subscription {
    pub(crate) id: Arc<str>,
    pub(crate) bound: Option<[u8; POINT_LENGTH]>,
    pub(crate) keys: ReceiverKeys,
    origin: usize,
    path: String,
    playback: Mutex<Playback>,
}

impl Subscription {
    /// Returns the answer to the next push.
    pub(crate) fn answer(&self) -> Arc<Answer> {
        self.playback.lock().next()
    }

    /// Returns the path and query of its push resource.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns which of the origins it lives at.
    pub(crate) fn origin(&self) -> usize {
        self.origin
    }

    /// Returns the script as it was written in JSON, if it was.
    pub(crate) fn script(&self) -> Option<Arc<Value>> {
        self.playback.lock().written()
    }

    /// Returns its number, by which the newest is known.
    fn number(&self) -> u64 {
        number(&self.id).unwrap_or(0)
    }

    /// Begins another script.
    pub(crate) fn play(&self, script: Script) {
        *self.playback.lock() = Playback::new(script);
    }
}

/// All subscriptions, found by what a push names and by what a person names.
pub(crate) struct Subscriptions {
    origins: Arc<[String]>,
    book: RwLock<Book>,
    file: Option<StateFile>,
}

#[derive(Default)]
struct Book {
    /// By path and query, one map for each origin.
    by_path: Vec<HashMap<String, Arc<Subscription>>>,
    by_id: HashMap<Arc<str>, Arc<Subscription>>,
    last: u64,
}

impl Subscriptions {
    /// Starts with those of an earlier run, if there is a state directory.
    pub(crate) fn open(origins: Arc<[String]>, state: Option<&Path>) -> io::Result<Self> {
        let mut book = Book::default();
        book.by_path.resize_with(origins.len(), HashMap::new);
        let mut file = None;
        if let Some(directory) = state {
            let (opened, stored) = StateFile::open(&directory.join("subscriptions.jsonl"))?;
            for one in stored {
                book.restore(one).map_err(io::Error::other)?;
            }
            file = Some(opened);
        }
        Ok(Self {
            origins,
            book: RwLock::new(book),
            file,
        })
    }

    /// Creates a subscription at an imitated service.
    pub(crate) fn add(
        &self,
        request: SubscribeRequest,
        dialect: &Dialect,
    ) -> Result<SubscriptionJson, SubscribeError> {
        let origin = self
            .origins
            .get(request.origin)
            .ok_or(SubscribeError::Origin)?;
        dialect.check(&request.answer)?;
        let mut stored = Stored::make(&request, origin, dialect)?;
        let mut book = self.book.write();
        if book.by_id.len() >= SUBSCRIPTIONS_LIMIT {
            return Err(SubscribeError::Full);
        }
        let subscription = book.insert(stored.clone(), request.answer)?;
        drop(book);
        if let Some(file) = &self.file {
            stored.id = Some(subscription.id.to_string());
            file.append(&stored).map_err(SubscribeError::Write)?;
        }
        Ok(self.json(&subscription))
    }

    /// Finds the subscription of a push resource.
    pub(crate) fn at(&self, origin: usize, path_and_query: &str) -> Option<Arc<Subscription>> {
        self.book
            .read()
            .by_path
            .get(origin)?
            .get(path_and_query)
            .map(Arc::clone)
    }

    /// Finds a subscription by its name.
    pub(crate) fn named(&self, id: &str) -> Option<Arc<Subscription>> {
        self.book.read().by_id.get(id).map(Arc::clone)
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.book.read().by_id.len()
    }

    /// Returns all, in no order.
    pub(crate) fn all(&self) -> Vec<SubscriptionJson> {
        let book = self.book.read();
        book.by_id.values().map(|one| self.json(one)).collect()
    }

    /// Returns the last `count`, newest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<Arc<Subscription>> {
        let mut all: Vec<_> = self.book.read().by_id.values().cloned().collect();
        all.sort_unstable_by_key(|one| std::cmp::Reverse(one.number()));
        all.truncate(count);
        all
    }

    /// Describes a subscription as a browser does.
    pub(crate) fn json(&self, subscription: &Subscription) -> SubscriptionJson {
        SubscriptionJson {
            id: subscription.id.to_string(),
            endpoint: format!("{}{}", self.origins[subscription.origin], subscription.path),
            expiration_time: None,
            keys: KeysJson::of(&subscription.keys),
        }
    }
}

impl Book {
    /// Restores a subscription of an earlier run; one of an origin that is no longer listened on
    /// has no place to be.
    fn restore(&mut self, stored: Stored) -> Result<(), SubscribeError> {
        let number = stored.id.as_deref().and_then(number);
        self.last = self.last.max(number.unwrap_or(0));
        match self.insert(stored, Script::default()) {
            Ok(_) | Err(SubscribeError::Origin) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn insert(
        &mut self,
        stored: Stored,
        script: Script,
    ) -> Result<Arc<Subscription>, SubscribeError> {
        let keys = stored.keys().ok_or(SubscribeError::Keys)?;
        let bound = match &stored.application_server_key {
            Some(key) => Some(point(key).ok_or(SubscribeError::ApplicationServerKey)?),
            None => None,
        };
        let by_path = self
            .by_path
            .get_mut(stored.origin)
            .ok_or(SubscribeError::Origin)?;
        let id = stored.id.unwrap_or_else(|| {
            self.last += 1;
            format!("s{}", self.last)
        });
        let subscription = Arc::new(Subscription {
            id: id.into(),
            bound,
            keys,
            origin: stored.origin,
            path: stored.path,
            playback: Mutex::new(Playback::new(script)),
        });
        by_path.insert(subscription.path.clone(), Arc::clone(&subscription));
        self.by_id
            .insert(Arc::clone(&subscription.id), Arc::clone(&subscription));
        Ok(subscription)
    }
}

/// Reads the number in a subscription's name.
fn number(id: &str) -> Option<u64> {
    id.strip_prefix('s')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::origin::Service;

    fn origins() -> Arc<[String]> {
        [
            "https://a.example:1".to_owned(),
            "https://b.example".to_owned(),
        ]
        .into()
    }

    fn plain() -> &'static Dialect {
        Dialect::of(Service::Other)
    }

    fn book() -> Subscriptions {
        Subscriptions::open(origins(), None).unwrap()
    }

    fn path_of(endpoint: &str) -> String {
        Url::parse(endpoint).unwrap()[url::Position::BeforePath..].to_owned()
    }

    #[test]
    fn a_subscription_looks_like_a_browsers() {
        let made = book().add(SubscribeRequest::default(), plain()).unwrap();
        let json = serde_json::to_value(&made).unwrap();
        assert!(made.endpoint.starts_with("https://a.example:1/push/"));
        assert!(json["expirationTime"].is_null());
        assert_eq!(json["keys"]["p256dh"].as_str().unwrap().len(), 87);
        assert_eq!(json["keys"]["auth"].as_str().unwrap().len(), 22);
        assert_eq!(json.as_object().unwrap().len(), 4);
    }

    #[test]
    fn a_token_opens_one_path_at_one_origin() {
        let book = book();
        let request = SubscribeRequest {
            origin: 1,
            path: Some("/w/?token=BQ%2b{token}%3d".to_owned()),
            ..SubscribeRequest::default()
        };
        let made = book.add(request, plain()).unwrap();
        let path = path_of(&made.endpoint);
        assert_eq!(*book.at(1, &path).unwrap().id, *made.id);
        assert!(book.at(0, &path).is_none());
        assert!(book.at(1, &path.replace("%2b", "%2B")).is_none());
        assert!(book.at(1, "/push/").is_none());
        assert!(book.at(2, &path).is_none());
    }

    #[test]
    fn wishes_that_cannot_be_are_refused() {
        for json in [
            r#"{ "application_server_key": "BBBB" }"#,
            r#"{ "origin": 2 }"#,
            r#"{ "answer": { "answer": "dropped" } }"#,
            r#"{ "path": "/push" }"#,
            r#"{ "path": "push/{token}" }"#,
            r#"{ "path": "/a/../{token}" }"#,
            r#"{ "path": "/{token}#x" , "origin": 9 }"#,
        ] {
            let request: SubscribeRequest = serde_json::from_str(json).unwrap();
            assert!(book().add(request, plain()).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<SubscribeRequest>(r#"{ "answers": [] }"#).is_err());
    }

    #[test]
    fn subscriptions_outlive_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let open = || Subscriptions::open(origins(), Some(state.path())).unwrap();
        let first = open();
        let made = [
            first.add(SubscribeRequest::default(), plain()).unwrap(),
            first.add(SubscribeRequest::default(), plain()).unwrap(),
        ];
        drop(first);
        let again = open();
        for one in &made {
            let found = again.at(0, &path_of(&one.endpoint)).unwrap();
            assert_eq!(*found.id, *one.id);
            assert_eq!(encode_base64url(found.keys.public()), one.keys.p256dh);
        }
        assert_eq!(
            again.add(SubscribeRequest::default(), plain()).unwrap().id,
            "s3"
        );
        assert_eq!(open().count(), 3);
    }
}
