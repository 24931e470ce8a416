//! The trace that a producer's message belongs to (W3C Trace Context), as AMQP headers carry it.

use lapin::types::FieldTable;

use super::table;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The length of a `traceparent` of version 00: `00-<trace id>-<parent id>-<flags>`.
const TRACEPARENT_LEN: usize = 55;

/// The most members of a `tracestate`.
const MEMBERS_LIMIT: usize = 32;

/// The most characters of a key or a value in a `tracestate`.
const MEMBER_LIMIT: usize = 256;

/// The producer's trace, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The header `traceparent`.
    pub traceparent: Option<Box<str>>,
    /// The header `tracestate`.
    pub tracestate: Option<Box<str>>,
}

impl Trace {
    /// Reads the producer's trace; what W3C Trace Context does not allow counts as absent.
    #[must_use]
    pub fn read(headers: &FieldTable) -> Self {
        let read = |name, is_good: fn(&str) -> bool| {
            let text = table::text(headers, name);
            text.filter(|text| is_good(text)).map(Box::from)
        };
        let traceparent: Option<Box<str>> = read(TRACEPARENT, is_traceparent);
        // Without a trace it means nothing.
        let has_trace = traceparent.is_some();
        let tracestate = has_trace.then(|| read(TRACESTATE, is_tracestate)).flatten();
        Self {
            traceparent,
            tracestate,
        }
    }

    /// Writes it into the headers of an output.
    pub fn write(&self, headers: &mut FieldTable) {
        if let Some(text) = &self.traceparent {
            table::put_text(headers, TRACEPARENT, text);
        }
        if let Some(text) = &self.tracestate {
            table::put_text(headers, TRACESTATE, text);
        }
    }

    /// Returns the id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.get(3..35)
    }
}

/// Returns whether a text is a `traceparent`; later versions than 00 may have more fields at the end.
fn is_traceparent(text: &str) -> bool {
    let mut fields = text.splitn(5, '-');
    let mut field = |length| fields.next().filter(|it| it.len() == length && is_hex(it));
    let (Some(version), Some(trace), Some(parent), Some(_flags)) =
        (field(2), field(32), field(16), field(2))
    else {
        return false;
    };
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = version != "00" || text.len() == TRACEPARENT_LEN;
    version != "ff" && !is_zero(trace) && !is_zero(parent) && fits && printable
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns whether a text is a `tracestate`: members `key=value`, separated by commas; empty ones are
/// allowed.
fn is_tracestate(text: &str) -> bool {
    let members = text.split(',').map(|it| it.trim_matches([' ', '\t']));
    let members = members.filter(|member| !member.is_empty());
    members.clone().all(is_member) && (1..=MEMBERS_LIMIT).contains(&members.count())
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let in_key =
        |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let in_value = |byte| matches!(byte, b' '..=b'~') && byte != b'=';
    let fits = |text: &str| (1..=MEMBER_LIMIT).contains(&text.len());
    let starts = key.starts_with(|first: char| first.is_ascii_alphanumeric());
    fits(key) && fits(value) && starts && key.bytes().all(in_key) && value.bytes().all(in_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(traceparent: &str, tracestate: &str) -> Trace {
        let mut headers = FieldTable::default();
        table::put_text(&mut headers, TRACEPARENT, traceparent);
        table::put_text(&mut headers, TRACESTATE, tracestate);
        Trace::read(&headers)
    }

    #[test]
    fn a_trace_is_written_as_it_was_read() {
        let trace = read(TRACE, "congo=t61rcWkgMzE, rojo@x=00f067aa0ba902b7,");
        assert_eq!(trace.id(), Some("0af7651916cd43dd8448eb211c80319c"));
        let mut headers = FieldTable::default();
        trace.write(&mut headers);
        assert_eq!(Trace::read(&headers), trace);
        assert_eq!(trace.traceparent.as_deref(), Some(TRACE));
        assert!(trace.tracestate.is_some());
    }

    #[test]
    fn what_is_no_trace_counts_as_absent() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "00-1-2-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-\u{7}",
            &format!("00-{zeros}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(read(bad, "a=b"), Trace::default(), "{bad}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(read(later, "").traceparent.as_deref(), Some(later));
    }

    #[test]
    fn a_bad_tracestate_leaves_the_trace() {
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=v")).collect();
        for bad in [
            "",
            ",",
            "a",
            "=b",
            "a=",
            "A=b",
            "a=b=c",
            "a=\u{e9}",
            "a=b\nc",
            &many.join(","),
        ] {
            let trace = read(TRACE, bad);
            assert_eq!(
                (trace.id().is_some(), trace.tracestate),
                (true, None),
                "{bad}"
            );
        }
    }
}
