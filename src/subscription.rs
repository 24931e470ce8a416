//! A push subscription: the capability URL of one user agent and the keys to encrypt for it.
//!
//! Everything here is parsed once, into values that cannot be wrong: the endpoint keeps its bytes,
//! the key is a point on P-256, the authentication secret has sixteen bytes.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, UnparsedPublicKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use url::{Host, Url};

use crate::origin::{Listed, Origin, Service};
use crate::secret::Secret;

/// The URL of a push resource (RFC 8030 §4), kept byte for byte, and what is known from it alone.
///
/// Whoever holds it can push to the user, so `Debug` and `Display` show the fingerprint.
#[derive(Clone)]
pub struct Endpoint(Arc<Parts>);

struct Parts {
    url: Url,
    origin: Origin,
    service: Service,
    listed: Listed,
    fingerprint: Fingerprint,
}

/// The longest endpoint that is accepted, in bytes (push-services.md §9).
pub const ENDPOINT_LIMIT: usize = 2048;

impl Endpoint {
    /// Parses the URL of a push resource.
    ///
    /// Which schemes, ports and hosts may be pushed to is the guard's to say.
    ///
    /// # Errors
    /// If it is not an absolute `http` or `https` URL in its normal form with a host, at most
    /// [`ENDPOINT_LIMIT`] bytes long, or carries credentials or a fragment.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > ENDPOINT_LIMIT {
            return Err(EndpointError::TooLong(text.len()));
        }
        let url = Url::parse(text).map_err(EndpointError::NotUrl)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(EndpointError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(EndpointError::Fragment);
        }
        // The token may hold escapes that change their meaning when they are rewritten (WNS).
        if url.as_str() != text {
            return Err(EndpointError::NotNormal);
        }
        let (service, listed) = Service::detect(&url);
        Ok(Self(Arc::new(Parts {
            origin: Origin::of(&url),
            fingerprint: Fingerprint::of(text),
            url,
            service,
            listed,
        })))
    }

    /// Returns the URL exactly as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.url.as_str()
    }

    /// Returns the parsed URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// Returns the host, which is always there.
    #[must_use]
    pub fn host(&self) -> Host<&str> {
        self.0.url.host().unwrap_or(Host::Domain(""))
    }

    /// Returns the origin: VAPID's audience and the key of the gates.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Returns the family of push service that answers here.
    #[must_use]
    pub fn service(&self) -> Service {
        self.0.service
    }

    /// Tells whether the host is one of the large push services.
    #[must_use]
    pub fn listed(&self) -> Listed {
        self.0.listed
    }

    /// Returns the name by which logs and results speak of this endpoint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.fingerprint())
    }
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Longer than [`ENDPOINT_LIMIT`].
    #[error("the endpoint is {0} bytes long; at most {ENDPOINT_LIMIT} are accepted")]
    TooLong(usize),
    /// Not an absolute URL.
    #[error("the endpoint is not an absolute URL: {0}")]
    NotUrl(url::ParseError),
    /// A scheme that no push service has.
    #[error("the endpoint must be an https URL")]
    Scheme,
    /// User name or password in the URL.
    #[error("the endpoint must not carry a user name or password")]
    Credentials,
    /// `#…` at the end, which is never sent.
    #[error("the endpoint must not have a fragment (#…)")]
    Fragment,
    /// Sending it would change its bytes.
    #[error(
        "the endpoint is not in the normal form browsers give it (lower-case host, no default \
         port, a path, escapes where URLs need them); store it exactly as the browser returned it"
    )]
    NotNormal,
}

/// SHA-256 of an endpoint's bytes: what may be shown in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of an endpoint as it was given, even of one that is no URL.
    #[must_use]
    pub fn of(endpoint: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, endpoint.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Returns the raw digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns all 64 lower-case hexadecimal digits, as results carry them.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

/// Shows the first sixteen digits: enough to find one subscription in a log.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..8]))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The user agent's public key (`p256dh`, RFC 8291 §3.1), proved to be a point on P-256.
#[derive(Clone)]
pub struct UserAgentKey(ParsedPublicKey);

/// The length of an uncompressed P-256 point.
const POINT_LENGTH: usize = 65;

/// The length of the same point wrapped as `SubjectPublicKeyInfo`, which some clients send.
const SPKI_LENGTH: usize = 91;

impl UserAgentKey {
    /// Takes an uncompressed point, bare (65 bytes) or at the end of a `SubjectPublicKeyInfo`.
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

impl fmt::Debug for UserAgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserAgentKey(..)")
    }
}

/// The authentication secret (`auth`, RFC 8291 §3.2): sixteen bytes only the user agent and the
/// application know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSecret(Secret<[u8; 16]>);

impl AuthSecret {
    /// Takes the sixteen bytes.
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

/// One user agent to push to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Where to push.
    pub endpoint: Endpoint,
    /// The keys to encrypt with; a push without a body needs none.
    pub keys: Option<Keys>,
}

/// What a message is encrypted with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The user agent's public key.
    pub p256dh: UserAgentKey,
    /// The authentication secret.
    pub auth: AuthSecret,
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Decodes base64url or base64, padded or not, with white space anywhere: what is found in
/// subscription tables (push-services.md §4).
#[must_use]
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut compact = text.trim_ascii();
    let without_space;
    if compact.bytes().any(|byte| byte.is_ascii_whitespace()) {
        without_space = compact.split_ascii_whitespace().collect::<String>();
        compact = &without_space;
    }
    let compact = compact.trim_end_matches('=');
    let engine = if compact.contains(['+', '/']) {
        &BASE64
    } else {
        &BASE64URL
    };
    engine.decode(compact).ok()
}

/// Encodes base64url without padding, the form of every key and token in Web Push.
#[must_use]
pub fn encode_base64url(bytes: &[u8]) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8291 §5.
    const P256DH: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    #[test]
    fn an_endpoint_keeps_its_bytes_or_is_refused() {
        for text in [
            "https://wns2-par02p.notify.windows.com/w/?token=BQYAAAD%2bx%2f%3d",
            "https://fcm.googleapis.com/fcm/send/a:b-c_d",
            "http://127.0.0.1:8080/push/1",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().as_str(), text);
        }
        for (text, error) in [
            ("https://Push.example.net/x", EndpointError::NotNormal),
            ("https://push.example.net:443/x", EndpointError::NotNormal),
            ("https://push.example.net", EndpointError::NotNormal),
            ("https://push.example.net/a b", EndpointError::NotNormal),
            ("https://push.example.net/a/../b", EndpointError::NotNormal),
            (" https://push.example.net/x", EndpointError::NotNormal),
            ("https://0x7f.1/x", EndpointError::NotNormal),
            ("https://u:p@push.example.net/x", EndpointError::Credentials),
            ("https://push.example.net/x#y", EndpointError::Fragment),
            ("ftp://push.example.net/x", EndpointError::Scheme),
            (
                "push.example.net/x",
                EndpointError::NotUrl(url::ParseError::RelativeUrlWithoutBase),
            ),
            (
                "https://",
                EndpointError::NotUrl(url::ParseError::EmptyHost),
            ),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), error, "{text}");
        }
        let long = format!("https://push.example.net/{}", "x".repeat(10_000));
        assert_eq!(
            Endpoint::parse(&long).unwrap_err(),
            EndpointError::TooLong(long.len())
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
}
