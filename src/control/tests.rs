use super::*;

const MONTH: Duration = Duration::from_hours(30 * 24);

const BOUNDS: Bounds = Bounds {
    targets: 100,
    retention: MONTH,
};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400 + seconds)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn id(text: &str) -> EventId {
    EventId::parse(text).unwrap()
}

fn control(target: Target, seconds: u64) -> Control {
    Control {
        app: name("shop"),
        reason: Some("wrong price".into()),
        requested_at: at(seconds),
        target,
    }
}

fn group(created_before: u64) -> Target {
    Target::Group {
        group: "spring".into(),
        created_before: at(created_before),
    }
}

/// Tells why an event of `app` that was created at `created` ends at `now`.
fn told(withdrawn: &Withdrawn, app: &str, created: u64, now: SystemTime) -> Option<String> {
    let keys = EventKeys {
        app: &name(app),
        id: &id("e1"),
        group: Some("spring"),
        label: Some(&name("mail")),
        created_at: at(created),
    };
    let refusal = withdrawn.event(keys, now)?;
    Some(format!("{} {}", refusal.reason.name(), refusal.detail))
}

#[test]
fn an_id_is_cancelled_whenever_it_comes_within_the_retention() {
    let withdrawn = Withdrawn::default();
    assert_eq!(told(&withdrawn, "shop", 0, at(0)), None);
    withdrawn.note(control(Target::Event(id("e1")), 10), BOUNDS, at(10));
    for created in [0, 10, 1000] {
        let told = told(&withdrawn, "shop", created, at(1000));
        assert_eq!(told.unwrap(), "cancelled its id was cancelled: wrong price");
    }
    assert_eq!(told(&withdrawn, "blog", 0, at(1000)), None);
    assert_eq!(told(&withdrawn, "shop", 0, at(10) + MONTH), None);
}

#[test]
fn of_a_group_or_a_label_only_events_created_before_are_cancelled() {
    let label = Target::Label {
        label: name("mail"),
        created_before: at(10),
    };
    for (target, what) in [(group(10), "group"), (label, "label")] {
        let withdrawn = Withdrawn::default();
        withdrawn.note(control(target, 20), BOUNDS, at(20));
        let expected = format!("cancelled its {what} was cancelled: wrong price");
        assert_eq!(told(&withdrawn, "shop", 9, at(30)), Some(expected));
        assert_eq!(told(&withdrawn, "shop", 10, at(30)), None);
    }
}

#[test]
fn a_group_that_is_cancelled_again_is_cancelled_up_to_the_later_time() {
    for times in [[10, 20], [20, 10]] {
        let withdrawn = Withdrawn::default();
        withdrawn.note(control(group(times[0]), 30), BOUNDS, at(30));
        withdrawn.note(control(group(times[1]), 31), BOUNDS, at(31));
        assert!(told(&withdrawn, "shop", 19, at(40)).is_some());
        assert!(told(&withdrawn, "shop", 20, at(40)).is_none());
    }
}

