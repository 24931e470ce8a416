//! The `aesgcm` content encoding of a push message: draft-ietf-webpush-encryption-04 on top of
//! draft-ietf-httpbis-encryption-encoding-03, for user agents that predate RFC 8291.
//!
//! ```text
//! +---------------------------------------------------------------+----------+
//! | AES-128-GCM of length of padding (2) ‖ 0 0 0 ... ‖ plaintext  | tag (16) |
//! +---------------------------------------------------------------+----------+
//! ```
//!
//! There is one record and no header in front of it: salt and sender's key travel in the request's
//! `Encryption` and `Crypto-Key`.

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::ece::{
    ContentKey, EceError, POINT_LENGTH, Salt, SenderKey, TAG_LENGTH, fitting, hmac_sha256, mac_key,
    seal,
};
use crate::subscription::{Keys, UserAgentKey};

/// The most bytes of plaintext and padding in a body of 4096 bytes, by the word of draft-04, which
/// leaves one unused (classify/README.md §6.3).
pub const RECORD_LIMIT: usize = 4077;

/// The length of the padding's length.
const PAD_LENGTH: usize = 2;

const AUTH_INFO: &[u8] = b"Content-Encoding: auth\0\x01";
const KEY_LABEL: &[u8] = b"Content-Encoding: aesgcm\0";
const NONCE_LABEL: &[u8] = b"Content-Encoding: nonce\0";

/// An encrypted message, and what its user agent needs to read it besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The body of the request.
    pub body: Bytes,
    /// The salt, for `Encryption`.
    pub salt: [u8; 16],
    /// The sender's public key, for `Crypto-Key`.
    pub sender: [u8; POINT_LENGTH],
}

