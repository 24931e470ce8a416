//! The signed token of one origin (RFC 8292 §2) and the headers that carry it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::error::Unspecified;
use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;

use crate::origin::Origin;
use crate::subscription::encode_base64url;
use crate::vapid::{Subject, VapidKey};

/// How long tokens are good for.
///
/// A token is signed to expire after `lifetime` and is replaced `margin` before that. The same
/// margin is granted on the other side: a token that expires more than `lifetime + margin` from
/// now was signed by a clock that has since been set back, and could be refused as too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    lifetime: Duration,
    margin: Duration,
}

impl Validity {
    /// The longest that may be between a request and its token's expiry (RFC 8292 §2).
    pub const LIMIT: Duration = Duration::from_hours(24);

    /// Creates a validity from a lifetime and the margin around it.
    ///
    /// # Errors
    /// If a token could reach past [`Self::LIMIT`] or would never be fresh.
    pub fn new(lifetime: Duration, margin: Duration) -> Result<Self, ValidityError> {
        if lifetime.saturating_add(margin) > Self::LIMIT {
            return Err(ValidityError::TooLong);
        }
        if lifetime <= margin {
            return Err(ValidityError::NeverFresh);
        }
        Ok(Self { lifetime, margin })
    }
}

/// Twelve hours, renewed in the last one.
impl Default for Validity {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_hours(12),
            margin: Duration::from_hours(1),
        }
    }
}

/// Why tokens cannot live so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// Push services would refuse the token.
    #[error("the lifetime of a VAPID token and its margin must not be over 24 h together")]
    TooLong,
    /// Every push would be signed anew.
    #[error("the lifetime of a VAPID token must be longer than the margin it is renewed before")]
    NeverFresh,
}

/// A token for every push resource of one origin, as the headers that may carry it.
#[derive(Clone, Debug)]
pub struct Token {
    authorization: HeaderValue,
    draft_01: HeaderValue,
    signed_at: SystemTime,
    expires_at: SystemTime,
    validity: Validity,
}

/// `{"typ":"JWT","alg":"ES256"}` in base64url.
const JWT_HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9";

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    sub: &'a str,
}

impl Token {
    /// Signs a token for `audience` at `now`.
    ///
    /// # Errors
    /// If the clock shows a time that no token can state, or the cryptography library fails.
    pub fn sign(
        key: &VapidKey,
        audience: &Origin,
        subject: &Subject,
        now: SystemTime,
        validity: Validity,
    ) -> Result<Self, VapidError> {
        let since_epoch = now
            .duration_since(UNIX_EPOCH)
            .map_err(|_before| VapidError::Clock)?;
        let exp = (since_epoch + validity.lifetime).as_secs();
        let expires_at = UNIX_EPOCH
            .checked_add(Duration::from_secs(exp))
            .ok_or(VapidError::Clock)?;
        let claims = Claims {
            aud: audience.as_str(),
            exp,
            sub: subject.as_str(),
        };
        let token = sign(key, &claims)?;
        let key = key.public_key_base64url();
        Ok(Self {
            authorization: credential(format!("vapid t={token}, k={key}"))?,
            draft_01: credential(format!("WebPush {token}"))?,
            signed_at: now,
            expires_at,
            validity,
        })
    }

    /// Returns the value of `Authorization`: `vapid t=<token>, k=<public key>` (RFC 8292 §3).
    #[must_use]
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// Returns the value that `Authorization` had before the RFC: `WebPush <token>`
    /// (draft-ietf-webpush-vapid-01 §2), with the public key in `Crypto-Key: p256ecdsa`.
    #[must_use]
    pub fn draft_01(&self) -> &HeaderValue {
        &self.draft_01
    }

    /// Returns when it was signed.
    #[must_use]
    pub fn signed_at(&self) -> SystemTime {
        self.signed_at
    }