#[test]
fn a_recipient_is_forgotten_by_either_spelling_or_by_its_name() {
    let withdrawn = Withdrawn::default();
    let endpoint = Fingerprint::of("https://a.example/x");
    let (shop, e2) = (name("shop"), id("e2"));
    let event = EventKeys {
        app: &shop,
        id: &e2,
        group: None,
        label: None,
        created_at: at(0),
    };
    let told = |keys| {
        let refusal = withdrawn.recipient(
            Keys {
                event,
                recipient: keys,
            },
            at(20),
        )?;
        Some(format!("{} {}", refusal.reason.name(), refusal.detail))
    };
    withdrawn.note(control(Target::Subscription(endpoint), 0), BOUNDS, at(1));
    withdrawn.note(control(Target::Recipient("u42".into()), 0), BOUNDS, at(1));
    let (given, sent) = (Some(Fingerprint::of("https://A.example/x")), Some(endpoint));
    let id = Some("u42");
    let none = RecipientKeys::default();
    let subscription = "forgotten its subscription is to be forgotten: wrong price";
    let recipient = "forgotten its recipient is to be forgotten: wrong price";
    for (keys, expected) in [
        (none, None),
        (RecipientKeys { given, ..none }, None),
        (
            RecipientKeys {
                given,
                sent,
                ..none
            },
            Some(subscription),
        ),
        (
            RecipientKeys {
                given: sent,
                ..none
            },
            Some(subscription),
        ),
        (RecipientKeys { id, ..none }, Some(recipient)),
        (
            RecipientKeys {
                id: Some("u4"),
                ..none
            },
            None,
        ),
    ] {
        assert_eq!(told(keys).as_deref(), expected);
    }
    withdrawn.note(control(Target::Event(e2.clone()), 0), BOUNDS, at(1));
    let recipient = none;
    let cancelled = withdrawn.recipient(Keys { event, recipient }, at(20));
    let cancelled = cancelled.unwrap();
    assert_eq!(cancelled.reason, Reason::Cancelled);
}

#[test]
fn too_many_drop_the_oldest_and_none_outlives_its_time() {
    let withdrawn = Withdrawn::default();
    let bounds = Bounds {
        targets: 3,
        ..BOUNDS
    };
    let target = |n: u64| Target::Event(id(&format!("e{n}")));
    for n in 0..3 {
        let noted = withdrawn.note(control(target(n), n), bounds, at(n));
        let kept = usize::try_from(n).unwrap() + 1;
        assert_eq!(noted, Noted { kept, dropped: 0 });
    }
    // The first is asked for again, so the second is the oldest.
    withdrawn.note(control(target(0), 4), bounds, at(4));
    let noted = withdrawn.note(control(target(5), 5), bounds, at(5));
    assert_eq!(
        noted,
        Noted {
            kept: 3,
            dropped: 1
        }
    );
    assert_eq!(told(&withdrawn, "shop", 0, at(6)), None);
    let aged = withdrawn.remove_aged(at(4) + MONTH);
    assert_eq!(
        aged,
        Noted {
            kept: 1,
            dropped: 0
        }
    );
    let noted = withdrawn.note(control(target(1), 5), bounds, at(5) + MONTH);
    assert_eq!(noted.kept, 0, "what is too old is not kept");
    for n in 0..1000 {
        withdrawn.note(control(target(1), n), bounds, at(n));
    }
    assert!(withdrawn.table.read().order.len() < 20);
}

#[test]
fn a_message_that_is_published_again_and_again_takes_no_memory() {
    let withdrawn = Withdrawn::default();
    for _ in 0..1000 {
        withdrawn.note(control(group(10), 10), BOUNDS, at(20));
    }
    assert_eq!(withdrawn.table.read().order.len(), 1);
}

#[test]
fn a_later_limit_counts_though_it_was_asked_for_earlier() {
    let withdrawn = Withdrawn::default();
    withdrawn.note(control(group(10), 30), BOUNDS, at(30));
    withdrawn.note(control(group(20), 29), BOUNDS, at(31));
    assert!(told(&withdrawn, "shop", 19, at(40)).is_some());
    assert!(told(&withdrawn, "shop", 20, at(40)).is_none());
}

#[test]
fn what_was_asked_for_in_the_future_holds_from_now_on() {
    let withdrawn = Withdrawn::default();
    let control = control(Target::Event(id("e1")), 1_000_000_000);
    withdrawn.note(control, BOUNDS, at(0));
    assert!(told(&withdrawn, "shop", 0, at(1)).is_some());
    assert!(told(&withdrawn, "shop", 0, at(0) + MONTH).is_none());
}

#[test]
fn no_name_is_kept() {
    let withdrawn = Withdrawn::default();
    let target = Target::Recipient("u42-private".into());
    withdrawn.note(control(target, 0), BOUNDS, at(0));
    assert!(!format!("{withdrawn:?}").contains("private"));
}
