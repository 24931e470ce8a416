//! Decryption as RFC 8291 and RFC 8188 write it down, step by step.
//!
//! It shares no line with [`crate::ece`]: a double that undoes the sender's steps with the sender's
//! code would agree with every mistake in them. What is wrong is named, because a browser that
//! cannot decrypt a push says nothing to anyone.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hmac::{self, HMAC_SHA256};

/// The length of an uncompressed P-256 point.
pub(crate) const POINT_LENGTH: usize = 65;

const SALT_LENGTH: usize = 16;
/// salt ‖ rs ‖ idlen (RFC 8188 §2.1).
const FIXED_HEADER: usize = SALT_LENGTH + 4 + 1;
const TAG_LENGTH: usize = 16;
/// The smallest record: one delimiter and a tag (RFC 8188 §2.1).
const SMALLEST_RECORD: usize = TAG_LENGTH + 2;

/// What a user agent keeps for one subscription (RFC 8291 §2).
pub(crate) struct ReceiverKeys {
    private: PrivateKey,
    public: [u8; POINT_LENGTH],
    auth: [u8; 16],
}

impl ReceiverKeys {
    /// Creates keys for a new subscription from a private scalar and an authentication secret.
    pub(crate) fn new(scalar: &[u8], auth: [u8; 16]) -> Option<Self> {
        let private = PrivateKey::from_private_key(&ECDH_P256, scalar).ok()?;
        let public = private.compute_public_key().ok()?;
        Some(Self {
            public: public.as_ref().try_into().ok()?,
            private,
            auth,
        })
    }

    /// Returns `p256dh`, uncompressed.
    pub(crate) fn public(&self) -> &[u8; POINT_LENGTH] {
        &self.public
    }

    /// Returns the authentication secret.
    pub(crate) fn auth(&self) -> &[u8; 16] {
        &self.auth
    }

    /// Opens the body of a push (RFC 8291 §3).
    ///
    /// A body of several records is taken, as browsers take it, though RFC 8291 §4 asks for one.
    pub(crate) fn decrypt(&self, body: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let coded = Coded::parse(body)?;
        let sender = coded.keyid;
        if sender.len() != POINT_LENGTH || sender[0] != 4 {
            return Err(DecryptError::SenderKeyForm(sender.len()));
        }
        let shared = self.agree(sender)?;
        let info = [b"WebPush: info\0", &self.public[..], sender].concat();
        let keying_material = expand(&extract(&self.auth, &shared), &info);
        coded.open(&keying_material)
    }

    /// Agrees on a secret with the sender of a push (RFC 8291 §3.1).
    pub(crate) fn agree(&self, sender: &[u8]) -> Result<Vec<u8>, DecryptError> {
        agreement::agree(
            &self.private,
            UnparsedPublicKey::new(&ECDH_P256, sender),
            DecryptError::SenderKeyPoint,
            |shared| Ok(shared.to_vec()),
        )
    }
}

/// A body in the `aes128gcm` content coding, taken apart (RFC 8188 §2).
struct Coded<'a> {
    salt: &'a [u8],
    record_size: usize,
    keyid: &'a [u8],
    records: &'a [u8],
}

impl<'a> Coded<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, DecryptError> {
        let truncated = DecryptError::Truncated(body.len());
        let (fixed, rest) = body.split_at_checked(FIXED_HEADER).ok_or(truncated)?;
        let size = [fixed[16], fixed[17], fixed[18], fixed[19]];
        let (keyid, records) = rest
            .split_at_checked(usize::from(fixed[20]))
            .ok_or(DecryptError::Truncated(body.len()))?;
        let record_size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if record_size < SMALLEST_RECORD {
            return Err(DecryptError::RecordSize(record_size));
        }
        Ok(Self {
            salt: &fixed[..SALT_LENGTH],
            record_size,
            keyid,
            records,
        })
    }

    /// Opens every record with keys derived from `keying_material` (RFC 8188 §2.2, §2.3).
    fn open(&self, keying_material: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let pseudorandom = extract(self.salt, keying_material);
        let key = expand(&pseudorandom, b"Content-Encoding: aes128gcm\0");
        let base = expand(&pseudorandom, b"Content-Encoding: nonce\0");
        let key = UnboundKey::new(&AES_128_GCM, &key[..16]).map_err(|_| DecryptError::Key)?;
        let key = LessSafeKey::new(key);
        if self.records.is_empty() {
            return Err(DecryptError::NoRecord);
        }
        let mut plaintext = Vec::with_capacity(self.records.len());
        let count = self.records.len().div_ceil(self.record_size);
        for (sequence, record) in self.records.chunks(self.record_size).enumerate() {
            let opened = open_record(&key, nonce(&base, sequence), record, sequence)?;
            let content = unpad(&opened, sequence, sequence + 1 == count)?;
            plaintext.extend_from_slice(content);
        }
        Ok(plaintext)
    }
}

