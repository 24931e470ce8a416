//! How messages of the quarantine are shown.

use std::io;
use std::io::Write;

use jiff::Timestamp;
use lapin::types::AMQPValue;
use serde::Serialize;

use super::super::lines::visible;
use super::redact::redacted;
use crate::broker::Quarantined;
use crate::wire::quarantine;

/// What the list says of a message.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    id: String,
    pub(super) reason: Option<String>,
    detail: Option<String>,
    /// When it came, in RFC 3339.
    quarantined_at: Option<String>,
    app: Option<String>,
    routing_key: Option<String>,
    /// How often it was read and given back.
    reads: u64,
    /// The bytes of its body.
    size: usize,
}

impl Row {
    pub(super) fn new(message: &Quarantined) -> Self {
        let headers = message.headers();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let time = message.properties.timestamp();
        Self {
            id: message.id().to_owned(),
            reason: owned(quarantine::reason(&headers)),
            detail: owned(quarantine::detail(&headers)),
            quarantined_at: time.and_then(written),
            app: message.app().map(|app| app.to_string()),
            routing_key: owned(quarantine::routing_key(&headers)),
            reads: message.reads(),
            size: message.body.len(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let text = |text: &Option<String>| visible(text.as_deref().unwrap_or("-"));
        [
            text(&self.quarantined_at),
            visible(&self.id),
            text(&self.reason),
            text(&self.app),
            self.reads.to_string(),
            self.size.to_string(),
            text(&self.detail),
        ]
    }
}

/// Writes rows as lines of JSON, or as a table for a person.
pub(super) fn write(rows: &[Row], json: bool, out: &mut impl Write) -> io::Result<()> {
    if !json {
        return table(rows, out);
    }
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        writeln!(out)?;
    }
    Ok(())
}

fn table(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let head = ["WHEN", "ID", "REASON", "APP", "READ", "BYTES", "DETAIL"].map(str::to_owned);
    let lines: Vec<_> = [head]
        .into_iter()
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in &lines {
        let cells = line.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Writes a message for a person: properties and headers, an empty line, and the body without secrets.
pub(super) fn show(message: &Quarantined, out: &mut impl Write) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{}: {}", visible(name), visible(value));
    line("message_id", message.id())?;
    if let Some(time) = message.properties.timestamp().and_then(written) {
        line("timestamp", &time)?;
    }
    for (name, value) in message.headers().inner() {
        line(name.as_str(), &plain(value))?;
    }
    match redacted(&message.body) {
        Some(event) => writeln!(out, "\n{event}"),
        None => {
            let size = message.body.len();
            writeln!(out, "\n({size} bytes that are not JSON; --body shows them)")
        }
    }
}

/// Writes a moment in seconds since 1970.
fn written(seconds: u64) -> Option<String> {
    let moment = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(moment.to_string())
}

/// Writes the value of a header.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "AMQP has many types, and these are the frequent ones"
)]
fn plain(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::Boolean(it) => it.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_cannot_move_the_cursor() {
        let row = |id: &str, detail: Option<&str>| Row {
            id: id.to_owned(),
            reason: Some("malformed_event".to_owned()),
            detail: detail.map(str::to_owned),
            quarantined_at: written(0),
            app: None,
            routing_key: None,
            reads: 2,
            size: 17,
        };
        let mut out = Vec::new();
        table(
            &[row("e1", Some("a\u{1b}b")), row("order-1", None)],
            &mut out,
        )
        .unwrap();
        let expected = "\
WHEN                  ID       REASON           APP  READ  BYTES  DETAIL
1970-01-01T00:00:00Z  e1       malformed_event  -    2     17     a\\u{1b}b
1970-01-01T00:00:00Z  order-1  malformed_event  -    2     17     -
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
