//! Verification of VAPID credentials (RFC 8292), as strict as the strictest service.
//!
//! A token is valid for every push to an origin until it expires, so its form and signature are
//! verified once and remembered; what depends on the push (origin, time, key of the subscription)
//! is compared every time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::HeaderValue;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use super::decrypt::POINT_LENGTH;

/// How far ahead `exp` may lie (RFC 8292 §2).
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How many verified credentials are remembered.
const REMEMBERED: usize = 4096;

/// The longest `Authorization` that is looked at, in bytes.
const LONGEST_CREDENTIAL: usize = 4096;

/// What a token claims (RFC 8292 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The origin of the push service.
    pub aud: String,
    /// When the token expires, in seconds since 1970.
    pub exp: u64,
    /// How to contact the sender.
    pub sub: Option<String>,
}

/// A credential whose form and signature are right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    /// What the token claims.
    pub(crate) claims: Claims,
    /// `k`, as it was sent.
    pub(crate) key: String,
    /// The point `k` stands for.
    pub(crate) point: [u8; POINT_LENGTH],
}

/// Verifies credentials and remembers them.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    verified: Mutex<HashMap<HeaderValue, Arc<Credential>>>,
    tokens: AtomicU64,
}

impl Verifier {
    /// Verifies the value of an `Authorization` header.
    pub(crate) fn verify(&self, value: &HeaderValue) -> Result<Arc<Credential>, VapidError> {
        if let Some(known) = self.verified.lock().get(value) {
            return Ok(Arc::clone(known));
        }
        let credential = Arc::new(verify(value.as_bytes())?);
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        // A copy, since the value may share a buffer with the whole head of its request.
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes())
            && verified.insert(copy, Arc::clone(&credential)).is_none()
        {
            self.tokens.fetch_add(1, Ordering::Relaxed);
        }
        Ok(credential)
    }

    /// Returns how many distinct credentials were verified; one that was forgotten meanwhile
    /// counts again.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
}

impl Credential {
    /// Checks that the credential is meant for this push (RFC 8292 §2, §4.2).
    pub(crate) fn admit(
        &self,
        origin: &str,
        bound: Option<&[u8; POINT_LENGTH]>,
        now: SystemTime,
    ) -> Result<(), VapidError> {
        if self.claims.aud != origin {
            return Err(VapidError::Audience {
                claimed: self.claims.aud.clone(),
                origin: origin.to_owned(),
            });
        }
        let expiry = UNIX_EPOCH.checked_add(Duration::from_secs(self.claims.exp));
        match expiry.map(|expiry| expiry.duration_since(now)) {
            Some(Ok(life)) if life > LONGEST_LIFE => Err(VapidError::TooLong),
            None => Err(VapidError::TooLong),
            Some(Err(_) | Ok(Duration::ZERO)) => Err(VapidError::Expired),
            Some(Ok(_)) => match bound {
                Some(bound) if *bound != self.point => Err(VapidError::KeyMismatch),
                Some(_) | None => Ok(()),
            },
        }
    }
}

/// Verifies form and signature of a credential (RFC 8292 §3).
fn verify(value: &[u8]) -> Result<Credential, VapidError> {
    if value.len() > LONGEST_CREDENTIAL {
        return Err(VapidError::CredentialLength(value.len()));
    }
    let value = str::from_utf8(value).map_err(|_| VapidError::Scheme)?;
    let (token, key) = parameters(value)?;
    let point = point(key).ok_or(VapidError::Key)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(VapidError::Token)?;
    let (header, claims) = signed.split_once('.').ok_or(VapidError::Token)?;
    check_header(&object(header)?)?;
    let signature = decode(signature).ok_or(VapidError::Token)?;
    if signature.len() != 64 {
        return Err(VapidError::SignatureLength(signature.len()));
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| VapidError::Signature)?;
    Ok(Credential {
        claims: claims_of(&object(claims)?)?,
        key: key.to_owned(),
        point,
    })
}

