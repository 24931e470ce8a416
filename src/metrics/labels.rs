//! The labels that belong to no other room.

/// The two kinds of connections of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Consumes and acknowledges.
    Consume,
    /// Publishes.
    Publish,
}

impl Role {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Consume, Self::Publish];

    /// Returns the word of the metrics' label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
        }
    }
}

/// How the broker answered a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Confirmed {
    /// Every answer.
    pub const ALL: [Self; 4] = [Self::Ack, Self::Nack, Self::Returned, Self::Lost];

    /// Returns the word of the metrics' label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

/// What a breaker becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Nobody is sent there.
    Open,
    /// One request finds out.
    HalfOpen,
    /// All is well.
    Closed,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::HalfOpen, Self::Closed];

    /// Returns the word of the metrics' label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Closed => "closed",
        }
    }
}

/// Why a key signs nothing for an origin until an operator has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlarm {
    /// No subscription there was made with it.
    Mismatch,
    /// The push service refuses what it signs.
    VapidRejected,
}

impl KeyAlarm {
    /// Every cause.
    pub const ALL: [Self; 2] = [Self::Mismatch, Self::VapidRejected];

    /// Returns the word of the metrics' label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mismatch => "mismatch",
            Self::VapidRejected => "vapid_rejected",
        }
    }
}

/// Why a recipient was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// There was no room in time.
    Busy,
    /// The origin's breaker is open.
    BreakerOpen,
    /// The push service asked for a pause.
    Paused,
    /// The configured rate is used up.
    Rate,
}

impl Deferred {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Busy, Self::BreakerOpen, Self::Paused, Self::Rate];

    /// Returns the word of the metrics' label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::BreakerOpen => "breaker_open",
            Self::Paused => "paused",
            Self::Rate => "rate",
        }
    }
}
