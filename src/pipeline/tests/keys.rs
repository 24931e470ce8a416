//! The ring of keys, and what a service says of the one that signed.

use super::*;

/// FCM's words for a subscription that was made with another key.
const MISMATCH: Says = Says::Text(403, "the VAPID credentials do not correspond to the others");

pub(super) fn ring(names: &[&str]) -> App {
    let key = |name_of: &&str| Arc::new(VapidKey::generate(name(name_of)).unwrap());
    let mut keys = names.iter().map(key);
    App {
        ring: KeyRing {
            primary: keys.next().unwrap(),
            older: keys.collect(),
        },
        ..app(Mode::Send)
    }
}

pub(super) fn to(token: &str, more: Value) -> String {
    let mut fields = json!({ "id": token, "subscription": fcm(token) });
    let more = more.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(more);
    event(fields)
}

/// Returns how many requests a result counts, and the key it names.
pub(super) async fn sent(env: &TestEnv, body: String) -> (Value, Value) {
    let publications = env.pipeline.process(&inbound(body)).await;
    let result = parsed(&publications[0]);
    assert_eq!(result["outcome"], "accepted", "{result:#}");
    (result["requests"].clone(), result["vapid_key"].clone())
}

pub(super) fn requests(env: &TestEnv) -> usize {
    env.service.requests.lock().len()
}

#[tokio::test]
async fn the_key_that_fits_is_found_at_once_and_remembered() {
    let env = env_of(ring(&["new", "old"]), [MISMATCH], 100);
    assert_eq!(
        sent(&env, to("a", json!({}))).await,
        (json!(2), json!("old"))
    );
    assert_eq!(
        sent(&env, to("a", json!({}))).await,
        (json!(1), json!("old"))
    );
    assert_eq!(
        sent(&env, to("b", json!({}))).await,
        (json!(1), json!("new"))
    );
    let asked = to("a", json!({ "vapid_key": "new" }));
    assert_eq!(sent(&env, asked).await, (json!(1), json!("new")));
    assert_eq!(
        sent(&env, to("a", json!({}))).await,
        (json!(1), json!("new")),
        "what fits is remembered anew"
    );
}

#[tokio::test]
async fn the_keys_of_a_ring_are_tried_from_new_to_old_after_the_one_that_was_asked_for() {
    let env = env_of(ring(&["c", "b", "a"]), [MISMATCH, MISMATCH], 100);
    let asked = to("x", json!({ "vapid_key": "b" }));
    assert_eq!(sent(&env, asked).await, (json!(3), json!("a")));
}

#[tokio::test]
async fn a_copy_that_waits_begins_with_the_key_it_had_come_to() {
    let app = ring(&["new", "old"]);
    let env = env_of(app.clone(), [MISMATCH, Says::Status(503)], 100);
    let publications = env.pipeline.process(&inbound(to("a", json!({})))).await;
    assert_eq!(outline(&publications), ["wait 5s service_unavailable 1"]);
    let restarted = env_of(app, [], 100);
    restarted.clock.advance(Duration::from_secs(5));
    let later = restarted
        .pipeline
        .process(&returned(&publications[0]))
        .await;
    let result = parsed(&later[0]);
    assert_eq!(
        (&result["requests"], &result["vapid_key"]),
        (&json!(3), &json!("old"))
    );
}

#[tokio::test]
async fn nobody_is_called_a_mismatch_before_the_key_is_proved() {
    let script = (0..5).map(|_| MISMATCH);
    let env = env_of(ring(&["main"]), script, 100);
    for n in 0..4 {
        let waits = comes_to(&env, to(&n.to_string(), json!({}))).await;
        assert_eq!(waits, ["wait 10s key_mismatch 0"], "{n}");
    }
    let fifth = comes_to(&env, to("4", json!({}))).await;
    assert_eq!(fifth, ["wait 20s key_mismatch 0"], "suspended for 10 s");
    let sixth = env.pipeline.process(&inbound(to("5", json!({})))).await;
    assert_eq!(outline(&sixth), ["wait 20s key_mismatch 0"]);
    assert_eq!(requests(&env), 5, "no request with a suspended key");

    env.clock.advance(Duration::from_secs(20));
    let taken = env.pipeline.process(&returned(&sixth[0])).await;
    assert_eq!(outline(&taken), ["delivery.shop.accepted._ accepted"]);
    env.service.script.lock().push_back(MISMATCH);
    assert_eq!(
        comes_to(&env, to("0", json!({}))).await,
        [
            "delivery.shop.rejected._ key_mismatch",
            "subscription.shop.key_mismatch"
        ]
    );
    let metrics = env.pipeline.metrics.render().unwrap();
    let alarms = r#"pushrider_key_alarms_total{cause="mismatch",push_service="fcm"} 1"#;
    assert!(metrics.contains(alarms));
}

