//! The page of the control listener: what arrives, as it arrives, and buttons for what `curl` can do.
//!
//! Payloads are hostile input: the page sets text and never markup, and its policy allows no script
//! but its own and no request but to the listener.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::dialect::Dialect;
use super::messages::{Message, Messages};
use super::service::PushService;
use super::subscriptions::SubscriptionJson;
use crate::origin::Service;

/// How many subscriptions the page shows.
const SUBSCRIPTIONS: usize = 50;

/// What the page may do: run its own script and ask this listener.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Clone)]
struct Page {
    service: Arc<PushService>,
    stop: CancellationToken,
}

/// Creates the routes.
pub(super) fn routes(service: Arc<PushService>, stop: CancellationToken) -> Router {
    let html = file("text/html; charset=utf-8", include_str!("page/index.html"));
    let css = file("text/css; charset=utf-8", include_str!("page/page.css"));
    let script = file(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    );
    Router::new()
        .route("/", get(html))
        .route("/page.css", get(css))
        .route("/page.js", get(script))
        .route("/page.json", get(overview))
        .route("/events", get(events))
        .with_state(Page { service, stop })
}

/// Serves a file that is part of the program.
fn file(kind: &'static str, text: &'static str) -> impl IntoResponse + Clone {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// What the page shows besides messages.
#[derive(Serialize)]
struct Overview {
    origins: Vec<OriginJson>,
    subscriptions: Vec<Shown>,
}

/// One origin, and the names of the answers that its service has.
#[derive(Serialize)]
struct OriginJson {
    origin: String,
    service: Service,
    answers: Vec<&'static str>,
}

/// One subscription, the number of its origin and its script, as far as it was written in JSON.
#[derive(Serialize)]
struct Shown {
    origin: usize,
    answer: Option<Arc<Value>>,
    subscription: SubscriptionJson,
}

async fn overview(State(page): State<Page>) -> Json<Overview> {
    let service = &page.service;
    let origins = service.origins.iter().enumerate().map(|(number, origin)| {
        let speaks_as = service.speaks_as(number);
        OriginJson {
            origin: origin.clone(),
            service: speaks_as,
            answers: Dialect::of(speaks_as).names(),
        }
    });
    let newest = service.subscriptions.newest(SUBSCRIPTIONS);
    let subscriptions = newest.iter().map(|one| Shown {
        origin: one.origin(),
        answer: one.script(),
        subscription: service.subscriptions.json(one),
    });
    Json(Overview {
        origins: origins.collect(),
        subscriptions: subscriptions.collect(),
    })
}

async fn events(State(page): State<Page>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = messages(&page.service.messages).map(|message| {
        let event = Event::default().json_data(&*message);
        Ok(event.unwrap_or_else(|error| Event::default().comment(error.to_string())))
    });
    let until_stopped = events.take_until(page.stop.cancelled_owned());
    Sse::new(until_stopped).keep_alive(KeepAlive::default())
}

/// Returns what is kept and then what arrives; one that arrives meanwhile may come twice.
///
/// The stream ends when a reader falls behind: it connects again, and begins with what is kept.
fn messages(messages: &Messages) -> impl Stream<Item = Arc<Message>> + use<> {
    let arrivals = messages.arrivals();
    let arriving = stream::unfold(arrivals, async |mut arrivals| {
        let message = arrivals.recv().await.ok()?;
        Some((message, arrivals))
    });
    stream::iter(messages.of(None)).chain(arriving)
}
