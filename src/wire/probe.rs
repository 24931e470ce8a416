//! Messages that go through a delay band for no other purpose than to come back.
//!
//! A daemon that does not know them takes one for an event whose time is over and that wants no
//! result: it settles it as expired, without a request and without a publication.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lapin::types::FieldTable;

use super::table;

const BAND: &str = "x-pushrider-probe-band";
const SENT_AT: &str = "x-pushrider-probe-sent-at";
const DAEMON: &str = "x-pushrider-probe-daemon";

/// An event that is long over, for daemons that do not know probes.
const BODY: &str = concat!(
    r#"{"subscription":{"endpoint":"https://fcm.googleapis.com/fcm/send/probe","keys":{"#,
    r#""p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","#,
    r#""auth":"BTBZMqHH6r4Tts7J_aSIgg"}},"expires_at":"2026-01-01T00:00:00Z","results":"none"}"#
);

/// One probe of a delay band.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The name of the band.
    pub band: String,
    /// When it was sent, in whole milliseconds.
    pub sent_at: SystemTime,
    /// A random number of the daemon that sent it, which fits a signed one.
    pub daemon: u64,
}

impl Probe {
    /// Creates a probe that is sent now.
    #[must_use]
    pub fn new(band: &str, now: SystemTime, daemon: u64) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let whole = Duration::from_millis(
            u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or_default(),
        );
        Self {
            band: band.to_owned(),
            sent_at: SystemTime::UNIX_EPOCH + whole,
            daemon,
        }
    }

    /// Reads the headers of a message from a due queue; `None` if it is no probe.
    #[must_use]
    pub fn read(headers: &FieldTable) -> Option<Self> {
        Some(Self {
            band: table::text(headers, BAND)?.to_owned(),
            sent_at: table::moment(headers, SENT_AT)?,
            daemon: table::number(headers, DAEMON)?,
        })
    }

    /// Writes the headers.
    #[must_use]
    pub fn headers(&self) -> FieldTable {
        let mut headers = FieldTable::default();
        table::put_text(&mut headers, BAND, &self.band);
        table::put_moment(&mut headers, SENT_AT, self.sent_at);
        table::put_number(&mut headers, DAEMON, self.daemon);
        headers
    }

    /// Returns the body.
    #[must_use]
    pub fn body() -> Bytes {
        Bytes::from_static(BODY.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::headers::RetryHistory;

    #[test]
    fn a_probe_is_read_as_it_was_written_and_nothing_else_is_one() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_262_400_123_456_789);
        for daemon in [0, 7, u64::MAX >> 1] {
            let probe = Probe::new("15s", now, daemon);
            assert_eq!(Probe::read(&probe.headers()), Some(probe));
        }
        let copy = RetryHistory::default().write();
        assert_eq!(Probe::read(&copy), None);
        assert_eq!(Probe::read(&FieldTable::default()), None);
    }
}
