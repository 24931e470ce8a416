//! The sections about applications and their keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::app::{EndpointForm, Mode, Results};
use crate::config::text::{SecretText, Text, parsed};
use crate::config::units::{Count, HOUR, SECOND, Size, Span};
use crate::message::{MediaType, PLAINTEXT_LIMIT, TTL_LIMIT};
use crate::origin::Service;

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
    pub(in crate::config) progress: bool,
    pub(in crate::config) mode: Mode,
    pub(in crate::config) payload_limit: Size<1, PAYLOAD>,
    pub(in crate::config) payload_limits: BTreeMap<Service, Size<1, PAYLOAD>>,
    pub(in crate::config) max_per_second: Option<Count<100_000>>,
    pub(in crate::config) padding: Padding,
    pub(in crate::config) aesgcm: bool,
    pub(in crate::config) declarative_content_type: MediaType,
    pub(in crate::config) endpoint: EndpointForm,
}

impl Default for App {
    fn default() -> Self {
        Self {
            subject: None,
            primary: None,
            keys: Vec::new(),
            ttl: Span::of(24 * HOUR),
            results: Results::All,
            progress: true,
            mode: Mode::Send,
            payload_limit: Size::of(PAYLOAD),
            payload_limits: BTreeMap::new(),
            max_per_second: None,
            padding: Padding::None,
            aesgcm: false,
            declarative_content_type: MediaType::OctetStream,
            endpoint: EndpointForm::Full,
        }
    }
}

/// `"none"`, `"ceiling"`, or the size of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum Padding {
    None,
    Block(Size<2, PAYLOAD>),
    Ceiling,
}

impl Serialize for Padding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Block(size) => size.serialize(serializer),
            Self::Ceiling => serializer.serialize_str("ceiling"),
        }
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = format!("\"none\", \"ceiling\" or a size from \"2B\" to \"{PAYLOAD}B\"");
        parsed(deserializer, expected, |written| match written.text() {
            Some("none") => Some(Self::None),
            Some("ceiling") => Some(Self::Ceiling),
            _ => Size::parse(written).map(Self::Block),
        })
    }
}

/// `[keys.ID]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Key {
    pub(in crate::config) private_key: Option<SecretText>,
    pub(in crate::config) private_key_file: Option<PathBuf>,
    pub(in crate::config) public_key: Option<Text>,
}
