//! Making the request: shaped, signed, encrypted, with the headers its push service wants.

use std::borrow::Cow;

use bytes::Bytes;

use crate::ece::{EceError, Salt, SenderKey, aes128gcm, aesgcm};
use crate::message::{Coding, PushMessage};
use crate::outcome::Again;
use crate::plan;
use crate::plan::App;
use crate::push_service::{self, PushRequest, Transport};
use crate::subscription::Keys;
use crate::vapid::{Token, VapidError, VapidKey};

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
    /// Makes the request of a message, or a second one that differs as `again` says; nothing in it
    /// was used before.
    ///
    /// A change that would leave the message as it was makes the same request once more;
    /// [`plan::changed`] tells beforehand.
    pub(super) fn prepare(
        &self,
        app: &App,
        key: &VapidKey,
        message: &PushMessage,
        again: Option<Again>,
    ) -> Result<PushRequest, Unsendable> {
        let changed = again.and_then(|again| plan::changed(message, again));
        let message = changed.unwrap_or(Cow::Borrowed(message));
        let now = self.clock.now().wall;
        let origin = message.subscription.endpoint.origin();
        let authorization = self.tokens.authorization(app, key, origin, now)?;
        self.metrics.token(authorization.signed);
        Ok(request(app, key, &authorization.token, &message)?)
    }
}

/// Encrypts a message and writes its headers, with VAPID as the coding's time had it.
fn request(
    app: &App,
    key: &VapidKey,
    token: &Token,
    message: &PushMessage,
) -> Result<PushRequest, EceError> {
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
