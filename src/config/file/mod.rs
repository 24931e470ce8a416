//! The configuration as an operator may write it: what each key means, and its default, is told by
//! `config/pushrider.toml`, which a test holds equal to [`File::default`].
//!
//! Everything has a default or is optional, so that what is missing is judged by meaning and not by
//! shape; every unknown key is an error, because a misspelt one must not silently do nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::text::{Listen, Text};
use crate::config::units::{Count, DAY, KIB, MIB, MILLISECOND, MINUTE, SECOND, Size, Span};
use crate::logging::Format;
use crate::wire::event::EVENT_LIMIT;

mod apps;
mod broker;
mod sending;

pub(super) use self::apps::{App, Key, Padding};
pub(super) use self::broker::{Broker, Delay, Lane};
pub(super) use self::sending::{Gate, Guard, Push, Retry, Service, ServiceRetry};

/// All sections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    pub(in crate::config) broker: Broker,
    pub(in crate::config) lanes: BTreeMap<String, Lane>,
    pub(in crate::config) delay: Delay,
    pub(in crate::config) apps: BTreeMap<String, App>,
    pub(in crate::config) keys: BTreeMap<String, Key>,
    pub(in crate::config) push: Push,
    pub(in crate::config) services: BTreeMap<String, Service>,
    pub(in crate::config) gate: Gate,
    pub(in crate::config) retry: Retry,
    pub(in crate::config) events: Events,
    pub(in crate::config) guard: Guard,
    pub(in crate::config) admin: Admin,
    pub(in crate::config) log: Log,
    pub(in crate::config) shutdown: Shutdown,
}

impl Default for File {
    fn default() -> Self {
        Self {
            broker: Broker::default(),
            lanes: BTreeMap::from([(DEFAULT_LANE.to_owned(), Lane::default())]),
            delay: Delay::default(),
            apps: BTreeMap::new(),
            keys: BTreeMap::new(),
            push: Push::default(),
            services: BTreeMap::new(),
            gate: Gate::default(),
            retry: Retry::default(),
            events: Events::default(),
            guard: Guard::default(),
            admin: Admin::default(),
            log: Log::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// The lane that always exists.
pub(in crate::config) const DEFAULT_LANE: &str = "default";

/// `[events]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Events {
    pub(in crate::config) max_size: Size<KIB, { 128 * MIB }>,
    pub(in crate::config) chunk: Count<10_000>,
    pub(in crate::config) schedule_limit: Span<0, { 365 * DAY }>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            max_size: Size::of(EVENT_LIMIT as u64),
            chunk: Count::of(50),
            schedule_limit: Span::of(30 * DAY),
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Admin {
    pub(in crate::config) listen: Listen,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Listen(Some(([127, 0, 0, 1], 9464).into())),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Log {
    pub(in crate::config) format: Format,
    pub(in crate::config) filter: Text,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            filter: Text("info".to_owned()),
        }
    }
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Shutdown {
    pub(in crate::config) grace: Span<{ 10 * MILLISECOND }, { 15 * MINUTE }>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            grace: Span::of(25 * SECOND),
        }
    }
}
