//! What is cancelled and forgotten, as the control messages say ([`crate::wire::control`]).
//!
//! Every daemon reads every control message, so what is kept is bounded by number and by age; the oldest
//! goes first. Only digests are kept: of a person who is forgotten, no name stays in memory. A look-up
//! that finds nothing known costs one atomic read.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::RwLock;

use crate::message::{EventId, Name};
use crate::outcome::{Reason, Refusal};
use crate::subscription::{Endpoint, Fingerprint};
use crate::wire::control::{Control, Target};

/// What is cancelled and forgotten.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// How many are kept, so that a look-up takes no lock where there are none.
    count: AtomicUsize,
    table: RwLock<Table>,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many targets are kept, of about 200 bytes each.
    pub targets: usize,
    /// How long each holds after it was asked for.
    pub retention: Duration,
}

/// What one event is recognized by.
#[derive(Clone, Copy, Debug)]
pub struct EventKeys<'a> {
    /// Its application.
    pub app: &'a Name,
    /// Its name.
    pub id: &'a EventId,
    /// Its group.
    pub group: Option<&'a str>,
    /// Its label.
    pub label: Option<&'a Name>,
    /// When it was created: the same on every pass.
    pub created_at: SystemTime,
}

/// What one recipient is recognized by.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecipientKeys<'a> {
    /// The fingerprint of its endpoint as it was given.
    pub given: Option<Fingerprint>,
    /// The fingerprint of its endpoint as it is sent, if that differs.
    pub sent: Option<Fingerprint>,
    /// The producer's name for it.
    pub id: Option<&'a str>,
}

/// What a recipient of an event is recognized by.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Its event.
    pub event: EventKeys<'a>,
    /// Itself.
    pub recipient: RecipientKeys<'a>,
}

impl<'a> RecipientKeys<'a> {
    /// Returns the keys of a recipient with an endpoint and a name, if it has one.
    #[must_use]
    pub fn of(endpoint: &Endpoint, id: Option<&'a str>) -> Self {
        let sent = || Fingerprint::of(endpoint.as_str());
        Self {
            given: Some(endpoint.fingerprint()),
            sent: (!endpoint.is_normal()).then(sent),
            id,
        }
    }
}

/// What became of a control message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// How many targets are kept now.
    pub kept: usize,
    /// How many were dropped before their time, because there were too many.
    pub dropped: usize,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// When each target was asked for, the oldest message first. One that was asked for again stands here
    /// more than once; the last counts.
    order: VecDeque<(SystemTime, Key)>,
    /// How many targets there are of each kind, so that no digest is computed in vain.
    counts: [usize; Kind::COUNT],
}

/// The first half of a SHA-256 of application, kind and name.
type Key = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Event,
    Group,
    Label,
    Subscription,
    Recipient,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    requested_at: SystemTime,
    until: SystemTime,
    /// Only events that were created before then.
    created_before: Option<SystemTime>,
    reason: Option<Box<str>>,
}

impl Withdrawn {
    /// Records a control message at `now`.
    pub fn note(&self, control: Control, bounds: Bounds, now: SystemTime) -> Noted {
        let mut table = self.table.write();
        table.remove_aged(now);
        table.insert(control, bounds.retention, now);
        let mut dropped = 0;
        while table.entries.len() > bounds.targets {
            dropped += usize::from(table.remove_oldest());
        }
        self.shown(&table, dropped)
    }

    /// Removes what no longer holds.
    pub fn remove_aged(&self, now: SystemTime) -> Noted {
        let mut table = self.table.write();
        table.remove_aged(now);
        self.shown(&table, 0)
    }

    fn shown(&self, table: &Table, dropped: usize) -> Noted {
        let kept = table.entries.len();
        self.count.store(kept, Ordering::Release);
        Noted { kept, dropped }
    }

    /// Returns whether nothing is cancelled or forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Returns why an event ends, if it was cancelled.
    #[must_use]
    pub fn event(&self, keys: EventKeys<'_>, now: SystemTime) -> Option<Refusal> {
        if self.is_empty() {
            return None;
        }
        self.table.read().event(keys, now)
    }

    /// Returns why a recipient of an event ends, if either was taken back.
    #[must_use]
    pub fn recipient(
        &self,
        Keys { event, recipient }: Keys<'_>,
        now: SystemTime,
    ) -> Option<Refusal> {
        if self.is_empty() {
            return None;
        }
        let table = self.table.read();
        let forgotten = table.recipient(event.app, recipient, now);
        forgotten.or_else(|| table.event(event, now))
    }
}

