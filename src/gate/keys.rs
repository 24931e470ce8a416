//! What the gate of one origin knows of each key that sends there.

use tokio::time::Instant;

use crate::message::Name;

use super::pause::Pause;
use super::rate::Bucket;

/// The keys that have sent to an origin; there are as many as the configuration has keys.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(Name, Key)>);

/// One key at one origin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    pub(super) pause: Pause,
    pub(super) bucket: Bucket,
}

impl Keys {
    pub(super) fn get(&self, name: &Name) -> Option<&Key> {
        let is_it = |(known, _): &&(Name, Key)| known == name;
        self.0.iter().find(is_it).map(|(_, key)| key)
    }

    /// Returns a key, which is new if it was never asked for.
    pub(super) fn of(&mut self, name: &Name) -> &mut Key {
        let known = self.0.iter().position(|(known, _)| known == name);
        let index = known.unwrap_or_else(|| {
            self.0.push((name.clone(), Key::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    /// Returns whether one key alone has sent to the origin.
    pub(super) fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    /// Returns whether no key is paused or has taken turns ahead.
    pub(super) fn are_at_rest(&self, now: Instant) -> bool {
        let at_rest =
            |(_, key): &(Name, Key)| key.pause.left(now).is_none() && key.bucket.is_at_rest(now);
        self.0.iter().all(at_rest)
    }
}
