//! The recipients of one message that must wait, in groups of equal waits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::message::Name;
use crate::outcome::Waiting;
use crate::sender::Wait;

/// The groups; each leaves in one copy of the event.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<GroupKey, (Wait, Vec<usize>)>);

/// What the recipients of a group share. Their waits are of one size class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    waiting: Waiting,
    size: u32,
    deferrals: u32,
    attempts: u32,
    requests: u32,
    last_status: Option<u16>,
    vapid_key: Option<Name>,
}

impl Groups {
    /// Adds the recipient at `index` of the message.
    pub(super) fn add(&mut self, index: usize, wait: Wait) {
        let key = GroupKey {
            waiting: wait.waiting,
            size: size_class(wait.after),
            deferrals: wait.deferrals,
            attempts: wait.attempts,
            requests: wait.requests,
            last_status: wait.last_status,
            vapid_key: wait.vapid_key.clone(),
        };
        let (waiting, after, within) = (wait.waiting, wait.after, wait.within);
        let (together, indices) = self.0.entry(key).or_insert((wait, Vec::new()));
        together.after = match waiting {
            // The others of the group wait again.
            Waiting::Scheduled | Waiting::QuietHours => together.after.min(after),
            Waiting::Busy | Waiting::Retry(_) => together.after.max(after),
        };
        together.within = together.within.min(within);
        indices.push(index);
    }

    /// Returns each group: a wait that is long enough for all of it, or for the first whose delivery hours
    /// begin, and its indices.
    pub(super) fn into_groups(self) -> impl Iterator<Item = (Wait, Vec<usize>)> {
        self.0.into_values()
    }
}

/// Waits of one size class are within a factor of two of each other, as delay bands are.
fn size_class(wait: Duration) -> u32 {
    u64::try_from(wait.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
        .ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;

    fn wait(seconds: u64, reason: Reason) -> Wait {
        Wait {
            waiting: Waiting::Retry(reason),
            after: Duration::from_secs(seconds),
            within: Duration::from_secs(seconds * 10),
            deferrals: 0,
            attempts: 1,
            requests: 1,
            last_status: None,
            vapid_key: None,
        }
    }

    #[test]
    fn those_outside_their_delivery_hours_leave_together_and_none_too_late() {
        let mut groups = Groups::default();
        for (index, seconds) in [(0, 12), (1, 9), (2, 40)] {
            let wait = Wait {
                waiting: Waiting::QuietHours,
                ..wait(seconds, Reason::Timeout)
            };
            groups.add(index, wait);
        }
        let actual: Vec<_> = groups
            .into_groups()
            .map(|(wait, indices)| (wait.after.as_secs(), indices))
            .collect();
        assert_eq!(actual, [(9, vec![0, 1]), (40, vec![2])]);
    }

    #[test]
    fn those_who_wait_alike_leave_together_and_none_too_early() {
        let mut groups = Groups::default();
        for (index, seconds, reason) in [
            (0, 9, Reason::Timeout),
            (1, 12, Reason::Timeout),
            (2, 40, Reason::Timeout),
            (3, 9, Reason::Network),
        ] {
            groups.add(index, wait(seconds, reason));
        }
        let actual: Vec<_> = groups
            .into_groups()
            .map(|(wait, indices)| (wait.after.as_secs(), indices))
            .collect();
        assert_eq!(actual, [(12, vec![0, 1]), (40, vec![2]), (9, vec![3])]);
    }
}
