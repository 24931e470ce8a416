//! A large event in chunks, so that no message of many recipients holds up the others.
//!
//! Every chunk repeats what the event says beside its recipients, and every result repeats its
//! metadata. So a chunk is bounded by what may come of it and not only by its recipients, and of an
//! event whose chunks are much larger than the event itself only some are cut at once: the rest
//! comes back as one message.
//!
//! A delivery is held until its slowest recipient is done. So a push service with many recipients
//! gets chunks of its own, and the others do not wait for it. Those with few share chunks, else an
//! event for ten thousand push services would become as many messages; but all recipients of one of
//! them are in the same chunk, so that it holds up few others.
//!
//! The chunks of an event with a pace are due one after the other, and wait in the broker until then.
//! So the pace holds over all daemons, and no daemon counts.

mod cutter;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::outcome::Refusal;
use crate::wire::event::Event;
use crate::wire::headers::{Positions, RetryHistory};

use self::cutter::{CHUNK_WEIGHT, Cut, Cutter, weight_of};

/// The chunks that an event is split into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// How many chunks the event has in all.
    pub of: u32,
    /// The chunks to publish.
    pub now: Vec<Part>,
    /// What is to be split later, each into chunks from its number on.
    pub later: Vec<Part>,
}

/// Recipients of one event that travel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, or that of its first chunk, from 1.
    pub number: u32,
    /// How long it waits until it is processed.
    pub after: Duration,
    /// Their positions in the body, ascending.
    pub recipients: Vec<usize>,
    /// Their positions in the event as it was published, if they are known.
    pub positions: Option<Positions>,
    /// Why they end without a request.
    pub refusal: Option<Refusal>,
}

/// Splits an event that is too large for one message; `None` if it is not.
///
/// A chunk has at most `size` different endpoints. Recipients with the same endpoint and no payload of
/// their own, or the same, are in the same chunk, where the second is found out; those of which a chunk
/// has enough are refused. `refusal`
/// is why all of them end, if they do.
///
/// The same event is always split in the same way.
#[must_use]
pub fn split(
    event: &Event<'_>,
    size: usize,
    history: &RetryHistory,
    refusal: Option<&Refusal>,
) -> Option<Split> {
    if history.chunk.is_some() || (history.unsplit.is_none() && fits_one_chunk(event, size)) {
        return None;
    }
    let mut cuts = Cutter::cut(event, size.max(1));
    // What is left of an event does not show which endpoints repeat those of its first chunks.
    cuts.sort_by_key(|cut| cut.repeats);
    let published = affordable(event, &cuts);
    let begin = history.unsplit.unwrap_or_default();
    let part = |(number, cut): (u32, Cut)| {
        let refusal = refusal
            .cloned()
            .or_else(|| cut.repeats.then(Refusal::repeated));
        Part::of(number, cut.recipients, history, refusal)
    };
    let mut now: Vec<Part> = (begin.next..).zip(cuts).map(part).collect();
    let last = now.last().map_or(0, |part| part.number);
    let late = now.split_off(published);
    let (others, repeats): (Vec<_>, Vec<_>) = late
        .into_iter()
        .partition(|part| part.refusal.as_ref() == refusal);
    let later = [others, repeats].into_iter();
    Some(Split {
        of: begin.of.max(last),
        now,
        later: later.filter_map(|late| Part::join(late, history)).collect(),
    })
}

impl Split {
    /// Lets the parts follow each other at so many recipients a second. What is split later goes on from
    /// there, so nothing has to be remembered of the parts before.
    #[must_use]
    pub fn paced(mut self, per_second: NonZeroU32) -> Self {
        let mut before = Duration::ZERO;
        for part in &mut self.now {
            part.after = before;
            if part.refusal.is_none() {
                let count = u32::try_from(part.recipients.len()).unwrap_or(u32::MAX);
                before += Duration::from_secs(count.into()) / per_second.get();
            }
        }
        for part in &mut self.later {
            part.after = before;
        }
        self
    }
}

fn fits_one_chunk(event: &Event<'_>, size: usize) -> bool {
    if !event.is_fan_out() {
        return true;
    }
    let frame = event.frame_len();
    let weights = event
        .recipients()
        .map(|raw| weight_of(raw.text_len(), frame));
    event.recipient_count() <= size && weights.sum::<usize>() <= CHUNK_WEIGHT
}

/// Returns how many chunks may be published at once: at least one, as many as have half as many bytes
/// again as the event, and always as many as are small in all.
fn affordable(event: &Event<'_>, cuts: &[Cut]) -> usize {
    let size = event.body().len();
    let budget = (size + size / 2).max(CHUNK_WEIGHT / 2);
    let frame = event.frame_len();
    let mut sum = 0;
    let within = cuts.iter().take_while(|cut| {
        sum += frame + cut.bytes;
        sum <= budget
    });
    within.count().max(1).min(cuts.len())
}

impl Part {
    fn of(
        number: u32,
        recipients: Vec<usize>,
        history: &RetryHistory,
        refusal: Option<Refusal>,
    ) -> Self {
        Self {
            number,
            after: Duration::ZERO,
            positions: history.positions_of(&recipients),
            recipients,
            refusal,
        }
    }

    /// Creates one of several parts that follow each other.
    fn join(parts: Vec<Self>, history: &RetryHistory) -> Option<Self> {
        let first = parts.first()?;
        let (number, refusal) = (first.number, first.refusal.clone());
        let recipients = parts.into_iter().flat_map(|part| part.recipients);
        let mut recipients: Vec<_> = recipients.collect();
        recipients.sort_unstable();
        Some(Self::of(number, recipients, history, refusal))
    }
}