impl Table {
    fn insert(&mut self, control: Control, retention: Duration, now: SystemTime) {
        let Control {
            app,
            reason,
            requested_at,
            target,
        } = control;
        let requested_at = requested_at.min(now);
        let until = requested_at.checked_add(retention).unwrap_or(now);
        if until <= now {
            return;
        }
        let (kind, key, mut created_before) = key_of(&app, &target);
        if let Some(known) = self.entries.get_mut(&key) {
            known.created_before = known.created_before.max(created_before);
            if known.requested_at >= requested_at {
                return;
            }
            created_before = known.created_before;
        }
        let entry = Entry {
            kind,
            requested_at,
            until,
            created_before,
            reason,
        };
        self.order.push_back((requested_at, key));
        if self.entries.insert(key, entry).is_none() {
            self.counts[kind as usize] += 1;
        }
        // Nobody can fill the memory by asking for one thing again and again.
        if self.order.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            self.order
                .retain(|(at, key)| entries.get(key).is_some_and(|it| it.requested_at == *at));
        }
    }

    fn remove_aged(&mut self, now: SystemTime) {
        while let Some((at, key)) = self.order.front() {
            let entry = self.entries.get(key);
            let entry = entry.filter(|entry| entry.requested_at == *at);
            if entry.is_some_and(|entry| entry.until > now) {
                return;
            }
            self.remove_oldest();
        }
    }

    /// Removes the first of the order; returns whether a target is gone with it.
    fn remove_oldest(&mut self) -> bool {
        let Some((at, key)) = self.order.pop_front() else {
            return false;
        };
        if self
            .entries
            .get(&key)
            .is_none_or(|it| it.requested_at != at)
        {
            return false;
        }
        let removed = self.entries.remove(&key);
        if let Some(entry) = &removed {
            self.counts[entry.kind as usize] -= 1;
        }
        removed.is_some()
    }

    fn find(&self, app: &Name, kind: Kind, name: &[u8], now: SystemTime) -> Option<&Entry> {
        if self.counts[kind as usize] == 0 {
            return None;
        }
        let entry = self.entries.get(&digest(app, kind, name));
        entry.filter(|entry| entry.until > now)
    }

    fn event(&self, event: EventKeys<'_>, now: SystemTime) -> Option<Refusal> {
        let EventKeys {
            app, created_at, ..
        } = event;
        let of_older = |entry: &&Entry| entry.created_before.is_some_and(|it| created_at < it);
        let find = |kind, name: &str| self.find(app, kind, name.as_bytes(), now);
        if let Some(entry) = find(Kind::Event, event.id.as_str()) {
            return Some(entry.refusal(Reason::Cancelled, "its id was cancelled"));
        }
        let group = event.group.and_then(|name| find(Kind::Group, name));
        if let Some(entry) = group.filter(of_older) {
            return Some(entry.refusal(Reason::Cancelled, "its group was cancelled"));
        }
        let label = event
            .label
            .and_then(|name| find(Kind::Label, name.as_str()));
        let entry = label.filter(of_older)?;
        Some(entry.refusal(Reason::Cancelled, "its label was cancelled"))
    }

    fn recipient(
        &self,
        app: &Name,
        recipient: RecipientKeys<'_>,
        now: SystemTime,
    ) -> Option<Refusal> {
        let fingerprints = [recipient.given, recipient.sent];
        let of = |it: &Fingerprint| self.find(app, Kind::Subscription, it.as_bytes(), now);
        if let Some(entry) = fingerprints.iter().flatten().find_map(of) {
            return Some(entry.refusal(Reason::Forgotten, "its subscription is to be forgotten"));
        }
        let id = recipient.id?.as_bytes();
        let entry = self.find(app, Kind::Recipient, id, now)?;
        Some(entry.refusal(Reason::Forgotten, "its recipient is to be forgotten"))
    }
}

impl Kind {
    const COUNT: usize = Self::Recipient as usize + 1;
}

impl Entry {
    fn refusal(&self, reason: Reason, by: &str) -> Refusal {
        let detail = match &self.reason {
            Some(why) => format!("{by}: {why}"),
            None => by.to_owned(),
        };
        Refusal {
            reason,
            detail: detail.into(),
        }
    }
}

fn key_of(app: &Name, target: &Target) -> (Kind, Key, Option<SystemTime>) {
    let (kind, name, created_before) = match target {
        Target::Event(id) => (Kind::Event, id.as_str().as_bytes(), None),
        Target::Group {
            group,
            created_before,
        } => (Kind::Group, group.as_bytes(), Some(*created_before)),
        Target::Label {
            label,
            created_before,
        } => (
            Kind::Label,
            label.as_str().as_bytes(),
            Some(*created_before),
        ),
        Target::Subscription(it) => (Kind::Subscription, &it.as_bytes()[..], None),
        Target::Recipient(id) => (Kind::Recipient, id.as_bytes(), None),
    };
    (kind, digest(app, kind, name), created_before)
}

fn digest(app: &Name, kind: Kind, name: &[u8]) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(app.as_str().as_bytes());
    // No name of an application has these bytes, so the parts do not run into each other.
    context.update(&[0, kind as u8]);
    context.update(name);
    let mut key = [0; 16];
    key.copy_from_slice(&context.finish().as_ref()[..16]);
    key
}
