//! The signed token of one origin (RFC 8292 §2) and the header that carries it.

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

    /// Takes a lifetime and the margin around it.
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

/// A token for every push resource of one origin, as the header that carries it.
#[derive(Clone, Debug)]
pub struct Token {
    authorization: HeaderValue,
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
    /// If the clock is before 1970, or the cryptography library fails.
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
        let claims = Claims {
            aud: audience.as_str(),
            exp: (since_epoch + validity.lifetime).as_secs(),
            sub: subject.as_str(),
        };
        Ok(Self {
            authorization: authorization(key, &claims)?,
            signed_at: now,
            expires_at: UNIX_EPOCH + Duration::from_secs(claims.exp),
            validity,
        })
    }

    /// Returns the value of `Authorization`: `vapid t=<token>, k=<public key>` (RFC 8292 §3).
    #[must_use]
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// Returns when it was signed.
    #[must_use]
    pub fn signed_at(&self) -> SystemTime {
        self.signed_at
    }

    /// Returns when push services begin to refuse it.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Tells whether it may be sent at `now`, wherever the wall clock has gone since it was signed.
    #[must_use]
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        let Validity { lifetime, margin } = self.validity;
        self.expires_at
            .duration_since(now)
            .is_ok_and(|left| margin < left && left <= lifetime + margin)
    }
}

fn authorization(key: &VapidKey, claims: &Claims<'_>) -> Result<HeaderValue, VapidError> {
    let claims = serde_json::to_vec(claims).map_err(|_error| VapidError::Sign)?;
    let signed = format!("{JWT_HEADER}.{}", encode_base64url(&claims));
    let signature = key
        .sign(signed.as_bytes())
        .map_err(|Unspecified| VapidError::Sign)?;
    let value = format!(
        "vapid t={signed}.{}, k={}",
        encode_base64url(signature.as_ref()),
        key.public_key_base64url()
    );
    let mut header =
        HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_invalid| VapidError::Sign)?;
    header.set_sensitive(true);
    Ok(header)
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VapidError {
    /// A token would have expired decades ago.
    #[error("the system clock is before 1970; set it, or push services refuse every message")]
    Clock,
    /// The cryptography library could not do its part.
    #[error("the cryptography library failed to sign a VAPID token")]
    Sign,
}
