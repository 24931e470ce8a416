//! Pushes as they were before the RFCs: `aesgcm` (draft-ietf-webpush-encryption-04) and VAPID of
//! draft-ietf-webpush-vapid-01, which services take together or not at all.
//!
//! What the RFCs put in the body and in one credential stands in three headers here:
//!
//! ```text
//! Authorization: WebPush <token>
//! Encryption:    salt=<salt>
//! Crypto-Key:    dh=<sender's key>;p256ecdsa=<application server key>
//! ```

use std::borrow::Cow;

use aws_lc_rs::aead::{AES_128_GCM, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::decrypt::{DecryptError, ReceiverKeys, expand, extract, open_record};
use super::refusal::Refusal;
use super::vapid::{Credential, VapidError, point};

/// The word of `Content-Encoding`.
pub(crate) const CODING: &str = "aesgcm";

/// Writes a credential of draft-01 as the RFC has it, so that it is held to the same rules.
///
/// Beside any other coding it is left as it is: there, services refuse it (classify/README.md §5).
pub(crate) fn modern<'a>(
    credential: &'a HeaderValue,
    headers: &HeaderMap,
) -> Result<Cow<'a, HeaderValue>, VapidError> {
    let is_draft = headers.get(CONTENT_ENCODING).is_some_and(|it| it == CODING);
    let written = credential.to_str().ok().and_then(|it| it.split_once(' '));
    match written {
        Some((scheme, token)) if is_draft && scheme.eq_ignore_ascii_case("webpush") => {
            let key = parameter(headers, "crypto-key", "p256ecdsa");
            let key = key.ok_or(VapidError::Missing("p256ecdsa"))?;
            let modern = format!("vapid t={token}, k={key}");
            let modern = HeaderValue::try_from(modern).map_err(|_| VapidError::Token)?;
            Ok(Cow::Owned(modern))
        }
        Some(_) | None => Ok(Cow::Borrowed(credential)),
    }
}

/// Opens the body of a push in `aesgcm`; without `keys` it stays closed.
pub(crate) fn open(
    headers: &HeaderMap,
    body: &[u8],
    credential: &Credential,
    keys: Option<&ReceiverKeys>,
) -> Result<Option<Vec<u8>>, Refusal> {
    let missing = |header, name| DecryptError::Parameter { header, name };
    let salt = parameter(headers, "encryption", "salt").and_then(salt);
    let salt = salt.ok_or(missing("Encryption", "salt"))?;
    let sender = parameter(headers, "crypto-key", "dh").and_then(point);
    let sender = sender.ok_or(missing("Crypto-Key", "dh"))?;
    // The key that signs must not be the key that encrypts (RFC 8292 §3.2).
    if sender == credential.point {
        return Err(Refusal::SharedKey);
    }
    let opened = keys.map(|keys| decrypt(keys, &salt, &sender, body));
    Ok(opened.transpose()?)
}

/// Decrypts one record (draft-04 §3, draft-ietf-httpbis-encryption-encoding-03 §3).
fn decrypt(
    keys: &ReceiverKeys,
    salt: &[u8; 16],
    sender: &[u8; 65],
    body: &[u8],
) -> Result<Vec<u8>, DecryptError> {
    let shared = keys.agree(sender)?;
    let keying_material = expand(&extract(keys.auth(), &shared), b"Content-Encoding: auth\0");
    let pseudorandom = extract(salt, &keying_material);
    let receiver = keys.public();
    let context = [b"P-256\0\0\x41", &receiver[..], b"\0\x41", &sender[..]].concat();
    let derived = |label: &[u8]| expand(&pseudorandom, &[label, &context].concat());
    let key = derived(b"Content-Encoding: aesgcm\0");
    let key = UnboundKey::new(&AES_128_GCM, &key[..16]).map_err(|_| DecryptError::Key)?;
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&derived(b"Content-Encoding: nonce\0")[..12]);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = open_record(&LessSafeKey::new(key), nonce, body, 0)?;
    unpad(&opened).map(<[u8]>::to_vec)
}

/// Removes the padding: its first two bytes count the zeros that follow.
fn unpad(opened: &[u8]) -> Result<&[u8], DecryptError> {
    let (length, rest) = opened.split_at_checked(2).ok_or(DecryptError::Padding)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let (zeros, content) = rest.split_at_checked(length).ok_or(DecryptError::Padding)?;
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(DecryptError::Padding);
    }
    Ok(content)
}

