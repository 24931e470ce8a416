//! What to do with an event: which recipients to push to now, which wait, which end unsent.

pub mod deadline;
mod declarative;
pub mod event;
pub mod quiet_hours;
pub mod recipient;
mod shape;
mod split;

pub use crate::outcome::Refusal;

pub use self::event::{Moment, Plan, Settings, Step, Terms, event_id, plan};
pub use self::quiet_hours::{Quiet, quiet};
pub use self::recipient::{Push, Seen, plan_recipient};
pub use self::shape::{changed, timely};
pub use self::split::{Part, Split, split};
