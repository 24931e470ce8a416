//! One push, from its first header to its answer.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::DATE;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio::time::sleep;

use super::body::{self, ReplyBody};
use super::connection::Connection;
use super::dialect::{Dialect, ServiceAnswer, Taken};
use super::messages::{Message, Messages};
use super::push::{self, Body, Terms};
use super::refusal::Refusal;
use super::script::{self, Act, Answer, Script};
use super::stats::{Counters, Stats};
use super::subscribe::{SubscribeError, SubscribeRequest};
use super::subscriptions::{Subscription, SubscriptionJson, Subscriptions};
use super::vapid::{Credential, Verifier};
use crate::clock::{Clock as _, SystemClock};
use crate::origin::Service;

/// The push service: everything its connections share.
pub(crate) struct PushService {
    pub(crate) origins: Arc<[String]>,
    /// What each of them speaks as; the last one holds for the rest.
    pub(crate) services: Vec<Service>,
    /// How many seconds the clock of each of them is ahead of this machine's.
    pub(crate) clocks: Vec<i64>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) messages: Messages,
    pub(crate) counters: Counters,
    pub(crate) verifier: Verifier,
    pub(crate) latency: Duration,
    pub(crate) decrypt: bool,
    pub(crate) last_message: AtomicU64,
}

/// What is known of a push once it was held against the rules.
#[derive(Default)]
struct Receipt {
    ttl: u64,
    credential: Option<Arc<Credential>>,
    plaintext: Option<Vec<u8>>,
}

/// One request, and where it came in.
struct Arrival<'a> {
    id: u64,
    connection: &'a Connection,
    dialect: &'static Dialect,
    head: &'a Parts,
    body: &'a Body,
    now: SystemTime,
    /// What the service's own clock shows.
    service_time: SystemTime,
}

/// How a request is answered: what is done, and what is said if anything is.
struct Reply {
    answer: Arc<Answer>,
    service_answer: ServiceAnswer,
}

impl PushService {
    /// Answers one request; an error resets its stream.
    pub(crate) async fn respond(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> Result<Response<ReplyBody>, h2::Error> {
        let _in_flight = self.counters.in_flight.enter();
        let _stream = connection.enter(&self.counters);
        let (head, incoming) = request.into_parts();
        let body = body::read(incoming).await.ok_or(h2::Reason::CANCEL)?;
        let now = SystemClock.now().wall;
        let service_time = self.service_time(connection.origin, now);
        let arrival = Arrival {
            id: self.last_message.fetch_add(1, Ordering::Relaxed) + 1,
            connection,
            dialect: self.dialect(connection.origin),
            head: &head,
            body: &body,
            now,
            service_time,
        };
        let Reply {
            answer,
            mut service_answer,
        } = self.reply(&arrival);
        if service_time != now && !service_answer.headers.contains_key(DATE) {
            service_answer = service_answer.header("date", httpdate::fmt_http_date(service_time));
        }
        let delay = self.latency.saturating_add(answer.delay);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        match &answer.act {
            Act::Respond(script) => Ok(written(service_answer, script.filler, script.trickle)),
            Act::Reset(reason) => Err((*reason).into()),
            Act::Hang => pending().await,
            Act::GoAway => {
                connection.drain().await;
                Ok(written(service_answer, 0, None))
            }
            Act::GoAwayUnprocessed => connection.refuse().await,
            Act::Cut => connection.cut().await,
        }
    }

    /// Returns how the service at an origin speaks.
    fn dialect(&self, origin: usize) -> &'static Dialect {
        Dialect::of(self.speaks_as(origin))
    }

    /// Returns which service an origin speaks as.
    pub(crate) fn speaks_as(&self, origin: usize) -> Service {
        let last = self.services.last();
        let service = self.services.get(origin).or(last).copied();
        service.unwrap_or(Service::Other)
    }

    /// Returns what the clock of the service at an origin shows.
    fn service_time(&self, origin: usize, now: SystemTime) -> SystemTime {
        let ahead = self.clocks.get(origin).copied().unwrap_or_default();
        let distance = Duration::from_secs(ahead.unsigned_abs());
        let shown = if ahead < 0 {
            now.checked_sub(distance)
        } else {
            now.checked_add(distance)
        };
        shown.unwrap_or(now)
    }

    fn reply(&self, arrival: &Arrival<'_>) -> Reply {
        match self.find(arrival.connection.origin, arrival.head) {
            Ok(subscription) => self.receive(&subscription, arrival),
            Err(refusal) => {
                let service_answer = (arrival.dialect.refuse)(&refusal);
                let bare = || ServiceAnswer::new(refusal.status().as_u16());
                let reply = Reply {
                    answer: Arc::default(),
                    service_answer: service_answer.unwrap_or_else(bare),
                };
                self.count(&reply, false);
                reply
            }
        }
    }

    fn find(&self, origin: usize, head: &Parts) -> Result<Arc<Subscription>, Refusal> {
        let resource = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let subscription = self
            .subscriptions
            .at(origin, resource)
            .ok_or(Refusal::NotFound)?;
        if head.method == Method::POST {
            Ok(subscription)
        } else {
            Err(Refusal::Method)
        }
    }

