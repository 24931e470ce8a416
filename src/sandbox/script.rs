//! How a subscription answers: what a test wants from a push service on a bad day.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::header::HeaderMap;
use http::status::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// Answers in the order in which they are given; the last one repeats for ever.
///
/// As JSON it is one answer or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct Script {
    answers: Vec<Arc<Answer>>,
    /// The JSON it was read from; none if it was made otherwise.
    written: Option<Arc<Value>>,
}

/// The most answers one script may have.
const ANSWERS_LIMIT: usize = 1000;

impl Script {
    /// Puts answers in a row.
    ///
    /// # Errors
    /// If there are none, or more than a thousand.
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Result<Self, ScriptError> {
        let answers: Vec<_> = answers.into_iter().map(Arc::new).collect();
        match answers.len() {
            1..=ANSWERS_LIMIT => Ok(Self {
                answers,
                written: None,
            }),
            count => Err(ScriptError::Count(count)),
        }
    }
}

impl Script {
    /// Returns the names of the answers it asks for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.answers.iter().filter_map(|answer| {
            if let Act::Respond(response) = &answer.act
                && let Choice::Named(name) = &response.choice
            {
                return Some(&**name);
            }
            None
        })
    }
}

impl Default for Script {
    /// Accepts everything.
    fn default() -> Self {
        Answer::default().into()
    }
}

impl From<Answer> for Script {
    fn from(answer: Answer) -> Self {
        Self {
            answers: vec![Arc::new(answer)],
            written: None,
        }
    }
}

impl TryFrom<Value> for Script {
    type Error = ScriptError;

    /// Reads one answer, or a list of them.
    fn try_from(json: Value) -> Result<Self, ScriptError> {
        let answers = if json.is_array() {
            Vec::<Answer>::deserialize(&json)?
        } else {
            vec![Answer::deserialize(&json)?]
        };
        Ok(Self {
            written: Some(Arc::new(json)),
            ..Self::new(answers)?
        })
    }
}

/// A script and how far it has come.
#[derive(Debug)]
pub(crate) struct Playback {
    script: Script,
    at: usize,
    given: u32,
}

impl Playback {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            script,
            at: 0,
            given: 0,
        }
    }

    /// Returns the JSON that the script was read from.
    pub(crate) fn written(&self) -> Option<Arc<Value>> {
        self.script.written.clone()
    }

    /// Returns the answer to the next push.
    pub(crate) fn next(&mut self) -> Arc<Answer> {
        let answers = &self.script.answers;
        if self.given >= answers[self.at].times && self.at + 1 < answers.len() {
            self.at += 1;
            self.given = 0;
        }
        self.given = self.given.saturating_add(1);
        Arc::clone(&answers[self.at])
    }
}

/// One answer to a push that was right.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How many pushes are answered this way before the script goes on.
    pub times: u32,
    /// How long the answer is held back, besides the sandbox's latency.
    pub delay: Duration,
    /// What the answer is.
    pub act: Act,
}

/// What is done with a push.
#[derive(Clone, Debug)]
pub enum Act {
    /// A response; what is left open is said as the service says it.
    Respond(Response),
    /// `RST_STREAM` with this reason; over HTTP/1.1 the connection ends.
    Reset(Reason),
    /// No answer for as long as the connection lives.
    Hang,
    /// What a right push is answered with, and the connection is shut down gracefully with `GOAWAY` (over HTTP/1.1 closed).
    GoAway,
    /// `GOAWAY` whose last stream is 0: by RFC 9113 §6.8 nothing unanswered was processed. The
    /// connection ends; over HTTP/1.1 without a word.
    GoAwayUnprocessed,
    /// The connection ends without a word, in TLS neither.
    Cut,
}

impl Act {
    /// Returns the word for acts that are not a response.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Respond(_) => None,
            Self::Reset(_) => Some("reset"),
            Self::Hang => Some("hang"),
            Self::GoAway => Some("goaway"),
            Self::GoAwayUnprocessed => Some("goaway_unprocessed"),
            Self::Cut => Some("cut"),
        }
    }
}

/// Head and body of a response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Which answer of the service it is.
    pub choice: Choice,
    /// Headers, in the place of the service's own of the same names.
    pub headers: HeaderMap,
    /// The body's bytes, sent first; none for the service's own.
    pub body: Option<Bytes>,
    /// How many bytes of filler follow, without a `Content-Length`.
    pub filler: u64,
    /// The pause before each byte of a body that trickles.
    pub trickle: Option<Duration>,
}

