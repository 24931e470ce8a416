//! What an answer says besides its status: its body, read leniently, and its headers.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use serde_json::Value;

use super::retry_after;
use crate::outcome::Answer;

/// How much of a body is looked at.
const BODY_LIMIT: usize = 4096;

/// The longest name that a service may give an exchange: a UUID, and some more.
const IDENTIFIER_LIMIT: usize = 64;

/// An answer whose body has been looked at.
pub(super) struct AnswerView<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The response headers.
    pub(super) headers: &'a HeaderMap,
    /// The beginning of the body.
    pub(super) body: &'a [u8],
    json: OnceCell<Option<Value>>,
}

impl<'a> AnswerView<'a> {
    /// Looks at an answer; a body that is not JSON is text.
    pub(super) fn new(answer: &'a Answer) -> Self {
        Self {
            status: answer.status.as_u16(),
            headers: &answer.headers,
            body: &answer.excerpt[..answer.excerpt.len().min(BODY_LIMIT)],
            json: OnceCell::new(),
        }
    }

    /// Returns whether the service has taken the message.
    pub(super) fn is_taken(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns a member of the body, if the body is a JSON object that has it.
    pub(super) fn member(&self, name: &str) -> Option<&Value> {
        let json = || serde_json::from_slice(self.body).ok();
        self.json.get_or_init(json).as_ref()?.get(name)
    }

    /// Returns a member of the body that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }

    /// Returns a member of the body that is a number, or the digits of one.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let member = self.member(name)?;
        member.as_u64().or_else(|| member.as_str()?.parse().ok())
    }

    /// Returns a header's value. Bytes that are not UTF-8 are read as ISO-8859-1, which HTTP once said
    /// they were (RFC 9110 §5.5).
    pub(super) fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        let bytes = self.headers.get(name)?.as_bytes();
        let latin = |_| Cow::Owned(bytes.iter().copied().map(char::from).collect());
        Some(str::from_utf8(bytes).map_or_else(latin, Cow::Borrowed))
    }

    /// Returns the service's name for the exchange, by which it can be asked about it.
    pub(super) fn identifier(&self, name: &str) -> Option<Box<str>> {
        let value = self.header(name)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=IDENTIFIER_LIMIT).contains(&value.len()) && value.bytes().all(plain);
        fits.then(|| format!("{name}: {value}").into())
    }

    /// Returns whether the body holds `marker`, in whatever case.
    pub(super) fn holds(&self, marker: &str) -> bool {
        holds(self.body, marker)
    }

    /// Returns how long the service asks to be left alone, at most `cap`.
    ///
    /// A date is meant by the service's own clock where it tells us what that is.
    pub(super) fn retry_after(&self, now: SystemTime, cap: Duration) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?;
        let date = self.headers.get(DATE).and_then(|date| date.to_str().ok());
        let service_text = date.and_then(|date| httpdate::parse_http_date(date).ok());
        retry_after::parse(value.as_bytes(), service_text.unwrap_or(now), cap)
    }
}

/// Returns whether `text` holds `marker`, in whatever case.
pub(super) fn holds(text: &[u8], marker: &str) -> bool {
    text.windows(marker.len())
        .any(|window| window.eq_ignore_ascii_case(marker.as_bytes()))
}
