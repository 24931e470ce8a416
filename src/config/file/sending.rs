//! The sections about sending to push services.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::hosts::{Allowed, Denied, Family, Hosts};
use crate::config::text::SecretText;
use crate::config::units::{Count, DAY, HOUR, MILLISECOND, MINUTE, SECOND, Span};

/// `[push]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Push {
    pub(in crate::config) timeout: Span<{ 10 * MILLISECOND }, { 5 * MINUTE }>,
    pub(in crate::config) connect_timeout: Span<{ 10 * MILLISECOND }, { 5 * MINUTE }>,
    pub(in crate::config) idle_timeout: Span<SECOND, { 24 * HOUR }>,
    pub(in crate::config) connections_per_origin: Count<100>,
    pub(in crate::config) requests_per_connection: Count<10_000>,
    pub(in crate::config) in_flight: Count<100_000>,
    pub(in crate::config) per_origin: Count<100_000>,
    pub(in crate::config) max_wait: Span<0, { 10 * SECOND }>,
    pub(in crate::config) requests_per_second: Option<Count<100_000>>,
    pub(in crate::config) replace_duplicates: bool,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) proxy: Option<SecretText>,
    pub(in crate::config) proxy_file: Option<PathBuf>,
    pub(in crate::config) state_dir: Option<PathBuf>,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            timeout: Span::of(20 * SECOND),
            connect_timeout: Span::of(5 * SECOND),
            idle_timeout: Span::of(5 * MINUTE),
            connections_per_origin: Count::of(4),
            requests_per_connection: Count::of(100),
            in_flight: Count::of(1000),
            per_origin: Count::of(400),
            max_wait: Span::of(SECOND),
            requests_per_second: None,
            replace_duplicates: false,
            ca_file: None,
            proxy: None,
            proxy_file: None,
            state_dir: None,
        }
    }
}

/// `[gate]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Gate {
    pub(in crate::config) failures: Count<1000>,
    pub(in crate::config) open: Span<MILLISECOND, HOUR>,
    pub(in crate::config) open_cap: Span<MILLISECOND, DAY>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            failures: Count::of(10),
            open: Span::of(5 * SECOND),
            open_cap: Span::of(5 * MINUTE),
        }
    }
}

/// `[retry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Retry {
    pub(in crate::config) max_attempts: Count<1000>,
    pub(in crate::config) base: Span<MILLISECOND, DAY>,
    pub(in crate::config) cap: Span<MILLISECOND, { 28 * DAY }>,
    pub(in crate::config) retry_after_cap: Span<SECOND, { 28 * DAY }>,
    pub(in crate::config) services: BTreeMap<String, ServiceRetry>,
}

/// `[retry.services.FAMILY]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ServiceRetry {
    pub(in crate::config) max_attempts: Option<Count<1000>>,
    pub(in crate::config) base: Option<Span<MILLISECOND, DAY>>,
    pub(in crate::config) cap: Option<Span<MILLISECOND, { 28 * DAY }>>,
    pub(in crate::config) retry_after_cap: Option<Span<SECOND, { 28 * DAY }>>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: Count::of(10),
            base: Span::of(5 * SECOND),
            cap: Span::of(10 * MINUTE),
            retry_after_cap: Span::of(24 * HOUR),
            services: BTreeMap::new(),
        }
    }
}

/// `[guard]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Guard {
    pub(in crate::config) hosts: Hosts,
    pub(in crate::config) allow: Vec<Allowed>,
    pub(in crate::config) deny: Vec<Denied>,
    pub(in crate::config) ports: Vec<Count<65_535>>,
    pub(in crate::config) http: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            hosts: Hosts::Public,
            allow: Vec::new(),
            deny: Vec::new(),
            ports: vec![Count::of(443)],
            http: false,
        }
    }
}

/// `[services."ORIGIN"]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Service {
    #[serde(rename = "as")]
    pub(in crate::config) family: Option<Family>,
}
