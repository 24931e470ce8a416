//! Voluntary application server identification (RFC 8292).

use std::sync::Arc;

use crate::message::Name;

/// Whom a push service contacts about our messages: the `sub` claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Arc<str>);

/// An application server key: a P-256 private key and its name.
#[derive(Debug)]
pub struct VapidKey {
    name: Name,
}

/// The keys of an application: one signs, older ones serve subscriptions made with them.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// The key that signs unless another one is asked for.
    pub primary: Arc<VapidKey>,
    /// Older keys, newest first.
    pub older: Vec<Arc<VapidKey>>,
}
