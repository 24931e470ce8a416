//! The request of a message: what to encrypt of it, and the headers.

use crate::app::App;
use crate::ece::EceError;
use crate::message::PushMessage;
use crate::push_service::{self, PushRequest};
use crate::vapid::{Token, VapidError, VapidKey};

use super::encryption::{Encrypted, Plaintext};

/// Why a request could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error(transparent)]
    Vapid(#[from] VapidError),
    #[error(transparent)]
    Ece(#[from] EceError),
}

/// Returns what to encrypt of a message, or `None` if it goes without a body.
pub(super) fn plaintext(app: &App, message: &PushMessage) -> Option<Plaintext> {
    let keys = message.subscription.keys.as_ref()?;
    let content = message.content.as_ref()?;
    let ceiling = app.payload_ceiling(message.subscription.endpoint.service());
    Some(Plaintext {
        keys: keys.clone(),
        content: content.clone(),
        padding: app.requests.padding.bytes(content.len(), ceiling),
        coding: message.coding,
    })
}

/// Makes the request of an encrypted message: the VAPID headers are those of the time of its coding.
pub(super) fn request(
    key: &VapidKey,
    token: &Token,
    message: &PushMessage,
    encrypted: Option<Encrypted>,
) -> PushRequest {
    match encrypted {
        None => push_service::build(message, None, token.authorization()),
        Some(Encrypted::Aes128Gcm(body)) => {
            push_service::build(message, Some(body), token.authorization())
        }
        Some(Encrypted::AesGcm(sealed)) => {
            let public_key = key.public_key_base64url();
            push_service::build_draft(message, sealed, token.draft_01(), public_key)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;

    use super::*;
    use crate::ece::{Padding, SenderKey};
    use crate::message::{Coding, MediaType, Ttl, Urgency};
    use crate::subscription::{
        AuthSecret, Endpoint, Keys, Subscription, UserAgentKey, decode_base64,
    };
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
        let encrypted = plaintext(app, message).map(|plaintext| plaintext.encrypt().unwrap());
        request(key, &token.unwrap(), message, encrypted)
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
