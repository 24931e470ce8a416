//! What the daemon publishes, as commands show it.

use std::io;
use std::io::Write;

use serde_json::Value;

use super::lines::visible;

/// Writes a result or a subscription event: a line for a person, or one line of JSON.
pub(super) fn write_output(out: &mut impl Write, body: &Value, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{body}");
    }
    let word = |name: &str| body[name].as_str().unwrap_or("-");
    let what = match body["change"].as_str() {
        Some(change) => format!("subscription {change}"),
        None => word("outcome").to_owned(),
    };
    let status = body["status"]
        .as_u64()
        .map_or("-".to_owned(), |it| it.to_string());
    let recipient = &body["recipient"];
    let fingerprint = recipient["fingerprint"]
        .as_str()
        .and_then(|it| it.get(..16));
    let recipient = recipient["id"].as_str().or(fingerprint).unwrap_or("-");
    let event = word("event_id");
    let mut line = format!("{event}  {recipient}  {what}  {}  {status}", word("reason"));
    if let Some(detail) = body["detail"].as_str() {
        line += &format!("  {detail}");
    }
    writeln!(out, "{}", visible(&line))
}

/// Returns whether a delivery result says anything but `accepted`.
pub(super) fn is_failure(body: &Value) -> bool {
    body["outcome"].as_str() != Some("accepted")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(body: &Value) -> String {
        let mut out = Vec::new();
        write_output(&mut out, body, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_result_is_one_line_that_cannot_move_the_cursor_and_shows_no_endpoint() {
        let result = json!({
            "event_id": "e1", "outcome": "failed", "reason": "timeout", "status": 503,
            "detail": "a\u{1b}[2J\nb",
            "recipient": {"id": null, "endpoint": "https://x/y", "fingerprint": "0123456789abcdef01"},
        });
        let expected = "e1  0123456789abcdef  failed  timeout  503  a\\u{1b}[2J\\nb\n";
        assert_eq!(shown(&result), expected);
        let change = json!({
            "event_id": "e1", "change": "gone", "reason": "unsubscribed", "status": 410,
            "recipient": {"id": "u1"},
        });
        assert_eq!(
            shown(&change),
            "e1  u1  subscription gone  unsubscribed  410\n"
        );
    }
}
