//! Voluntary application server identification (RFC 8292): identifies the sender to each push service.
//!
//! Why tokens live twelve hours: a push service may remember a token it has checked (RFC 8292 §5)
//! and some count new ones against the sender, so one is reused for a whole origin; but it is a
//! credential whoever sees it may use until it expires, so it stays well under the 24 hours that
//! §2 allows.

mod key;
mod key_error;
mod key_form;
mod ring;
mod subject;
mod token;

pub use self::key::VapidKey;
pub use self::key_error::KeyError;
pub use self::ring::KeyRing;
pub use self::subject::{Subject, SubjectError};
pub use self::token::{Token, Validity, ValidityError, VapidError};
