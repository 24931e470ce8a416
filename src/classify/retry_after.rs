//! `Retry-After` (RFC 9110 §10.2.3): a hostile string until proved otherwise.
//!
//! A push service may say how long it wants to be left alone, in seconds or as a date. What it says
//! is taken seriously within bounds of ours: nonsense is as if it had said nothing, and no service
//! can park a message for longer than the cap.

use std::time::{Duration, SystemTime};

/// Reads the value of a `Retry-After` header: how long to wait from `now`, at most `cap`.
///
/// `None` for anything but digits or an HTTP date in one of its three forms. A date in the past
/// means no wait.
#[must_use]
pub(super) fn parse(value: &[u8], now: SystemTime, cap: Duration) -> Option<Duration> {
    let value = str::from_utf8(value.trim_ascii()).ok()?;
    let retry_after = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number is still a very long time.
        value.parse().map_or(cap, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(retry_after.min(cap))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAP: Duration = Duration::from_secs(86_400);
    // 1994-11-06 08:49:37 UTC, the date of the RFC's examples, less 80 s.
    const NOW: Duration = Duration::from_secs(784_111_777 - 80);

    #[test]
    fn both_forms_are_read_and_nonsense_is_not() {
        let now = SystemTime::UNIX_EPOCH + NOW;
        let seconds = |n| Some(Duration::from_secs(n));
        for (value, wait) in [
            ("120", seconds(120)),
            (" 120 ", seconds(120)),
            ("0", seconds(0)),
            ("99999999999999999999999", Some(CAP)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(80)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(80)),
            ("Sun Nov  6 08:49:37 1994", seconds(80)),
            ("Sun, 06 Nov 1904 08:49:37 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(CAP)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", seconds(0)),
            ("inf", None),
            ("1e3", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("", None),
            ("\u{0661}", None),
        ] {
            assert_eq!(parse(value.as_bytes(), now, CAP), wait, "{value:?}");
        }
        assert_eq!(parse(b"\xff", now, CAP), None);
    }

    proptest! {
        #[test]
        fn no_value_waits_longer_than_the_cap(value: Vec<u8>, now in 0u64..1 << 40) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            prop_assert!(parse(&value, now, CAP).unwrap_or_default() <= CAP);
        }
    }
}