/// Splits `vapid t=…, k=…` (RFC 8292 §3).
fn parameters(value: &str) -> Result<(&str, &str), VapidError> {
    let (scheme, rest) = value.split_once(' ').ok_or(VapidError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("vapid") {
        return Err(VapidError::Scheme);
    }
    let (mut token, mut key) = (None, None);
    for parameter in rest.split(',') {
        let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
        let place = match name {
            "t" => &mut token,
            "k" => &mut key,
            _ => continue,
        };
        if place.replace(value.trim_matches('"')).is_some() {
            return Err(VapidError::Repeated);
        }
    }
    Ok((
        token.ok_or(VapidError::Missing("t"))?,
        key.ok_or(VapidError::Missing("k"))?,
    ))
}

/// Decodes `k` or an application server key: an uncompressed point in base64url without padding.
pub(crate) fn point(key: &str) -> Option<[u8; POINT_LENGTH]> {
    let point: [u8; POINT_LENGTH] = decode(key)?.try_into().ok()?;
    (point[0] == 4).then_some(point)
}

fn check_header(header: &Map<String, Value>) -> Result<(), VapidError> {
    if header.get("alg") != Some(&Value::from("ES256")) {
        return Err(VapidError::Algorithm);
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) if typ.eq_ignore_ascii_case("JWT") => Ok(()),
        Some(_) => Err(VapidError::Token),
    }
}

fn claims_of(claims: &Map<String, Value>) -> Result<Claims, VapidError> {
    let aud = claims.get("aud").and_then(Value::as_str);
    let exp = claims.get("exp").and_then(Value::as_u64);
    let sub = match claims.get("sub") {
        None => None,
        Some(Value::String(sub)) => Some(sub.clone()),
        Some(_) => return Err(VapidError::Claim("sub", "a string")),
    };
    Ok(Claims {
        aud: aud.ok_or(VapidError::Claim("aud", "a string"))?.to_owned(),
        exp: exp.ok_or(VapidError::Claim("exp", "an integer"))?,
        sub,
    })
}