    /// Holds a push against the rules, records it, and returns how it is answered.
    fn receive(&self, subscription: &Subscription, arrival: &Arrival<'_>) -> Reply {
        let origin = &self.origins[arrival.connection.origin];
        let terms = Terms {
            origin,
            bound: subscription.bound.as_ref(),
            verifier: &self.verifier,
            now: arrival.service_time,
        };
        let mut receipt = Receipt::default();
        let checked = self.check(&mut receipt, subscription, arrival, &terms);
        let refusal = checked.err();
        // What the service would take is taken, and recorded as wrong.
        let refused = refusal.as_ref().and_then(|it| refused(arrival.dialect, it));
        let reply = refused.unwrap_or_else(|| {
            let taken = Taken {
                origin,
                path: subscription.path(),
                id: arrival.id,
                ttl: receipt.ttl,
                now: arrival.service_time,
                body: arrival.body.kept(),
            };
            play(arrival.dialect, subscription.answer(), &taken)
        });
        let undecryptable = matches!(refusal, Some(Refusal::Decrypt(_)));
        self.count(&reply, undecryptable);
        if self.messages.wanted() {
            let mut message = message(subscription, arrival, receipt);
            message.error = refusal.map(|refusal| refusal.to_string());
            message.status = reply.status();
            message.fault = reply.answer.act.fault();
            let service = self.speaks_as(arrival.connection.origin);
            self.messages.record(message, service == Service::Mozilla);
        }
        reply
    }

    fn check(
        &self,
        receipt: &mut Receipt,
        subscription: &Subscription,
        arrival: &Arrival<'_>,
        terms: &Terms<'_>,
    ) -> Result<(), Refusal> {
        let headers = &arrival.head.headers;
        let head = push::check_head(headers, terms)?;
        arrival.dialect.demand(headers, &head)?;
        receipt.ttl = head.ttl;
        let credential = receipt.credential.insert(head.credential);
        let keys = self.decrypt.then_some(&subscription.keys);
        receipt.plaintext = push::check_body(headers, arrival.body, credential, keys)?;
        Ok(())
    }

    fn count(&self, reply: &Reply, undecryptable: bool) {
        self.counters
            .answered(reply.status(), reply.answer.act.fault(), undecryptable);
    }

    /// Creates a subscription.
    pub(crate) fn subscribe(
        &self,
        wish: SubscribeRequest,
    ) -> Result<SubscriptionJson, SubscribeError> {
        let dialect = self.dialect(wish.origin);
        self.subscriptions.add(wish, dialect)
    }

    /// Begins another script for a subscription, if there is one of that id.
    pub(crate) fn play(&self, id: &str, script: Script) -> Result<Option<()>, SubscribeError> {
        let Some(subscription) = self.subscriptions.named(id) else {
            return Ok(None);
        };
        self.dialect(subscription.origin()).check(&script)?;
        subscription.play(script);
        Ok(Some(()))
    }

    /// Returns the numbers so far.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            vapid_tokens: self.verifier.tokens(),
            subscriptions: self.subscriptions.count(),
            ..self.counters.stats(&self.origins)
        }
    }
}

impl Reply {
    /// Returns the status that will be sent, if one will.
    fn status(&self) -> Option<u16> {
        match self.answer.act {
            Act::Respond(_) | Act::GoAway => Some(self.service_answer.status.as_u16()),
            Act::Reset(_) | Act::Hang | Act::GoAwayUnprocessed | Act::Cut => None,
        }
    }
}

/// Puts the script's next answer in the service's words.
fn play(dialect: &Dialect, answer: Arc<Answer>, taken: &Taken<'_>) -> Reply {
    let service_answer = match &answer.act {
        Act::Respond(script) => dialect.say(script, taken),
        Act::Reset(_) | Act::Hang | Act::GoAway | Act::GoAwayUnprocessed | Act::Cut => {
            dialect.say(&script::Response::default(), taken)
        }
    };
    Reply {
        answer,
        service_answer,
    }
}

/// Refuses a push, unless the service would take it.
fn refused(dialect: &Dialect, refusal: &Refusal) -> Option<Reply> {
    (dialect.refuse)(refusal).map(|service_answer| Reply {
        answer: Arc::default(),
        service_answer,
    })
}

fn written(
    service_answer: ServiceAnswer,
    filler: u64,
    trickle: Option<Duration>,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::new(service_answer.body, filler, trickle));
    *response.status_mut() = service_answer.status;
    *response.headers_mut() = service_answer.headers;
    response
}

fn message(subscription: &Subscription, arrival: &Arrival<'_>, receipt: Receipt) -> Message {
    let head = arrival.head;
    let shown = |name| push::shown(&head.headers, name);
    let claimed = |credential: Arc<Credential>| (credential.claims.clone(), credential.key.clone());
    let (vapid, key) = receipt.credential.map(claimed).unzip();
    let text = receipt.plaintext.clone().map(String::from_utf8);
    let http2 = head.version == Version::HTTP_2;
    Message {
        id: arrival.id,
        subscription: Arc::clone(&subscription.id),
        received_at: arrival.now,
        http_version: if http2 { "HTTP/2" } else { "HTTP/1.1" },
        status: None,
        fault: None,
        error: None,
        ttl: shown("ttl"),
        urgency: shown("urgency"),
        topic: shown("topic"),
        content_encoding: shown("content-encoding"),
        body_length: arrival.body.length(),
        vapid,
        key,
        text: text.and_then(Result::ok),
        plaintext: receipt.plaintext,
    }
}
