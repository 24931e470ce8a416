//! The JSON Schema of a notification says what the daemon reads.

use pushrider::cli::schema::Message;
use pushrider::wire::notification::{
    ACTION_LIMIT, ACTION_MEMBERS, BADGE_LIMIT, DATA_DEPTH_LIMIT, MEMBERS,
};
use serde_json::{Value, json};

use crate::contract::{event_with, is_taken, schema, validator, words};

fn action() -> Value {
    json!({ "action": "track", "title": "Track", "navigate": "https://shop.example/t" })
}

/// Returns a notification with a member more; null takes it away.
fn notification(name: &str, value: &Value) -> Value {
    let mut notification = json!({ "title": "t", "navigate": "https://shop.example/" });
    if name.is_empty() {
        return notification;
    }
    notification[name] = value.clone();
    notification
}

/// Returns a notification with one action that has a member more.
fn with_action(name: &str, value: &Value) -> Value {
    let mut action = action();
    action[name] = value.clone();
    notification("actions", &json!([action]))
}

/// Returns whether the schema and the daemon take a notification; fails where they disagree.
fn is_right(notification: &Value) -> bool {
    let validator = validator(Message::Event);
    let [one, many] = [false, true].map(|listed| {
        let event = event_with(listed, "notification", notification);
        let taken = is_taken(&event);
        assert_eq!(validator.is_valid(&event), taken, "{event}");
        taken
    });
    assert_eq!(one, many, "{notification}");
    one
}

#[test]
fn the_schema_of_the_notification_names_the_members_that_are_read() {
    let schema = schema(Message::Event);
    let of = |name: &str| schema["$defs"][name]["properties"].clone();
    let (properties, of_action) = (of("notification"), of("action"));
    assert_eq!(words(&properties), MEMBERS.into());
    assert_eq!(words(&of_action), ACTION_MEMBERS.into());
    for (name, property) in properties.as_object().unwrap() {
        let example = &property["examples"][0];
        assert!(is_right(&notification(name, example)), "{name}");
        let needed = ["title", "navigate"].contains(&name.as_str());
        assert_ne!(
            is_right(&notification(name, &Value::Null)),
            needed,
            "{name}"
        );
    }
    for (name, property) in of_action.as_object().unwrap() {
        assert!(
            is_right(&with_action(name, &property["examples"][0])),
            "{name}"
        );
        assert_eq!(
            is_right(&with_action(name, &Value::Null)),
            name == "icon",
            "{name}"
        );
    }
}

#[test]
fn the_schema_of_the_notification_and_the_daemon_agree_on_what_is_wrong() {
    for (name, value) in [
        ("unknown", json!(1)),
        ("title", json!("")),
        ("navigate", json!("/orders")),
        ("navigate", json!("http://shop.example/")),
        ("navigate", json!("http://localhost.example/")),
        ("body", json!(1)),
        ("icon", json!("https://[")),
        ("tag", json!(1)),
        ("lang", json!(1)),
        ("dir", json!("up")),
        ("silent", json!("no")),
        ("actions", json!({})),
        ("actions", json!(["a"])),
        ("app_badge", json!("3")),
        ("app_badge", json!(-1)),
    ] {
        assert!(!is_right(&notification(name, &value)), "{name}: {value}");
    }
    for (name, value) in [
        ("unknown", json!(1)),
        ("action", json!("")),
        ("title", json!("")),
        ("navigate", json!("t")),
        ("icon", json!(1)),
    ] {
        assert!(!is_right(&with_action(name, &value)), "{name}: {value}");
    }
    for other in ["payload", "payload_base64"] {
        let mut event = event_with(false, "notification", &notification("", &Value::Null));
        event[other] = json!("aGk");
        assert!(!validator(Message::Event).is_valid(&event) && !is_taken(&event));
    }
}

#[test]
fn the_schema_of_the_notification_states_our_limits() {
    for (count, right) in [(ACTION_LIMIT, true), (ACTION_LIMIT + 1, false)] {
        let actions = json!(vec![action(); count]);
        assert_eq!(is_right(&notification("actions", &actions)), right);
    }
    for (badge, right) in [(BADGE_LIMIT, true), (BADGE_LIMIT + 1, false)] {
        assert_eq!(is_right(&notification("app_badge", &json!(badge))), right);
    }
    let schema = schema(Message::Event);
    let data = &schema["$defs"]["notification"]["properties"]["data"]["description"];
    let levels = format!("At most {DATA_DEPTH_LIMIT} levels");
    assert!(data.as_str().unwrap().contains(&levels), "{data}");
}
