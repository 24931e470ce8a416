//! An answer as a push service gives it.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::status::StatusCode;
use serde_json::Value;

/// A status, headers and a body.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl ServiceAnswer {
    /// Creates an answer with a status and nothing else.
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header; what is no header's value is left out.
    pub(crate) fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Adds a plain text.
    pub(crate) fn text(self, text: impl Into<String>) -> Self {
        self.body("text/plain; charset=utf-8", text.into())
    }

    /// Adds a page.
    pub(crate) fn html(self, text: impl Into<String>) -> Self {
        self.body("text/html; charset=utf-8", text.into())
    }

    /// Adds JSON.
    pub(crate) fn json(self, json: &Value) -> Self {
        self.body("application/json", json.to_string())
    }

    fn body(mut self, kind: &'static str, body: String) -> Self {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        self.body = body.into();
        self
    }
}