/// Opens one record; `sequence` names it in the error.
pub(crate) fn open_record(
    key: &LessSafeKey,
    nonce: Nonce,
    record: &[u8],
    sequence: usize,
) -> Result<Vec<u8>, DecryptError> {
    let mut opened = record.to_vec();
    let length = key
        .open_in_place(nonce, Aad::empty(), &mut opened)
        .map_err(|_| DecryptError::Authentication(sequence))?
        .len();
    opened.truncate(length);
    Ok(opened)
}

/// Removes the padding and its delimiter: 2 ends the last record, 1 every other (RFC 8188 §2).
fn unpad(opened: &[u8], sequence: usize, last: bool) -> Result<&[u8], DecryptError> {
    let delimiter = opened
        .iter()
        .rposition(|byte| *byte != 0)
        .ok_or(DecryptError::NoDelimiter(sequence))?;
    match (opened[delimiter], last) {
        (2, true) | (1, false) => Ok(&opened[..delimiter]),
        (1, true) => Err(DecryptError::Unfinished),
        (2, false) => Err(DecryptError::AfterTheLast(sequence)),
        (other, _) => Err(DecryptError::Delimiter(other, sequence)),
    }
}

/// The nonce of a record: the derived one, its number added by XOR (RFC 8188 §2.3).
fn nonce(base: &[u8; 32], sequence: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&base[..12]);
    let number = u64::try_from(sequence).unwrap_or(u64::MAX).to_be_bytes();
    for (byte, digit) in nonce[4..].iter_mut().zip(number) {
        *byte ^= digit;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// HKDF-Extract (RFC 5869 §2.2).
pub(crate) fn extract(salt: &[u8], input: &[u8]) -> [u8; 32] {
    hmac_sha256(salt, &[input])
}

/// HKDF-Expand to one block (RFC 5869 §2.3); every key here is a prefix of it.
pub(crate) fn expand(pseudorandom: &[u8; 32], info: &[u8]) -> [u8; 32] {
    hmac_sha256(pseudorandom, &[info, &[1]])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// Why a body is not an encrypted push for this subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// Ends before its header does.
    #[error("the body ({0} bytes) is shorter than its aes128gcm header (RFC 8188 §2.1)")]
    Truncated(usize),
    /// A record size that no plaintext fits.
    #[error("the record size is {0}; RFC 8188 §2.1 asks for 18 or more")]
    RecordSize(usize),
    /// A key identifier that is no point.
    #[error("keyid must be the sender's uncompressed P-256 point of 65 bytes; it has {0} bytes")]
    SenderKeyForm(usize),
    /// A point that is not on the curve.
    #[error("keyid is not a point on the P-256 curve")]
    SenderKeyPoint,
    /// A header and nothing behind it.
    #[error("there is no record after the header")]
    NoRecord,
    /// A tag that does not fit.
    #[error(
        "record {0} does not authenticate: it was encrypted for another p256dh or auth, or changed"
    )]
    Authentication(usize),
    /// Zeros only.
    #[error("record {0} has no padding delimiter (RFC 8188 §2)")]
    NoDelimiter(usize),
    /// A last byte that is neither 1 nor 2.
    #[error("record {1} ends with the delimiter {0}; only 1 and 2 are defined (RFC 8188 §2)")]
    Delimiter(u8, usize),
    /// The record that ends the message is missing.
    #[error("the last record has the delimiter 1, which says that another one follows")]
    Unfinished,
    /// Records behind the end.
    #[error("record {0} has the delimiter 2 of the last record, and more bytes follow")]
    AfterTheLast(usize),
    /// A header of `aesgcm` does not say what is needed.
    #[error("{header} must have {name}= once, in base64url without padding, for aesgcm")]
    Parameter {
        /// The header.
        header: &'static str,
        /// The parameter.
        name: &'static str,
    },
    /// Padding of `aesgcm` that is longer than the record, or not zero.
    #[error("the record must begin with the length of its padding in two bytes, and as many zeros")]
    Padding,
    /// The derived key was refused.
    #[error("the derived key was refused")]
    Key,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::decode_base64;

    fn bytes(text: &str) -> Vec<u8> {
        decode_base64(text).unwrap()
    }

    // RFC 8188 §3.1, §3.2.
    const WALRUS_KEY: &str = "yqdlZ-tYemfogSmv7Ws5PQ";
    const WALRUS: &str = "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg";
    const TWO_RECORDS_KEY: &str = "BO3ZVPxUlnLORbVGMpbT1Q";
    const TWO_RECORDS: &str = "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA";

    // RFC 8291 §5, Appendix A.
    const UA_PRIVATE: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
    const UA_PUBLIC: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";
    const WATERMELON: &str = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";

    fn receiver() -> ReceiverKeys {
        let auth = bytes(AUTH).try_into().unwrap();
        ReceiverKeys::new(&bytes(UA_PRIVATE), auth).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_8188_open() {
        for (body, key, keyid) in [
            (WALRUS, WALRUS_KEY, &b""[..]),
            (TWO_RECORDS, TWO_RECORDS_KEY, &b"a1"[..]),
        ] {
            let body = bytes(body);
            let coded = Coded::parse(&body).unwrap();
            assert_eq!(coded.keyid, keyid);
            assert_eq!(coded.open(&bytes(key)).unwrap(), b"I am the walrus");
        }
    }

    #[test]
    fn the_example_of_rfc_8291_opens() {
        let receiver = receiver();
        assert_eq!(receiver.public()[..], bytes(UA_PUBLIC));
        let plaintext = receiver.decrypt(&bytes(WATERMELON)).unwrap();
        assert_eq!(plaintext, b"When I grow up, I want to be a watermelon");
    }

    #[test]
    fn whatever_is_wrong_with_a_body_is_named() {
        let right = bytes(WATERMELON);
        let changed = |at: usize, by: u8| {
            let mut body = right.clone();
            body[at] ^= by;
            body
        };
        let mut small_records = right.clone();
        small_records[16..20].copy_from_slice(&17u32.to_be_bytes());
        for (body, error) in [
            (Vec::new(), DecryptError::Truncated(0)),
            (right[..20].to_vec(), DecryptError::Truncated(20)),
            (right[..85].to_vec(), DecryptError::Truncated(85)),
            (right[..86].to_vec(), DecryptError::NoRecord),
            (right[..95].to_vec(), DecryptError::Authentication(0)),
            (small_records, DecryptError::RecordSize(17)),
            (changed(20, 1), DecryptError::SenderKeyForm(64)),
            (changed(21, 7), DecryptError::SenderKeyForm(65)),
            (changed(85, 1), DecryptError::SenderKeyPoint),
            (changed(0, 1), DecryptError::Authentication(0)),
            (changed(143, 1), DecryptError::Authentication(0)),
        ] {
            assert_eq!(receiver().decrypt(&body).unwrap_err(), error);
        }
    }

    #[test]
    fn a_cut_between_records_is_seen() {
        let body = bytes(TWO_RECORDS);
        let coded = Coded::parse(&body[..23 + 25]).unwrap();
        let error = coded.open(&bytes(TWO_RECORDS_KEY)).unwrap_err();
        assert_eq!(error, DecryptError::Unfinished);
    }

    #[test]
    fn delimiters_mean_what_rfc_8188_says() {
        assert_eq!(unpad(b"ab\x02\0\0", 0, true), Ok(&b"ab"[..]));
        assert_eq!(unpad(b"\x02", 0, true), Ok(&b""[..]));
        assert_eq!(unpad(b"\x02\x02", 0, true), Ok(&b"\x02"[..]));
        assert_eq!(unpad(b"ab\x01", 0, false), Ok(&b"ab"[..]));
        assert_eq!(
            unpad(b"ab\x02", 3, false),
            Err(DecryptError::AfterTheLast(3))
        );
        assert_eq!(unpad(b"ab\x01", 0, true), Err(DecryptError::Unfinished));
        assert_eq!(
            unpad(b"ab\x03", 1, true),
            Err(DecryptError::Delimiter(3, 1))
        );
        assert_eq!(unpad(b"\0\0", 2, true), Err(DecryptError::NoDelimiter(2)));
    }
}
