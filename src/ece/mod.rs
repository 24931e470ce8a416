//! Message encryption for Web Push (RFC 8291): only the user agent can read what it is sent.
//!
//! Why a sender key and a salt are handed over and not made inside: the vectors of the RFC can be
//! checked byte for byte, and because [`SenderKey`] and [`Salt`] cannot be copied and encrypting
//! takes them away, no two messages can share them. Reusing a sender key would save 9 µs and
//! cost what RFC 8291 §3.1 asks for.

use std::num::NonZeroU16;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::subscription::UserAgentKey;

pub mod aes128gcm;
pub mod aesgcm;

/// The length of an uncompressed P-256 point.
const POINT_LENGTH: usize = 65;

/// The key pair of one message: the ephemeral half of the key agreement (RFC 8291 §3.1).
#[derive(derive_more::Debug)]
#[debug("SenderKey(..)")]
pub struct SenderKey {
    private: PrivateKey,
    public: [u8; POINT_LENGTH],
}

impl SenderKey {
    /// Generates a key pair.
    ///
    /// # Errors
    /// If the random number generator fails.
    pub fn generate() -> Result<Self, EceError> {
        let private = PrivateKey::generate(&ECDH_P256)
            .map_err(|Unspecified| EceError::Library("make a sender key"))?;
        Self::of(private)
    }

    /// Reads a private scalar of 32 big-endian bytes, for vectors.
    #[cfg(test)]
    fn from_scalar(scalar: &[u8; 32]) -> Result<Self, EceError> {
        let private = PrivateKey::from_private_key(&ECDH_P256, scalar)
            .map_err(|_rejected| EceError::Library("read the sender key"))?;
        Self::of(private)
    }

    /// Returns the 65 bytes of the uncompressed public point, which the message carries.
    #[must_use]
    pub fn public_key(&self) -> &[u8; POINT_LENGTH] {
        &self.public
    }

    fn of(private: PrivateKey) -> Result<Self, EceError> {
        let failed = EceError::Library("compute the sender's public key");
        let Ok(computed) = private.compute_public_key() else {
            return Err(failed);
        };
        let Ok(public) = computed.as_ref().try_into() else {
            return Err(failed);
        };
        Ok(Self { private, public })
    }

    /// Agrees on a secret with the user agent and lends it to `derive`.
    fn agree<T>(
        &self,
        with: &UserAgentKey,
        derive: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, EceError> {
        let failed = EceError::Library("agree on a key");
        agreement::agree(&self.private, with.point().clone(), failed, |secret| {
            Ok(derive(secret))
        })
    }
}

/// The salt of one message (RFC 8188 §2.1).
#[derive(Debug, derive_more::From)]
pub struct Salt([u8; 16]);

impl Salt {
    /// Draws a fresh salt.
    ///
    /// # Errors
    /// If the random number generator fails.
    pub fn random() -> Result<Self, EceError> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|Unspecified| EceError::Library("draw a salt"))?;
        Ok(Self(bytes))
    }
}

/// How the length of a plaintext is hidden from the push service (RFC 8291 §2.1, RFC 8188 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Not at all.
    #[default]
    None,
    /// Plaintext and padding together are a multiple of so many bytes.
    ToBlock(NonZeroU16),
    /// Every message is as long as the longest.
    ToCeiling,
}

impl Padding {
    /// Returns how many bytes of padding a plaintext of `length` bytes gets, so that both together
    /// are not over `ceiling`, the longest plaintext that is sent.
    #[must_use]
    pub fn bytes(self, length: usize, ceiling: usize) -> usize {
        let padded = match self {
            Self::None => length,
            Self::ToBlock(block) => length.next_multiple_of(block.get().into()).min(ceiling),
            Self::ToCeiling => ceiling,
        };
        padded.saturating_sub(length)
    }
}

