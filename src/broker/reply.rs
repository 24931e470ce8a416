//! What the broker said when it closed a channel or a connection.
//!
//! AMQP's reply codes tell refusals apart, never a text.

use std::fmt;

use lapin::ErrorKind;

pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
pub(super) const NOT_ALLOWED: u16 = 530;

/// Returns whether an object exists with other arguments than were asked for.
pub(super) fn is_mismatch(error: &lapin::Error) -> bool {
    reply_code(error) == Some(PRECONDITION_FAILED)
}

/// Returns whether an object does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    reply_code(error) == Some(NOT_FOUND)
}

/// Returns the reply code the broker closed a channel or connection with.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    Some(error.get_id())
}

/// Returns the words the broker closed a channel or connection with.
pub(super) fn words(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    Some(error.get_message().to_string())
}

/// An error of lapin's in words that show nothing of a message.
pub(super) struct Plain<'a>(pub(super) &'a lapin::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.0.kind(), ErrorKind::ParsingError(_)) {
            return f.write_str("the broker sent a frame that cannot be read");
        }
        self.0.fmt(f)
    }
}
