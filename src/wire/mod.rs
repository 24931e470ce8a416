//! The messages of the contract: what is read from the broker and what is written to it.
//!
//! Reading is strict where the contract is ours and lenient where it is the browser's or the
//! broker's. A misspelt `tll` must not silently become a default, so an unknown member is an error;
//! a `PushSubscription` may carry whatever its browser puts there. Every fault names its place and
//! says what was expected, and none repeats a value that may be a secret.
//!
//! | what | read by | written by |
//! |---|---|---|
//! | notification event | [`body`], [`event`], [`recipient`] | [`event::Event::subset`] |
//! | what is not to be pushed any more | [`control`] | producers and operators |
//! | what happened to it on earlier passes | [`headers`] | [`headers`] |
//! | the trace it belongs to | [`trace`] | producers, [`trace`] |
//! | a message that is no event | [`foreign`] | other libraries |
//! | a probe of a delay band | [`probe`] | [`probe`] |
//! | an original nobody could use | people | [`quarantine`] |
//! | delivery result | consumers | [`result`] |
//! | summary | consumers | [`summary`] |
//! | subscription event | consumers | [`subscription`] |
//! | progress of a campaign | consumers | [`progress`] |

use strum::{IntoStaticStr, VariantArray};

use crate::words::words;

words!(Kind);

mod audience;
pub mod body;
pub mod control;
mod death;
pub mod delivery_hours;
pub mod event;
pub mod fault;
pub mod foreign;
pub mod headers;
mod json;
mod member;
pub mod notification;
pub mod options;
mod output;
pub mod positions;
pub mod probe;
pub mod progress;
mod push_subscription;
pub mod quarantine;
pub mod recipient;
pub mod result;
pub mod subscription;
pub mod summary;
mod table;
pub mod trace;

/// The kinds of messages that leave the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A delivery result.
    Result,
    /// A summary of a chunk.
    Summary,
    /// A subscription event.
    Subscription,
    /// What must wait and come back.
    Retry,
    /// A part of a large event.
    Chunk,
    /// An original that was not understood.
    Quarantine,
    /// What a daemon settled of a campaign.
    Progress,
}

impl Kind {
    /// Returns the AMQP `type` (examples/README.md); a quarantined original keeps none.
    #[must_use]
    pub fn message_type(self) -> Option<&'static str> {
        match self {
            Self::Result => Some("webpush.delivery.v1"),
            Self::Summary => Some("webpush.summary.v1"),
            Self::Subscription => Some("webpush.subscription.v1"),
            Self::Progress => Some("webpush.progress.v1"),
            Self::Retry | Self::Chunk => Some("webpush.notification.v1"),
            Self::Quarantine => None,
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn the_words_of_kinds_are_public_names() {
        let kinds: Vec<_> = Kind::ALL.iter().map(|it| it.name()).collect();
        let expected = [
            "result",
            "summary",
            "subscription",
            "retry",
            "chunk",
            "quarantine",
            "progress",
        ];
        assert_eq!(kinds, expected);
    }
}
