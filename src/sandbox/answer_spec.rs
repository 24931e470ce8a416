//! Answers as they are written in JSON.
//!
//! ```json
//! [ { "status": 429, "headers": { "Retry-After": "17" }, "body": "slow down", "times": 3 },
//!   { "status": 503, "delay": "2s" },
//!   { "status": 500, "body_bytes": 100000000 },
//!   { "status": 200, "body": "dripping", "trickle": "1s" },
//!   { "fault": "reset", "reason": "REFUSED_STREAM" },
//!   { "answer": "gone" },
//!   { "status": 201 } ]
//! ```
//!
//! `answer` is one of the service's own answers by its name; a status without a body gets the body
//! that the service has for it.
//!
//! The other faults are `hang`, `goaway`, `goaway_unprocessed` and `cut`.

use std::collections::BTreeMap;
use std::time::Duration;

use h2::Reason;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::status::StatusCode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::script::{Act, Answer, Choice, Response, ScriptError};

/// An answer as it is written in JSON.
#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an answer, as in {\"status\": 503}"
)]
pub(crate) struct AnswerSpec {
    #[serde(deserialize_with = "times")]
    times: Option<u32>,
    delay: Option<String>,
    answer: Option<Box<str>>,
    #[serde(deserialize_with = "status")]
    status: Option<u16>,
    headers: BTreeMap<String, Values>,
    body: Option<String>,
    #[serde(deserialize_with = "body_bytes")]
    body_bytes: u64,
    trickle: Option<String>,
    fault: Option<Fault>,
    reason: Option<Value>,
}

fn times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    number(deserializer, "times: expected a number, as in 3").map(Some)
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    number(
        deserializer,
        "status: expected a number from 100 to 999, as in 503",
    )
    .map(Some)
}

fn body_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    number(
        deserializer,
        "body_bytes: expected a number of bytes, as in 4096",
    )
}

/// Reads a whole number, or fails with a sentence that names the member.
fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_u64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| D::Error::custom(expected))
}

/// One value of a header, or several lines of it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "headers: expected a text or a list of texts for each name"
)]
enum Values {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    Reset,
    Hang,
    #[serde(rename = "goaway")]
    GoAway,
    #[serde(rename = "goaway_unprocessed")]
    GoAwayUnprocessed,
    Cut,
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spec = AnswerSpec::deserialize(deserializer)?;
        Self::try_from(spec).map_err(D::Error::custom)
    }
}

impl TryFrom<AnswerSpec> for Answer {
    type Error = ScriptError;

    fn try_from(written: AnswerSpec) -> Result<Self, ScriptError> {
        let times = written.times.unwrap_or(1);
        if times == 0 {
            return Err(ScriptError::Times);
        }
        Ok(Self {
            times,
            delay: duration("delay", written.delay.as_deref())?.unwrap_or_default(),
            act: written.act()?,
        })
    }
}

impl AnswerSpec {
    fn act(self) -> Result<Act, ScriptError> {
        if self.fault.is_some() && self.has_response() {
            return Err(ScriptError::FaultAndResponse);
        }
        if self.reason.is_some() && self.fault != Some(Fault::Reset) {
            return Err(ScriptError::ReasonWithoutReset);
        }
        match self.fault {
            None => self.response().map(Act::Respond),
            Some(Fault::Reset) => reason(self.reason.as_ref()).map(Act::Reset),
            Some(Fault::Hang) => Ok(Act::Hang),
            Some(Fault::GoAway) => Ok(Act::GoAway),
            Some(Fault::GoAwayUnprocessed) => Ok(Act::GoAwayUnprocessed),
            Some(Fault::Cut) => Ok(Act::Cut),
        }
    }

    fn has_response(&self) -> bool {
        self.answer.is_some()
            || self.status.is_some()
            || !self.headers.is_empty()
            || self.body.is_some()
            || self.body_bytes > 0
            || self.trickle.is_some()
    }

