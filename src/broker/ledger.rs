//! What is published and not paid: waiting for a confirm, or for its next attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::broker::Receipt;
use crate::broker::confirms::{Confirms, Ticket};
use crate::broker::topology::Topology;
use crate::broker::trouble::Trouble;
use crate::clock::{Clock, Jitter, RandomJitter, SystemClock};
use crate::metrics::{Confirmed, Metrics};

/// The first wait before something refused is published again; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often a refusal is worth a warning.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// What is published and not paid.
pub(super) struct Ledger {
    topology: Arc<Topology>,
    metrics: Arc<Metrics>,
    settled: mpsc::UnboundedSender<Receipt>,
    pub(super) confirms: Confirms,
    /// What the broker refused, by when it is published again.
    refused: BTreeMap<(Instant, u64), Ticket>,
    refusals: u64,
    warned: Option<Instant>,
    published: bool,
}

impl Ledger {
    pub(super) fn new(
        topology: Arc<Topology>,
        metrics: Arc<Metrics>,
        settled: mpsc::UnboundedSender<Receipt>,
    ) -> Self {
        Self {
            topology,
            metrics,
            settled,
            confirms: Confirms::default(),
            refused: BTreeMap::new(),
            refusals: 0,
            warned: None,
            published: false,
        }
    }

    /// Judges what the broker answered: releases what is paid, and keeps what it refused.
    pub(super) fn judge(&mut self) -> Result<(), Trouble> {
        let now = SystemClock.now().mono;
        for (ticket, confirmed) in self.confirms.judge(self.topology.routes())? {
            let elapsed = now.saturating_duration_since(ticket.published);
            let kind = ticket.publication().kind;
            self.metrics.published(kind, confirmed, elapsed);
            match confirmed {
                Confirmed::Ack => {
                    self.published = true;
                    ticket.pay().into_iter().for_each(|paid| self.release(paid));
                }
                Confirmed::Nack | Confirmed::Returned | Confirmed::Lost => {
                    self.refuse(ticket, confirmed, now);
                }
            }
        }
        Ok(())
    }

    /// Hands a delivery to the acker.
    pub(super) fn release(&self, receipt: Receipt) {
        // Without an acker the generation is over, and the broker delivers again.
        let _gone = self.settled.send(receipt);
    }

    fn refuse(&mut self, mut ticket: Ticket, confirmed: Confirmed, now: Instant) {
        if self.warned.is_none_or(|at| now >= at + WARNING_INTERVAL) {
            self.warned = Some(now);
            let to = self.topology.routes().destination(&ticket.publication().to);
            tracing::warn!(
                answer = confirmed.name(),
                exchange = to.exchange.as_str(),
                routing_key = to.routing_key.as_str(),
                "the broker takes no publication there; it is published again until it does"
            );
        }
        let wait = wait(ticket.refusals, RandomJitter.draw());
        ticket.refusals = ticket.refusals.saturating_add(1);
        self.refusals += 1;
        self.refused.insert((now + wait, self.refusals), ticket);
    }

    /// Returns when something refused is published again.
    pub(super) fn next_again(&self) -> Option<Instant> {
        self.refused.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes what is to be published again by now.
    pub(super) fn take_again(&mut self) -> impl Iterator<Item = Ticket> {
        let later = self.refused.split_off(&(SystemClock.now().mono, u64::MAX));
        std::mem::replace(&mut self.refused, later).into_values()
    }

    /// Counts what is left unconfirmed.
    pub(super) fn abandon(mut self) {
        let now = SystemClock.now().mono;
        for ticket in self.confirms.abandon() {
            let elapsed = now.saturating_duration_since(ticket.published);
            let kind = ticket.publication().kind;
            self.metrics.published(kind, Confirmed::Lost, elapsed);
        }
    }

    /// Tells whether the broker took anything.
    pub(super) fn has_published(&self) -> bool {
        self.published
    }

    /// Tells whether nothing is open.
    pub(super) fn is_paid(&self) -> bool {
        self.confirms.len() == 0 && self.refused.is_empty()
    }
}

/// How long a publication waits after so many earlier refusals.
fn wait(refusals: u32, jitter: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << refusals.min(16));
    doubled.min(LONGEST_WAIT).mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_waits_longer_each_time_and_not_for_ever() {
        assert_eq!(wait(0, 0.0), FIRST_WAIT / 2);
        assert_eq!(wait(1, 1.0), FIRST_WAIT * 2);
        assert_eq!(wait(100, 1.0), LONGEST_WAIT);
        for refusals in 0..40 {
            assert!(wait(refusals, 0.5) <= wait(refusals + 1, 0.5));
        }
    }
}
