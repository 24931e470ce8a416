//! What to do with one recipient: push to it, or end it without a request.
//!
//! Why in this order: a browser that took its subscription back has the last word about it, so its
//! application hears `gone` even where the guard or the keys would refuse too; proving the key to be
//! on the curve costs most and comes late. Only a recipient that can be pushed to takes its
//! endpoint's turn: a row with broken keys must not keep the good row beside it from its message.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use url::Host;

use super::declarative;
use super::declarative::Judgement;
use super::event::Terms;
use super::{Refusal, shape};
use crate::app::App;
use crate::guard;
use crate::message::{EventId, MediaType, PLAINTEXT_LIMIT, PushMessage, Topic};
use crate::outcome::{Reason, Warning};
use crate::subscription::{Endpoint, Fingerprint, Keys, Subscription};
use crate::vapid::VapidKey;
use crate::wire::event::Event;
use crate::wire::fault::Fault;
use crate::wire::options;
use crate::wire::recipient::Recipient;

/// The endpoints of one message that have had their turn, each with the payload it had it for.
#[derive(Default)]
pub struct Seen(HashSet<(Fingerprint, Option<Bytes>)>);

/// One push to make.
#[derive(Clone, Debug)]
pub struct Push {
    /// What to encrypt and send.
    pub message: PushMessage,
    /// The key that was asked for, of the app's ring.
    pub key: Option<Arc<VapidKey>>,
    /// What was changed or ignored, the event's own warnings included.
    pub warnings: Vec<Warning>,
}

/// Plans the push to one recipient at `now`.
///
/// # Errors
/// If it ends without a request: `gone` where the browser itself says so, else `rejected`.
pub fn plan_recipient(
    recipient: &Recipient<'_>,
    event: &Event<'_>,
    app: &App,
    terms: &Terms,
    guard: &guard::Rules,
    seen: &mut Seen,
    now: SystemTime,
) -> Result<Push, Refusal> {
    let endpoint = &recipient.endpoint;
    check_removed(endpoint)?;
    guard.check(endpoint).map_err(|forbidden| Refusal {
        reason: Reason::EndpointForbidden,
        detail: forbidden.to_string().into(),
    })?;
    let key = key_of(recipient, app)?;
    let keys = keys_of(recipient, app)?;
    if event.is_fan_out() {
        seen.note(endpoint, recipient.options.payload.as_ref())?;
    }
    let (message, warnings) = shaped(recipient, event, app, terms, keys, now);
    Ok(Push {
        message,
        key,
        warnings,
    })
}

/// Shapes the message for its push service. Returns warnings about what that changed.
fn shaped(
    recipient: &Recipient<'_>,
    event: &Event<'_>,
    app: &App,
    terms: &Terms,
    keys: Option<Keys>,
    now: SystemTime,
) -> (PushMessage, Vec<Warning>) {
    let (options, service) = (&recipient.options, recipient.endpoint.service());
    let judgement = declarative::judge(options.payload.as_deref().unwrap_or_default());
    let media_type = match &judgement {
        Judgement::Declarative | Judgement::Flawed(_) => app.requests.declarative,
        Judgement::Ordinary | Judgement::Broken(_) => MediaType::default(),
    };
    // Without content there is nothing to encode.
    let asked = options.coding.filter(|_| keys.is_some());
    let coding = shape::coding(asked, &app.requests, service);
    let mut warnings = warnings(terms, options.topic_replaced, judgement);
    if asked.is_some_and(|asked| asked != coding) {
        warnings.push(Warning::LegacyCoding);
    }
    if !recipient.endpoint.is_normal() {
        let origin = recipient.endpoint.origin().as_str();
        warnings.push(Warning::EndpointNormalized(origin.into()));
    }
    let message = PushMessage {
        subscription: Subscription {
            endpoint: recipient.endpoint.clone(),
            keys,
        },
        content: options.payload.clone(),
        coding,
        ttl: shape::ttl(terms.deadline.ttl(now), service),
        urgency: event.urgency,
        topic: options.topic.clone(),
        media_type,
    };
    (message, warnings)
}