/// One answer of those that a service has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// That to a right push.
    #[default]
    Accepted,
    /// That of a name.
    Named(Box<str>),
    /// The usual one of a status; the status alone where the service has none.
    Status(StatusCode),
}

impl Response {
    /// Creates a response of a status, as the service gives it.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self {
            choice: Choice::Status(status),
            ..Self::default()
        }
    }
}

/// Answers a right push as the service does.
impl Default for Answer {
    fn default() -> Self {
        Self::act(Act::Respond(Response::default()))
    }
}

impl Answer {
    /// Answers with a status, in the words of the service.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self::act(Act::Respond(Response::status(status)))
    }

    /// Does this, at once and once.
    #[must_use]
    pub fn act(act: Act) -> Self {
        Self {
            times: 1,
            delay: Duration::ZERO,
            act,
        }
    }

    /// Gives the answer so many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

/// Why something is not a script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// None, or too many.
    #[error("a script has 1 to {ANSWERS_LIMIT} answers, not {0}")]
    Count(usize),
    /// Not the JSON form of an answer.
    #[error("not an answer: {0}")]
    Json(#[from] serde_json::Error),
    /// Given no times.
    #[error("times must be 1 or more")]
    Times,
    /// Not a status that ends an exchange.
    #[error("status must be 200 to 999, not {0}")]
    Status(u16),
    /// Not a header of HTTP.
    #[error("headers: {0:?} or its value is no header")]
    Header(String),
    /// Not a duration.
    #[error("{0} must be a duration such as \"250ms\" or \"2s\"")]
    Duration(&'static str),
    /// Not an HTTP/2 error code.
    #[error("reason must be an error code of RFC 9113 §7, by name or number")]
    Reason,
    /// A reason that would not be sent.
    #[error("reason belongs to fault \"reset\" alone")]
    ReasonWithoutReset,
    /// Two ways to say which answer.
    #[error("an answer is chosen by its name (answer) or by its status, not by both")]
    AnswerAndStatus,
    /// Two answers in one.
    #[error("an answer has a fault or a response (answer, status, headers, body, …), not both")]
    FaultAndResponse,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_script_goes_on_after_its_times_and_stays_at_the_end() {
        let script = Script::try_from(json!([
            { "status": 503, "times": 2, "headers": { "Retry-After": "inf" } },
            { "fault": "reset", "reason": "REFUSED_STREAM" },
            { "status": 201 },
        ]))
        .unwrap();
        let mut playback = Playback::new(script);
        let faults: Vec<_> = (0..6).map(|_| playback.next().act.fault()).collect();
        assert_eq!(faults, [None, None, Some("reset"), None, None, None]);
    }

    #[test]
    fn an_answer_is_chosen_by_name_or_by_status() {
        let choice = |json: Value| {
            let script = Script::try_from(json).unwrap();
            let names: Vec<_> = script.names().map(str::to_owned).collect();
            let answer = Playback::new(script).next();
            let Act::Respond(response) = &answer.act else {
                panic!("{answer:?}");
            };
            (response.choice.clone(), names)
        };
        let (accepted, names) = choice(json!({}));
        assert_eq!((accepted, names.len()), (Choice::Accepted, 0));
        let (gone, names) = choice(json!({ "answer": "gone", "headers": { "a": "b" } }));
        assert_eq!(
            (gone, names),
            (Choice::Named("gone".into()), vec!["gone".to_owned()])
        );
        let (status, _) = choice(json!({ "status": 410 }));
        assert_eq!(status, Choice::Status(StatusCode::GONE));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for json in [
            json!([]),
            json!(null),
            json!({ "status": 99 }),
            json!({ "status": 101 }),
            json!({ "status": 201, "times": 0 }),
            json!({ "stats": 201 }),
            json!({ "delay": "soon" }),
            json!({ "fault": "hang", "status": 500 }),
            json!({ "fault": "hang", "answer": "gone" }),
            json!({ "answer": "gone", "status": 410 }),
            json!({ "fault": "hang", "reason": 1 }),
            json!({ "fault": "reset", "reason": "NONE" }),
            json!({ "headers": { "a b": "c" } }),
            json!({ "headers": { "a": "b\r\nc: d" } }),
        ] {
            assert!(Script::try_from(json.clone()).is_err(), "{json}");
        }
    }
}
