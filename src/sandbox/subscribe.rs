//! A request for a new subscription, and why it is refused.

use std::io;

use aws_lc_rs::error::Unspecified;
use serde::Deserialize;

use super::dialect::UnknownAnswer;
use super::script::Script;

/// The most subscriptions a sandbox holds.
pub const SUBSCRIPTIONS_LIMIT: usize = 250_000;

/// What a new subscription shall be; the control listener takes it as JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct SubscribeRequest {
    /// The application server key (base64url) whose holder alone may push; anyone's without. As
    /// JSON it may have the name it has in a page.
    #[serde(alias = "applicationServerKey")]
    pub application_server_key: Option<String>,
    /// How its pushes are answered.
    pub answer: Script,
    /// The number of its origin, from 0.
    pub origin: usize,
    /// Path and query of the push resource, `{token}` standing for what cannot be guessed: the
    /// shapes by which senders tell one service from another. Those of the service without.
    pub path: Option<String>,
}

impl From<Script> for SubscribeRequest {
    fn from(answer: Script) -> Self {
        Self {
            answer,
            ..Self::default()
        }
    }
}

/// Why there is no new subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// No such origin.
    #[error("there is no origin of that number")]
    Origin,
    /// A key that is none.
    #[error(
        "application_server_key must be an uncompressed P-256 point in base64url without padding"
    )]
    ApplicationServerKey,
    /// An answer that the service does not have.
    #[error(transparent)]
    Answer(#[from] UnknownAnswer),
    /// A path that would not survive.
    #[error(
        "path must start with a slash, contain {{token}} and be in the normal form browsers give it"
    )]
    Path,
    /// At the limit.
    #[error("there are {SUBSCRIPTIONS_LIMIT} subscriptions already")]
    Full,
    /// No keys could be made.
    #[error("the keys of a subscription could not be made")]
    Keys,
    /// The state directory does not take it.
    #[error("the subscription could not be written to the state directory: {0}")]
    Write(#[source] io::Error),
}

impl From<Unspecified> for SubscribeError {
    fn from(_: Unspecified) -> Self {
        Self::Keys
    }
}