impl Push {
    /// Returns where it goes.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.message.subscription.endpoint
    }

    /// Gives a message without a topic one of its own, so that a copy of it that is pushed later
    /// replaces it (RFC 8030 §5.4).
    ///
    /// Every copy must carry it, the first included. The content is part of what it stands for: a
    /// producer that gives two events one name must not lose the first.
    pub fn replace_duplicates(&mut self, event: &EventId) {
        let message = &mut self.message;
        if message.topic.is_some() {
            return;
        }
        let mut context = Context::new(&SHA256);
        context.update(message.subscription.endpoint.fingerprint().as_bytes());
        context.update(event.as_str().as_bytes());
        // No name of an event has this byte, so name and content do not run into each other.
        context.update(b"\0");
        context.update(message.content.as_deref().unwrap_or_default());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        message.topic = Some(Topic::derived(&digest));
    }
}

fn warnings(terms: &Terms, topic_replaced: bool, judgement: Judgement) -> Vec<Warning> {
    let mut warnings = terms.warnings.clone();
    if topic_replaced {
        warnings.push(Warning::TopicReplaced);
    }
    match judgement {
        Judgement::Ordinary | Judgement::Declarative => {}
        Judgement::Flawed(fault) => warnings.push(Warning::DeclarativeMember(fault.into())),
        Judgement::Broken(fault) => warnings.push(Warning::NotDeclarative(fault.into())),
    }
    warnings
}

impl Seen {
    fn note(&mut self, endpoint: &Endpoint, payload: Option<&Bytes>) -> Result<(), Refusal> {
        let sent = if endpoint.is_normal() {
            endpoint.fingerprint()
        } else {
            Fingerprint::of(endpoint.as_str())
        };
        if self.0.insert((sent, payload.cloned())) {
            return Ok(());
        }
        Err(Refusal::repeated())
    }
}

/// Finds out subscriptions that their browser has taken back (classify/README.md §2, pre-flight).
///
/// Chromium hands out an endpoint under `.invalid`, a top-level domain that never resolves
/// (RFC 2606 §2), once a permission is revoked. The GCM host was shut down for good.
fn check_removed(endpoint: &Endpoint) -> Result<(), Refusal> {
    let Host::Domain(host) = endpoint.host() else {
        return Ok(());
    };
    let detail = if host == "invalid" || host.ends_with(".invalid") {
        "the browser has removed this subscription: its host is under .invalid"
    } else if host == "android.googleapis.com" && endpoint.url().path().starts_with("/gcm/send/") {
        "this endpoint belongs to Google Cloud Messaging, which was shut down"
    } else {
        return Ok(());
    };
    Err(Refusal {
        reason: Reason::RemovedByBrowser,
        detail: detail.into(),
    })
}

/// Finds the key that was asked for.
///
/// An unknown one is the producer's fault, not the subscription's: `key_mismatch` would have the
/// application subscribe everybody again for a misspelt name.
fn key_of(recipient: &Recipient<'_>, app: &App) -> Result<Option<Arc<VapidKey>>, Refusal> {
    let Some(name) = &recipient.options.vapid_key else {
        return Ok(None);
    };
    if let Some(key) = app.ring.get(name) {
        return Ok(Some(Arc::clone(key)));
    }
    let names: Vec<&str> = app.ring.iter().map(|key| key.name().as_str()).collect();
    let expected = format!(
        "expected a key of the application `{}`: {}; got `{name}`",
        app.name,
        names.join(", ")
    );
    Err(recipient.fault("vapid_key", expected).into())
}

