//! Makes the request: encrypts the message and adds the headers.

use std::borrow::Cow;

use bytes::Bytes;

use crate::app::App;
use crate::ece::{EceError, Salt, SenderKey, aes128gcm, aesgcm};
use crate::message::{Coding, PushMessage};
use crate::outcome::Again;
use crate::plan;
use crate::push_service::{self, PushRequest};
use crate::subscription::Keys;
use crate::vapid::{Token, VapidError, VapidKey};

/// Why a request could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error(transparent)]
    Vapid(#[from] VapidError),
    #[error(transparent)]
    Ece(#[from] EceError),
}

/// Encrypts a message, changed as a second request asks, and writes its headers: the VAPID headers
/// are those of the time of its coding.
pub(super) fn request(
    app: &App,
    key: &VapidKey,
    token: &Token,
    message: &PushMessage,
    again: Option<Again>,
) -> Result<PushRequest, EceError> {
    let changed = again.and_then(|again| plan::changed(message, again));
    let message = &*changed.unwrap_or(Cow::Borrowed(message));
    let Some((keys, content)) = secrets(message) else {
        let bare = push_service::build(message, None, token.authorization());
        return Ok(bare);
    };
    let ceiling = app.payload_ceiling(message.subscription.endpoint.service());
    let padding = app.requests.padding.bytes(content.len(), ceiling);
    let (sender, salt) = (SenderKey::generate()?, Salt::random()?);
    Ok(match message.coding {
        Coding::Aes128Gcm => {
            let body = aes128gcm::encrypt(keys, content, padding, sender, salt)?;
            push_service::build(message, Some(body), token.authorization())
        }
        Coding::AesGcm => {
            let sealed = aesgcm::encrypt(keys, content, padding, sender, salt)?;
            let public_key = key.public_key_base64url();
            push_service::build_draft(message, sealed, token.draft_01(), public_key)
        }
    })
}

fn secrets(message: &PushMessage) -> Option<(&Keys, &Bytes)> {
    message
        .subscription
        .keys
        .as_ref()
        .zip(message.content.as_ref())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::ece::Padding;
    use crate::message::{MediaType, Ttl, Urgency};
    use crate::subscription::{AuthSecret, Endpoint, Subscription, UserAgentKey, decode_base64};
    use crate::vapid::Validity;

    fn message(coding: Coding, content: Option<&'static str>) -> PushMessage {
        let public = SenderKey::generate().unwrap();
        PushMessage {
            subscription: Subscription {
                endpoint: Endpoint::parse("https://push.example.net/x").unwrap(),
                keys: Some(Keys {
                    p256dh: UserAgentKey::from_bytes(public.public_key()).unwrap(),
                    auth: AuthSecret::new([7; 16]),
                }),
            },
            content: content.map(|content| Bytes::from_static(content.as_bytes())),
            coding,
            ttl: Ttl::ONE,
            urgency: Urgency::Normal,
            topic: None,
            media_type: MediaType::OctetStream,
        }
    }

    fn made(app: &App, message: &PushMessage) -> PushRequest {
        let key = &app.ring.primary;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
        let origin = message.subscription.endpoint.origin();
        let token = Token::sign(key, origin, &app.subject, now, Validity::default());
        request(app, key, &token.unwrap(), message, None).unwrap()
    }

    fn header<'a>(request: &'a PushRequest, name: &str) -> Option<&'a str> {
        request.headers.get(name).map(|it| it.to_str().unwrap())
    }

    #[test]
    fn vapid_goes_with_the_coding() {
        let app = App::for_tests("shop");
        let modern = made(&app, &message(Coding::Aes128Gcm, Some("hi")));
        let legacy = made(&app, &message(Coding::AesGcm, Some("hi")));
        let bare = made(&app, &message(Coding::Aes128Gcm, None));
        for (request, scheme, coding, length) in [
            (&modern, "vapid t=", Some("aes128gcm"), 105),
            (&legacy, "WebPush ", Some("aesgcm"), 20),
            (&bare, "vapid t=", None, 0),
        ] {
            let authorization = header(request, "authorization").unwrap();
            assert!(authorization.starts_with(scheme), "{coding:?}");
            assert_eq!(header(request, "content-encoding"), coding);
            assert_eq!(request.body.len(), length);
            let explained = ["encryption", "crypto-key"].map(|it| header(request, it).is_some());
            assert_eq!(explained, [scheme == "WebPush "; 2]);
        }
        let key = app.ring.primary.public_key_base64url();
        let joined = header(&legacy, "crypto-key").unwrap();
        let sender = joined.strip_suffix(&format!(";p256ecdsa={key}")).unwrap();
        let sender = decode_base64(sender.strip_prefix("dh=").unwrap()).unwrap();
        assert_eq!((sender.len(), sender[0]), (65, 4));
    }

    #[test]
    fn padding_stays_below_what_the_service_is_sent_at_most() {
        let mut app = App::for_tests("shop");
        app.requests.padding = Padding::ToCeiling;
        for (limit, length) in [(3993, 4096), (2744, 2847)] {
            app.payload_limit = limit;
            for content in ["", "hi"] {
                let modern = made(&app, &message(Coding::Aes128Gcm, Some(content)));
                assert_eq!(modern.body.len(), length);
                let legacy = made(&app, &message(Coding::AesGcm, Some(content)));
                assert_eq!(legacy.body.len(), limit + 18);
            }
        }
    }
}
