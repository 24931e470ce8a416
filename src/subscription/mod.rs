//! A push subscription: the capability URL of one user agent and the keys to encrypt for it.
//!
//! Everything here is parsed once, into values that cannot be wrong: the endpoint keeps its bytes,
//! the key is a point on P-256, the authentication secret has sixteen bytes.

mod encoding;
mod endpoint;
mod keys;

pub use self::encoding::{decode_base64, encode_base64url};
pub use self::endpoint::{ENDPOINT_LIMIT, Endpoint, EndpointError, Fingerprint, hex};
pub use self::keys::{AuthSecret, KeyError, Keys, UserAgentKey};

/// One user agent to push to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Where to push.
    pub endpoint: Endpoint,
    /// The keys to encrypt with; a push without a body needs none.
    pub keys: Option<Keys>,
}
