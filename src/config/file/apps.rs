//! The sections about applications and their keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::text::{SecretText, Text};
use crate::config::units::{HOUR, SECOND, Size, Span};
use crate::message::{PLAINTEXT_LIMIT, TTL_LIMIT};

const PAYLOAD: u64 = PLAINTEXT_LIMIT as u64;
const TTL: u64 = TTL_LIMIT as u64 * SECOND;

/// `[apps.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct App {
    pub(in crate::config) subject: Option<Text>,
    pub(in crate::config) primary: Option<Text>,
    pub(in crate::config) keys: Vec<Text>,
    pub(in crate::config) ttl: Span<0, TTL>,
    pub(in crate::config) results: Results,
    pub(in crate::config) mode: Mode,
    pub(in crate::config) payload_limit: Size<1, PAYLOAD>,
    pub(in crate::config) endpoint: Endpoint,
}

impl Default for App {
    fn default() -> Self {
        Self {
            subject: None,
            primary: None,
            keys: Vec::new(),
            ttl: Span::of(24 * HOUR),
            results: Results::All,
            mode: Mode::Send,
            payload_limit: Size::of(PAYLOAD),
            endpoint: Endpoint::Full,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Results {
    All,
    Failures,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Mode {
    Send,
    DryRun,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Endpoint {
    Full,
    Fingerprint,
}

/// `[keys.ID]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Key {
    pub(in crate::config) private_key: Option<SecretText>,
    pub(in crate::config) private_key_file: Option<PathBuf>,
}
