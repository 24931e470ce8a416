//! Publications that are not written yet, or not confirmed.
//!
//! What can go wrong here: lapin hangs a returned message (`mandatory`, and no queue took it) on
//! whichever confirm it completes next, so a return is matched by what it says, never by the
//! confirm that carries it. It does so before it completes the returned message's own confirm;
//! hence everything that is ready is collected first, and judged then.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::{Confirmation, PublisherConfirm};
use tokio::select;
use tokio::time::Instant;

use crate::broker::error::SessionError;
use crate::broker::route::{Routes, short};
use crate::broker::{Publication, SettledDelivery, Then};
use crate::metrics::Confirmed;

/// One publication that is not confirmed.
#[derive(Debug)]
pub(super) struct PendingPublish {
    delivery: Arc<SettledDelivery>,
    index: usize,
    /// When it was published last.
    pub(super) published: Instant,
    /// Whether the broker refused it before.
    pub(super) refused: bool,
    returned: bool,
}

impl PendingPublish {
    /// Creates one for each publication that a delivery waits for.
    pub(super) fn all(settled: SettledDelivery, now: Instant) -> impl Iterator<Item = Self> {
        let count = settled.publications.len();
        let delivery = Arc::new(settled);
        (0..count).map(move |index| Self {
            delivery: Arc::clone(&delivery),
            index,
            published: now,
            refused: false,
            returned: false,
        })
    }

    pub(super) fn publication(&self) -> &Publication {
        &self.delivery.publications[self.index]
    }

    /// Confirms the publication. The last confirm of a delivery returns what follows.
    pub(super) fn confirm(self) -> Option<Then> {
        Arc::into_inner(self.delivery).map(|settled| settled.then)
    }

    fn is_in(&self, message: &BasicReturnMessage, routes: &Routes) -> bool {
        let publication = self.publication();
        let id = message.properties.message_id().as_ref();
        if id != Some(&short(&publication.message_id)) {
            return false;
        }
        let destination = routes.destination(&publication.to);
        (destination.exchange, destination.routing_key)
            == (message.exchange.clone(), message.routing_key.clone())
    }
}

/// The publications that wait to be written or confirmed, in the order they were published.
#[derive(Default)]
pub(super) struct Confirms {
    /// Polled by one task, each is numbered and queued by lapin in one go, in this order.
    writing: FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<PublisherConfirm>)>>,
    waiting: FuturesUnordered<Waiting>,
    pending: BTreeMap<u64, PendingPublish>,
    next: u64,
    answers: Vec<(u64, Confirmation)>,
}

impl Confirms {
    /// Adds a publication; `written` writes it when it is polled.
    pub(super) fn push(
        &mut self,
        pending: PendingPublish,
        written: impl Future<Output = lapin::Result<PublisherConfirm>> + Send + 'static,
    ) {
        let number = self.next;
        self.next += 1;
        self.pending.insert(number, pending);
        self.writing
            .push(written.map(move |confirm| (number, confirm)).boxed());
    }

    pub(super) fn unwritten(&self) -> usize {
        self.writing.len()
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns when the oldest was published.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let (_, pending) = self.pending.first_key_value()?;
        Some(pending.published)
    }

    /// Removes all publications, since their confirms will never come.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = PendingPublish> {
        self.writing.clear();
        self.waiting.clear();
        std::mem::take(&mut self.pending).into_values()
    }

    /// Writes, and waits for something to be written or answered; never ends if nothing is open.
    ///
    /// Dropping it loses nothing.
    pub(super) async fn advance(&mut self) -> Result<(), SessionError> {
        select! {
            biased;
            Some(written) = self.writing.next() => self.note_written(written),
            Some(answer) = self.waiting.next() => self.note_answers(answer),
            else => std::future::pending().await,
        }
    }

    fn note_written(
        &mut self,
        first: (u64, lapin::Result<PublisherConfirm>),
    ) -> Result<(), SessionError> {
        let mut next = Some(first);
        while let Some((number, confirm)) = next {
            let confirm = confirm.map_err(SessionError::Publish)?;
            self.waiting.push(Waiting { number, confirm });
            next = self.writing.next().now_or_never().flatten();
        }
        Ok(())
    }

    fn note_answers(
        &mut self,
        first: (u64, lapin::Result<Confirmation>),
    ) -> Result<(), SessionError> {
        let mut next = Some(first);
        while let Some((number, answer)) = next {
            self.answers
                .push((number, answer.map_err(SessionError::Publish)?));
            next = self.waiting.next().now_or_never().flatten();
        }
        Ok(())
    }

    /// Judges what was answered.
    pub(super) fn judge(
        &mut self,
        routes: &Routes,
    ) -> Result<Vec<(PendingPublish, Confirmed)>, SessionError> {
        for (_, answer) in &self.answers {
            let (Confirmation::Ack(message) | Confirmation::Nack(message)) = answer else {
                return Err(SessionError::ConfirmsOff);
            };
            let Some(message) = message else { continue };
            for pending in self.pending.values_mut() {
                pending.returned |= pending.is_in(message, routes);
            }
        }
        let judged = self.answers.drain(..).filter_map(|(number, answer)| {
            let mut pending = self.pending.remove(&number)?;
            let returned = std::mem::take(&mut pending.returned);
            let confirmed = match (answer.is_ack(), returned) {
                (true, false) => Confirmed::Ack,
                (true, true) => Confirmed::Returned,
                (false, _) => Confirmed::Nack,
            };
            Some((pending, confirmed))
        });
        Ok(judged.collect())
    }
}

/// A confirm, by the number of its publication.
struct Waiting {
    number: u64,
    confirm: PublisherConfirm,
}

impl Future for Waiting {
    type Output = (u64, lapin::Result<Confirmation>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.confirm).poll(cx));
        Poll::Ready((self.number, answer))
    }
}