fn object(part: &str) -> Result<Map<String, Value>, VapidError> {
    decode(part)
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or(VapidError::Token)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Why a credential is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VapidError {
    /// No credential at all.
    #[error("Authorization is missing: a push needs VAPID (RFC 8292)")]
    Absent,
    /// Two credentials.
    #[error("Authorization must be sent once")]
    Several,
    /// Too long to be looked at.
    #[error("Authorization is {0} bytes long; at most {LONGEST_CREDENTIAL} are looked at")]
    CredentialLength(usize),
    /// Another authentication scheme.
    #[error("the authentication scheme must be \"vapid\" with t= and k= (RFC 8292 §3)")]
    Scheme,
    /// A parameter is not there.
    #[error("the parameter {0}= of the vapid credential is missing")]
    Missing(&'static str),
    /// A parameter is there twice.
    #[error("a parameter of the vapid credential is there twice")]
    Repeated,
    /// `k` is no key.
    #[error("k must be an uncompressed P-256 point in base64url without padding (87 characters)")]
    Key,
    /// `t` is no token.
    #[error("t is not a JWT: three parts of base64url, the first two JSON objects")]
    Token,
    /// Another algorithm.
    #[error("the JWT must be signed with ES256")]
    Algorithm,
    /// A signature in another form.
    #[error("the JWT's signature must be r and s, 64 bytes; it has {0} (DER is not taken)")]
    SignatureLength(usize),
    /// A signature by another key.
    #[error("the JWT's signature does not verify with k")]
    Signature,
    /// A claim is missing or of another type.
    #[error("the claim {0} must be {1}")]
    Claim(&'static str, &'static str),
    /// Meant for another service.
    #[error("the claim aud is {claimed:?}; it must be exactly {origin:?}")]
    Audience {
        /// What the token says.
        claimed: String,
        /// What it must say.
        origin: String,
    },
    /// Past its time.
    #[error("the token has expired")]
    Expired,
    /// Valid for too long.
    #[error("the claim exp must not be more than 24 hours ahead")]
    TooLong,
    /// Another application's key.
    #[error(
        "the VAPID public key mismatch: k does not correspond to the applicationServerKey used to \
         create the subscription"
    )]
    KeyMismatch,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    // RFC 8292 §2.4.
    const EXAMPLE: &str = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
    const EXPIRY: u64 = 1_453_523_768;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn signed(header: &Value, claims: &Value) -> Result<Credential, VapidError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let token = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = key.sign(&SystemRandom::new(), token.as_bytes()).unwrap();
        let public = encode(key.public_key().as_ref());
        verify(format!("vapid t={token}.{}, k={public}", encode(signature)).as_bytes())
    }

    #[test]
    fn the_example_of_rfc_8292_verifies() {
        let credential = verify(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(
            credential.claims,
            Claims {
                aud: "https://push.example.net".to_owned(),
                exp: EXPIRY,
                sub: Some("mailto:push@example.com".to_owned()),
            }
        );
        let other_order = EXAMPLE.replace("vapid t=", "t=");
        let (token, key) = other_order.split_once(", ").unwrap();
        let turned = format!("VAPID {key},{token}");
        assert_eq!(verify(turned.as_bytes()).unwrap(), credential);
    }

    #[test]
    fn a_credential_is_for_one_origin_one_day_and_one_key() {
        let credential = verify(EXAMPLE.as_bytes()).unwrap();
        let origin = "https://push.example.net";
        let day = LONGEST_LIFE.as_secs();
        let admit = |now| credential.admit(origin, None, at(now));
        assert_eq!(admit(EXPIRY - 1), Ok(()));
        assert_eq!(admit(EXPIRY - day), Ok(()));
        assert_eq!(admit(EXPIRY - day - 1), Err(VapidError::TooLong));
        assert_eq!(admit(EXPIRY), Err(VapidError::Expired));
        assert_eq!(admit(EXPIRY + 1), Err(VapidError::Expired));
        for other in ["https://push.example.net/", "https://push.example.net:8443"] {
            let refused = credential.admit(other, None, at(EXPIRY - 1)).unwrap_err();
            assert!(matches!(refused, VapidError::Audience { .. }), "{other}");
        }
        let same = credential.point;
        let mut other = same;
        other[64] ^= 1;
        let bound = |key| credential.admit(origin, Some(key), at(EXPIRY - 1));
        assert_eq!(bound(&same), Ok(()));
        assert_eq!(bound(&other), Err(VapidError::KeyMismatch));
    }

    #[test]
    fn what_is_no_credential_is_named() {
        let token = EXAMPLE.split(['=', ',']).nth(1).unwrap();
        let key = EXAMPLE.rsplit_once("k=").unwrap().1;
        let with_k = |token: &str| format!("vapid t={token}, k={key}");
        let broken = token.replace("i3CYb7t4", "i3CYb7t5");
        let cut = &token[..token.len() - 2];
        for (value, error) in [
            (String::new(), VapidError::Scheme),
            ("Basic YTpi".to_owned(), VapidError::Scheme),
            (format!("WebPush {token}"), VapidError::Scheme),
            (format!("vapid k={key}"), VapidError::Missing("t")),
            (format!("vapid t={token}"), VapidError::Missing("k")),
            (format!("{EXAMPLE}, k={key}"), VapidError::Repeated),
            (format!("vapid t={token}, k={key}="), VapidError::Key),
            (format!("vapid t={token}, k=BBBB"), VapidError::Key),
            (with_k("a.b"), VapidError::Token),
            (with_k("a.b.c"), VapidError::Token),
            (with_k(&broken), VapidError::Signature),
            (with_k(cut), VapidError::SignatureLength(63)),
            ("x".repeat(5000), VapidError::CredentialLength(5000)),
        ] {
            assert_eq!(verify(value.as_bytes()).unwrap_err(), error, "{value}");
        }
    }

    #[test]
    fn claims_have_the_types_of_the_rfc() {
        let es256 = json!({ "typ": "JWT", "alg": "ES256" });
        let right = json!({ "aud": "https://a", "exp": 1 });
        assert_eq!(signed(&es256, &right).unwrap().claims.sub, None);
        assert!(signed(&json!({ "alg": "ES256" }), &right).is_ok());
        for alg in ["HS256", "none", "es256"] {
            let error = signed(&json!({ "alg": alg }), &right).unwrap_err();
            assert_eq!(error, VapidError::Algorithm);
        }
        for (claims, name) in [
            (json!({ "exp": 1 }), "aud"),
            (json!({ "aud": ["https://a"], "exp": 1 }), "aud"),
            (json!({ "aud": "https://a" }), "exp"),
            (json!({ "aud": "https://a", "exp": "1" }), "exp"),
            (json!({ "aud": "https://a", "exp": 1.5 }), "exp"),
            (json!({ "aud": "https://a", "exp": -1 }), "exp"),
            (json!({ "aud": "https://a", "exp": 1, "sub": null }), "sub"),
        ] {
            let error = signed(&es256, &claims).unwrap_err();
            assert!(
                matches!(error, VapidError::Claim(claim, _) if claim == name),
                "{claims}"
            );
        }
    }

    #[test]
    fn a_token_is_verified_once_and_counted_once() {
        let verifier = Verifier::default();
        let value = HeaderValue::from_static(EXAMPLE);
        let first = verifier.verify(&value).unwrap();
        let second = verifier.verify(&value).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(verifier.tokens(), 1);
        verifier
            .verify(&HeaderValue::from_static("vapid"))
            .unwrap_err();
        assert_eq!(verifier.tokens(), 1);
    }
}
