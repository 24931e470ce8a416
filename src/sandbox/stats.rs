//! What has happened so far, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// The numbers of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that came whole.
    pub requests: u64,
    /// Requests by the status they were answered with.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests by the fault that took the answer's place, or came with it.
    pub faults: BTreeMap<&'static str, u64>,
    /// Bodies that could not be decrypted.
    pub decrypt_failures: u64,
    /// Distinct VAPID credentials verified.
    pub vapid_tokens: u64,
    /// Connections accepted so far, by origin.
    pub connections_opened: BTreeMap<String, u64>,
    /// The most requests that were in flight at once on one connection.
    pub streams_in_flight_max: u64,
    /// The most requests that were in flight at once.
    pub requests_in_flight_max: u64,
    /// Subscriptions that exist.
    pub subscriptions: usize,
}

/// Counts while requests come and go.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) in_flight: Gauge,
    streams_in_flight_max: AtomicU64,
    outcomes: Mutex<Outcomes>,
}

#[derive(Debug, Default)]
struct Outcomes {
    requests: u64,
    statuses: BTreeMap<u16, u64>,
    faults: BTreeMap<&'static str, u64>,
    decrypt_failures: u64,
    connections: BTreeMap<usize, u64>,
}

impl Counters {
    /// Counts an accepted connection.
    pub(crate) fn connected(&self, origin: usize) {
        *self.outcomes.lock().connections.entry(origin).or_default() += 1;
    }

    /// Counts how a request is answered.
    pub(crate) fn answered(&self, status: Option<u16>, fault: Option<&'static str>, closed: bool) {
        let mut outcomes = self.outcomes.lock();
        outcomes.requests += 1;
        if let Some(status) = status {
            *outcomes.statuses.entry(status).or_default() += 1;
        }
        if let Some(fault) = fault {
            *outcomes.faults.entry(fault).or_default() += 1;
        }
        outcomes.decrypt_failures += u64::from(closed);
    }

    /// Records how many streams a connection has had at once.
    pub(crate) fn streams(&self, most: u64) {
        self.streams_in_flight_max
            .fetch_max(most, Ordering::Relaxed);
    }

    /// Returns the numbers so far; those that others keep are left at 0.
    pub(crate) fn stats(&self, origins: &[String]) -> Stats {
        let outcomes = self.outcomes.lock();
        let connections = origins.iter().enumerate().map(|(index, origin)| {
            let opened = outcomes.connections.get(&index).copied();
            (origin.clone(), opened.unwrap_or_default())
        });
        Stats {
            requests: outcomes.requests,
            statuses: outcomes.statuses.clone(),
            faults: outcomes.faults.clone(),
            decrypt_failures: outcomes.decrypt_failures,
            connections_opened: connections.collect(),
            streams_in_flight_max: self.streams_in_flight_max.load(Ordering::Relaxed),
            requests_in_flight_max: self.in_flight.most(),
            ..Stats::default()
        }
    }
}

/// A number that goes up and down, and the highest it ever was.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
}

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Entered(self)
    }

    /// Returns the highest it ever was.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

/// One that is counted.
pub(crate) struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_remembers_its_highest() {
        let gauge = Gauge::default();
        let first = gauge.enter();
        drop(gauge.enter());
        drop(first);
        drop(gauge.enter());
        assert_eq!(gauge.most(), 2);
    }
}
