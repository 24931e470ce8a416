//! An event without what is secret in it: payloads, the keys of subscriptions, and endpoints.
//!
//! What can go wrong here: an event is in quarantine because something in it is unexpected, so a secret
//! may have any name. Only members that are known to be harmless are shown.

use serde_json::{Map, Value};
use url::Url;

/// Members whose value is shown.
const SHOWN: [&str; 21] = [
    "$schema",
    "app",
    "content_encoding",
    "created_at",
    "deliver_at",
    "expires_at",
    "group",
    "id",
    "label",
    "recipient_id",
    "results",
    "source",
    "specversion",
    "time",
    "topic",
    "ttl",
    "type",
    "urgency",
    "vapid_key",
    "version",
    "expirationTime",
];

/// Members of which the names of the members inside are shown.
const OPENED: [&str; 5] = [
    "data",
    "deliver_between",
    "keys",
    "recipients",
    "subscription",
];

/// Writes a body with what may be secret hidden; `None` if it is not JSON.
pub(super) fn redacted(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    serde_json::to_string_pretty(&inside(value)).ok()
}

fn inside(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter();
            let hidden = members.map(|(name, value)| {
                let value = member(&name, value);
                (name, value)
            });
            Value::Object(hidden.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(inside).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => hidden(&value),
    }
}

fn member(name: &str, value: Value) -> Value {
    let is_nested = value.is_object() || value.is_array();
    if value.is_null() || (!is_nested && SHOWN.contains(&name)) {
        return value;
    }
    if is_nested && OPENED.contains(&name) {
        return inside(value);
    }
    match value.as_str().filter(|_| name == "endpoint") {
        Some(text) => endpoint(text),
        None => hidden(&value),
    }
}

/// Shows where an endpoint is, without the part that lets anybody push to it.
fn endpoint(text: &str) -> Value {
    match Url::parse(text) {
        Ok(url) if url.has_host() => format!("{}/…", url.origin().ascii_serialization()).into(),
        _ => "(hidden: text)".into(),
    }
}

fn hidden(value: &Value) -> Value {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("(hidden: {kind})").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_harmless_is_shown() {
        let event = json!({
            "id": "e1", "app": "shop", "ttl": 60, "paylod": "s3cret", "payload": {"id": "s3cret"},
            "metadata": {"s3cret": 1}, "topic": ["s3cret"],
            "recipients": [{"id": 7, "subscription": {
                "endpoint": "https://user:s3cret@push.example.org/s3cret",
                "keys": {"auth": "s3cret", "p256dh": "s3cret"},
            }}],
        });
        let shown = redacted(event.to_string().as_bytes()).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["ttl"], 60);
        let recipient = &shown["recipients"][0];
        assert_eq!(recipient["id"], 7);
        let endpoint = &recipient["subscription"]["endpoint"];
        assert_eq!(endpoint, "https://push.example.org/…");
        assert_eq!(recipient["subscription"]["keys"]["auth"], "(hidden: text)");
        assert_eq!(redacted(br#""s3cret""#).unwrap(), "\"(hidden: text)\"");
        assert_eq!(redacted(b"s3cret"), None);
    }
}
