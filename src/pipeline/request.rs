//! Making the request: signed, encrypted, with the headers its push service wants.

use std::borrow::Cow;

use crate::ece::{EceError, Padding, Salt, SenderKey, aes128gcm};
use crate::message::{PushMessage, Ttl};
use crate::outcome::Again;
use crate::plan::App;
use crate::push_service::{self, PushRequest, Transport};
use crate::tokens::Authorization;
use crate::vapid::{VapidError, VapidKey};

use super::Pipeline;

/// Why a request could not be made, which is our own fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error(transparent)]
    Vapid(#[from] VapidError),
    #[error(transparent)]
    Ece(#[from] EceError),
}

impl<T: Transport> Pipeline<T> {
    /// Signs for an origin, or finds what was signed for it lately.
    pub(super) fn authorize(
        &self,
        app: &App,
        key: &VapidKey,
        message: &PushMessage,
    ) -> Result<Authorization, Unsendable> {
        let origin = message.subscription.endpoint.origin();
        let now = self.drifts.told(origin, self.clock.now());
        let authorization = self
            .tokens
            .authorization(app, key, origin, now, &*self.jitter)?;
        self.metrics.token(authorization.signed);
        Ok(authorization)
    }

    /// Makes the request of a message, changed as a second request asks; nothing else in it was
    /// used before.
    pub(super) fn prepare(
        &self,
        message: &PushMessage,
        authorization: &Authorization,
        again: Option<Again>,
    ) -> Result<PushRequest, Unsendable> {
        let message = again
            .and_then(|again| changed(message, again))
            .unwrap_or(Cow::Borrowed(message));
        let subscription = &message.subscription;
        let body = match (&message.content, &subscription.keys) {
            (Some(content), Some(keys)) => Some(aes128gcm::encrypt(
                keys,
                content,
                Padding::None,
                SenderKey::generate()?,
                Salt::random()?,
            )?),
            _ => None,
        };
        Ok(push_service::build(
            &message,
            body,
            authorization.token.authorization(),
        ))
    }
}

/// Returns the message of a second request with the same key; `None` if it could not differ from the
/// first, and is not worth making.
pub(super) fn changed(message: &PushMessage, again: Again) -> Option<Cow<'_, PushMessage>> {
    let mut other = Cow::Borrowed(message);
    match again {
        Again::AsItWas | Again::FreshToken => {}
        Again::WithoutTopic => {
            message.topic.as_ref()?;
            other.to_mut().topic = None;
        }
        Again::TtlOfOne => {
            let one = Ttl::clamped(1);
            (message.ttl < one).then(|| other.to_mut().ttl = one)?;
        }
        Again::AnotherKey | Again::OtherCoding => return None,
    }
    Some(other)
}
