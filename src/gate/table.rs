//! The origins that are remembered: bounded, because strangers choose them.
//!
//! Who has not been used for a while is forgotten; when there is no more room, whoever is at rest.
//! An open breaker and a pause are not: forgetting them would send everybody there again. A table
//! that is full of those is an attack, or an outage of half the world; origins it has no room for
//! share one gate.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::origin::Origin;

use super::origin_gate::OriginGate;

/// The gates by origin.
#[derive(Debug)]
pub(super) struct Table {
    gates: RwLock<Gates>,
    limit: usize,
}

#[derive(Debug)]
struct Gates {
    by_origin: HashMap<Origin, Arc<OriginGate>>,
    /// Who found no room shares this one.
    shared: Option<Arc<OriginGate>>,
    swept_at: Option<Instant>,
}

/// How long an unused origin is remembered, while there is room.
const IDLE: Duration = Duration::from_secs(600);

/// How often the table is searched for what may be forgotten: it takes time while others wait.
const SWEEP: Duration = Duration::from_secs(60);

/// The same for a table that is full.
const SWEEP_FULL: Duration = Duration::from_secs(1);

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            gates: RwLock::new(Gates {
                by_origin: HashMap::new(),
                shared: None,
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
        let known = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = known.by_origin.get(origin) {
            return Arc::clone(gate);
        }
        drop(known);
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        gates.sweep(self.limit, now);
        if let Some(gate) = gates.by_origin.get(origin) {
            return Arc::clone(gate);
        }
        if gates.by_origin.len() >= self.limit {
            return Arc::clone(gates.shared.get_or_insert_with(|| Arc::new(make())));
        }
        let gate = Arc::new(make());
        gates.by_origin.insert(origin.clone(), Arc::clone(&gate));
        gate
    }

    /// Returns how many origins are remembered.
    pub(super) fn len(&self) -> usize {
        let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        gates.by_origin.len()
    }
}

impl Gates {
    /// Forgets what was not used for a while; if there is no room even so, all that is at rest.
    fn sweep(&mut self, limit: usize, now: Instant) {
        let is_full = self.by_origin.len() >= limit;
        let pause = if is_full { SWEEP_FULL } else { SWEEP };
        let swept_lately = |at| now.saturating_duration_since(at) < pause;
        if self.swept_at.is_some_and(swept_lately) {
            return;
        }
        self.swept_at = Some(now);
        self.forget(IDLE, now);
        if self.by_origin.len() >= limit {
            self.forget(Duration::ZERO, now);
        }
    }

    fn forget(&mut self, idle: Duration, now: Instant) {
        self.by_origin.retain(|_, gate| {
            // Somebody who holds it is about to enter, or has.
            Arc::strong_count(gate) > 1 || !gate.is_forgettable(idle, now)
        });
    }
}
