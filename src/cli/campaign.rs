//! How far a campaign is, in one line of a terminal.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::lines::visible;

/// The width of the bar in characters.
const BAR: u64 = 30;

/// The outcomes that the line shows, in its order.
const OUTCOMES: [&str; 6] = [
    "accepted",
    "gone",
    "rejected",
    "expired",
    "cancelled",
    "failed",
];

/// How many of the last messages are known, so that a repeat of one does not count.
const KNOWN: usize = 10_000;

/// The sum of progress messages.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    recipients: u64,
    waiting: i64,
    settled: u64,
    outcomes: [u64; OUTCOMES.len()],
    /// The last messages that were added, by daemon and number: some come twice.
    added: HashSet<(Box<str>, u64)>,
    /// The same in their order.
    order: VecDeque<(Box<str>, u64)>,
}

impl Campaign {
    /// Adds a progress message, unless it was added before.
    pub(super) fn add(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().unwrap_or_default();
        let daemon = message["daemon"].as_str().unwrap_or_default();
        if !self.note((daemon.into(), number("sequence"))) {
            return;
        }
        // Others may publish to the exchange, too, and write any number.
        let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
        add(&mut self.recipients, number("recipients"));
        add(&mut self.settled, number("settled"));
        let waiting = message["waiting"].as_i64().unwrap_or_default();
        self.waiting = self.waiting.saturating_add(waiting);
        for (sum, name) in self.outcomes.iter_mut().zip(OUTCOMES) {
            add(sum, message["outcomes"][name].as_u64().unwrap_or_default());
        }
    }

    /// Notes a message; returns whether it is not known.
    fn note(&mut self, name: (Box<str>, u64)) -> bool {
        let is_new = self.added.insert(name.clone());
        if is_new {
            self.order.push_back(name);
            if self.order.len() > KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.added.remove(&oldest);
            }
        }
        is_new
    }

    /// Returns the line, `elapsed` after the first message. What came before it is not known: whoever
    /// begins in the middle sees counts and no bar.
    pub(super) fn line(&self, group: &str, elapsed: Duration) -> String {
        let mut parts = vec![visible(group)];
        let known = self.recipients > 0 && self.settled <= self.recipients;
        if known {
            let share = |of: u64| {
                let share = u128::from(of) * u128::from(self.settled) / u128::from(self.recipients);
                usize::try_from(share).unwrap_or_default()
            };
            let done = "#".repeat(share(BAR));
            let width = usize::try_from(BAR).unwrap_or_default();
            parts.push(format!("[{done:.<width$}] {}%", share(100)));
            parts.push(format!("{} of {}", self.settled, self.recipients));
        } else {
            parts.push(format!("{} settled", self.settled));
        }
        let outcomes = OUTCOMES.iter().zip(self.outcomes);
        let outcomes = outcomes.filter(|(_, count)| *count > 0);
        parts.extend(outcomes.map(|(name, count)| format!("{name} {count}")));
        if self.waiting > 0 {
            parts.push(format!("waiting {}", self.waiting));
        }
        let seconds = elapsed.as_secs();
        if let Some(rate) = self.settled.checked_div(seconds).filter(|rate| *rate > 0) {
            parts.push(format!("{rate}/s"));
            let left = self.recipients.saturating_sub(self.settled);
            if known && left > 0 {
                let left = Duration::from_secs(left.div_ceil(rate));
                parts.push(format!("{} left", humantime::format_duration(left)));
            }
        }
        parts.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(sequence: u64, recipients: u64, waiting: i64, accepted: u64) -> Value {
        json!({
            "recipients": recipients, "waiting": waiting, "settled": accepted + 1,
            "outcomes": { "accepted": accepted, "gone": 1 }, "daemon": "a", "sequence": sequence,
        })
    }

    #[test]
    fn messages_of_daemons_add_up_and_a_repeat_does_not_count() {
        let mut campaign = Campaign::default();
        campaign.add(&message(1, 1000, 20, 99));
        let started = campaign.line("spring", Duration::ZERO);
        let bar = "[###...........................] 10%";
        assert_eq!(
            started,
            format!("spring  {bar}  100 of 1000  accepted 99  gone 1  waiting 20")
        );
        campaign.add(&message(2, 0, -20, 399));
        campaign.add(&message(2, 0, -20, 399));
        let later = campaign.line("spring", Duration::from_secs(5));
        let bar = "[###############...............] 50%";
        assert_eq!(
            later,
            format!("spring  {bar}  500 of 1000  accepted 498  gone 2  100/s  5s left")
        );
    }

    #[test]
    fn numbers_that_no_daemon_writes_do_no_harm() {
        let mut campaign = Campaign::default();
        for sequence in 0..3 {
            let mut odd = message(sequence, u64::MAX, i64::MAX, u64::MAX / 2);
            odd["outcomes"]["gone"] = u64::MAX.into();
            campaign.add(&odd);
        }
        let line = campaign.line("spring", Duration::from_secs(1));
        assert!(line.contains("100%"), "{line}");
    }

    #[test]
    fn what_was_added_is_known_for_a_while_only() {
        let mut campaign = Campaign::default();
        for sequence in 0..3 * KNOWN as u64 {
            campaign.add(&message(sequence, 1, 0, 0));
            campaign.add(&message(sequence, 1, 0, 0));
        }
        assert_eq!(campaign.recipients, 3 * KNOWN as u64);
        assert!(campaign.added.len() <= KNOWN);
    }

    #[test]
    fn who_begins_in_the_middle_sees_no_bar() {
        let mut campaign = Campaign::default();
        campaign.add(&message(9, 0, -5, 49));
        let line = campaign.line("a\u{1b}[2J", Duration::from_secs(10));
        assert_eq!(line, "a\\u{1b}[2J  50 settled  accepted 49  gone 1  5/s");
    }
}