/// Encrypts a message for one user agent, with so many bytes of padding.
///
/// # Errors
/// If plaintext and padding are longer than [`RECORD_LIMIT`], or the cryptography library fails.
pub fn encrypt(
    keys: &Keys,
    plaintext: &[u8],
    padding: usize,
    sender: SenderKey,
    salt: Salt,
) -> Result<Sealed, EceError> {
    let content = PAD_LENGTH + fitting(plaintext.len(), padding, RECORD_LIMIT)?;
    let mut body = Vec::with_capacity(content + TAG_LENGTH);
    body.extend_from_slice(&pad_length(padding));
    body.resize(PAD_LENGTH + padding, 0);
    body.extend_from_slice(plaintext);
    let tag = seal(&content_key(keys, &sender, &salt)?, &mut body)?;
    body.extend_from_slice(&tag);
    Ok(Sealed {
        body: body.into(),
        salt: salt.0,
        sender: sender.public,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "padding that fits a record fits two bytes"
)]
fn pad_length(padding: usize) -> [u8; PAD_LENGTH] {
    (padding as u16).to_be_bytes()
}

/// Derives what the record is sealed with (draft-04 §3.3 to §3.5).
fn content_key(keys: &Keys, sender: &SenderKey, salt: &Salt) -> Result<ContentKey, EceError> {
    let context = context(&keys.p256dh, &sender.public);
    let key_info = [KEY_LABEL, &context, &[1]].concat();
    let nonce_info = [NONCE_LABEL, &context, &[1]].concat();
    sender.agree(&keys.p256dh, |secret| {
        let prk: Zeroizing<[u8; 32]> = hmac_sha256(&mac_key(keys.auth.expose()), secret);
        let ikm = hmac_sha256(&mac_key(&*prk), AUTH_INFO);
        ContentKey::derive(&ikm, salt, &key_info, &nonce_info)
    })
}

/// Binds the keys to both public keys: the curve's name, then each key with its length before it.
fn context(receiver: &UserAgentKey, sender: &[u8; POINT_LENGTH]) -> Vec<u8> {
    const LENGTH: &[u8] = &[0, 65];
    [b"P-256\0", LENGTH, receiver.as_bytes(), LENGTH, sender].concat()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
    use aws_lc_rs::hmac;
    use proptest::prelude::*;

    use super::*;
    use crate::ece::tests::{Receiver, fixed, vector};
    use crate::message::PLAINTEXT_LIMIT;

    impl Receiver {
        fn encrypt_draft(&self, plaintext: &[u8], padding: usize) -> Result<Sealed, EceError> {
            let sender = SenderKey::generate().unwrap();
            let salt = Salt::random().unwrap();
            encrypt(&self.keys, plaintext, padding, sender, salt)
        }

        fn decrypt_draft(&self, sealed: &Sealed) -> Vec<u8> {
            let peer = UnparsedPublicKey::new(&ECDH_P256, &sealed.sender);
            let receiver = self.keys.p256dh.as_bytes();
            let context = [
                b"P-256\0\0\x41",
                receiver,
                b"\0\x41",
                &sealed.sender[..],
                b"\x01",
            ];
            let info = |label: &[u8]| [label, b"\0", &context.concat()].concat();
            let ikm = agreement::agree(&self.private, peer, (), |secret| {
                let prk = hmac(self.keys.auth.expose(), secret);
                Ok(hmac(&prk, b"Content-Encoding: auth\0\x01"))
            })
            .unwrap();
            let prk = hmac(&sealed.salt, &ikm);
            let key = hmac(&prk, &info(b"Content-Encoding: aesgcm"));
            let nonce = hmac(&prk, &info(b"Content-Encoding: nonce"));
            let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap());
            let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
            let mut record = sealed.body.to_vec();
            let record = key.open_in_place(nonce, Aad::empty(), &mut record).unwrap();
            let padding = usize::from(u16::from_be_bytes([record[0], record[1]]));
            let (zeros, plaintext) = record[2..].split_at(padding);
            assert!(zeros.iter().all(|byte| *byte == 0));
            plaintext.to_vec()
        }
    }

    fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, data).as_ref().to_vec()
    }

    #[test]
    fn the_body_is_byte_for_byte_that_of_draft_04() {
        let vector = vector(include_str!("../../tests/vectors/aesgcm-draft-04.json"));
        let private = PrivateKey::from_private_key(&ECDH_P256, &vector["ua_private"]).unwrap();
        let receiver = Receiver::of(private, fixed(&vector["auth"]));
        assert_eq!(receiver.keys.p256dh.as_bytes(), vector["ua_public"]);
        let sender = SenderKey::from_scalar(&fixed(&vector["as_private"])).unwrap();
        let salt = Salt::from(fixed(&vector["salt"]));

        let content = content_key(&receiver.keys, &sender, &salt).unwrap();
        assert_eq!(content.key[..], vector["cek"]);
        assert_eq!(content.nonce[..], vector["nonce"]);

        let plaintext = &vector["plaintext"];
        let sealed = encrypt(&receiver.keys, plaintext, 0, sender, salt).unwrap();
        assert_eq!(sealed.body, vector["body"]);
        assert_eq!(sealed.salt[..], vector["salt"]);
        assert_eq!(sealed.sender[..], vector["as_public"]);
        assert_eq!(receiver.decrypt_draft(&sealed), *plaintext);
    }

    #[test]
    fn whatever_fits_rfc_8291_fits_here_too() {
        const { assert!(PLAINTEXT_LIMIT <= RECORD_LIMIT) };
        let receiver = Receiver::new();
        let text: Vec<u8> = (0..=255).cycle().take(RECORD_LIMIT).collect();
        for length in [0, 1, 300, PLAINTEXT_LIMIT, RECORD_LIMIT] {
            let sealed = receiver.encrypt_draft(&text[..length], 0).unwrap();
            assert_eq!(sealed.body.len(), length + 18);
            assert_eq!(receiver.decrypt_draft(&sealed), &text[..length]);
        }
        for (length, padding) in [(RECORD_LIMIT + 1, 0), (1, RECORD_LIMIT), (0, 1 << 20)] {
            let refused = receiver
                .encrypt_draft(&vec![b'x'; length], padding)
                .unwrap_err();
            let length = length + padding;
            assert_eq!(
                refused,
                EceError::TooLong {
                    length,
                    limit: RECORD_LIMIT
                }
            );
        }
    }

    #[test]
    fn no_two_messages_share_a_key_or_a_salt() {
        let receiver = Receiver::new();
        let one = receiver.encrypt_draft(b"same", 0).unwrap();
        let two = receiver.encrypt_draft(b"same", 0).unwrap();
        assert_ne!(one.salt, two.salt);
        assert_ne!(one.sender, two.sender);
        assert_ne!(one.body, two.body);
    }

    proptest! {
        #[test]
        fn padding_is_not_part_of_the_message(
            plaintext in prop::collection::vec(any::<u8>(), 0..=RECORD_LIMIT),
            share in 0..=100_usize,
        ) {
            let receiver = Receiver::new();
            let padding = (RECORD_LIMIT - plaintext.len()) * share / 100;
            let sealed = receiver.encrypt_draft(&plaintext, padding).unwrap();
            prop_assert_eq!(sealed.body.len(), plaintext.len() + padding + 18);
            prop_assert_eq!(receiver.decrypt_draft(&sealed), plaintext);
        }
    }
}