    fn response(self) -> Result<Response, ScriptError> {
        let choice = match (self.answer, self.status) {
            (Some(_), Some(_)) => return Err(ScriptError::AnswerAndStatus),
            (Some(name), None) => Choice::Named(name),
            (None, Some(status)) => Choice::Status(final_status(status)?),
            (None, None) => Choice::Accepted,
        };
        Ok(Response {
            choice,
            headers: headers(&self.headers)?,
            body: self.body.map(Into::into),
            filler: self.body_bytes,
            trickle: duration("trickle", self.trickle.as_deref())?,
        })
    }
}

fn final_status(status: u16) -> Result<StatusCode, ScriptError> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or(ScriptError::Status(status))
}

fn headers(written: &BTreeMap<String, Values>) -> Result<HeaderMap, ScriptError> {
    let mut headers = HeaderMap::new();
    for (name, values) in written {
        let invalid = || ScriptError::Header(name.clone());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let values = match values {
            Values::One(value) => std::slice::from_ref(value),
            Values::Several(values) => values,
        };
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

fn duration(member: &'static str, written: Option<&str>) -> Result<Option<Duration>, ScriptError> {
    written
        .map(|text| humantime::parse_duration(text).map_err(|_| ScriptError::Duration(member)))
        .transpose()
}

/// The error codes of RFC 9113 §7, by number or by name.
fn reason(written: Option<&Value>) -> Result<Reason, ScriptError> {
    let Some(written) = written else {
        return Ok(Reason::INTERNAL_ERROR);
    };
    let found = match written.as_str() {
        Some(name) => (0..14)
            .map(Reason::from)
            .find(|code| format!("{code:?}") == name),
        None => written
            .as_u64()
            .and_then(|code| u32::try_from(code).ok())
            .map(Reason::from),
    };
    found.ok_or(ScriptError::Reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_as_it_is_written() {
        let answer: Answer = serde_json::from_value(json!({
            "status": 429, "headers": { "retry-after": ["-1", "Fri, 31 Dec 9999 23:59:59 GMT"] },
            "body": "slow down", "body_bytes": 7, "trickle": "1s", "delay": "2s 5ms", "times": 3,
        }))
        .unwrap();
        assert_eq!(
            (answer.times, answer.delay),
            (3, Duration::from_millis(2005))
        );
        let Act::Respond(response) = answer.act else {
            panic!("{answer:?}");
        };
        let status = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(response.choice, Choice::Status(status));
        assert_eq!(response.headers.get_all("retry-after").iter().count(), 2);
        assert_eq!(
            (response.body.as_deref(), response.filler),
            (Some(&b"slow down"[..]), 7)
        );
        assert_eq!(response.trickle, Some(Duration::from_secs(1)));
        for (code, reason) in [
            (json!("REFUSED_STREAM"), Reason::REFUSED_STREAM),
            (json!("HTTP_1_1_REQUIRED"), Reason::HTTP_1_1_REQUIRED),
            (json!(11), Reason::ENHANCE_YOUR_CALM),
        ] {
            let answer = json!({ "fault": "reset", "reason": code });
            let answer: Answer = serde_json::from_value(answer).unwrap();
            assert!(matches!(answer.act, Act::Reset(given) if given == reason));
        }
    }

    #[test]
    fn a_number_of_another_type_is_reported_by_its_member() {
        for (json, sentence) in [
            (
                r#"{"status":"410"}"#,
                "status: expected a number from 100 to 999, as in 503",
            ),
            (
                r#"{"status":70000}"#,
                "status: expected a number from 100 to 999, as in 503",
            ),
            (r#"{"times":-1}"#, "times: expected a number, as in 3"),
            (
                r#"{"body_bytes":"1k"}"#,
                "body_bytes: expected a number of bytes, as in 4096",
            ),
        ] {
            let error = serde_json::from_str::<AnswerSpec>(json).err().unwrap();
            assert!(error.to_string().starts_with(sentence), "{error}");
        }
    }
}
