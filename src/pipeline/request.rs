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
        let message = changed(message, again);
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

/// Tells whether a second request can differ from the first in this way.
pub(super) fn can_change(message: &PushMessage, again: Again) -> bool {
    match again {
        Again::AsItWas | Again::FreshToken => true,
        Again::WithoutTopic => message.topic.is_some(),
        Again::TtlOfOne => message.ttl.seconds() == 0,
        // Other keys and codings are not a matter of the message alone.
        Again::AnotherKey | Again::OtherCoding => false,
    }
}

fn changed(message: &PushMessage, again: Option<Again>) -> Cow<'_, PushMessage> {
    let mut changed = Cow::Borrowed(message);
    match again {
        Some(Again::WithoutTopic) => changed.to_mut().topic = None,
        Some(Again::TtlOfOne) => changed.to_mut().ttl = message.ttl.max(Ttl::clamped(1)),
        Some(Again::AsItWas | Again::FreshToken | Again::AnotherKey | Again::OtherCoding)
        | None => {}
    }
    changed
}
