//! How each push service answers: its paths, its answers to a right push and to a wrong one.
//!
//! Why: a developer should hear today what production will say. The sandbox judges every push in one
//! way, whichever service it imitates; the module of a service gives the judgement in that service's
//! words, and says what the real one would accept (classify/README.md §1; the answers of Mozilla
//! are measured, §11). What a service takes although no browser can show it is recorded as wrong all
//! the same.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a service gives one answer to most of what is wrong with a push"
)]

use crate::origin::Service;

mod apple;
mod behaviour;
mod fcm;
mod mozilla;
mod nextpush;
mod ntfy;
mod plain;
mod service_answer;
mod wns;

pub use behaviour::UnknownAnswer;
pub(crate) use behaviour::{Dialect, Taken};
pub(crate) use service_answer::ServiceAnswer;

impl Dialect {
    /// Returns the behaviour of a service. One of no family follows the RFCs, with sentences of its own.
    pub(crate) fn of(service: Service) -> &'static Self {
        match service {
            Service::Fcm => &fcm::DIALECT,
            Service::Mozilla => &mozilla::DIALECT,
            Service::Apple => &apple::DIALECT,
            Service::Wns => &wns::DIALECT,
            Service::Ntfy => &ntfy::DIALECT,
            Service::NextPush => &nextpush::DIALECT,
            Service::Other => &plain::DIALECT,
        }
    }
}

#[cfg(test)]
mod tests;
