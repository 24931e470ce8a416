//! Reading the stream of control messages.
//!
//! A stream keeps what was read, so every daemon reads all of it, from its beginning at the start and from
//! where it was after a lost connection. Nothing in the broker says where a stream ends at this moment, so
//! the daemon writes a *marker* into it: what comes before the marker was confirmed before the daemon
//! started. Other daemons skip it.
//!
//! What can go wrong here: a broker without streams, no permission, no stream. None of it keeps events
//! from being pushed; a warning says what is missing. Any other error ends the generation; where none of
//! several reached the marker, one goes without control messages.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer as Stream};
use tokio::select;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::broker::ControlSettings;
use crate::broker::answer::answered;
use crate::broker::budget::InHand;
use crate::broker::connect::{Link, open_channel};
use crate::broker::declare::declare;
use crate::broker::error::SessionError;
use crate::broker::object::{insert, number, text};
use crate::broker::publisher::open_publishing;
use crate::broker::reply::{NOT_FOUND, PRECONDITION_FAILED, reply_code, words};
use crate::broker::route::short;
use crate::broker::shared::Shared;
use crate::broker::topology::MARKER_KEY;
use crate::clock::{Clock, SystemClock};
use crate::control::Noted;
use crate::metrics::ControlRead;
use crate::wire::control;
use crate::wire::control::Command;

/// How many control messages the broker sends ahead of the acknowledgements: a stream demands a limit.
const PREFETCH: u16 = 200;

/// How many bytes of control messages may be in hand, whatever somebody publishes.
pub(super) const CONTROL_BYTES: u64 = 1 << 20;

/// How often what no longer holds is removed.
const REMOVE_AGED: Duration = Duration::from_secs(600);

/// A subscription to the stream.
pub(super) struct ControlLog {
    link: Arc<Link>,
    channel: Channel,
    stream: Stream,
}

