//! The sections about the broker.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::broker::{ControlMode, Declare};
use crate::config::text::{SecretText, Text};
use crate::config::units::{
    Count, DAY, GIB, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND, Size, Span,
};
use crate::secret::Secret;

/// What a message waiting on the broker may be given at most: its TTLs are 32-bit milliseconds.
const BROKER_TTL: u64 = 49 * DAY;

/// `[broker]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Broker {
    pub(in crate::config) url: SecretText,
    pub(in crate::config) urls: Vec<SecretText>,
    pub(in crate::config) url_file: Option<PathBuf>,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) client_certificate_file: Option<PathBuf>,
    pub(in crate::config) client_key_file: Option<PathBuf>,
    pub(in crate::config) prefix: Text,
    pub(in crate::config) declare: Declare,
    pub(in crate::config) control: ControlMode,
    pub(in crate::config) control_size: Size<MIB, { 1024 * GIB }>,
    pub(in crate::config) control_targets: Count<10_000_000>,
    pub(in crate::config) delivery_limit: Count<1_000_000>,
    pub(in crate::config) heartbeat: Span<SECOND, MINUTE>,
    pub(in crate::config) connect_timeout: Span<{ 10 * MILLISECOND }, { 5 * MINUTE }>,
    pub(in crate::config) confirm_timeout: Span<{ 10 * MILLISECOND }, { 30 * MINUTE }>,
    pub(in crate::config) quarantine_age: Span<SECOND, BROKER_TTL>,
    pub(in crate::config) unrouted_messages: Count<{ u32::MAX }>,
    pub(in crate::config) unrouted_age: Span<SECOND, BROKER_TTL>,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            url: SecretText(Secret::new("amqp://127.0.0.1:5672".to_owned())),
            urls: Vec::new(),
            url_file: None,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            prefix: Text("webpush".to_owned()),
            declare: Declare::Create,
            control: ControlMode::On,
            control_size: Size::of(64 * MIB),
            control_targets: Count::of(100_000),
            delivery_limit: Count::of(20),
            heartbeat: Span::of(10 * SECOND),
            connect_timeout: Span::of(10 * SECOND),
            confirm_timeout: Span::of(30 * SECOND),
            quarantine_age: Span::of(14 * DAY),
            unrouted_messages: Count::of(100_000),
            unrouted_age: Span::of(24 * HOUR),
        }
    }
}

/// `[lanes.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Lane {
    pub(in crate::config) prefetch: Count<65_535>,
    pub(in crate::config) due_prefetch: Count<65_535>,
    pub(in crate::config) max_size: Option<Size<{ 64 * KIB }, { 1024 * GIB }>>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            prefetch: Count::of(1000),
            due_prefetch: Count::of(200),
            max_size: None,
        }
    }
}

/// One delay band.
pub(in crate::config) type Band = Span<MILLISECOND, BROKER_TTL>;

/// `[delay]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Delay {
    pub(in crate::config) bands: Vec<Band>,
    pub(in crate::config) probe: bool,
    pub(in crate::config) probe_interval: Span<{ 100 * MILLISECOND }, DAY>,
}

impl Default for Delay {
    fn default() -> Self {
        let seconds = [1, 2, 4, 8, 15, 30].map(|n| n * SECOND);
        let minutes = [1, 2, 4, 8, 15, 30].map(|n| n * MINUTE);
        let hours = [1, 2, 4, 8, 16, 24].map(|n| n * HOUR);
        Self {
            bands: [seconds, minutes, hours]
                .concat()
                .into_iter()
                .map(Span::of)
                .collect(),
            probe: true,
            probe_interval: Span::of(MINUTE),
        }
    }
}
