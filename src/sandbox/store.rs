//! Subscriptions in the state directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::rand;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::decrypt::ReceiverKeys;
use super::dialect::Dialect;
use super::subscribe::{SubscribeError, SubscribeRequest};
use crate::subscription::{Endpoint, decode_base64, encode_base64url};

/// A subscription as the state directory keeps it, one line of JSON each; its script is not kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) id: Option<String>,
    pub(crate) origin: usize,
    pub(crate) path: String,
    private: String,
    auth: String,
    pub(crate) application_server_key: Option<String>,
}

impl Stored {
    /// Creates keys and a path for a new subscription at `origin`.
    pub(crate) fn make(
        request: &SubscribeRequest,
        origin: &str,
        dialect: &Dialect,
    ) -> Result<Self, SubscribeError> {
        let private = PrivateKey::generate(&ECDH_P256)?;
        let scalar: EcPrivateKeyBin<'static> = private.as_be_bytes()?;
        let (mut token, mut auth) = ([0; 32], [0; 16]);
        rand::fill(&mut token)?;
        rand::fill(&mut auth)?;
        let token = encode_base64url(&token);
        let path = match &request.path {
            None => (dialect.path)(&token),
            Some(path) if path.contains("{token}") => path.replace("{token}", &token),
            Some(_) => return Err(SubscribeError::Path),
        };
        let endpoint = format!("{origin}{path}");
        // What a browser would not hand out, no sender need accept.
        if !path.starts_with('/') || Endpoint::parse(&endpoint).is_err() {
            return Err(SubscribeError::Path);
        }
        Ok(Self {
            id: None,
            origin: request.origin,
            path,
            private: encode_base64url(scalar.as_ref()),
            auth: encode_base64url(&auth),
            application_server_key: request.application_server_key.clone(),
        })
    }

    /// Returns the keys, if they are keys.
    pub(crate) fn keys(&self) -> Option<ReceiverKeys> {
        let auth = decode_base64(&self.auth)?.try_into().ok()?;
        ReceiverKeys::new(&decode_base64(&self.private)?, auth)
    }
}

/// The file that holds them, one line for each.
#[derive(Debug)]
pub(crate) struct StateFile(Mutex<File>);

impl StateFile {
    /// Opens the file, and returns the subscriptions of earlier runs.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<Stored>)> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let stored = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        Ok((Self(Mutex::new(file)), stored))
    }

    /// Adds a subscription.
    pub(crate) fn append(&self, stored: &Stored) -> io::Result<()> {
        let line = serde_json::to_string(stored)? + "\n";
        let mut file = self.0.lock();
        file.write_all(line.as_bytes())
    }
}
