use serde_json::{Value, json};

use super::*;
use crate::broker::tests::settings;

/// Audits our topology with user and operator policies of (name, pattern, priority, definition).
fn audited(policies: &Value, operator: &Value) -> Vec<Audited> {
    let definitions = Definitions::new(&settings()).unwrap().definitions();
    let policy = |it: &Value| {
        json!({ "vhost": "/", "name": it[0], "pattern": it[1], "apply-to": "queues",
                "priority": it[2], "definition": it[3] })
    };
    let parameter = |it: &Value| {
        json!({ "component": "operator_policy", "vhost": "/", "name": it[0],
                "value": policy(it) })
    };
    let list = |value: &Value, make: &dyn Fn(&Value) -> Value| {
        let items = value.as_array().unwrap().iter().map(make);
        items.collect::<Vec<_>>()
    };
    let export = json!({
        "queues": definitions["queues"],
        "policies": list(policies, &policy),
        "parameters": list(operator, &parameter),
    });
    let export = Export::from_definitions(export.to_string().as_bytes()).unwrap();
    audit(&settings(), &export).unwrap()
}

/// Returns the findings of a queue as (cause, mend).
fn findings(audited: &[Audited], queue: &str) -> Vec<(String, Mend)> {
    let of_queue = audited.iter().filter(|it| it.queue == queue);
    let findings = of_queue.flat_map(|it| &it.findings);
    findings
        .map(|it| (it.cause.clone(), it.mend.clone()))
        .collect()
}

fn ours() -> Value {
    let policy = Policy::new(&settings().prefix);
    json!([
        policy.name,
        policy.pattern,
        policy.priority,
        policy.definition
    ])
}

#[test]
fn the_topology_as_it_is_declared_voids_nothing() {
    for policies in [json!([]), json!([ours()])] {
        let audited = audited(&policies, &json!([]));
        assert_eq!(audited.len(), 4 + 3 + 5 + 1);
        for queue in audited {
            assert_eq!(queue.findings, [], "{}", queue.queue);
        }
    }
}

#[test]
fn each_harmful_key_is_found_on_the_queues_that_it_harms() {
    let kinds = [
        ("lane", "webpush.lane.high"),
        ("due", "webpush.due.high"),
        ("delay", "webpush.delay.400ms"),
        ("undeliverable", "webpush.undeliverable"),
        ("quarantine", "webpush.quarantine"),
        ("unrouted", "webpush.unrouted"),
        ("kept", "webpush.resubscribe"),
    ];
    let all = "lane due delay undeliverable quarantine unrouted kept";
    let dead_letter = "lane due delay undeliverable";
    for (definition, harmed) in [
        (json!({ "expires": 60_000 }), all),
        (json!({ "overflow": "drop-head" }), dead_letter),
        (json!({ "overflow": "reject-publish" }), "unrouted"),
        (
            json!({ "max-length": 9 }),
            "due delay undeliverable quarantine kept",
        ),
        (
            json!({ "max-length-bytes": 9 }),
            "due delay undeliverable quarantine kept",
        ),
        (
            json!({ "message-ttl": 100 }),
            "lane due delay undeliverable quarantine kept",
        ),
        (
            json!({ "message-ttl": 86_400_000 }),
            "lane due undeliverable quarantine kept",
        ),
        (
            json!({ "delivery-limit": 3 }),
            "lane due undeliverable quarantine",
        ),
        (json!({ "delivery-limit": -1 }), "lane due undeliverable"),
        (json!({ "delivery-limit": 100 }), "quarantine"),
        (json!({ "dead-letter-strategy": "at-most-once" }), ""),
        (json!({ "dead-letter-routing-key": "elsewhere" }), "delay"),
        (json!({ "ha-mode": "all" }), ""),
    ] {
        let audited = audited(&json!([["all", ".*", 0, definition]]), &json!([]));
        let found: Vec<_> = kinds
            .iter()
            .filter(|(_, queue)| !findings(&audited, queue).is_empty())
            .map(|(kind, _)| *kind)
            .collect();
        assert_eq!(found.join(" "), harmed, "{definition}");
    }
}

#[test]
fn our_policy_is_the_mend_where_it_would_apply() {
    let expires = json!({ "expires": 100 });
    let cause = |whose: &str| format!("expires = 100 ({whose})");
    let low = json!([["low", ".*", 999, expires]]);
    let low = audited(&low, &json!([]));
    let set = Mend::Set(Policy::new(&settings().prefix));
    let clear = |name: &str| Mend::Clear(name.to_owned());
    assert_eq!(
        findings(&low, "webpush.delay.50ms"),
        [(cause("policy low"), set)]
    );
    assert_eq!(
        findings(&low, "webpush.quarantine"),
        [(cause("policy low"), clear("low"))]
    );

    let protected = audited(&json!([["low", ".*", 999, expires], ours()]), &json!([]));
    assert_eq!(findings(&protected, "webpush.delay.50ms"), []);

    let high = json!([["high", ".*", 1001, expires], ours()]);
    let high = audited(&high, &json!([]));
    assert_eq!(
        findings(&high, "webpush.delay.50ms"),
        [(cause("policy high"), clear("high"))]
    );

    let operator = audited(
        &json!([ours()]),
        &json!([["op", ".*", 0, [["expires", 100]]]]),
    );
    assert_eq!(
        findings(&operator, "webpush.delay.50ms"),
        [(
            cause("operator policy op"),
            Mend::ClearOperator("op".to_owned())
        )]
    );
}

