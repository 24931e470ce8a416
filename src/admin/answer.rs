//! What the admin listener answers: a function of the request, the time and the shared state.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL,
    CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::health::Health;
use crate::message::Name;
use crate::metrics::Metrics;
use crate::subscription::encode_base64url;

/// The public half of an application server key, as a page needs it to subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplicationServerKey {
    /// The application it signs for.
    pub app: Name,
    /// Its name in results (`vapid_key`).
    pub key_id: Name,
    /// The uncompressed point: `applicationServerKey` of the Push API.
    pub point: [u8; 65],
}

/// What the answers are made from.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) keys: watch::Receiver<Vec<ApplicationServerKey>>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Answers {
    /// Answers a request without reading its body.
    pub(super) fn answer<B>(&self, request: &Request<B>, now: Instant) -> Response<Body> {
        let path = request.uri().path();
        if let Some(app) = app_of(path) {
            return with_cors(match *request.method() {
                Method::OPTIONS => preflight(),
                Method::GET | Method::HEAD => self.key(app, request.headers()),
                _ => method_not_allowed("GET, HEAD, OPTIONS"),
            });
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD");
        }
        match path {
            "/metrics" => self.metrics(),
            "/livez" => self.livez(now),
            "/readyz" => self.readyz(now),
            _ => respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "Nothing is here. There are /metrics, /livez, /readyz and \
                 /apps/APP/application-server-key.\n",
            ),
        }
    }

    fn metrics(&self) -> Response<Body> {
        match self.metrics.render() {
            Ok(text) => respond(StatusCode::OK, METRICS, text),
            Err(error) => respond(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                format!("The metrics cannot be written: {error}.\n"),
            ),
        }
    }

    fn livez(&self, now: Instant) -> Response<Body> {
        if self.health.is_alive(now) {
            respond(StatusCode::OK, TEXT, "ok\n")
        } else {
            respond(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "The pipeline shows no sign of life.\n",
            )
        }
    }

    fn readyz(&self, now: Instant) -> Response<Body> {
        let report = self.health.report(now);
        let mut text = String::new();
        for check in &report.checks {
            // Writing to a String cannot fail.
            let problem = check.problem.as_deref().unwrap_or("ok");
            let _ = writeln!(text, "{}: {problem}", check.name);
        }
        let status = if report.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        respond(status, TEXT, text)
    }

    fn key(&self, app: &str, headers: &HeaderMap) -> Response<Body> {
        let keys = self.keys.borrow();
        let Some(key) = keys.iter().find(|key| key.app.as_str() == app) else {
            return respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "No app of this name is configured.\n",
            );
        };
        let public_key = encode_base64url(&key.point);
        match Form::wanted(headers) {
            Form::Raw => respond(
                StatusCode::OK,
                "application/octet-stream",
                key.point.to_vec(),
            ),
            Form::Text => respond(StatusCode::OK, TEXT, public_key),
            Form::Json => {
                let body = json!({ "key_id": key.key_id, "public_key": public_key });
                respond(StatusCode::OK, "application/json", body.to_string())
            }
        }
    }
}

/// Returns APP of `/apps/APP/application-server-key`.
fn app_of(path: &str) -> Option<&str> {
    path.strip_prefix("/apps/")?
        .strip_suffix("/application-server-key")
}

/// The forms a public key is served in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Raw,
    Text,
}

impl Form {
    /// Returns the first form that `Accept` names; weights are ignored.
    fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        accept
            .unwrap_or_default()
            .split(',')
            .find_map(|range| match range.split(';').next()?.trim() {
                "application/json" => Some(Self::Json),
                "application/octet-stream" => Some(Self::Raw),
                "text/plain" => Some(Self::Text),
                _ => None,
            })
            .unwrap_or(Self::Json)
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, kind);
    set(&mut response, CACHE_CONTROL, "no-store");
    response
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = respond(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        format!("This can only be asked with {allowed}.\n"),
    );
    set(&mut response, ALLOW, allowed);
    response
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD");
    response
}