#[tokio::test]
async fn what_is_queued_for_a_mismatch_costs_no_request_and_is_told_once() {
    let env = env_of(ring(&["main"]), [Says::Status(201), MISMATCH], 100);
    sent(&env, to("fine", json!({}))).await;
    let older = json!({ "created_at": "2026-11-21T11:59:00Z" });
    assert_eq!(comes_to(&env, to("a", older.clone())).await.len(), 2);
    let later = comes_to(&env, to("a", older)).await;
    assert_eq!(later, ["delivery.shop.rejected._ key_mismatch"]);
    assert_eq!(requests(&env), 2);
    sent(&env, to("a", json!({}))).await;
}

#[tokio::test]
async fn a_suspended_key_is_passed_over_while_another_may_fit() {
    let script = (0..10).map(|_| MISMATCH);
    let env = env_of(ring(&["wrong", "old"]), script, 100);
    for n in 0..5 {
        let waits = comes_to(&env, to(&n.to_string(), json!({}))).await;
        assert_eq!(waits.len(), 1);
    }
    assert_eq!(requests(&env), 10, "each with both keys");
    env.clock.advance(Duration::from_secs(10));
    assert_eq!(
        sent(&env, to("x", json!({}))).await,
        (json!(1), json!("wrong"))
    );

    let script = [MISMATCH, Says::Status(201)]
        .into_iter()
        .chain((0..10).map(|_| MISMATCH));
    let env = env_of(ring(&["wrong", "old"]), script, 100);
    assert_eq!(
        sent(&env, to("x", json!({}))).await,
        (json!(2), json!("old"))
    );
    for n in 0..5 {
        comes_to(&env, to(&n.to_string(), json!({}))).await;
    }
    let before = requests(&env);
    assert_eq!(
        sent(&env, to("y", json!({}))).await,
        (json!(1), json!("old")),
        "the wrong key does not hold up the right one"
    );
    env.service.script.lock().push_back(MISMATCH);
    let waits = comes_to(&env, to("z", json!({}))).await;
    assert_eq!(waits, ["wait 20s key_mismatch 0"]);
    assert_eq!(requests(&env), before + 2);
}

#[tokio::test]
async fn a_short_life_is_not_ended_at_the_first_word_against_a_key() {
    let env = env_of(ring(&["main"]), [MISMATCH, MISMATCH], 100);
    let short = to("a", json!({ "ttl": 6 }));
    let publications = env.pipeline.process(&inbound(short)).await;
    assert_eq!(outline(&publications), ["wait 4s key_mismatch 0"]);
    env.clock.advance(Duration::from_millis(5200));
    let publications = env.pipeline.process(&returned(&publications[0])).await;
    assert_eq!(
        outline(&publications),
        ["delivery.shop.expired._ ttl_elapsed"]
    );
    let result = parsed(&publications[0]);
    assert_eq!(
        (&result["status"], &result["requests"]),
        (&json!(403), &json!(2))
    );
    assert!(result["detail"].to_string().contains("key_mismatch"));
}

#[tokio::test]
async fn a_unlisted_host_who_refuses_a_key_raises_no_alarm() {
    let refused = r#"{"code":401,"errno":109,"error":"Unauthorized","message":"InvalidSignature","more_info":"x"}"#;
    let script = (0..5).map(|_| Says::Text(401, refused));
    let env = env_of(ring(&["main"]), script, 100);
    let mut publications = Vec::new();
    for n in 0..6 {
        let unlisted = subscription(&format!("https://push.example.net/wpush/v2/{n}"));
        publications = comes_to(&env, event(json!({ "subscription": unlisted }))).await;
    }
    assert_eq!(publications, ["wait 20s vapid_rejected 0"]);
    assert_eq!(requests(&env), 5, "the key is suspended there");
    let metrics = env.pipeline.metrics.render().unwrap();
    let mut alarms = metrics
        .lines()
        .filter(|line| line.starts_with("pushrider_key_alarms_total"));
    assert!(alarms.all(|line| line.ends_with(" 0")));
}

/// FCM's words for a token that it refuses.
const REFUSED: Says = Says::Text(403, "permission denied: invalid JWT provided");

fn alarms(env: &TestEnv) -> u32 {
    let metrics = env.pipeline.metrics.render().unwrap();
    let series = r#"pushrider_key_alarms_total{cause="vapid_rejected",push_service="fcm"} "#;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn one_refused_token_holds_up_one_recipient_for_seconds_and_nobody_else() {
    let env = env_of(ring(&["main"]), [REFUSED, REFUSED], 100);
    let login = json!({ "ttl": 300 });
    let refused = env.pipeline.process(&inbound(to("a", login.clone()))).await;
    assert_eq!(outline(&refused), ["wait 10s vapid_rejected 0"]);
    env.clock.advance(Duration::from_secs(10));
    let again = env.pipeline.process(&returned(&refused[0])).await;
    assert_eq!(outline(&again), ["wait 20s vapid_rejected 0"]);
    assert_eq!(sent(&env, to("b", login)).await.0, json!(1), "at once");
    env.clock.advance(Duration::from_secs(20));
    let taken = env.pipeline.process(&returned(&again[0])).await;
    assert_eq!(outline(&taken), ["delivery.shop.accepted._ accepted"]);
    let result = parsed(&taken[0]);
    let counted = (&result["requests"], &result["attempts"]);
    assert_eq!(counted, (&json!(3), &json!(1)));
    assert_eq!(alarms(&env), 0);
}

