//! How a message is shaped for its push service, and what a second request changes.
//!
//! Why `aesgcm` is sent so seldom: it was obsolete when RFC 8291 came out, but tables are full of rows
//! that still say it, written by a library's default and not by a need. Whoever has such a row can
//! read `aes128gcm` as well, save for devices of before 2018; so only an application that knows
//! of them allows it. Apple and WNS never had browsers without `aes128gcm`, and ntfy forwards no
//! headers, without which `aesgcm` cannot be read (classify/README.md §1.0, §1.4, §1.5).
//!
//! VAPID goes with the coding: everybody who takes `aesgcm` takes the token as draft-01 wrote it,
//! FCM takes it no other way, and refuses the draft's with `aes128gcm` (classify/README.md §1.2, §5).

use std::borrow::Cow;
use std::time::SystemTime;

use super::deadline::Deadline;
use crate::app::RequestRules;
use crate::message::{Coding, PushMessage, Ttl};
use crate::origin::Service;
use crate::outcome::Again;

/// Chooses the coding of a message for a recipient that asked for `asked`.
pub(super) fn coding(asked: Option<Coding>, rules: &RequestRules, service: Service) -> Coding {
    match asked {
        Some(Coding::AesGcm) if rules.aesgcm && takes_aesgcm(service) => Coding::AesGcm,
        Some(Coding::AesGcm | Coding::Aes128Gcm) | None => Coding::Aes128Gcm,
    }
}

fn takes_aesgcm(service: Service) -> bool {
    match service {
        Service::Fcm | Service::Mozilla | Service::NextPush | Service::Other => true,
        Service::Apple | Service::Wns | Service::Ntfy => false,
    }
}

/// Fits a TTL to a service.
///
/// Whether Apple takes 0 is not known for certain (classify/README.md §1.3); 1 is as good as never, and
/// taken.
pub(super) fn ttl(ttl: Ttl, service: Service) -> Ttl {
    if service == Service::Apple {
        return ttl.max(Ttl::ONE);
    }
    ttl
}

/// Returns the message as it is sent at `now`, its TTL no longer than what is left then; `None` once
/// the deadline has come.
#[must_use]
pub fn timely<'a>(
    message: &'a PushMessage,
    deadline: &Deadline,
    now: SystemTime,
) -> Option<Cow<'a, PushMessage>> {
    deadline.left(now)?;
    let left = ttl(deadline.ttl(now), message.subscription.endpoint.service());
    let mut timely = Cow::Borrowed(message);
    if left < message.ttl {
        timely.to_mut().ttl = left;
    }
    Some(timely)
}

/// Returns the message of a second request with the same key; `None` if it could not differ from
/// the first, and is not worth making.
///
/// A message in `aes128gcm` has no other coding: where the subscription allowed another, it was sent
/// in that.
#[must_use]
pub fn changed(message: &PushMessage, again: Again) -> Option<Cow<'_, PushMessage>> {
    let mut other = Cow::Borrowed(message);
    match again {
        Again::AsItWas | Again::NewConnection | Again::FreshToken => {}
        Again::AnotherKey => return None,
        Again::WithoutTopic => {
            message.topic.as_ref()?;
            other.to_mut().topic = None;
        }
        Again::TtlOfOne => {
            (message.ttl < Ttl::ONE).then_some(())?;
            other.to_mut().ttl = Ttl::ONE;
        }
        Again::OtherCoding => {
            (message.coding == Coding::AesGcm).then_some(())?;
            other.to_mut().coding = Coding::Aes128Gcm;
        }
    }
    Some(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MediaType, Topic, Urgency};
    use crate::subscription::{Endpoint, Subscription};

    fn message() -> PushMessage {
        PushMessage {
            subscription: Subscription {
                endpoint: Endpoint::parse("https://push.example.net/x").unwrap(),
                keys: None,
            },
            content: None,
            coding: Coding::AesGcm,
            ttl: Ttl::clamped(0),
            urgency: Urgency::High,
            topic: Topic::parse("news"),
            media_type: MediaType::default(),
        }
    }

    #[test]
    fn aesgcm_takes_a_recipient_an_application_and_a_service() {
        let rules = |aesgcm| RequestRules {
            aesgcm,
            ..RequestRules::default()
        };
        for &service in Service::ALL {
            for asked in [None, Some(Coding::Aes128Gcm), Some(Coding::AesGcm)] {
                assert_eq!(coding(asked, &rules(false), service), Coding::Aes128Gcm);
                let modern = [Service::Apple, Service::Wns, Service::Ntfy].contains(&service);
                let legacy = asked == Some(Coding::AesGcm) && !modern;
                let chosen = coding(asked, &rules(true), service);
                assert_eq!(chosen == Coding::AesGcm, legacy, "{asked:?} {service:?}");
            }
        }
    }

    #[test]
    fn only_apple_is_never_sent_a_ttl_of_zero() {
        for &service in Service::ALL {
            let sent = |seconds| ttl(Ttl::clamped(seconds), service).seconds();
            assert_eq!(sent(0), u32::from(service == Service::Apple), "{service:?}");
            assert_eq!((sent(1), sent(60)), (1, 60));
        }
    }

    #[test]
    fn a_second_request_changes_one_thing_or_is_not_made() {
        let first = message();
        for &again in Again::ALL {
            let Some(second) = changed(&first, again) else {
                assert_eq!(again, Again::AnotherKey);
                continue;
            };
            let topic = again != Again::WithoutTopic;
            assert_eq!(second.topic.is_some(), topic, "{again:?}");
            let ttl = u32::from(again == Again::TtlOfOne);
            assert_eq!(second.ttl.seconds(), ttl, "{again:?}");
            let legacy = again != Again::OtherCoding;
            assert_eq!(second.coding == Coding::AesGcm, legacy, "{again:?}");
            assert_eq!(second.urgency, Urgency::High);
        }
        let plain = PushMessage {
            coding: Coding::Aes128Gcm,
            ttl: Ttl::ONE,
            topic: None,
            ..first
        };
        for again in [
            Again::AnotherKey,
            Again::WithoutTopic,
            Again::TtlOfOne,
            Again::OtherCoding,
        ] {
            assert!(changed(&plain, again).is_none(), "{again:?}");
        }
        for again in [Again::AsItWas, Again::NewConnection, Again::FreshToken] {
            let same = changed(&plain, again).unwrap();
            assert!(matches!(same, Cow::Borrowed(_)), "{again:?}");
        }
    }
}
