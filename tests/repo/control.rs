//! The JSON Schema of a control message says what the daemon reads.

use pushrider::cli::schema::Message;
use pushrider::wire::control;
use serde_json::{Value, json};

use crate::contract::{assert_valid, schema, validator, words};

/// Returns a control message whose command has the members `target`.
fn message(command: &str, target: &Value) -> Value {
    let mut message = json!({ "app": "shop", "requested_at": "2026-03-14T09:26:53Z" });
    message[command] = target.clone();
    message
}

/// Returns whether the schema and the daemon take a message; fails where they disagree.
fn is_right(message: &Value) -> bool {
    let body = message.to_string();
    let keys = ["shop.cancel", "shop.forget"];
    let taken = keys
        .iter()
        .any(|key| control::decode(key, body.as_bytes()).is_ok());
    let valid = validator(Message::Control).is_valid(message);
    assert_eq!(valid, taken, "{message}");
    taken
}

#[test]
fn the_schema_of_the_control_message_names_the_members_that_are_read() {
    let schema = schema(Message::Control);
    let properties = &schema["properties"];
    assert_eq!(words(properties), control::MEMBERS.into());
    for (command, members) in [
        ("cancel", &control::CANCEL_MEMBERS[..]),
        ("forget", &control::FORGET_MEMBERS[..]),
    ] {
        let known = &properties[command]["properties"];
        assert_eq!(words(known), members.iter().copied().collect());
        for example in properties[command]["examples"].as_array().unwrap() {
            assert_valid(Message::Control, &message(command, example));
            assert!(is_right(&message(command, example)), "{example}");
        }
        for name in members.iter().filter(|name| **name != "created_before") {
            let example = &known[name]["examples"][0];
            let target = json!({ *name: example });
            assert!(is_right(&message(command, &target)), "{name}");
        }
    }
}

#[test]
fn the_schema_of_the_control_message_and_the_daemon_agree_on_what_is_wrong() {
    let text = |length| Value::from("x".repeat(length));
    for (command, target) in [
        ("cancel", json!({})),
        ("cancel", json!("e1")),
        ("cancel", json!({ "id": "" })),
        ("cancel", json!({ "id": "e1", "group": "g" })),
        (
            "cancel",
            json!({ "id": "e1", "created_before": "2026-03-14T09:26:53Z" }),
        ),
        ("cancel", json!({ "group": text(129) })),
        ("cancel", json!({ "label": "Mail" })),
        (
            "cancel",
            json!({ "group": "g", "created_before": "yesterday" }),
        ),
        ("cancel", json!({ "ids": ["e1"] })),
        ("forget", json!({})),
        ("forget", json!({ "fingerprint": "ab" })),
        ("forget", json!({ "recipient_id": text(256) })),
        ("forget", json!({ "recipient_id": 1.5 })),
        (
            "forget",
            json!({ "recipient_id": 1, "endpoint": "https://a.example/x" }),
        ),
    ] {
        assert!(!is_right(&message(command, &target)), "{target}");
    }
    let cancel = json!({ "id": "e1" });
    for (name, value) in [
        ("app", json!("Shop")),
        ("app", Value::Null),
        ("requested_at", Value::Null),
        ("requested_at", json!("today")),
        ("reason", text(control::REASON_LIMIT + 1)),
        ("forget", json!({ "recipient_id": 1 })),
        ("when", json!(1)),
    ] {
        let mut message = message("cancel", &cancel);
        message[name] = value;
        assert!(!is_right(&message), "{message}");
    }
    for name in ["reason", "forget"] {
        let mut message = message("cancel", &cancel);
        message[name] = Value::Null;
        assert!(is_right(&message), "{message}");
    }
}