#[tokio::test]
async fn the_fifth_refused_subscription_suspends_the_key_until_a_message_is_taken() {
    let script = (0..5).map(|_| REFUSED);
    let env = env_of(ring(&["main"]), script, 100);
    for n in 0..5 {
        let waits = comes_to(&env, to(&n.to_string(), json!({}))).await;
        let seconds = if n < 4 { 10 } else { 20 };
        assert_eq!(waits, [format!("wait {seconds}s vapid_rejected 0")], "{n}");
    }
    assert_eq!(alarms(&env), 1);
    let held = env.pipeline.process(&inbound(to("x", json!({})))).await;
    assert_eq!(outline(&held), ["wait 20s vapid_rejected 0"]);
    assert_eq!(requests(&env), 5, "no request with a suspended key");
    env.clock.advance(Duration::from_secs(20));
    env.service.script.lock().push_back(REFUSED);
    let same = comes_to(&env, to("0", json!({}))).await;
    assert_eq!(same, ["wait 10s vapid_rejected 0"]);
    let taken = env.pipeline.process(&returned(&held[0])).await;
    assert_eq!(outline(&taken), ["delivery.shop.accepted._ accepted"]);
    assert_eq!(alarms(&env), 1, "one of the five does not suspend it again");
}

#[tokio::test]
async fn a_made_up_name_of_a_service_that_takes_the_key_raises_no_alarm() {
    const WNS: &str = "notify.windows.com/w/?token=";
    for (is_taken_elsewhere, alarms) in [(false, 1), (true, 0)] {
        let taken = is_taken_elsewhere.then_some(Says::Status(201));
        let script = taken.into_iter().chain((0..5).map(|_| Says::Status(401)));
        let env = env_of(ring(&["main"]), script, 100);
        let at = |host: &str, n: u8| json!({ "subscription": subscription(&format!("https://{host}.{WNS}{n}")) });
        if is_taken_elsewhere {
            sent(&env, to("fine", at("wns2-par02p", 0))).await;
        }
        for n in 0..5 {
            comes_to(&env, to(&n.to_string(), at("made-up", n))).await;
        }
        let metrics = env.pipeline.metrics.render().unwrap();
        let line = format!(
            r#"pushrider_key_alarms_total{{cause="vapid_rejected",push_service="wns"}} {alarms}"#
        );
        assert!(metrics.contains(&line), "{is_taken_elsewhere}");
    }
}

#[tokio::test]
async fn what_an_endpoint_refuses_that_takes_it_from_others_uses_up_attempts() {
    let script = [Says::Status(201), REFUSED, REFUSED, REFUSED];
    let env = env_of(ring(&["main"]), script, 100);
    sent(&env, to("fine", json!({}))).await;
    let first = env.pipeline.process(&inbound(to("a", json!({})))).await;
    assert_eq!(outline(&first), ["wait 5s vapid_rejected 1"]);
    env.clock.advance(Duration::from_secs(5));
    let second = env.pipeline.process(&returned(&first[0])).await;
    assert_eq!(outline(&second), ["wait 10s vapid_rejected 2"]);
    env.clock.advance(Duration::from_secs(10));
    let last = env.pipeline.process(&returned(&second[0])).await;
    assert_eq!(outline(&last), ["delivery.shop.failed._ vapid_rejected"]);
    assert_eq!(alarms(&env), 0);
}

#[tokio::test]
async fn a_message_that_any_key_could_have_signed_proves_none() {
    const MISMATCH: &str = r#"{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch","more_info":"x"}"#;
    const MOZILLA: &str = "https://updates.push.services.mozilla.com";
    const UNLISTED: &str = "https://push.example.net";
    for (host, path, doubted) in [
        (MOZILLA, "/wpush/v1/x", true),
        (MOZILLA, "/wpush/v2/x", false),
        (UNLISTED, "/wpush/v1/x", true),
        (UNLISTED, "/upAbCdEfGhIjKl?up=1", true),
        (UNLISTED, "/x", true),
    ] {
        let script = [Says::Status(201), Says::Text(401, MISMATCH)];
        let env = env_of(ring(&["wrong"]), script, 100);
        let at = |path| json!({ "subscription": subscription(&format!("{host}{path}")) });
        sent(&env, to("any", at(path))).await;
        let publications = comes_to(&env, to("bound", at("/wpush/v2/bound"))).await;
        let waits = publications == ["wait 10s key_mismatch 0"];
        assert_eq!(waits, doubted, "{host}{path}: {publications:?}");
    }
}

#[tokio::test]
async fn an_unusual_share_of_gone_is_told() {
    let script = (0..100).map(|_| Says::Status(410));
    let env = env_of(ring(&["main"]), script, 100);
    let shows = |value: u8| {
        let line = format!(r#"pushrider_gone_unusual{{push_service="fcm"}} {value}"#);
        assert!(env.pipeline.metrics.render().unwrap().contains(&line));
    };
    shows(0);
    for n in 0..100 {
        comes_to(&env, to(&n.to_string(), json!({}))).await;
    }
    shows(1);
}