impl ControlLog {
    /// Subscribes; `None` where the broker does not let this daemon read control messages.
    pub(super) async fn open(shared: &Shared, link: Link) -> Result<Option<Self>, SessionError> {
        if !shared.control.begin() {
            tracing::warn!(
                "control messages cannot be read, so nothing can be cancelled until the next connect: \
                 look at the stream on the broker"
            );
            link.close().await;
            return Ok(None);
        }
        match Self::subscribe(shared, &link).await {
            Ok((channel, stream)) => Ok(Some(Self {
                link: Arc::new(link),
                channel,
                stream,
            })),
            Err(error) if is_refusal(&error) => {
                tracing::warn!(
                    problem = error.to_string(),
                    "control messages are not read, so nothing can be cancelled: give the user its \
                     permissions (`pushrider topology show`), declare the stream (`pushrider topology \
                     declare`; RabbitMQ has streams from 3.9), or set broker.control = \"off\""
                );
                shared.control.succeed();
                link.close().await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn subscribe(shared: &Shared, link: &Link) -> Result<(Channel, Stream), SessionError> {
        let objects = shared.topology.control_objects();
        declare(&link.connection, objects, shared.settings.declare).await?;
        let channel = open_channel(&link.connection).await?;
        let options = BasicQosOptions { global: false };
        answered("basic.qos", channel.basic_qos(PREFETCH, options)).await?;
        let queue = shared.topology.routes().control_log();
        let offset = match shared.control.next.load(Ordering::Relaxed) {
            0 => text("first"),
            next => number(next),
        };
        let mut arguments = FieldTable::default();
        insert(&mut arguments, "x-stream-offset", offset);
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let consuming = channel.basic_consume(queue.clone(), tag, options, arguments);
        let stream = answered("basic.consume", consuming).await;
        let stream = stream.map_err(|error| SessionError::Consume {
            object: format!("queue {queue}"),
            error,
        })?;
        Ok((channel, stream))
    }

    /// Returns the connection.
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Reads control messages as long as the connection lives; cancels `read` when those from before are
    /// read.
    pub(super) async fn run(
        mut self,
        shared: Arc<Shared>,
        read: CancellationToken,
    ) -> Result<(), SessionError> {
        shared.metrics.control_read(true);
        let marker = format!("{:016x}", RandomState::new().hash_one(PREFETCH));
        let exchange = shared.topology.routes().control();
        let connection = &self.link.connection;
        let marking = async {
            let channel = open_publishing(connection).await?;
            mark(&channel, exchange, &marker).await
        };
        let mut marking = pin!(marking.fuse());
        let mut aged = interval(REMOVE_AGED);
        aged.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                message = self.stream.next() => {
                    let message = message.ok_or_else(|| SessionError::Cancelled {
                        object: format!("queue {}", shared.topology.routes().control_log()),
                    })??;
                    let _in_hand = InHand::new(&self.link.budget, message.data.len());
                    // What is not UTF-8 in its properties does not matter here.
                    self.link.found.take(self.channel.id(), message.delivery_tag);
                    if take(&shared, &message) == Some(&marker) {
                        shared.control.succeed();
                        read.cancel();
                    }
                    let options = BasicAckOptions { multiple: false };
                    self.channel.basic_ack(message.delivery_tag, options).await?;
                }
                marked = &mut marking => if let Err(error) = marked {
                    shared.control.succeed();
                    tracing::warn!(
                        problem = error.to_string(),
                        "the end of the control messages cannot be marked; `pushrider topology show` \
                         prints the permissions that the user needs"
                    );
                },
                _ = aged.tick() => {
                    show(&shared, shared.withdrawn.remove_aged(SystemClock.now().wall));
                }
            }
        }
    }
}

/// Writes a marker into the stream.
async fn mark(channel: &Channel, exchange: ShortString, marker: &str) -> Result<(), SessionError> {
    let now = SystemClock.now().wall.duration_since(UNIX_EPOCH);
    let properties = BasicProperties::default()
        .with_message_id(short(marker))
        .with_timestamp(now.unwrap_or_default().as_secs())
        .with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let publishing = channel.basic_publish(exchange, short(MARKER_KEY), options, b"", properties);
    let confirmed = publishing.await.map_err(SessionError::Publish)?;
    confirmed.await.map_err(SessionError::Publish)?;
    Ok(())
}

/// Notes what a message says; returns the name of a marker.
fn take<'a>(shared: &Shared, message: &'a Message) -> Option<&'a str> {
    let offset = offset_of(message);
    let is_after_gap = offset.is_some_and(|offset| shared.control.advance(offset));
    let key = message.routing_key.as_str();
    if key == MARKER_KEY {
        let since = message.properties.timestamp().map(Duration::from_secs);
        let at = since.and_then(|since| UNIX_EPOCH.checked_add(since));
        if let Some(at) = at.filter(|_| is_after_gap) {
            warn_of_gap(shared, offset, at);
        }
        let id = message.properties.message_id().as_ref();
        return id.map(|id| id.as_str());
    }
    match control::decode(key, &message.data) {
        Ok(control) => {
            let command = control.target.command();
            tracing::debug!(app = %control.app, command = command.name(), offset, "control message");
            shared.metrics.control_message(match command {
                Command::Cancel => ControlRead::Cancel,
                Command::Forget => ControlRead::Forget,
            });
            if is_after_gap {
                warn_of_gap(shared, offset, control.requested_at);
            }
            if let Some(ControlSettings { bounds, .. }) = shared.settings.control {
                let now = SystemClock.now().wall;
                show(shared, shared.withdrawn.note(control, bounds, now));
            }
        }
        Err(fault) => {
            shared.metrics.control_message(ControlRead::Malformed);
            let problem = fault.to_string();
            tracing::warn!(
                problem,
                offset,
                "a control message cannot be read, and is skipped"
            );
        }
    }
    None
}