#[test]
fn of_policies_of_one_priority_any_may_apply() {
    let policies =
        json!([["a", ".*", 0, { "ha-mode": "all" }], ["b", ".*", 0, { "expires": 100 }]]);
    let audited = audited(&policies, &json!([]));
    let delay = audited.iter().filter(|it| it.queue == "webpush.delay.50ms");
    let policies: Vec<_> = delay.map(|it| it.policy.as_deref().unwrap()).collect();
    assert_eq!(policies, ["a", "b"]);
    assert_eq!(findings(&audited, "webpush.delay.50ms").len(), 1);
}

#[test]
fn a_pattern_may_look_ahead_and_applies_by_kind_and_virtual_host() {
    let audited = audited(
        &json!([["a", r"^(?!amq\.|webpush\.).*", 0, { "expires": 1 }]]),
        &json!([]),
    );
    assert!(audited.iter().all(|it| it.policy.is_none()));
    let definitions = Definitions::new(&settings()).unwrap().definitions();
    for (vhost, apply_to, applies) in [
        ("/", "all", true),
        ("/", "quorum_queues", true),
        ("/", "classic_queues", false),
        ("/", "exchanges", false),
        ("other", "all", false),
    ] {
        let policy = json!([{ "vhost": vhost, "name": "x", "pattern": "", "apply-to": apply_to,
                              "priority": 0, "definition": { "expires": 1 } }]);
        let lists = [
            definitions["queues"].to_string(),
            policy.to_string(),
            "[]".to_owned(),
        ];
        let [queues, policies, operator] = lists.each_ref().map(String::as_bytes);
        let export = Export::from_lists(queues, policies, operator).unwrap();
        let audited = audit(&settings(), &export).unwrap();
        assert_eq!(
            audited.iter().any(|it| it.policy.is_some()),
            applies,
            "{vhost} {apply_to}"
        );
    }
}

#[test]
fn a_queue_that_is_missing_or_declared_otherwise_is_found() {
    let queue = |name: &str, arguments: Value| json!({ "name": name, "vhost": "/", "arguments": arguments });
    let export = json!({ "queues": [
        queue("webpush.lane.default", json!({ "x-queue-type": "quorum" })),
        queue("webpush.due.default", json!({})),
    ] });
    let export = Export::from_definitions(export.to_string().as_bytes()).unwrap();
    let audited = audit(&settings(), &export).unwrap();
    let mends: Vec<_> = findings(&audited, "webpush.lane.default");
    let redeclare = |name: &str| Mend::Redeclare(name.to_owned());
    assert_eq!(mends.len(), 5, "{mends:#?}");
    assert!(
        mends
            .iter()
            .all(|(_, mend)| *mend == redeclare("webpush.lane.default"))
    );
    assert_eq!(
        findings(&audited, "webpush.due.default"),
        [(
            "it is not a quorum queue".to_owned(),
            redeclare("webpush.due.default")
        )]
    );
    assert_eq!(
        findings(&audited, "webpush.due.high"),
        [("the queue does not exist".to_owned(), Mend::Declare)]
    );
}

#[test]
fn what_is_no_export_is_refused_with_what_to_give() {
    for text in [
        "",
        "[]",
        "{}",
        "Error: unable to connect",
        r#"{"queues": [], "parameters": [{"component": "operator_policy", "name": "x", "value": "y"}]}"#,
    ] {
        let error = Export::from_definitions(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("export_definitions"), "{error}");
    }
}

#[test]
fn control_messages_need_a_stream() {
    let queue = |kind: &str| {
        json!({ "queues": [{ "name": "webpush.control.log", "vhost": "/",
                             "arguments": { "x-queue-type": kind } }] })
    };
    for (kind, causes) in [("stream", &[][..]), ("quorum", &["it is not a stream"])] {
        let export = Export::from_definitions(queue(kind).to_string().as_bytes()).unwrap();
        let audited = audit(&settings(), &export).unwrap();
        let found = findings(&audited, "webpush.control.log");
        let found: Vec<_> = found.iter().map(|(cause, _)| cause.as_str()).collect();
        assert_eq!(found, causes, "{kind}");
    }
}