/// Allows pages of any origin to read the answer: the key is public.
fn with_cors(mut response: Response<Body>) -> Response<Body> {
    set(&mut response, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(&mut response, VARY, "Accept");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::health::{BrokerState, HEARTBEAT_LIMIT};
    use crate::message::Name;

    const POINT: [u8; 65] = [4; 65];

    fn answers() -> (Answers, Instant) {
        let now = SystemClock.now().mono;
        let key = ApplicationServerKey {
            app: Name::parse("shop").unwrap(),
            key_id: Name::parse("2026").unwrap(),
            point: POINT,
        };
        let answers = Answers {
            metrics: Arc::new(Metrics::new().unwrap()),
            health: Arc::new(Health::new(now)),
            keys: watch::Sender::new(vec![key]).subscribe(),
        };
        (answers, now)
    }

    async fn ask(
        answers: &Answers,
        now: Instant,
        method: &str,
        path: &str,
        accept: &str,
    ) -> (Response<()>, Vec<u8>) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(ACCEPT, accept).body(()).unwrap();
        let (parts, body) = answers.answer(&request, now).into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (Response::from_parts(parts, ()), body.to_vec())
    }

    #[tokio::test]
    async fn the_public_key_comes_in_three_forms_and_pages_of_any_origin_may_read_it() {
        let (answers, now) = answers();
        let path = "/apps/shop/application-server-key";
        let text = encode_base64url(&POINT).into_bytes();
        let json = format!(
            r#"{{"key_id":"2026","public_key":"{}"}}"#,
            encode_base64url(&POINT)
        );
        for (accept, expected) in [
            ("*/*", json.as_bytes()),
            ("application/json", json.as_bytes()),
            ("text/html, application/xhtml+xml", json.as_bytes()),
            ("application/octet-stream", &POINT),
            ("text/plain;q=0.9, application/json", &text),
        ] {
            let (head, body) = ask(&answers, now, "GET", path, accept).await;
            assert_eq!((head.status().as_u16(), body.as_slice()), (200, expected));
            assert_eq!(head.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        }
        let (head, body) = ask(&answers, now, "OPTIONS", path, "*/*").await;
        assert_eq!((head.status().as_u16(), body.len()), (204, 0));
        assert_eq!(head.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(head.headers()[ACCESS_CONTROL_ALLOW_METHODS], "GET, HEAD");
    }

    #[tokio::test]
    async fn only_the_public_key_is_open_to_pages_and_only_reading_is_allowed() {
        let (answers, now) = answers();
        for (method, path, status) in [
            ("GET", "/metrics", 200),
            ("HEAD", "/livez", 200),
            ("OPTIONS", "/metrics", 405),
            ("POST", "/readyz", 405),
            ("GET", "/", 404),
            ("GET", "/apps/shop", 404),
            ("GET", "/apps//application-server-key", 404),
            ("GET", "/apps/other/application-server-key", 404),
            ("PUT", "/apps/shop/application-server-key", 405),
        ] {
            let (head, body) = ask(&answers, now, method, path, "*/*").await;
            assert_eq!(head.status().as_u16(), status, "{method} {path}");
            let open = head.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(open, app_of(path).is_some(), "{method} {path}");
            assert_eq!(head.headers().contains_key(ALLOW), status == 405);
            assert!(!body.is_empty(), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let (answers, now) = answers();
        let (head, body) = ask(&answers, now, "GET", "/metrics?x=1", "*/*").await;
        assert_eq!(head.headers()[CONTENT_TYPE], METRICS);
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("# TYPE pushrider_messages_total counter"));
    }

    #[tokio::test]
    async fn health_names_every_check_and_a_missing_broker_is_not_death() {
        let (answers, now) = answers();
        let (head, body) = ask(&answers, now, "GET", "/readyz", "*/*").await;
        assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);
        let expected = "pipeline: ok\nbroker: not connected\nconsumer: not consuming\n\
                        publisher: not connected\ndrain: ok\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        let (head, _) = ask(&answers, now, "GET", "/livez", "*/*").await;
        assert_eq!(head.status(), StatusCode::OK);

        answers.health.set_broker(BrokerState {
            connected: true,
            lanes: 1,
            blocked: false,
            problem: None,
        });
        let (head, body) = ask(&answers, now, "GET", "/readyz", "*/*").await;
        assert_eq!(head.status(), StatusCode::OK);
        let expected = "pipeline: ok\nbroker: ok\nconsumer: ok\npublisher: ok\ndrain: ok\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);

        let stuck = now + HEARTBEAT_LIMIT * 2;
        let (head, _) = ask(&answers, stuck, "GET", "/livez", "*/*").await;
        assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
