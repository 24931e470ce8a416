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
    so_far: Mutex<Stats>,
    connections: Mutex<BTreeMap<usize, u64>>,
}

impl Counters {
    /// Counts an accepted connection.
    pub(crate) fn connected(&self, origin: usize) {
        *self.connections.lock().entry(origin).or_default() += 1;
    }

    /// Counts how a request is answered.
    pub(crate) fn answered(&self, status: Option<u16>, fault: Option<&'static str>, closed: bool) {
        let mut stats = self.so_far.lock();
        stats.requests += 1;
        if let Some(status) = status {
            *stats.statuses.entry(status).or_default() += 1;
        }
        if let Some(fault) = fault {
            *stats.faults.entry(fault).or_default() += 1;
        }
        stats.decrypt_failures += u64::from(closed);
    }

    /// Records how many streams a connection has had at once.
    pub(crate) fn streams(&self, most: u64) {
        let mut stats = self.so_far.lock();
        stats.streams_in_flight_max = stats.streams_in_flight_max.max(most);
    }

    /// Returns the numbers so far; those that others keep are left at 0.
    pub(crate) fn stats(&self, origins: &[String]) -> Stats {
        let connections = self.connections.lock();
        let opened = origins.iter().enumerate().map(|(index, origin)| {
            let opened = connections.get(&index).copied();
            (origin.clone(), opened.unwrap_or_default())
        });
        Stats {
            connections_opened: opened.collect(),
            requests_in_flight_max: self.in_flight.most(),
            ..self.so_far.lock().clone()
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
