//! The labels that no other module defines.

use strum::{IntoStaticStr, VariantArray};

use crate::words::words;

words!(Role, Confirmed, KeyAlarm, Reload, ControlRead);

/// The `app` of messages for an application that is not configured; no application can have this name.
pub(super) const UNKNOWN_APP: &str = "(unknown)";

/// The two kinds of connections of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Consumes and acknowledges.
    Consume,
    /// Publishes.
    Publish,
}

/// How the broker answered a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Confirmed {
    /// Taken.
    Ack,
    /// Refused; it is published again.
    Nack,
    /// No queue for it; it is published again.
    Returned,
    /// The connection was lost first.
    Lost,
}

/// What a control message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ControlRead {
    /// It cancels events.
    Cancel,
    /// It forgets recipients.
    Forget,
    /// It cannot be read.
    Malformed,
}

/// Why a key signs nothing for an origin until an operator has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum KeyAlarm {
    /// No subscription there was made with it.
    Mismatch,
    /// The push service refuses what it signs.
    VapidRejected,
}

/// What became of a configuration that was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Reload {
    /// It applies.
    Applied,
    /// Something in it is wrong, so the former one still applies.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::BreakerState;

    #[test]
    fn label_values_are_public_names() {
        assert_eq!(
            Role::ALL.iter().map(|it| it.name()).collect::<Vec<_>>(),
            ["consume", "publish"]
        );
        let confirmed: Vec<_> = Confirmed::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(confirmed, ["ack", "nack", "returned", "lost"]);
        let states: Vec<_> = BreakerState::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(states, ["open", "half_open", "closed"]);
        let controls: Vec<_> = ControlRead::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(controls, ["cancel", "forget", "malformed"]);
        let reloads: Vec<_> = Reload::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(reloads, ["applied", "refused"]);
        let causes: Vec<_> = KeyAlarm::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(causes, ["mismatch", "vapid_rejected"]);
    }
}
