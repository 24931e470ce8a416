//! Sends one event without a broker, on the same path as the daemon's: planned, sent once, and classified.

use std::hash::{BuildHasher as _, RandomState};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;
use parking_lot::Mutex;

use crate::broker::{Inbound, Publication, Source};
use crate::message::Name;
use crate::metrics::Metrics;
use crate::outcome::{Answer, Attempt};
use crate::push_service::{Client, PushRequest, Transport};
use crate::retry;
use crate::retry::Policy;
use crate::sender::Encryption;
use crate::wire::Kind;
use crate::wire::headers::RetryHistory;

use super::{Failure, Settings, pipeline_of};

/// What became of an event that was sent once.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It ended: the body of its delivery result, in JSON.
    Ended(Bytes),
    /// Its end is open: the daemon would try it again later.
    Waits(Box<RetryHistory>),
    /// Nothing was published for it.
    Nothing,
}

/// One attempt, whose failure is final.
const ONCE: Policy = Policy {
    max_attempts: 1,
    base: Duration::from_secs(1),
    cap: Duration::from_secs(1),
    retry_after_cap: Duration::from_secs(1),
};

/// Sends one event to its one recipient, making one attempt.
///
/// # Errors
/// If the client for push services cannot be built, or the metrics cannot be registered.
pub(crate) async fn send_once(settings: &Settings, event: Bytes) -> Result<Sent, Failure> {
    let client = Client::new(&settings.push_service)?;
    process(settings, client, event).await
}

/// Makes the requests for one event and sends none. Returns them with what the event comes to if a push
/// service accepts each.
///
/// # Errors
/// If the metrics cannot be registered.
pub(crate) async fn request_only(
    settings: &Settings,
    event: Bytes,
) -> Result<(Vec<PushRequest>, Sent), Failure> {
    let recorder = Recorder::default();
    let sent = process(settings, recorder.clone(), event).await?;
    let requests = std::mem::take(&mut *recorder.0.lock());
    Ok((requests, sent))
}

async fn process<T: Transport>(
    settings: &Settings,
    transport: T,
    event: Bytes,
) -> Result<Sent, Failure> {
    let settings = Settings {
        retry: retry::Policies::from(ONCE),
        ..settings.clone()
    };
    let metrics = Arc::new(Metrics::new()?);
    let pipeline = pipeline_of(&settings, transport, Encryption::default(), &metrics);
    let Some(lane) = settings.broker.lanes.first() else {
        return Ok(Sent::Nothing);
    };
    let settled = pipeline.process(&inbound(lane.name.clone(), event)).await;
    Ok(sent(&settled.publications))
}

fn inbound(lane: Name, body: Bytes) -> Inbound {
    Inbound {
        lane,
        source: Source::Lane,
        routing_key: ShortString::default(),
        body,
        properties: BasicProperties::default().with_message_id(random_id()),
        unreadable: None,
        redelivered: false,
    }
}

/// Returns an id that no other event has: the keys of a `RandomState` are random.
fn random_id() -> ShortString {
    let drawn = RandomState::new().hash_one(process::id());
    format!("{drawn:016x}").into()
}

fn sent(publications: &[Publication]) -> Sent {
    let of = |kind: Kind| publications.iter().find(|it| it.kind == kind);
    match (of(Kind::Result), of(Kind::Retry)) {
        (Some(result), _) => Sent::Ended(result.body.clone()),
        (None, Some(retry)) => Sent::Waits(Box::new(RetryHistory::read(&retry.headers))),
        (None, None) => Sent::Nothing,
    }
}

/// Keeps requests in the place of sending them, and answers 201.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<PushRequest>>>);

impl Transport for Recorder {
    async fn post(&self, request: PushRequest, _deadline: Duration) -> Attempt {
        self.0.lock().push(request);
        Attempt::Answered(Answer {
            status: http::StatusCode::CREATED,
            headers: http::HeaderMap::new(),
            excerpt: Bytes::new(),
        })
    }
}