/// Decodes the keys to encrypt the payload with, if there is one and it fits.
fn keys_of(recipient: &Recipient<'_>, app: &App) -> Result<Option<Keys>, Refusal> {
    let Some(payload) = &recipient.options.payload else {
        return Ok(None);
    };
    let service = recipient.endpoint.service();
    let limit = app.payload_ceiling(service);
    if payload.len() <= limit {
        return Ok(Some(recipient.keys()?));
    }
    let most = if limit == PLAINTEXT_LIMIT {
        format!("at most {limit} fit")
    } else {
        let (app, service) = (&app.name, service.name());
        format!("the application `{app}` allows {limit} at most for {service}")
    };
    Err(Refusal {
        reason: Reason::PayloadTooLarge,
        detail: options::too_long(payload, limit, &most).into(),
    })
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self {
            reason: fault.reason,
            detail: fault.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::RequestRules;
    use crate::message::{Coding, Topic};
    use crate::origin::Service;
    use crate::plan::{Moment, Settings, plan};
    use crate::wire::event::decode;
    use crate::wire::headers::RetryHistory;

    // RFC 8291 §5.
    const KEYS: &str = r#""keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}"#;

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn one(endpoint: &str, members: &str) -> String {
        format!(r#"{{"subscription":{{"endpoint":"{endpoint}",{KEYS}}}{members}}}"#)
    }

    /// Plans every recipient of an event, half a second after it was created.
    fn planned(body: impl Into<Bytes>) -> Vec<Result<Push, Refusal>> {
        planned_by(RequestRules::default(), body)
    }

    fn planned_by(requests: RequestRules, body: impl Into<Bytes>) -> Vec<Result<Push, Refusal>> {
        let body = body.into();
        let app = App {
            requests,
            ..App::for_tests("shop")
        };
        let event = decode(&body).unwrap();
        let settings = Settings {
            chunk: 50,
            hold: Duration::from_secs(1),
            horizon: Duration::from_secs(60),
            longest_wait: Duration::from_secs(60),
        };
        let now = Moment {
            earliest: noon(),
            latest: noon(),
            jitter: 0.0,
        };
        let terms = plan(&event, &app, &RetryHistory::default(), None, &settings, now)
            .unwrap()
            .terms;
        let now = noon() + Duration::from_millis(500);
        let mut seen = Seen::default();
        let guard = guard::Rules::default();
        event
            .recipients()
            .map(|raw| event.decode_recipient(raw, Some(0)).unwrap())
            .map(|recipient| {
                plan_recipient(&recipient, &event, &app, &terms, &guard, &mut seen, now)
            })
            .collect()
    }

    fn refusal(body: String) -> (Reason, String) {
        let refusal = planned(body).remove(0).unwrap_err();
        (refusal.reason, refusal.detail.into())
    }

    #[test]
    fn a_good_recipient_gets_its_push() {
        let members =
            r#","payload":"hi","ttl":60,"urgency":"high","topic":"orders","vapid_key":"older""#;
        let push = planned(one("https://push.example.net/x", members))
            .remove(0)
            .unwrap();
        assert_eq!(push.message.content.as_deref(), Some(&b"hi"[..]));
        assert!(push.message.subscription.keys.is_some());
        assert_eq!(push.message.ttl.seconds(), 60);
        assert_eq!(push.message.topic, Topic::parse("orders"));
        assert_eq!(push.key.unwrap().name().as_str(), "older");
        assert_eq!(push.warnings, []);
    }

    #[test]
    fn a_push_without_payload_needs_no_keys() {
        let body =
            r#"{"subscription":{"endpoint":"https://push.example.net/x","keys":{"auth":"%"}}}"#;
        let push = planned(body).remove(0).unwrap();
        assert!(push.message.content.is_none() && push.message.subscription.keys.is_none());
        let body = r#"{"subscription":{"endpoint":"https://push.example.net/x"},"payload":""}"#;
        assert_eq!(
            planned(body).remove(0).unwrap_err().reason,
            Reason::InvalidSubscription
        );
    }

    #[test]
    fn removed_subscriptions_are_gone_without_a_request() {
        for endpoint in [
            "https://permanently-removed.invalid/fcm/send/x",
            "https://anything.invalid/x",
            "https://android.googleapis.com/gcm/send/x",
        ] {
            let (reason, _) = refusal(one(endpoint, ""));
            assert_eq!(reason, Reason::RemovedByBrowser, "{endpoint}");
        }
        for endpoint in ["https://valid.example/x", "https://notinvalid.example/x"] {
            assert!(planned(one(endpoint, "")).remove(0).is_ok(), "{endpoint}");
        }
    }

    #[test]
    fn forbidden_endpoints_are_refused() {
        for endpoint in [
            "http://push.example.net/x",
            "https://127.0.0.1/x",
            "https://push.example.net:8443/x",
        ] {
            let (reason, detail) = refusal(one(endpoint, ""));
            assert_eq!(reason, Reason::EndpointForbidden, "{endpoint}");
            assert!(!detail.contains("/x"), "{detail}");
        }
    }

    #[test]
    fn a_payload_is_measured_at_the_edge() {
        let sized = |size| {
            one(
                "https://a.example/x",
                &format!(r#","payload":"{}""#, "x".repeat(size)),
            )
        };
        assert!(planned(sized(3993)).remove(0).is_ok());
        assert_eq!(
            refusal(sized(3994)),
            (
                Reason::PayloadTooLarge,
                "the payload is 3994 bytes long; at most 3993 fit".to_owned()
            )
        );
    }

    #[test]
    fn a_payload_that_is_long_by_its_escapes_is_told_how_long_it_is_without_them() {
        let body = r"\u041f\u0440\u0438\u0432\u0435\u0442 ".repeat(150);
        let payload = format!(r#""payload":{{"title":"x","body":"{body}"}}"#);
        let expected = "the payload is 5573 bytes long; at most 3993 fit; without its \\u escapes it \
                        has 1973: write characters as UTF-8 (ensure_ascii=False in Python, \
                        JSON_UNESCAPED_UNICODE in PHP)";
        let alone = one("https://a.example/x", &format!(",{payload}"));
        assert_eq!(
            refusal(alone),
            (Reason::PayloadTooLarge, expected.to_owned())
        );
        let many = Bytes::from(format!(r#"{{"recipients":[{{}}],{payload}}}"#));
        let fault = decode(&many).unwrap().oversized().unwrap();
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn a_service_that_takes_less_is_sent_less() {
        let rules = RequestRules {
            payload_limits: [(Service::Mozilla, 2744)].into(),
            ..RequestRules::default()
        };
        let payload = format!(r#","payload":"{}""#, "x".repeat(2745));
        let mozilla = "https://updates.push.services.mozilla.com/wpush/v2/x";
        let refused = planned_by(rules.clone(), one(mozilla, &payload)).remove(0);
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason, Reason::PayloadTooLarge);
        assert_eq!(
            &*refused.detail,
            "the payload is 2745 bytes long; the application `shop` allows 2744 at most for mozilla"
        );
        let other = one("https://fcm.googleapis.com/fcm/send/x", &payload);
        assert!(planned_by(rules, other).remove(0).is_ok());
    }

    #[test]
    fn aesgcm_is_for_those_who_ask_where_the_application_allows_it() {
        let allowed = || RequestRules {
            aesgcm: true,
            ..RequestRules::default()
        };
        let members = r#","payload":"hi","content_encoding":"aesgcm""#;
        let kaios = "https://push.kaiostech.com:8443/wpush/v2/x";
        let push = planned_by(allowed(), one(kaios, members))
            .remove(0)
            .unwrap();
        assert_eq!(push.message.coding, Coding::AesGcm);
        assert_eq!(push.warnings, []);
        let safari = "https://web.push.apple.com/x";
        for (rules, endpoint) in [(RequestRules::default(), kaios), (allowed(), safari)] {
            let push = planned_by(rules, one(endpoint, members)).remove(0).unwrap();
            assert_eq!(push.message.coding, Coding::Aes128Gcm);
            assert_eq!(push.warnings, [Warning::LegacyCoding]);
        }
        let bare = one(kaios, r#","content_encoding":"aesgcm""#);
        let push = planned_by(allowed(), bare).remove(0).unwrap();
        assert_eq!(push.message.coding, Coding::Aes128Gcm, "nothing to encode");
        assert_eq!(push.warnings, []);
    }

    #[test]
    fn a_declarative_message_is_labelled_if_asked_and_told_when_it_is_none() {
        let labelled = || RequestRules {
            declarative: MediaType::Notification,
            ..RequestRules::default()
        };
        let message = |notification: &str| {
            let payload =
                format!(r#","payload":{{"web_push":8030,"notification":{notification}}}"#);
            one("https://web.push.apple.com/x", &payload)
        };
        for (rules, notification, label, warnings) in [
            (labelled(), r#"{"title":"t","navigate":"/"}"#, true, 0),
            (
                labelled(),
                r#"{"title":"t","navigate":"/","dir":1}"#,
                true,
                1,
            ),
            (labelled(), r#"{"title":"t"}"#, false, 1),
            (
                RequestRules::default(),
                r#"{"title":"t","navigate":"/"}"#,
                false,
                0,
            ),
            (RequestRules::default(), r#"{"title":"t"}"#, false, 1),
        ] {
            let push = planned_by(rules, message(notification)).remove(0).unwrap();
            let labelled = push.message.media_type == MediaType::Notification;
            assert_eq!(labelled, label, "{notification}");
            assert_eq!(push.warnings.len(), warnings, "{:?}", push.warnings);
        }
    }

    #[test]
    fn a_notification_is_sent_as_a_declarative_message_and_measured_as_it_is_written() {
        let shown = |body: usize| {
            let body = "x".repeat(body);
            let members = format!(
                r#","notification": {{ "body":"{body}", "navigate":"https://a.example/", "title":"t" }}"#
            );
            one("https://web.push.apple.com/x", &members)
        };
        let rules = RequestRules {
            declarative: MediaType::Notification,
            ..RequestRules::default()
        };
        let push = planned_by(rules, shown(1)).remove(0).unwrap();
        let written = br#"{"web_push":8030,"notification":{"title":"t","navigate":"https://a.example/","body":"x"}}"#;
        assert_eq!(push.message.content.as_deref(), Some(&written[..]));
        assert_eq!(push.message.media_type, MediaType::Notification);
        assert_eq!(push.warnings, []);
        let most = PLAINTEXT_LIMIT - written.len() + 1;
        assert!(planned(shown(most)).remove(0).is_ok());
        assert_eq!(
            refusal(shown(most + 1)),
            (
                Reason::PayloadTooLarge,
                "the payload is 3994 bytes long; at most 3993 fit".to_owned()
            )
        );
    }

    #[test]
    fn a_key_that_is_not_held_is_the_producers_fault() {
        assert_eq!(
            refusal(one("https://a.example/x", r#","vapid_key":"2019""#)),
            (
                Reason::MalformedEvent,
                "vapid_key: expected a key of the application `shop`: main, older; got `2019`"
                    .to_owned()
            )
        );
    }

    #[test]
    fn the_second_of_two_equal_endpoints_and_payloads_is_a_duplicate() {
        let recipient = one("https://a.example/x", "");
        let planned = planned(format!(r#"{{"recipients":[{recipient},{recipient}]}}"#));
        assert!(planned[0].is_ok());
        assert_eq!(
            planned[1].as_ref().unwrap_err().reason,
            Reason::DuplicateRecipient
        );
    }

    #[test]
    fn what_is_changed_on_the_way_is_told() {
        let members =
            r#","payload":"","topic":"order/1","content_encoding":"aesgcm","ttl":9999999"#;
        let push = planned(one("https://a.example/x", members))
            .remove(0)
            .unwrap();
        assert_eq!(push.message.coding, Coding::Aes128Gcm);
        assert_eq!(push.message.topic, Some(Topic::hashed("order/1")));
        assert_eq!(
            push.warnings,
            [
                Warning::TtlClamped(9_999_999),
                Warning::TopicReplaced,
                Warning::LegacyCoding
            ]
        );
    }

    #[test]
    fn an_endpoint_that_is_not_in_normal_form_is_sent_to_with_a_warning() {
        let given = "https://FCM.googleapis.com:443/fcm/send/AbCdEf";
        let push = planned(one(given, "")).remove(0).unwrap();
        let endpoint = &push.message.subscription.endpoint;
        assert_eq!(
            endpoint.as_str(),
            "https://fcm.googleapis.com/fcm/send/AbCdEf"
        );
        assert_eq!(endpoint.fingerprint(), Fingerprint::of(given));
        let origin = "https://fcm.googleapis.com".into();
        assert_eq!(push.warnings, [Warning::EndpointNormalized(origin)]);
    }

    #[test]
    fn two_spellings_of_one_endpoint_in_one_event_are_one_recipient() {
        let recipient =
            |endpoint: &str| format!(r#"{{"subscription":{{"endpoint":"{endpoint}",{KEYS}}}}}"#);
        let both = [
            recipient("https://fcm.googleapis.com/fcm/send/AbCdEf"),
            recipient("https://fcm.googleapis.com:443/fcm/send/AbCdEf"),
        ];
        let planned = planned(format!(r#"{{"recipients":[{}]}}"#, both.join(",")));
        assert!(planned[0].is_ok());
        assert!(planned[1].is_err());
    }
}
