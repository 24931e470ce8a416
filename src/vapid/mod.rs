//! Voluntary application server identification (RFC 8292): identifies the sender to each push service.
//!
//! Why tokens live twelve hours: a push service may remember a token it has checked (RFC 8292 §5)
//! and some count new ones against the sender, so one is reused for a whole origin; but it is a
//! credential whoever sees it may use until it expires, so it stays well under the 24 hours that
//! §2 allows.

use std::sync::Arc;

use crate::message::Name;

mod key;
mod key_error;
mod key_form;
mod subject;
mod token;

pub use self::key::{KeyId, VapidKey};
pub use self::key_error::KeyError;
pub use self::subject::{Subject, SubjectError};
pub use self::token::{Token, Validity, ValidityError, VapidError};

/// The keys of an application.
///
/// A subscription is bound to the key it was made with (classify/README.md §5), so a key that is
/// replaced stays here until no subscription needs it.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// The key that signs unless another one is asked for.
    pub primary: Arc<VapidKey>,
    /// Older keys, newest first.
    pub older: Vec<Arc<VapidKey>>,
}

impl KeyRing {
    /// Returns the key of that name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Arc<VapidKey>> {
        self.iter().find(|key| key.name() == name)
    }

    /// Returns every key, the primary first, then the older ones from new to old.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<VapidKey>> {
        std::iter::once(&self.primary).chain(&self.older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Arc<VapidKey> {
        Arc::new(VapidKey::generate(Name::parse(name).unwrap()).unwrap())
    }

    #[test]
    fn keys_are_found_by_name_and_tried_from_new_to_old() {
        let ring = KeyRing {
            primary: key("2026"),
            older: vec![key("2025"), key("2019")],
        };
        let names: Vec<&str> = ring.iter().map(|key| key.name().as_str()).collect();
        assert_eq!(names, ["2026", "2025", "2019"]);
        for name in names {
            let found = ring.get(&Name::parse(name).unwrap()).unwrap();
            assert_eq!(found.name().as_str(), name);
        }
        assert!(ring.get(&Name::parse("2024").unwrap()).is_none());
    }
}