    /// Returns whether a push service whose clock shows `service_time`, give or take `tolerance`, takes
    /// it: it has not expired there and does not expire more than [`Validity::LIMIT`] ahead.
    #[must_use]
    pub fn is_good_at(&self, service_time: SystemTime, tolerance: Duration) -> bool {
        self.expires_at
            .duration_since(service_time)
            .is_ok_and(|left| left > tolerance && left + tolerance <= Validity::LIMIT)
    }

    /// Returns when push services begin to refuse it.
    #[cfg(test)]
    pub(crate) fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Returns whether it may be sent at `now`, wherever the wall clock has gone since it was signed.
    #[must_use]
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        let Validity { lifetime, margin } = self.validity;
        self.expires_at
            .duration_since(now)
            .is_ok_and(|left| margin < left && left <= lifetime + margin)
    }
}

fn sign(key: &VapidKey, claims: &Claims<'_>) -> Result<String, VapidError> {
    let claims = serde_json::to_vec(claims).map_err(|_error| VapidError::Sign)?;
    let signed = format!("{JWT_HEADER}.{}", encode_base64url(&claims));
    let signature = key
        .sign(signed.as_bytes())
        .map_err(|Unspecified| VapidError::Sign)?;
    Ok(format!("{signed}.{}", encode_base64url(signature.as_ref())))
}

