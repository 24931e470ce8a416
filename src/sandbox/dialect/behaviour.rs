//! What an imitated service does, as a table of functions.

use std::time::SystemTime;

use http::header::HeaderMap;

use crate::sandbox::push::Head;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::script::{Choice, Response, Script};

use super::service_answer::ServiceAnswer;

/// The name of the answer to a right push.
pub(super) const ACCEPTED: &str = "accepted";

/// How one service answers.
pub(crate) struct Dialect {
    /// Creates the path and query of a push resource from random text.
    pub(crate) path: fn(&str) -> String,
    /// Answers a right push.
    pub(super) accept: fn(&Taken<'_>) -> ServiceAnswer,
    /// Every other documented answer by its name; of several with one status, the usual one first.
    pub(super) answers: fn() -> Vec<(&'static str, ServiceAnswer)>,
    /// Answers a wrong push; none where the service takes it all the same.
    pub(crate) refuse: fn(&Refusal) -> Option<ServiceAnswer>,
    /// Checks what the service demands beyond the RFCs.
    pub(super) demand: Option<Demand>,
}

/// Judges a head that is right by the RFCs.
pub(super) type Demand = fn(&HeaderMap, &Head) -> Result<(), Refusal>;

/// A script asks for what the service never says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this service has no answer {unknown:?}; it has {known}")]
pub struct UnknownAnswer {
    unknown: String,
    known: String,
}

/// The parts of a right push that answers repeat.
pub(crate) struct Taken<'a> {
    pub(crate) origin: &'a str,
    pub(crate) path: &'a str,
    pub(crate) id: u64,
    pub(crate) ttl: u64,
    pub(crate) now: SystemTime,
    pub(crate) body: &'a [u8],
}

impl Dialect {
    /// Holds a head that is right by the RFCs against what this service asks for besides.
    pub(crate) fn demand(&self, headers: &HeaderMap, head: &Head) -> Result<(), Refusal> {
        self.demand.map_or(Ok(()), |demand| demand(headers, head))
    }

    /// Checks that there is every answer that a script asks for by its name.
    pub(crate) fn check(&self, script: &Script) -> Result<(), UnknownAnswer> {
        match script.names().find(|name| !self.knows(name)) {
            Some(unknown) => Err(UnknownAnswer {
                unknown: unknown.chars().take(100).collect(),
                known: self.names().join(", "),
            }),
            None => Ok(()),
        }
    }

    /// Returns whether there is an answer of a name.
    pub(super) fn knows(&self, name: &str) -> bool {
        name == ACCEPTED || (self.answers)().iter().any(|(known, _)| *known == name)
    }

    /// Returns the names of the answers.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let others = (self.answers)().into_iter().map(|(name, _)| name);
        [ACCEPTED].into_iter().chain(others).collect()
    }

    /// Puts a scripted response in the service's words: what the script leaves open is said as the
    /// service says it.
    pub(crate) fn say(&self, scripted: &Response, taken: &Taken<'_>) -> ServiceAnswer {
        let mut answer = self.chosen(&scripted.choice, taken);
        if let Some(body) = &scripted.body {
            answer.body = body.clone();
        }
        for name in scripted.headers.keys() {
            answer.headers.remove(name);
        }
        for (name, value) in &scripted.headers {
            answer.headers.append(name, value.clone());
        }
        answer
    }

    fn chosen(&self, choice: &Choice, taken: &Taken<'_>) -> ServiceAnswer {
        let accepted = (self.accept)(taken);
        let others = || (self.answers)().into_iter();
        match choice {
            Choice::Accepted => accepted,
            Choice::Named(name) => others()
                .find(|(known, _)| *known == &**name)
                .map_or(accepted, |(_, answer)| answer),
            Choice::Status(status) if *status == accepted.status => accepted,
            Choice::Status(status) => others()
                .find(|(_, answer)| answer.status == *status)
                .map_or_else(|| ServiceAnswer::new(status.as_u16()), |(_, answer)| answer),
        }
    }
}

/// Finds an answer of a service by its name.
pub(super) fn named(
    answers: Vec<(&'static str, ServiceAnswer)>,
    name: &str,
) -> Option<ServiceAnswer> {
    answers
        .into_iter()
        .find_map(|(known, answer)| (known == name).then_some(answer))
}
