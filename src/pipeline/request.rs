//! Making the request: signed, encrypted, with the headers its push service wants.

use crate::ece::{EceError, Padding, Salt, SenderKey, aes128gcm};
use crate::message::PushMessage;
use crate::plan::App;
use crate::push_service::{self, PushRequest, Transport};
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
    /// Makes the request of a message; nothing in it was used before.
    pub(super) fn prepare(
        &self,
        app: &App,
        key: &VapidKey,
        message: &PushMessage,
    ) -> Result<PushRequest, Unsendable> {
        let subscription = &message.subscription;
        let now = self.clock.now().wall;
        let origin = subscription.endpoint.origin();
        let authorization = self.tokens.authorization(app, key, origin, now)?;
        self.metrics.token(authorization.signed);
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
            message,
            body,
            authorization.token.authorization(),
        ))
    }
}