/// Why a message could not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EceError {
    /// Plaintext and padding do not fit the one record a push message has.
    #[error(
        "the payload and its padding are {length} bytes long; at most {limit} fit once encrypted"
    )]
    TooLong {
        /// Their length together.
        length: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The cryptography library could not do its part; says which.
    #[error("the cryptography library failed to {0}")]
    Library(&'static str),
}

/// The length of the tag behind a record.
const TAG_LENGTH: usize = 16;

/// Checks that plaintext and padding fit; returns their length together.
fn fitting(plaintext: usize, padding: usize, limit: usize) -> Result<usize, EceError> {
    let length = plaintext.saturating_add(padding);
    if length > limit {
        return Err(EceError::TooLong { length, limit });
    }
    Ok(length)
}

/// The key and nonce that one record is sealed with (RFC 8188 §2.2, §2.3).
struct ContentKey {
    key: Zeroizing<[u8; 16]>,
    nonce: [u8; 12],
}

impl ContentKey {
    /// Derives both from the input keying material, as the two encodings do, each with info
    /// strings of its own that end in the counter byte 1.
    fn derive(ikm: &[u8; 32], salt: &Salt, key_info: &[u8], nonce_info: &[u8]) -> Self {
        let prk: Zeroizing<[u8; 32]> = hmac_sha256(&mac_key(&salt.0), ikm);
        let prk = mac_key(&*prk);
        Self {
            key: hmac_sha256(&prk, key_info),
            nonce: *hmac_sha256(&prk, nonce_info),
        }
    }
}

/// Encrypts a record in place and returns its tag.
fn seal(content: &ContentKey, record: &mut [u8]) -> Result<[u8; TAG_LENGTH], EceError> {
    try_seal(content, record).map_err(|Unspecified| EceError::Library("seal a record"))
}

fn try_seal(content: &ContentKey, record: &mut [u8]) -> Result<[u8; TAG_LENGTH], Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &*content.key)?);
    let nonce = Nonce::assume_unique_for_key(content.nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), record)?;
    tag.as_ref().try_into().map_err(|_length| Unspecified)
}

fn mac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// Returns the first `N` bytes of an HMAC, at most 32: HKDF-Extract, and HKDF-Expand where `data`
/// is an info string and its counter byte (RFC 5869 §2).
fn hmac_sha256<const N: usize>(key: &hmac::Key, data: &[u8]) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    bytes.copy_from_slice(&hmac::sign(key, data).as_ref()[..N]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::subscription::{AuthSecret, Keys, decode_base64};

    /// A user agent, which can decrypt.
    pub(super) struct Receiver {
        pub(super) private: PrivateKey,
        pub(super) keys: Keys,
    }

    impl Receiver {
        pub(super) fn new() -> Self {
            Self::of(PrivateKey::generate(&ECDH_P256).unwrap(), [7; 16])
        }

        pub(super) fn of(private: PrivateKey, auth: [u8; 16]) -> Self {
            let public = private.compute_public_key().unwrap();
            let keys = Keys {
                p256dh: UserAgentKey::from_bytes(public.as_ref()).unwrap(),
                auth: AuthSecret::new(auth),
            };
            Self { private, keys }
        }
    }

    /// Reads the members of a vector that are bytes.
    pub(super) fn vector(text: &str) -> HashMap<String, Vec<u8>> {
        let members: HashMap<String, String> = serde_json::from_str(text).unwrap();
        let decoded = |(name, value): (String, String)| Some((name, decode_base64(&value)?));
        members.into_iter().filter_map(decoded).collect()
    }

    pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap()
    }

    #[test]
    fn padding_hides_lengths_and_never_goes_over_the_ceiling() {
        let block = |block| Padding::ToBlock(NonZeroU16::new(block).unwrap());
        for (padding, length, ceiling, bytes) in [
            (Padding::None, 300, 3993, 0),
            (Padding::ToCeiling, 300, 3993, 3693),
            (Padding::ToCeiling, 0, 2744, 2744),
            (Padding::ToCeiling, 3993, 3993, 0),
            (block(256), 300, 3993, 212),
            (block(256), 0, 3993, 0),
            (block(256), 512, 3993, 0),
            (block(256), 3900, 3993, 93),
            (block(u16::MAX), 1, 100, 99),
            // A plaintext over the ceiling is somebody else's to refuse.
            (block(256), 300, 200, 0),
            (Padding::ToCeiling, 300, 200, 0),
        ] {
            assert_eq!(
                padding.bytes(length, ceiling),
                bytes,
                "{padding:?} {length}"
            );
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(
            format!("{:?}", SenderKey::generate().unwrap()),
            "SenderKey(..)"
        );
    }
}
