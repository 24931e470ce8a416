//! The gates by origin: bounded, because anybody can choose endpoints.
//!
//! Origins never share a gate: the pause of one must not hold back another. When the table is full, the
//! gates that are worth least are evicted ([`Worth`]): first those of hosts that never
//! answered, such as names made up below the domain of a large push service, then those of unlisted
//! hosts. Listed origins that have answered go last. Forgetting a breaker or a pause costs the origin
//! a few requests, after which it is known again; gates with requests under way are never forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::origin::Origin;

use super::origin_gate::{OriginGate, Worth};

/// The gates by origin.
#[derive(Debug)]
pub(super) struct Table {
    gates: RwLock<Gates>,
    limit: usize,
}

#[derive(Debug)]
struct Gates {
    by_origin: HashMap<Origin, Arc<OriginGate>>,
    swept_at: Option<Instant>,
}

/// How long an unused origin is remembered, while there is room.
const IDLE: Duration = Duration::from_secs(600);

/// How often the table is searched for unused origins.
const SWEEP: Duration = Duration::from_secs(60);

/// A full table forgets one origin in so many at once, so that the search for them is rare.
const SHARE_FORGOTTEN: usize = 8;

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            gates: RwLock::new(Gates {
                by_origin: HashMap::new(),
                swept_at: None,
            }),
            limit,
        }
    }

    /// Returns the gate of an origin, which is made by `make` if there is none.
    pub(super) fn gate(
        &self,
        origin: &Origin,
        now: Instant,
        make: impl FnOnce() -> OriginGate,
    ) -> Arc<OriginGate> {
        let known = self.gates.read();
        if let Some(gate) = known.by_origin.get(origin) {
            return Arc::clone(gate);
        }
        drop(known);
        let mut gates = self.gates.write();
        gates.forget_unused(now);
        if let Some(gate) = gates.by_origin.get(origin) {
            return Arc::clone(gate);
        }
        if gates.by_origin.len() >= self.limit {
            gates.forget_least(self.limit.div_ceil(SHARE_FORGOTTEN), now);
        }
        let gate = Arc::new(make());
        gates.by_origin.insert(origin.clone(), Arc::clone(&gate));
        gate
    }

    /// Calls `change` with every gate.
    pub(super) fn for_each(&self, change: impl Fn(&OriginGate)) {
        let gates = self.gates.read();
        gates.by_origin.values().for_each(|gate| change(gate));
    }

    /// Returns how many origins are remembered.
    pub(super) fn len(&self) -> usize {
        let gates = self.gates.read();
        gates.by_origin.len()
    }
}

impl Gates {
    /// Evicts idle origins, unless that was done recently.
    fn forget_unused(&mut self, now: Instant) {
        let swept_lately = |at| now.saturating_duration_since(at) < SWEEP;
        if self.swept_at.is_some_and(swept_lately) {
            return;
        }
        self.swept_at = Some(now);
        self.by_origin
            .retain(|_, gate| is_held(gate) || !gate.is_unused(IDLE, now));
    }

    /// Evicts up to `count` origins, those that are worth least.
    fn forget_least(&mut self, count: usize, now: Instant) {
        let idle = self.by_origin.iter().filter(|(_, gate)| !is_held(gate));
        let mut idle: Vec<(Worth, Origin)> = idle
            .filter_map(|(origin, gate)| Some((gate.worth(now)?, origin.clone())))
            .collect();
        if count < idle.len() {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, origin) in idle {
            self.by_origin.remove(&origin);
        }
    }
}

/// Returns whether a request has the gate or is about to enter it.
fn is_held(gate: &Arc<OriginGate>) -> bool {
    Arc::strong_count(gate) > 1
}
