//! The JSON Schemas and the AsyncAPI document say what the code reads and writes.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jsonschema::Validator;
use regex::Regex;
use serde_json::{Value, json};

use pushrider::app::{EndpointForm, Results};
use pushrider::cli::schema::Message;
use pushrider::message::{Coding, EventId, Name, PLAINTEXT_LIMIT, TTL_LIMIT, Urgency};
use pushrider::origin::Service;
use pushrider::outcome::{Again, Outcome, Reason, Record, Warning};
use pushrider::wire::control;
use pushrider::wire::delivery_hours;
use pushrider::wire::event::{self, EventRef, RECIPIENT_LIMIT};
use pushrider::wire::progress::{self, Campaign, News, Number};
use pushrider::wire::recipient::{self, RecipientRef};
use pushrider::wire::subscription::{self, Change};
use pushrider::wire::summary::{self, Part, Tally};
use pushrider::wire::{Kind, result};

use crate::sources::root;

pub(crate) fn schema(message: Message) -> Value {
    serde_json::from_str(message.schema()).unwrap()
}

pub(crate) fn validator(message: Message) -> Validator {
    let schema = schema(message);
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let options = jsonschema::draft202012::options();
    options
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

/// Asserts that a value is what the schema of a message describes.
pub(crate) fn assert_valid(message: Message, value: &Value) {
    let validator = validator(message);
    let faults = validator.iter_errors(value);
    let faults: Vec<_> = faults
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{message:?}: {faults:?}\n{value:#}");
}

/// Returns the words of an `enum` or of the names of an object, without `null`.
pub(crate) fn words(value: &Value) -> BTreeSet<&str> {
    if let Value::Object(object) = value {
        return object.keys().map(String::as_str).collect();
    }
    let list = value.as_array().unwrap();
    list.iter().filter_map(Value::as_str).collect()
}

/// Returns whether the daemon takes a text for an event each of whose recipients can be pushed to.
pub(crate) fn is_taken(event: &Value) -> bool {
    let body = Bytes::from(event.to_string());
    let Ok(event) = event::decode(&body) else {
        return false;
    };
    event.recipients().all(|raw| {
        let recipient = event.decode_recipient(raw, None);
        recipient.is_ok_and(|it| it.keys().is_ok())
    })
}

/// Returns an event with one recipient, or with a list of one, and a member more.
pub(crate) fn event_with(listed: bool, name: &str, value: &Value) -> Value {
    let subscription = &schema(Message::Event)["$defs"]["subscription"]["examples"][0];
    let mut object = json!({ "subscription": subscription });
    object[name] = value.clone();
    if name == "recipients" {
        object.as_object_mut().unwrap().remove("subscription");
    }
    if listed {
        return json!({ "recipients": [object] });
    }
    object
}

#[test]
fn the_schema_of_the_event_names_the_members_that_are_read() {
    let schema = schema(Message::Event);
    let recipient = &schema["$defs"]["recipient"]["properties"];
    for (properties, members, listed) in [
        (&schema["properties"], &event::MEMBERS[..], false),
        (recipient, &recipient::MEMBERS[..], true),
    ] {
        assert_eq!(words(properties), members.iter().copied().collect());
        for (name, property) in properties.as_object().unwrap() {
            let referred = property["$ref"]
                .as_str()
                .map(|it| it.trim_start_matches('#'));
            let property = referred.map_or(Some(property), |it| schema.pointer(it));
            let examples = &property.unwrap()["examples"];
            let event = event_with(listed, name, &examples[0]);
            assert_valid(Message::Event, &event);
            assert!(is_taken(&event), "{event}");
        }
    }
}

#[test]
fn the_schema_of_the_event_names_the_members_of_delivery_hours() {
    let schema = schema(Message::Event);
    let hours = &schema["$defs"]["delivery_hours"];
    let members = delivery_hours::MEMBERS.into();
    assert_eq!(words(&hours["properties"]), members);
    assert_eq!(words(&hours["required"]), members);
}

#[test]
fn the_schema_of_the_event_and_the_daemon_agree_on_what_is_wrong() {
    let text = |length| Value::from("x".repeat(length));
    let validator = validator(Message::Event);
    let cases = [
        (false, "unknown", json!(1)),
        (true, "ttl", json!(1)),
        (false, "version", json!(2)),
        (false, "id", json!("")),
        (false, "id", text(EventId::LIMIT + 1)),
        (false, "id", json!("\u{e9}")),
        (false, "app", json!("Shop")),
        (false, "label", text(65)),
        (false, "group", text(129)),
        (false, "recipient_id", text(256)),
        (true, "id", text(256)),
        (true, "id", json!(1.5)),
        (false, "ttl", json!(-1)),
        (false, "ttl", json!("60")),
        (false, "urgency", json!("urgent")),
        (false, "results", json!("some")),
        (true, "content_encoding", json!("gzip")),
        (false, "topic", json!(7)),
        (true, "vapid_key", json!("")),
        (false, "created_at", json!("2026-03-14T09:26:53")),
        (false, "deliver_at", json!("tomorrow")),
        (false, "expires_at", json!(1_700_000_000)),
        (false, "deliver_between", json!("08:00-21:30")),
        (
            true,
            "deliver_between",
            json!({ "from": "08:00", "to": "21:30" }),
        ),
        (
            true,
            "deliver_between",
            json!({ "from": "8:00", "to": "21:30", "zone": "UTC" }),
        ),
        (
            false,
            "deliver_between",
            json!({ "from": "08:00", "to": "24:00", "zone": "UTC" }),
        ),
        (false, "metadata", json!("text")),
        (false, "payload_base64", json!("%")),
        (false, "recipients", json!([])),
        (
            false,
            "recipients",
            json!(vec![json!({}); RECIPIENT_LIMIT + 1]),
        ),
        (false, "subscription", json!({})),
        (false, "subscription", json!("https://push.example.net/x")),
        (true, "subscription", json!(null)),
    ];
    for (listed, name, value) in &cases {
        let event = event_with(*listed, name, value);
        let short: String = event.to_string().chars().take(200).collect();
        assert!(!validator.is_valid(&event), "valid: {short}");
        assert!(!is_taken(&event), "taken: {short}");
    }
    for names in [
        ["subscription", "recipients"],
        ["payload", "payload_base64"],
    ] {
        let mut event = event_with(false, "ttl", &json!(1));
        for name in names {
            event[name] = event_with(false, "payload", &json!("aGk"))
                .get(name)
                .cloned()
                .unwrap_or_else(|| json!([event]));
        }
        assert!(!validator.is_valid(&event) && !is_taken(&event), "{event}");
    }
}

#[test]
fn null_is_absent_by_the_schema_of_the_event_as_for_the_daemon() {
    for (listed, members) in [
        (false, &event::MEMBERS[..]),
        (true, &recipient::MEMBERS[..]),
    ] {
        for name in members {
            if !["subscription", "recipients"].contains(name) {
                let event = event_with(listed, name, &Value::Null);
                assert_valid(Message::Event, &event);
                assert!(is_taken(&event), "{event}");
            }
        }
    }
}

#[test]
fn the_schema_of_the_event_states_our_words_and_limits() {
    let schema = schema(Message::Event);
    let properties = &schema["properties"];
    for (name, parses) in [
        (
            "urgency",
            &(|word: &str| Urgency::parse(word).is_some()) as &dyn Fn(&str) -> bool,
        ),
        ("results", &|word| Results::parse(word).is_some()),
        ("content_encoding", &|word| Coding::parse(word).is_some()),
    ] {
        let words = words(&properties[name]["enum"]);
        assert!(words.iter().all(|word| parses(word)), "{words:?}");
    }
    assert_eq!(words(&properties["urgency"]["enum"]).len(), 4);
    assert_eq!(words(&properties["results"]["enum"]).len(), 3);
    assert_eq!(words(&properties["content_encoding"]["enum"]).len(), 2);
    assert_eq!(properties["recipients"]["maxItems"], RECIPIENT_LIMIT);
    assert_eq!(properties["payload"]["maxLength"], PLAINTEXT_LIMIT);
    assert_eq!(
        properties["payload_base64"]["maxLength"],
        PLAINTEXT_LIMIT.div_ceil(3) * 4
    );
    let says = |name: &str, text: &str| {
        let description = properties[name]["description"].as_str().unwrap();
        assert!(description.contains(text), "{name}: {description}");
    };
    says("ttl", &format!("Above {TTL_LIMIT} it is clamped"));
    says("payload", &format!("At most {PLAINTEXT_LIMIT} bytes"));
    says("metadata", "At most 4096 bytes of JSON and 64 levels");
    let metadata = |length| json!({ "m": "x".repeat(length - r#"{"m":""}"#.len()) });
    assert!(is_taken(&event_with(false, "metadata", &metadata(4096))));
    assert!(!is_taken(&event_with(false, "metadata", &metadata(4097))));
}

#[test]
fn the_schemas_of_the_outputs_list_every_word() {
    let reasons: BTreeSet<_> = Reason::ALL.iter().map(|it| it.name()).collect();
    let services: BTreeSet<_> = Service::ALL.iter().map(|it| it.name()).collect();
    let outcomes: BTreeSet<_> = Outcome::ALL.iter().map(|it| it.name()).collect();
    let changes: BTreeSet<_> = Change::ALL.iter().map(|it| it.name()).collect();
    for message in [Message::Result, Message::Subscription] {
        let properties = &schema(message)["properties"];
        assert_eq!(words(&properties["reason"]["anyOf"][0]["enum"]), reasons);
        let service = &properties["push_service"]["anyOf"][0]["enum"];
        assert_eq!(words(service), services);
    }
    let result = schema(Message::Result);
    assert_eq!(words(&result["properties"]["outcome"]["enum"]), outcomes);
    for message in [Message::Summary, Message::Progress] {
        let counts = &schema(message)["properties"]["outcomes"];
        assert_eq!(words(&counts["properties"]), outcomes);
        assert_eq!(words(&counts["required"]), outcomes);
    }
    let subscription = schema(Message::Subscription);
    assert_eq!(
        words(&subscription["properties"]["change"]["enum"]),
        changes
    );
}

/// Asserts that a written output is valid and has the members of its schema, no more and no fewer.
fn assert_written(message: Message, written: &Bytes) {
    let written: Value = serde_json::from_slice(written).unwrap();
    assert_valid(message, &written);
    let schema = schema(message);
    for pointer in ["", "/recipient", "/chunk"] {
        let Some(object) = written.pointer(pointer) else {
            continue;
        };
        let described = match pointer.strip_prefix('/') {
            Some(name) => &schema["properties"][name],
            None => &schema,
        };
        assert_eq!(words(object), words(&described["properties"]), "{pointer}");
        assert_eq!(words(object), words(&described["required"]), "{pointer}");
    }
}

fn campaign() -> Campaign {
    Campaign {
        app: Name::parse("shop"),
        label: None,
        group: "spring".into(),
    }
}

#[test]
fn what_is_written_of_a_campaign_is_what_its_schema_describes() {
    let mut news = News {
        recipients: 3,
        waiting: -1,
        ..News::default()
    };
    news.settled.settled(Reason::Accepted);
    let number = Number {
        daemon: 7,
        sequence: 1,
    };
    let written = progress::body(&campaign(), &news, number, SystemTime::UNIX_EPOCH);
    assert_written(Message::Progress, &written);
}

/// Returns a record in which every member has a value.
fn full_record(reason: Reason, at: SystemTime) -> Record {
    Record {
        status: Some(201),
        attempts: 1,
        requests: 2,
        message_url: Some("https://push.example.net/m/1".into()),
        vapid_key: Name::parse("main"),
        sent_at: Some(at),
        elapsed: Some(Duration::from_millis(41)),
        warnings: vec![
            Warning::TtlClamped(u64::MAX),
            Warning::TopicReplaced,
            Warning::EndpointNormalized("https://push.example.net".into()),
            Warning::CreatedInFuture,
            Warning::ForeignType,
            Warning::DerivedId,
            Warning::RoutingKeyMismatch(Name::parse("shop").unwrap()),
            Warning::LegacyCoding,
            Warning::NotDeclarative("it is".into()),
            Warning::DeclarativeMember("it is".into()),
            Warning::SecondRequest(Again::AsItWas),
        ],
        ..Record::unsent(reason, at, "why")
    }
}

#[test]
fn what_is_written_is_what_the_schemas_of_the_outputs_describe() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
    let mut event = event_with(false, "recipient_id", &json!(7));
    let more = json!({ "id": "order-1234", "app": "shop", "label": "mail", "group": "spring",
        "metadata": { "a": 1 } });
    let members = event.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    let body = Bytes::from(event.to_string());
    let decoded = event::decode(&body).unwrap();
    let recipient = decoded.only_recipient();
    for &reason in Reason::ALL {
        for (about, recipient, created) in [
            (&decoded.about, &recipient, Some(now)),
            (&EventRef::default(), &RecipientRef::default(), None),
        ] {
            for record in [full_record(reason, now), Record::unsent(reason, now, "why")] {
                let written = result::body(about, created, recipient, &record, EndpointForm::Full);
                assert_written(Message::Result, &written);
                if let Some(change) = Change::of(reason) {
                    let form = EndpointForm::Fingerprint;
                    let written = subscription::body(change, about, recipient, &record, form);
                    assert_written(Message::Subscription, &written);
                }
            }
        }
        let mut tally = Tally::default();
        tally.settled(reason);
        let part = Part {
            chunk: None,
            pass: 0,
        };
        let written = summary::body(&decoded.about, part, &tally, now, now);
        assert_written(Message::Summary, &written);
    }
}

#[test]
fn a_consumer_takes_members_and_reasons_of_later_releases() {
    let now = SystemTime::UNIX_EPOCH;
    let record = Record::unsent(Reason::Timeout, now, "why");
    let (event, recipient) = (EventRef::default(), RecipientRef::default());
    let body = result::body(&event, None, &recipient, &record, EndpointForm::Full);
    let mut result: Value = serde_json::from_slice(&body).unwrap();
    result["reason"] = json!("a_new_word");
    result["a_new_member"] = json!(1);
    assert_valid(Message::Result, &result);
    result["outcome"] = json!("a_new_word");
    assert!(!validator(Message::Result).is_valid(&result));
}

#[test]
fn every_example_of_the_documents_is_what_its_schema_describes() {
    let block = Regex::new(r"(?s)```json\n(.*?)```").unwrap();
    let mut messages = Vec::new();
    for document in ["README.md", "examples/README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for found in block.captures_iter(&text) {
            let value: Value = serde_json::from_str(&found[1]).unwrap();
            let message = if value.get("requested_at").is_some() {
                Message::Control
            } else if value.get("change").is_some() {
                Message::Subscription
            } else if value.get("sequence").is_some() {
                Message::Progress
            } else if value.get("chunk").is_some() {
                Message::Summary
            } else if value.get("outcome").is_some() {
                Message::Result
            } else {
                assert!(is_taken(&value), "{document}: {value:#}");
                Message::Event
            };
            assert_valid(message, &value);
            messages.push(message);
        }
    }
    for message in [Message::Event, Message::Result, Message::Subscription] {
        assert!(messages.contains(&message), "no example of {message:?}");
    }
}

#[test]
fn the_asyncapi_document_names_what_is_published_and_where() {
    let text = fs::read_to_string(root().join("config/asyncapi.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let shop = Name::parse("shop");
    let app = shop.as_ref();
    let delivery = result::routing_key(app, Outcome::Gone, None);
    let changed = subscription::routing_key(app.unwrap(), Change::Gone);
    let cancel = control::routing_key(app.unwrap(), control::Command::Cancel);
    let type_of = Kind::message_type;
    for (channel, message, message_type, key) in [
        (
            "events",
            "event",
            type_of(Kind::Retry),
            "shop.default".to_owned(),
        ),
        ("controls", "control", Some(control::MESSAGE_TYPE), cancel),
        ("results", "result", type_of(Kind::Result), delivery),
        (
            "summaries",
            "summary",
            type_of(Kind::Summary),
            summary::routing_key(app, None),
        ),
        (
            "subscriptions",
            "subscription",
            type_of(Kind::Subscription),
            changed,
        ),
        (
            "progress",
            "progress",
            type_of(Kind::Progress),
            progress::routing_key(&campaign()),
        ),
    ] {
        let about = &document["components"]["messages"][message];
        let amqp = &about["bindings"]["amqp"];
        assert_eq!(amqp["messageType"].as_str(), message_type);
        assert_eq!(about["payload"]["$ref"], format!("schemas/{message}.json"));
        let channel = &document["channels"][channel];
        assert!(channel["messages"].get(message).is_some(), "{channel:#}");
        let mut address = channel["address"].as_str().unwrap().to_owned();
        for (parameter, value) in [
            ("app", "shop"),
            ("lane", "default"),
            ("outcome", "gone"),
            ("label", "_"),
            ("change", "gone"),
            ("command", "cancel"),
        ] {
            let known = channel["parameters"].get(parameter).is_some();
            let place = format!("{{{parameter}}}");
            assert_eq!(address.contains(&place), known, "{channel:#}");
            address = address.replace(&place, value);
        }
        assert_eq!(address, key);
    }
    let outcomes: BTreeSet<_> = Outcome::ALL.iter().map(|it| it.name()).collect();
    let parameter = &document["channels"]["results"]["parameters"]["outcome"]["enum"];
    assert_eq!(words(parameter), outcomes);
}
