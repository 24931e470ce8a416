//! Publications without a confirm, and refused ones that wait for their next attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::broker::confirms::{Confirms, PendingPublish};
use crate::broker::error::SessionError;
use crate::broker::refused::{Destination, Refused};
use crate::broker::topology::Topology;
use crate::broker::{Receipt, Then};
use crate::clock::{Clock, Jitter, RandomJitter, SystemClock, seconds};
use crate::metrics::{Confirmed, Metrics};

/// How often a refusal is worth a warning.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Publications that are not confirmed.
pub(super) struct Outstanding {
    topology: Arc<Topology>,
    metrics: Arc<Metrics>,
    settled: mpsc::UnboundedSender<Receipt>,
    pub(super) confirms: Confirms,
    refused: Refused<PendingPublish>,
    warned: Option<Instant>,
    published: bool,
}

impl Outstanding {
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
            refused: Refused::default(),
            warned: None,
            published: false,
        }
    }

    /// Handles the broker's answers: releases deliveries whose publications are all confirmed, and keeps
    /// what was refused.
    pub(super) fn judge(&mut self) -> Result<(), SessionError> {
        let now = SystemClock.now().mono;
        for (pending, confirmed) in self.confirms.judge(self.topology.routes())? {
            let elapsed = now.saturating_duration_since(pending.published);
            let kind = pending.publication().kind;
            self.metrics.published(kind, confirmed, elapsed);
            match confirmed {
                Confirmed::Ack => {
                    self.published = true;
                    self.accept(&pending, now);
                    pending
                        .confirm()
                        .into_iter()
                        .for_each(|then| self.conclude(then));
                }
                Confirmed::Nack | Confirmed::Returned | Confirmed::Lost => {
                    self.refuse(pending, confirmed, now);
                }
            }
        }
        Ok(())
    }

    /// Hands a delivery to the acker, or tells who published without one.
    pub(super) fn conclude(&self, then: Then) {
        match then {
            // Without an acker the generation is over, and the broker delivers again.
            Then::Acknowledge { receipt, .. } => {
                let _gone = self.settled.send(receipt);
            }
            // Nobody may want to know any more.
            Then::Tell(author) => {
                let _gone = author.send(());
            }
        }
    }

    fn accept(&mut self, pending: &PendingPublish, now: Instant) {
        if !self.refused.is_empty() {
            let to = self.destination(pending);
            let jitter = RandomJitter.draw();
            self.refused.accept(&to, pending.refused, now, jitter);
            self.metrics.publications_refused(self.refused.len());
        }
    }

    fn refuse(&mut self, mut pending: PendingPublish, confirmed: Confirmed, now: Instant) {
        let to = self.destination(&pending);
        let again = std::mem::replace(&mut pending.refused, true);
        let jitter = RandomJitter.draw();
        let wait = self.refused.refuse(to.clone(), pending, again, now, jitter);
        let waiting = self.refused.len();
        self.metrics.publications_refused(waiting);
        if self.warned.is_none_or(|at| now >= at + WARNING_INTERVAL) {
            self.warned = Some(now);
            let (exchange, routing_key) = to;
            tracing::warn!(
                answer = confirmed.name(),
                exchange = exchange.as_str(),
                routing_key = routing_key.as_str(),
                waiting,
                wait_s = seconds(wait),
                "the broker takes no publication there: a queue bound to the exchange for this key \
                 is full and rejects, or none is bound; their messages stay unacknowledged until it does"
            );
        }
    }

    fn destination(&self, pending: &PendingPublish) -> Destination {
        let to = self
            .topology
            .routes()
            .destination(&pending.publication().to);
        (to.exchange, to.routing_key)
    }

    /// Returns when something refused is published again.
    pub(super) fn next_again(&self) -> Option<Instant> {
        self.refused.next()
    }

    /// Removes and returns the publications that are due for another attempt.
    pub(super) fn take_again(&mut self) -> Vec<PendingPublish> {
        self.refused.take_due(SystemClock.now().mono)
    }

    /// Counts the publications that stay unconfirmed.
    pub(super) fn abandon(mut self) {
        let now = SystemClock.now().mono;
        for pending in self.confirms.abandon() {
            let elapsed = now.saturating_duration_since(pending.published);
            let kind = pending.publication().kind;
            self.metrics.published(kind, Confirmed::Lost, elapsed);
        }
        self.metrics.publications_refused(0);
    }

    /// Returns whether the broker confirmed any publication.
    pub(super) fn has_published(&self) -> bool {
        self.published
    }

    /// Returns whether every publication is confirmed.
    pub(super) fn all_confirmed(&self) -> bool {
        self.confirms.len() == 0 && self.refused.is_empty()
    }
}
