//! One push, from its first header to its answer.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::sleep;

use super::body::{self, ReplyBody};
use super::listener::Connection;
use super::messages::{Message, Messages};
use super::push::{self, Body, Refusal, Terms};
use super::script::{self, Act, Answer};
use super::stats::{Counters, Stats};
use super::subscriptions::{Subscription, Subscriptions};
use super::vapid::{Credential, Verifier};
use crate::clock::{Clock as _, SystemClock};

/// The push service: everything its connections share.
pub(crate) struct PushService {
    pub(crate) origins: Arc<[String]>,
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
        let id = self.last_message.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, ttl) = match self.find(connection.origin, &head) {
            Ok(subscription) => self.receive(id, &subscription, connection, &head, &body, now),
            Err(refusal) => (self.refuse(&refusal), 0),
        };
        let delay = self.latency.saturating_add(answer.delay);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        match &answer.act {
            Act::Respond(response) => Ok(self.response(response, connection, id, ttl)),
            Act::Reset(reason) => Err((*reason).into()),
            Act::Hang => pending().await,
            Act::GoAway => {
                connection.drain().await;
                let created = script::Response::status(StatusCode::CREATED);
                Ok(self.response(&created, connection, id, ttl))
            }
            Act::GoAwayUnprocessed => connection.refuse().await,
            Act::Cut => connection.cut().await,
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

    /// Holds a push against the rules, records it, and tells how it is answered.
    fn receive(
        &self,
        id: u64,
        subscription: &Subscription,
        connection: &Connection,
        head: &Parts,
        body: &Body,
        now: SystemTime,
    ) -> (Arc<Answer>, u64) {
        let terms = Terms {
            origin: &self.origins[connection.origin],
            bound: subscription.bound.as_ref(),
            verifier: &self.verifier,
            now,
        };
        let mut receipt = Receipt::default();
        let checked = self.check(&mut receipt, subscription, &head.headers, body, &terms);
        let answer = match &checked {
            Ok(()) => {
                let answer = subscription.answer();
                self.counters
                    .answered(answer.act.status(), answer.act.fault(), false);
                answer
            }
            Err(refusal) => self.refuse(refusal),
        };
        let ttl = receipt.ttl;
        if self.messages.wanted() {
            let mut message = message(id, subscription, head, body, receipt, now);
            message.error = checked.err().map(|refusal| refusal.to_string());
            message.status = answer.act.status();
            message.fault = answer.act.fault();
            self.messages.record(message);
        }
        (answer, ttl)
    }

    fn check(
        &self,
        receipt: &mut Receipt,
        subscription: &Subscription,
        headers: &HeaderMap,
        body: &Body,
        terms: &Terms<'_>,
    ) -> Result<(), Refusal> {
        let head = push::check_head(headers, terms)?;
        receipt.ttl = head.ttl;
        let credential = receipt.credential.insert(head.credential);
        let keys = self.decrypt.then_some(&subscription.keys);
        receipt.plaintext = push::check_body(headers, body, credential, keys)?;
        Ok(())
    }

    fn refuse(&self, refusal: &Refusal) -> Arc<Answer> {
        let undecryptable = matches!(refusal, Refusal::Decrypt(_));
        self.counters
            .answered(Some(refusal.status().as_u16()), None, undecryptable);
        Arc::new(Answer::act(Act::Respond(refused(refusal))))
    }

    /// Makes the response; a 201 names the message and the TTL (RFC 8030 §5).
    fn response(
        &self,
        scripted: &script::Response,
        connection: &Connection,
        id: u64,
        ttl: u64,
    ) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::of(scripted));
        *response.status_mut() = scripted.status;
        let headers = response.headers_mut();
        if scripted.status == StatusCode::CREATED {
            let location = format!("{}/message/{id}", self.origins[connection.origin]);
            headers.extend(
                HeaderValue::try_from(location)
                    .ok()
                    .map(|value| (LOCATION, value)),
            );
            headers.insert(HeaderName::from_static("ttl"), HeaderValue::from(ttl));
        }
        for name in scripted.headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &scripted.headers {
            headers.append(name, value.clone());
        }
        response
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

fn refused(refusal: &Refusal) -> script::Response {
    let mut response = script::Response::status(refusal.status());
    response.body = format!("{refusal}\n").into();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers.insert(CONTENT_TYPE, plain);
    if *refusal == Refusal::Method {
        response
            .headers
            .insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn message(
    id: u64,
    subscription: &Subscription,
    head: &Parts,
    body: &Body,
    receipt: Receipt,
    now: SystemTime,
) -> Message {
    let shown = |name| push::shown(&head.headers, name);
    let claimed = |credential: Arc<Credential>| (credential.claims.clone(), credential.key.clone());
    let (vapid, key) = receipt.credential.map(claimed).unzip();
    let text = receipt.plaintext.clone().map(String::from_utf8);
    let http2 = head.version == Version::HTTP_2;
    Message {
        id,
        subscription: Arc::clone(&subscription.id),
        received_at: now,
        http_version: if http2 { "HTTP/2" } else { "HTTP/1.1" },
        status: None,
        fault: None,
        error: None,
        ttl: shown("ttl"),
        urgency: shown("urgency"),
        topic: shown("topic"),
        content_encoding: shown("content-encoding"),
        body_length: body.length(),
        vapid,
        key,
        text: text.and_then(Result::ok),
        plaintext: receipt.plaintext,
    }
}
