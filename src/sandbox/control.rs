//! The control listener: plain HTTP for the person or the test that runs the sandbox.
//!
//! Requests that a web page elsewhere may have caused are refused ([`same_host`](super::same_host)).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, put};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::messages::Message;
use super::page;
use super::same_host::{Foreign, Hosts};
use super::script::Script;
use super::service::PushService;
use super::stats::Stats;
use super::subscribe::{SubscribeError, SubscribeRequest};
use super::subscriptions::SubscriptionJson;

#[derive(Clone)]
struct Control {
    service: Arc<PushService>,
    ca: Arc<str>,
}

/// Creates the routes.
pub(crate) fn routes(
    service: Arc<PushService>,
    ca: Arc<str>,
    hosts: Hosts,
    stop: CancellationToken,
) -> Router {
    let page = page::routes(Arc::clone(&service), stop);
    Router::new()
        .route("/subscriptions", get(subscriptions).post(subscribe))
        .route("/subscriptions/{id}/answer", put(answer))
        .route("/messages", get(messages).delete(forget))
        .route("/stats", get(stats))
        .route("/ca.pem", get(certificate))
        .with_state(Control { service, ca })
        .merge(page)
        .layer(from_fn_with_state(Arc::new(hosts), guard))
}

/// Serves only requests for this listener, and keeps pages elsewhere from showing what it answers.
async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = match hosts.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(foreign) => Problem::from(foreign).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn subscribe(
    State(control): State<Control>,
    body: Bytes,
) -> Result<(StatusCode, Json<SubscriptionJson>), Problem> {
    let request = if body.is_empty() {
        SubscribeRequest::default()
    } else {
        parse(&body)?
    };
    let made = control.service.subscribe(request)?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn subscriptions(State(control): State<Control>) -> Json<Vec<SubscriptionJson>> {
    Json(control.service.subscriptions.all())
}

async fn answer(
    State(control): State<Control>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let script: Script = parse(&body)?;
    let played = control.service.play(&id, script)?;
    played.ok_or(Problem::unknown())?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    subscription: Option<String>,
}

async fn messages(
    State(control): State<Control>,
    Query(filter): Query<Filter>,
) -> Json<Vec<Arc<Message>>> {
    Json(control.service.messages.of(filter.subscription.as_deref()))
}

async fn forget(State(control): State<Control>) -> StatusCode {
    control.service.messages.clear();
    StatusCode::NO_CONTENT
}

async fn stats(State(control): State<Control>) -> Json<Stats> {
    Json(control.service.stats())
}

async fn certificate(State(control): State<Control>) -> Response {
    let kind = [(CONTENT_TYPE, "application/x-pem-file")];
    (kind, control.ca.to_string()).into_response()
}

/// Reads JSON whatever its `Content-Type`, as `curl -d` sends it.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem {
        status: StatusCode::BAD_REQUEST,
        sentence: error.to_string(),
    })
}

/// Why a request is not served.
struct Problem {
    status: StatusCode,
    sentence: String,
}

impl Problem {
    fn unknown() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            sentence: "there is no subscription of that id".to_owned(),
        }
    }
}

impl From<Foreign> for Problem {
    fn from(foreign: Foreign) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            sentence: foreign.to_string(),
        }
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        let status = match error {
            SubscribeError::Origin
            | SubscribeError::ApplicationServerKey
            | SubscribeError::Answer(_)
            | SubscribeError::Path => StatusCode::BAD_REQUEST,
            SubscribeError::Full => StatusCode::INSUFFICIENT_STORAGE,
            SubscribeError::Keys | SubscribeError::Write(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            sentence: error.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.sentence }))).into_response()
    }
}
