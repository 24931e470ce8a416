//! The messages of the quarantine queue, for an operator's commands.
//!
//! A message is taken unacknowledged and stays in the broker until it is acknowledged here; what is not
//! acknowledged goes back to its place when the channel closes, however the command ends. What can go
//! wrong here: an acknowledgement before the copy is confirmed would lose a message. So a message that is
//! published again is acknowledged last, and a command that is killed in between leaves both.

use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::time::timeout;

use crate::broker::answer::answered;
use crate::broker::command_client::{CommandClient, PublishError};
use crate::broker::connect::CLOSE_TIMEOUT;
use crate::broker::error::SessionError;
use crate::broker::{NeedsOperator, Settings};
use crate::message::Name;
use crate::wire::headers::delivery_count;
use crate::wire::quarantine;

/// A connection that takes messages out of the quarantine queue.
pub struct QuarantineClient {
    client: CommandClient,
    queue: ShortString,
    /// How the routing keys of due queues begin.
    due: ShortString,
}

/// A message of the quarantine queue that is not acknowledged.
#[derive(Debug)]
pub struct Quarantined {
    /// Its properties; the headers say why it is there.
    pub properties: BasicProperties,
    /// The body as its producer published it.
    pub body: Vec<u8>,
    /// How many messages were behind it in the queue.
    pub behind: u32,
    tag: u64,
}

impl Quarantined {
    /// Returns its headers.
    #[must_use]
    pub fn headers(&self) -> FieldTable {
        self.properties.headers().clone().unwrap_or_default()
    }

    /// Returns its `message_id`, which is the event's id in results.
    #[must_use]
    pub fn id(&self) -> &str {
        let id = self.properties.message_id().as_ref();
        id.map_or("", |id| id.as_str())
    }

    /// Returns the application that the event names, where it can be read.
    #[must_use]
    pub fn app(&self) -> Option<Name> {
        app_of(&self.body)
    }

    /// Returns how often it was taken and given back.
    #[must_use]
    pub fn reads(&self) -> u64 {
        let headers = self.properties.headers().as_ref();
        headers.and_then(delivery_count).unwrap_or_default()
    }
}

impl QuarantineClient {
    /// Connects.
    ///
    /// # Errors
    /// If there is no connection to the broker.
    pub async fn connect(settings: &Settings) -> Result<Self, NeedsOperator> {
        let client = CommandClient::connect(settings).await?;
        let (queue, due) = (client.name("quarantine"), client.name("due."));
        Ok(Self { client, queue, due })
    }

    /// Takes the next message that nobody holds, if there is one.
    ///
    /// # Errors
    /// If the queue is missing or may not be read, or the connection breaks.
    pub async fn take(&self) -> Result<Option<Quarantined>, NeedsOperator> {
        let options = BasicGetOptions { no_ack: false };
        let getting = self.client.channel().basic_get(self.queue.clone(), options);
        let got = answered("basic.get", getting).await.map_err(|error| {
            let object = format!("queue {}", self.queue);
            self.client
                .operator(&SessionError::Consume { object, error })
        })?;
        Ok(got.map(|message| Quarantined {
            behind: message.message_count,
            tag: message.delivery.delivery_tag,
            properties: message.delivery.properties,
            body: message.delivery.data,
        }))
    }

    /// Publishes an original again, waits for the confirm, and only then removes it. Returns its routing
    /// key.
    ///
    /// # Errors
    /// If the broker does not confirm it, or no queue takes it; it stays in quarantine.
    pub async fn replay(&self, message: &Quarantined) -> Result<String, PublishError> {
        let headers = message.headers();
        let key = routing_key(
            quarantine::routing_key(&headers),
            self.due.as_str(),
            &message.body,
        );
        let original = quarantine::original(&message.properties);
        self.client.publish(&key, original, &message.body).await?;
        self.remove(message).await?;
        Ok(key)
    }

    /// Removes a message.
    ///
    /// # Errors
    /// If the connection is lost; the message stays.
    pub async fn remove(&self, message: &Quarantined) -> Result<(), NeedsOperator> {
        let acknowledging = self
            .client
            .channel()
            .basic_ack(message.tag, BasicAckOptions::default());
        let lost = |error: lapin::Error| self.client.operator(&error.into());
        acknowledging.await.map(drop).map_err(lost)
    }

    /// Gives back what is not acknowledged, and closes the connection.
    pub async fn close(self) {
        // The broker answers when it has read every acknowledgement before.
        let closing = self.client.channel().close(200, ShortString::from("OK"));
        if let Ok(Err(error)) = timeout(CLOSE_TIMEOUT, closing).await {
            tracing::debug!(%error, "the channel was closed already");
        }
        self.client.close().await;
    }
}

/// Returns the routing key with which an original is published again.
///
/// What came from a due queue has the name of that queue for a routing key, which tells its lane. The
/// event names its application.
fn routing_key(before: Option<&str>, due: &str, body: &[u8]) -> String {
    let lane = match before {
        Some(key) => match key.strip_prefix(due) {
            Some(lane) => lane,
            None => return key.to_owned(),
        },
        None => "default",
    };
    let app = app_of(body);
    let app = app.as_ref().map_or("_unknown", Name::as_str);
    format!("{app}.{lane}")
}

fn app_of(body: &[u8]) -> Option<Name> {
    #[derive(serde::Deserialize)]
    struct Members {
        app: Option<String>,
    }
    let members: Members = serde_json::from_slice(body).ok()?;
    Name::parse(&members.app?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_original_goes_back_to_the_lane_it_came_from() {
        let event = br#"{"app":"shop"}"#;
        for (before, body, key) in [
            (Some("blog.high"), &event[..], "blog.high"),
            (Some("anything"), event, "anything"),
            (Some(""), event, ""),
            (Some("webpush.due.high"), event, "shop.high"),
            (Some("webpush.due.high"), b"?", "_unknown.high"),
            (None, event, "shop.default"),
            (None, br#"{"app":"A B"}"#, "_unknown.default"),
        ] {
            assert_eq!(routing_key(before, "webpush.due.", body), key);
        }
    }
}
