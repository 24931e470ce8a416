//! The last messages that arrived, and the subscribers to the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::sync::broadcast;

use super::vapid::Claims;
use crate::subscription::encode_base64url;

/// How many messages a listener may be behind before it loses the oldest.
const BACKLOG: usize = 4096;

/// One push as it came, and how it is answered.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Counts up from 1 over the sandbox's life; the end of `Location`.
    pub id: u64,
    /// The name of the subscription it was sent to.
    pub subscription: Arc<str>,
    /// When it had come whole.
    #[serde(serialize_with = "as_rfc3339")]
    pub received_at: SystemTime,
    /// `HTTP/2` or `HTTP/1.1`.
    pub http_version: &'static str,
    /// The status it is answered with; none when a fault takes the answer's place.
    pub status: Option<u16>,
    /// The fault by which it is answered.
    pub fault: Option<&'static str>,
    /// Why it was refused.
    pub error: Option<String>,
    /// `TTL`, as sent.
    pub ttl: Option<String>,
    /// `Urgency`, as sent.
    pub urgency: Option<String>,
    /// `Topic`, as sent.
    pub topic: Option<String>,
    /// `Content-Encoding`, as sent.
    pub content_encoding: Option<String>,
    /// The length of the encrypted body, in bytes; none when it was over the limit.
    pub body_length: Option<usize>,
    /// What the VAPID token claims, once its signature and claims are right.
    pub vapid: Option<Claims>,
    /// The VAPID public key, base64url.
    pub key: Option<String>,
    /// The plaintext, if it is UTF-8.
    pub text: Option<String>,
    /// The plaintext; base64url in JSON.
    #[serde(serialize_with = "as_base64url")]
    pub plaintext: Option<Vec<u8>>,
}

fn as_rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::try_from(*at) {
        Ok(at) => serializer.collect_str(&format_args!("{at:.3}")),
        Err(_) => serializer.serialize_none(),
    }
}

fn as_base64url<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(encode_base64url).serialize(serializer)
}

/// The last messages, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    keep: usize,
    kept: Mutex<VecDeque<Arc<Message>>>,
    arrivals: broadcast::Sender<Arc<Message>>,
}

impl Messages {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            keep,
            kept: Mutex::default(),
            arrivals: broadcast::Sender::new(BACKLOG),
        }
    }

    /// Returns whether anyone will see what is recorded.
    pub(crate) fn wanted(&self) -> bool {
        self.keep > 0 || self.arrivals.receiver_count() > 0
    }

    /// Records a message; `by_millisecond` loses the one of the same subscription and the same
    /// millisecond, as autopush does for a browser that is offline.
    pub(crate) fn record(&self, message: Message, by_millisecond: bool) {
        let message = Arc::new(message);
        if self.keep > 0 {
            let mut kept = self.kept.lock();
            if by_millisecond && let Some(at) = replaced(&kept, &message) {
                kept.remove(at);
            }
            if kept.len() == self.keep {
                kept.pop_front();
            }
            kept.push_back(Arc::clone(&message));
        }
        // Without a receiver there is no one to send to, which is no error.
        let _unheard = self.arrivals.send(message);
    }

    /// Returns what is kept, of one subscription or of all.
    pub(crate) fn of(&self, subscription: Option<&str>) -> Vec<Arc<Message>> {
        let wanted =
            |message: &&Arc<Message>| subscription.is_none_or(|id| *message.subscription == *id);
        self.kept.lock().iter().filter(wanted).cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.kept.lock().clear();
    }

    pub(crate) fn arrivals(&self) -> broadcast::Receiver<Arc<Message>> {
        self.arrivals.subscribe()
    }
}

/// Finds the message whose place in autopush's storage `message` takes: the user, the subscription
/// and the millisecond are the key of one without a topic (autopush-rs,
/// `autopush-common/src/notification.rs`, `chidmessageid`).
fn replaced(kept: &VecDeque<Arc<Message>>, message: &Message) -> Option<usize> {
    let is_stored = |it: &Message| it.topic.is_none() && it.status == Some(201);
    let millisecond = |it: &Message| {
        let since = it.received_at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_millis()
    };
    if !is_stored(message) {
        return None;
    }
    kept.iter().rposition(|it| {
        it.subscription == message.subscription
            && is_stored(it)
            && millisecond(it) == millisecond(message)
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn message(id: u64, subscription: &str) -> Message {
        Message {
            id,
            subscription: subscription.into(),
            received_at: UNIX_EPOCH + Duration::from_millis(1_500),
            http_version: "HTTP/2",
            status: Some(201),
            fault: None,
            error: None,
            ttl: Some("60".to_owned()),
            urgency: None,
            topic: None,
            content_encoding: None,
            body_length: Some(0),
            vapid: None,
            key: None,
            text: None,
            plaintext: Some(vec![0xff, 0xfe]),
        }
    }

    #[test]
    fn only_the_last_are_kept() {
        let messages = Messages::new(3);
        for id in 1..=5 {
            messages.record(message(id, if id % 2 == 0 { "even" } else { "odd" }), false);
        }
        let ids = |of: Option<&str>| messages.of(of).iter().map(|m| m.id).collect::<Vec<_>>();
        assert_eq!(ids(None), [3, 4, 5]);
        assert_eq!(ids(Some("odd")), [3, 5]);
        assert_eq!(ids(Some("none")), [0; 0]);
        messages.clear();
        assert_eq!(ids(None), [0; 0]);
    }

    #[test]
    fn a_message_of_the_same_millisecond_replaces_the_one_before() {
        let messages = Messages::new(10);
        let later = |id| Message {
            received_at: UNIX_EPOCH + Duration::from_millis(1_501),
            ..message(id, "s1")
        };
        let topic = Message {
            topic: Some("news".to_owned()),
            ..message(5, "s1")
        };
        let refused = Message {
            status: Some(503),
            ..message(6, "s1")
        };
        let others = [message(3, "s2"), later(4), topic, refused];
        for message in [message(1, "s1"), message(2, "s1")]
            .into_iter()
            .chain(others)
        {
            messages.record(message, true);
        }
        let ids: Vec<_> = messages.of(None).iter().map(|it| it.id).collect();
        assert_eq!(ids, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn nothing_is_wanted_when_nothing_is_kept_and_nobody_listens() {
        let messages = Messages::new(0);
        assert!(!messages.wanted());
        let mut arrivals = messages.arrivals();
        assert!(messages.wanted());
        messages.record(message(1, "s1"), false);
        assert_eq!(arrivals.try_recv().unwrap().id, 1);
        assert!(messages.of(None).is_empty());
    }

    #[test]
    fn a_message_is_told_in_text_a_person_can_read() {
        let json = serde_json::to_value(message(1, "s1")).unwrap();
        assert_eq!(json["received_at"], "1970-01-01T00:00:01.500Z");
        assert_eq!(json["plaintext"], "__4");
        assert!(json["text"].is_null());
    }
}
