//! The keys that a message is encrypted with (RFC 8291 §3).

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, UnparsedPublicKey};

use crate::secret::Secret;

use super::decode_base64;

/// What a message is encrypted with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The user agent's public key.
    pub p256dh: UserAgentKey,
    /// The authentication secret.
    pub auth: AuthSecret,
}

/// The user agent's public key (`p256dh`, RFC 8291 §3.1), proved to be a point on P-256.
#[derive(Clone, derive_more::Debug)]
#[debug("UserAgentKey(..)")]
pub struct UserAgentKey(ParsedPublicKey);

/// The length of an uncompressed P-256 point.
const POINT_LENGTH: usize = 65;

/// The length of the same point wrapped as `SubjectPublicKeyInfo`, which some clients send.
const SPKI_LENGTH: usize = 91;

impl UserAgentKey {
    /// Parses an uncompressed point, bare (65 bytes) or at the end of a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// If the length is another one, or the point is not on the curve (RFC 8291 §7).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let point = match bytes.len() {
            POINT_LENGTH => bytes,
            SPKI_LENGTH => &bytes[SPKI_LENGTH - POINT_LENGTH..],
            length => return Err(KeyError::KeyLength(length)),
        };
        if point[0] != 4 {
            return Err(KeyError::NotUncompressed);
        }
        let parsed = UnparsedPublicKey::new(&ECDH_P256, point);
        ParsedPublicKey::try_from(parsed)
            .map(Self)
            .map_err(|_| KeyError::NotOnCurve)
    }

    /// Parses base64url or base64, padded or not.
    ///
    /// # Errors
    /// If it is neither, or as [`Self::from_bytes`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&decode_base64(text).ok_or(KeyError::NotBase64("p256dh"))?)
    }

    /// Returns the parsed point for a key agreement.
    #[must_use]
    pub fn point(&self) -> &ParsedPublicKey {
        &self.0
    }

    /// Returns the 65 bytes of the uncompressed point.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

/// The authentication secret (`auth`, RFC 8291 §3.2): sixteen bytes only the user agent and the
/// application know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSecret(Secret<[u8; 16]>);

impl AuthSecret {
    /// Wraps the sixteen bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(Secret::new(bytes))
    }

    /// Parses base64url or base64, padded or not.
    ///
    /// # Errors
    /// If it is neither, or not sixteen bytes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_base64(text).ok_or(KeyError::NotBase64("auth"))?;
        let length = bytes.len();
        <[u8; 16]>::try_from(bytes)
            .map(Self::new)
            .map_err(|_| KeyError::AuthLength(length))
    }

    /// Lends the bytes to the key derivation.
    #[must_use]
    pub fn expose(&self) -> &[u8; 16] {
        self.0.expose()
    }
}

/// Why the keys of a subscription cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither base64url nor base64; carries the member's name.
    #[error("{0} is neither base64url nor base64")]
    NotBase64(&'static str),
    /// The decoded key has another length.
    #[error("p256dh must be an uncompressed P-256 point of 65 bytes; it decodes to {0} bytes")]
    KeyLength(usize),
    /// The first byte says compressed, or nonsense.
    #[error("p256dh must be an uncompressed point: its first byte must be 4")]
    NotUncompressed,
    /// Not a point of the curve.
    #[error("p256dh is not a point on the P-256 curve")]
    NotOnCurve,
    /// The decoded secret has another length.
    #[error("auth must be 16 bytes; it decodes to {0} bytes")]
    AuthLength(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::{Endpoint, encode_base64url};

    // RFC 8291 §5.
    const P256DH: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    #[test]
    fn keys_are_taken_in_every_form_the_field_has() {
        let plain = UserAgentKey::parse(P256DH).unwrap();
        let standard = P256DH.replace('-', "+").replace('_', "/");
        let spki: Vec<u8> = [&[0u8; 26][..], plain.as_bytes()].concat();
        for text in [
            standard.clone(),
            format!("{standard}="),
            format!("{P256DH}="),
            format!("{}\n {}", &P256DH[..40], &P256DH[40..]),
            encode_base64url(&spki),
        ] {
            assert_eq!(
                UserAgentKey::parse(&text).unwrap().as_bytes(),
                plain.as_bytes(),
                "{text}"
            );
        }
        assert_eq!(
            AuthSecret::parse("BTBZMqHH6r4Tts7J/aSIgg=="),
            AuthSecret::parse(AUTH)
        );
    }

    #[test]
    fn keys_that_cannot_be_right_are_refused() {
        let mut off_curve = UserAgentKey::parse(P256DH).unwrap().as_bytes().to_vec();
        off_curve[64] ^= 1;
        let mut compressed = off_curve.clone();
        compressed[0] = 2;
        for (bytes, error) in [
            (&off_curve[..], KeyError::NotOnCurve),
            (&compressed[..], KeyError::NotUncompressed),
            (&off_curve[..33], KeyError::KeyLength(33)),
            (&[], KeyError::KeyLength(0)),
        ] {
            assert_eq!(UserAgentKey::from_bytes(bytes).unwrap_err(), error);
        }
        assert_eq!(
            UserAgentKey::parse("%%").unwrap_err(),
            KeyError::NotBase64("p256dh")
        );
        assert_eq!(
            AuthSecret::parse("AAAA").unwrap_err(),
            KeyError::AuthLength(3)
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let endpoint = Endpoint::parse("https://push.example.net/capability").unwrap();
        let auth = AuthSecret::parse(AUTH).unwrap();
        let key = UserAgentKey::parse(P256DH).unwrap();
        let shown = format!("{:?}", (&endpoint, &auth, &key));
        assert!(!shown.contains("capability"), "{shown}");
        assert_eq!(shown.matches("..").count(), 2, "{shown}");
        assert!(
            shown.contains(&endpoint.fingerprint().to_hex()[..16]),
            "{shown}"
        );
    }
}
