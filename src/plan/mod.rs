//! What to do with an event: which recipients to push to now, which wait, which end unsent.

pub mod deadline;
mod declarative;
pub mod event;
pub mod recipient;
mod shape;
mod split;

pub use crate::outcome::Refusal;

pub use self::event::{Plan, Settings, Step, Terms, event_id, plan};
pub use self::recipient::{Push, Seen, plan_recipient};
pub use self::shape::{changed, timely};
pub use self::split::{Part, Split, split};