/// Warns that the stream was too small for what stood before a message. What has had its time is not
/// missed.
fn warn_of_gap(shared: &Shared, offset: Option<u64>, written_at: SystemTime) {
    let age = SystemClock.now().wall.duration_since(written_at);
    let age = age.unwrap_or_default();
    if shared
        .settings
        .control
        .is_some_and(|it| age < it.bounds.retention)
    {
        tracing::warn!(
            offset,
            age_s = age.as_secs(),
            "the stream of control messages was full and has dropped the oldest, so what they cancelled \
             or forgot may be pushed: enlarge broker.control_size, and delete the stream so that it is \
             made anew"
        );
    }
}

fn show(shared: &Shared, Noted { kept, dropped }: Noted) {
    shared.metrics.control_kept(kept, dropped);
    if dropped > 0 && !shared.control.told_full.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            kept,
            "too much is cancelled and forgotten; what was asked for first is dropped, and may be \
             pushed: enlarge broker.control_targets, or cancel by group instead of by id"
        );
    }
}

fn offset_of(message: &Message) -> Option<u64> {
    let headers = message.properties.headers().as_ref()?;
    let offset = headers.inner().get("x-stream-offset")?;
    offset
        .as_long_long_int()
        .and_then(|offset| u64::try_from(offset).ok())
}

/// Returns whether the broker is well and refuses the stream: the codes of AMQP for what is not
/// permitted, not there, not as asked for, or not known at all.
fn is_refusal(error: &SessionError) -> bool {
    if is_of_this_node(error) {
        return false;
    }
    let (SessionError::Declare { error, .. } | SessionError::Consume { error, .. }) = error else {
        return false;
    };
    reply_code(error).is_some_and(|code| matches!(code, 403..=406 | 503 | 540))
}

/// Returns whether another node can serve the stream, or this one later: it has no replica, the one cause of
/// 406 for the arguments that `basic.consume` has here, or the replica is not up yet.
fn is_of_this_node(error: &SessionError) -> bool {
    let (SessionError::Declare { error: cause, .. } | SessionError::Consume { error: cause, .. }) =
        error
    else {
        return false;
    };
    let is_consumed = matches!(error, SessionError::Consume { .. });
    let is_down = || words(cause).is_some_and(|words| words.contains("is down or inaccessible"));
    match reply_code(cause) {
        Some(PRECONDITION_FAILED) => is_consumed,
        Some(NOT_FOUND) => is_down(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};

    use super::*;

    const NO_REPLICA: &str = "PRECONDITION_FAILED - queue 'webpush.control.log' does not have a replica on \
                              the local node";
    const DOWN: &str = "NOT_FOUND - home node 'rabbit@a' of durable queue 'webpush.control.log' in vhost '/' \
                        is down or inaccessible";
    const MISSING: &str = "NOT_FOUND - no queue 'webpush.control.log' in vhost '/'";

    fn refused(kind: AMQPSoftError, words: &str) -> lapin::Error {
        let error = AMQPError::new(AMQPErrorKind::Soft(kind), words.into());
        lapin::ErrorKind::ProtocolError(error).into()
    }

    #[test]
    fn a_node_that_cannot_serve_the_stream_yet_does_not_turn_cancelling_off() {
        for (kind, words, declaring, consuming) in [
            (AMQPSoftError::PRECONDITIONFAILED, NO_REPLICA, true, false),
            (AMQPSoftError::NOTFOUND, DOWN, false, false),
            (AMQPSoftError::NOTFOUND, MISSING, true, true),
            (AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED", true, true),
        ] {
            let [declare, consume] = [kind.clone(), kind].map(|kind| refused(kind, words));
            let (object, error) = ("queue webpush.control.log".to_owned(), declare);
            let declare = SessionError::Declare { object, error };
            assert_eq!(is_refusal(&declare), declaring, "{words}");
            let (object, error) = ("queue webpush.control.log".to_owned(), consume);
            let consume = SessionError::Consume { object, error };
            assert_eq!(is_refusal(&consume), consuming, "{words}");
        }
    }
}
