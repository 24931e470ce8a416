//! An application server key, in whatever form its maker wrote it down.
//!
//! Why so many forms: the key outlives the program that made it, because subscriptions are bound to
//! it. Every tool of the field writes another one, and a team that moves here must not have to
//! convert, let alone lose, the key of all its subscribers.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, Signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::message::Name;
use crate::secret::Secret;
use crate::subscription::encode_base64url;

use super::key_error::KeyError;
use super::key_form;

/// The length of an uncompressed P-256 point.
const POINT_LENGTH: usize = 65;

/// An application server key (RFC 8292 §2): a private key on P-256 and its name.
#[derive(derive_more::Debug)]
#[debug("VapidKey({})", id.name)]
pub struct VapidKey {
    id: KeyId,
    pair: EcdsaKeyPair,
    encoded: String,
}

/// What tells one key from every other, even from one that had its name before.
#[derive(Clone, PartialEq, Eq, derive_more::Debug)]
#[debug("KeyId({name})")]
pub struct KeyId {
    /// The name.
    pub name: Name,
    public: [u8; POINT_LENGTH],
}

impl VapidKey {
    /// Reads a private key in any of the forms that [`key_form`] lists.
    ///
    /// # Errors
    /// If it is no private key on P-256, or the public key written beside it belongs to another
    /// one. The error says what was found instead, and never repeats any of it.
    pub fn parse(name: Name, text_or_der: &[u8]) -> Result<Self, KeyError> {
        Self::of(name, key_form::read(text_or_der)?)
    }

    /// Returns whether `text` is the public half of this key, as base64url, base64, hex, PEM or DER.
    #[must_use]
    pub fn has_public_half(&self, text: &str) -> bool {
        key_form::is_public_half(text, &self.id.public)
    }

    /// Generates a key.
    ///
    /// # Errors
    /// If the cryptography library fails.
    pub fn generate(name: Name) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|Unspecified| KeyError::Library)?;
        Self::of(name, pair)
    }

    /// Writes the private key as PKCS#8 in PEM, which every tool reads.
    ///
    /// # Errors
    /// If the cryptography library fails.
    pub fn to_pkcs8_pem(&self) -> Result<Secret<String>, KeyError> {
        let der = self
            .pair
            .to_pkcs8v1()
            .map_err(|Unspecified| KeyError::Library)?;
        let encoded = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let mut pem = String::with_capacity(encoded.len() + 64);
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(Secret::new(pem))
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.id.name
    }

    /// Returns what tells the key from every other.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Returns the public key as an uncompressed point of 65 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8; POINT_LENGTH] {
        &self.id.public
    }

    /// Returns the public key as pages pass it to `subscribe` and as `k=` carries it.
    #[must_use]
    pub fn public_key_base64url(&self) -> &str {
        &self.encoded
    }

    /// Signs with ES256: r and s of 32 bytes each (RFC 7518 §3.4).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Signature, Unspecified> {
        self.pair.sign(&SystemRandom::new(), message)
    }

    fn of(name: Name, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let Ok(public) = pair.public_key().as_ref().try_into() else {
            return Err(KeyError::Library);
        };
        let encoded = encode_base64url(pair.public_key().as_ref());
        Ok(Self {
            id: KeyId { name, public },
            pair,
            encoded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_back_from_its_pem() {
        let key = VapidKey::generate(Name::parse("main").unwrap()).unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.expose().lines().all(|line| line.len() <= 64));
        let again = VapidKey::parse(key.name().clone(), pem.expose().as_bytes()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(key.public_key_base64url().len(), 87);
    }

    #[test]
    fn debug_shows_the_name_alone() {
        assert_eq!(
            format!(
                "{:?}",
                VapidKey::generate(Name::parse("main").unwrap()).unwrap()
            ),
            "VapidKey(main)"
        );
    }
}