fn credential(value: String) -> Result<HeaderValue, VapidError> {
    let mut header =
        HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_invalid| VapidError::Sign)?;
    header.set_sensitive(true);
    Ok(header)
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VapidError {
    /// Before 1970, or beyond what times can hold.
    #[error("the system clock is off by decades; set it, or push services refuse every message")]
    Clock,
    /// The cryptography library could not do its part.
    #[error("the cryptography library failed to sign a VAPID token")]
    Sign,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::{Value, json};
    use url::Url;

    use super::*;
    use crate::message::Name;
    use crate::subscription::decode_base64;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_785_000_000_999)
    }

    fn key() -> VapidKey {
        VapidKey::generate(Name::parse("main").unwrap()).unwrap()
    }

    fn sign(key: &VapidKey, now: SystemTime) -> Result<Token, VapidError> {
        let url = Url::parse("https://push.example.net:8443/x").unwrap();
        let subject = Subject::parse("mailto:push@example.com").unwrap();
        Token::sign(key, &Origin::of(&url), &subject, now, Validity::default())
    }

    /// Checks a header as a push service does; returns the JWT's header, claims and the key.
    fn verify(header: &str) -> Option<(Value, Value, Vec<u8>)> {
        let (token, key) = header.strip_prefix("vapid t=")?.split_once(", k=")?;
        let key = decode_base64(key)?;
        let (signed, signature) = token.rsplit_once('.')?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key)
            .verify(signed.as_bytes(), &decode_base64(signature)?)
            .ok()?;
        let (head, claims) = signed.split_once('.')?;
        let json = |part| serde_json::from_slice(&decode_base64(part)?).ok();
        Some((json(head)?, json(claims)?, key))
    }

    #[test]
    fn the_token_of_rfc_8292_verifies() {
        let text = include_str!("../../tests/vectors/rfc8292.json");
        let vector: Value = serde_json::from_str(text).unwrap();
        let [token, key] = ["t", "k"].map(|name| vector[name].as_str().unwrap());
        let (_, claims, _) = verify(&format!("vapid t={token}, k={key}")).unwrap();
        for name in ["aud", "exp", "sub"] {
            assert_eq!(claims[name], vector[name]);
        }
        let forged = token.replace(".eyJhdWQi", ".eyJhdWQj");
        assert_ne!(forged, token);
        assert_eq!(verify(&format!("vapid t={forged}, k={key}")), None);
    }

    #[test]
    fn a_token_is_signed_and_says_what_push_services_demand() {
        let key = key();
        let token = sign(&key, now()).unwrap();
        let header = token.authorization().to_str().unwrap();
        let (head, claims, public) = verify(header).unwrap();
        assert_eq!(head, json!({"typ": "JWT", "alg": "ES256"}));
        let exp = 1_785_000_000 + 12 * 3600;
        assert_eq!(
            claims,
            json!({
                "aud": "https://push.example.net:8443",
                "exp": exp,
                "sub": "mailto:push@example.com",
            })
        );
        assert!(claims["exp"].is_u64());
        assert_eq!(public, key.public_key());
        assert_eq!(header.matches('=').count(), 2, "base64url has no padding");
        assert_eq!(token.signed_at(), now());
        assert_eq!(token.expires_at(), UNIX_EPOCH + Duration::from_secs(exp));
    }

    #[test]
    fn the_header_of_draft_01_carries_the_same_token() {
        let key = key();
        let token = sign(&key, now()).unwrap();
        let jwt = token.draft_01().to_str().unwrap();
        let jwt = jwt.strip_prefix("WebPush ").unwrap();
        let public = key.public_key_base64url();
        let whole = format!("vapid t={jwt}, k={public}");
        assert_eq!(token.authorization().to_str().unwrap(), whole);
        assert!(verify(&whole).is_some());
    }

    #[test]
    fn a_token_is_fresh_for_eleven_hours_and_wherever_the_clock_jumps_it_is_safe() {
        let token = sign(&key(), now()).unwrap();
        let hours = Duration::from_hours;
        let second = Duration::from_secs(1);
        for (at, fresh) in [
            (now(), true),
            (now() + hours(6), true),
            (now() + hours(11) - second, true),
            (now() + hours(11), false),
            (now() + hours(12), false),
            (now() + hours(100), false),
            // Set back within the margin: it expires in 13 h, which everyone accepts.
            (now() - hours(1) + second, true),
            (now() - hours(1) - second, false),
            (now() - hours(6), false),
            (now() - hours(48), false),
            (UNIX_EPOCH, false),
        ] {
            assert_eq!(token.is_fresh(at), fresh, "{at:?}");
        }
    }

    #[test]
    fn no_fresh_token_expires_too_soon_or_too_late() {
        for (lifetime, margin) in [(12, 1), (23, 1), (2, 1), (13, 11), (24, 0)] {
            let hours = Duration::from_hours;
            let validity = Validity::new(hours(lifetime), hours(margin)).unwrap();
            let token = Token {
                validity,
                expires_at: now() + hours(lifetime),
                ..sign(&key(), now()).unwrap()
            };
            assert!(token.is_fresh(now()), "{validity:?}");
            for minute in 0..6000 {
                let now = now() - hours(50) + Duration::from_secs(60 * minute);
                let left = token.expires_at.duration_since(now).unwrap_or_default();
                let safe = left > Duration::ZERO && left <= Validity::LIMIT;
                assert!(safe || !token.is_fresh(now), "{validity:?} {left:?}");
            }
        }
    }

    #[test]
    fn a_validity_that_services_refuse_cannot_be_made() {
        let hours = Duration::from_hours;
        for (lifetime, margin, error) in [
            (24, 1, ValidityError::TooLong),
            (u64::MAX / 3600, 1, ValidityError::TooLong),
            (1, 1, ValidityError::NeverFresh),
            (0, 0, ValidityError::NeverFresh),
        ] {
            let refused = Validity::new(hours(lifetime), hours(margin));
            assert_eq!(refused, Err(error), "{lifetime} {margin}");
        }
        assert_eq!(Validity::new(hours(12), hours(1)), Ok(Validity::default()));
    }

    #[test]
    fn a_clock_off_by_ages_is_an_error_and_not_a_panic() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        let end_of_time = UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs());
        for off in [before, end_of_time] {
            assert_eq!(sign(&key(), off).unwrap_err(), VapidError::Clock);
        }
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let token = sign(&key(), now()).unwrap();
        assert!(token.authorization().is_sensitive() && token.draft_01().is_sensitive());
        let shown = format!("{token:?}");
        assert!(
            ["eyJ", "vapid", "WebPush"]
                .iter()
                .all(|it| !shown.contains(it)),
            "{shown}"
        );
    }
}