fn salt(text: &str) -> Option<[u8; 16]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Finds a parameter that is there once: keys are parted by commas, their parameters by semicolons.
fn parameter<'a>(headers: &'a HeaderMap, header: &str, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header).iter();
    let mut found = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|parameter| parameter.trim().split_once('='))
        .filter(|(this, _)| *this == name);
    let (_, value) = found.next()?;
    found.next().is_none().then(|| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::tests::sender::Sender;
    use crate::sandbox::vapid::Verifier;
    use crate::subscription::decode_base64;

    // draft-ietf-webpush-encryption-04 §5.
    const UA_PRIVATE: &str = "9FWl15_QUQAWDaD3k3l50ZBZQJ4au27F1V4F0uLSD_M";
    const AUTH: &str = "R29vIGdvbyBnJyBqb29iIQ";
    const SALT: &str = "lngarbyKfMoi9Z75xYXmkg";
    const DH: &str =
        "BNoRDbb84JGm8g5Z5CFxurSqsXWJ11ItfXEWYVLE85Y7CYkDjXsIEc4aqxYaQ1G8BqkXCJ6DPpDrWtdWj_mugHU";
    const BODY: &str = "6nqAQUME8hNqw5J3kl8cpVVJylXKYqZOeseZG8UueKpA";

    fn bytes(text: &str) -> Vec<u8> {
        decode_base64(text).unwrap()
    }

    fn receiver() -> ReceiverKeys {
        ReceiverKeys::new(&bytes(UA_PRIVATE), bytes(AUTH).try_into().unwrap()).unwrap()
    }

    /// The headers of a right push, and its credential.
    fn right() -> (HeaderMap, HeaderValue, Credential) {
        let sender = Sender::new();
        let modern = sender.authorization("https://push.example.net");
        let token = modern.split(['=', ',']).nth(1).unwrap();
        let crypto_key = format!("dh={DH};p256ecdsa={}", sender.public());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-encoding", CODING),
            ("encryption", &format!("salt={SALT}")),
            ("crypto-key", &crypto_key),
        ] {
            headers.insert(
                name.parse::<http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        let written = HeaderValue::from_str(&format!("WebPush {token}")).unwrap();
        let credential = Verifier::default()
            .verify(&modern.parse().unwrap())
            .unwrap();
        let credential = std::sync::Arc::into_inner(credential);
        (headers, written, credential.unwrap())
    }

    #[test]
    fn a_credential_of_draft_01_is_read_beside_aesgcm_alone() {
        let (mut headers, written, credential) = right();
        let verified = |headers: &HeaderMap| {
            let modern = modern(&written, headers)?;
            Verifier::default().verify(&modern)
        };
        assert_eq!(*verified(&headers).unwrap(), credential);
        let key = headers.insert("crypto-key", format!("dh={DH}").parse().unwrap());
        let missing = Err(VapidError::Missing("p256ecdsa"));
        assert_eq!(verified(&headers), missing);
        let comma = key.unwrap().to_str().unwrap().replace(';', ", ");
        headers.insert("crypto-key", comma.parse().unwrap());
        assert_eq!(*verified(&headers).unwrap(), credential);
        headers.insert("content-encoding", "aes128gcm".parse().unwrap());
        assert_eq!(verified(&headers), Err(VapidError::Scheme));
    }

    #[test]
    fn the_example_of_draft_04_opens() {
        let (headers, _, credential) = right();
        let opened = open(&headers, &bytes(BODY), &credential, Some(&receiver()));
        assert_eq!(opened.unwrap().unwrap(), b"I am the walrus");
        let closed = open(&headers, &bytes(BODY), &credential, None);
        assert_eq!(closed, Ok(None));
    }

    #[test]
    fn whatever_is_wrong_with_a_draft_is_named() {
        let (right, _, credential) = right();
        let missing = |header, name| Refusal::from(DecryptError::Parameter { header, name });
        let point = URL_SAFE_NO_PAD.encode(credential.point);
        let other_salt = SALT.replace("lng", "lnh");
        for (header, value, refusal) in [
            ("encryption", String::new(), missing("Encryption", "salt")),
            (
                "encryption",
                "salt=AAAA".to_owned(),
                missing("Encryption", "salt"),
            ),
            (
                "encryption",
                format!("salt={SALT};salt={SALT}"),
                missing("Encryption", "salt"),
            ),
            (
                "encryption",
                format!("salt={other_salt}"),
                DecryptError::Authentication(0).into(),
            ),
            (
                "crypto-key",
                "keyid=p256dh".to_owned(),
                missing("Crypto-Key", "dh"),
            ),
            (
                "crypto-key",
                "dh=BAAA".to_owned(),
                missing("Crypto-Key", "dh"),
            ),
            ("crypto-key", format!("dh={point}"), Refusal::SharedKey),
        ] {
            let mut headers = right.clone();
            headers.insert(header, value.parse().unwrap());
            let refused = open(&headers, &bytes(BODY), &credential, Some(&receiver()));
            assert_eq!(refused, Err(refusal), "{header}: {value}");
        }
    }

    #[test]
    fn padding_is_as_long_as_it_says_and_zero() {
        assert_eq!(unpad(b"\0\0"), Ok(&b""[..]));
        assert_eq!(unpad(b"\0\0ab"), Ok(&b"ab"[..]));
        assert_eq!(unpad(b"\0\x02\0\0ab"), Ok(&b"ab"[..]));
        for wrong in [&b""[..], b"\0", b"\0\x01", b"\0\x02\0\x01ab", b"\xff\xff\0"] {
            assert_eq!(unpad(wrong), Err(DecryptError::Padding), "{wrong:?}");
        }
    }
}
