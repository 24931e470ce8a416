//! The copies of a message that this daemon publishes to itself: for recipients that wait, and the parts
//! of a large event.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::broker::{Rounding, Route};
use crate::outcome::Waiting;
use crate::plan::Split;
use crate::sender::Wait;
use crate::wire::Kind;
use crate::wire::event::Event;
use crate::wire::headers::{Chunk, Positions, RetryHistory, Unsplit, put_copy_id};

use super::Settlement;

impl<'a> Settlement<'a> {
    /// Records a recipient that must wait.
    pub(in crate::pipeline) fn wait(&mut self, index: usize, wait: Wait) {
        self.tally.waits();
        self.waiting.add(index, wait);
    }

    /// Publishes one copy of the event for each group of recipients with the same wait.
    pub(in crate::pipeline) fn publish_waiting(&mut self, event: &Event<'a>) {
        for (wait, indices) in std::mem::take(&mut self.waiting).into_groups() {
            let history = RetryHistory {
                deferrals: wait.deferrals,
                attempts: wait.attempts,
                requests: wait.requests,
                last_status: wait.last_status,
                vapid_key: wait.vapid_key,
                positions: self.positions_of(event, &indices),
                ..self.next_pass(wait.waiting, self.now + wait.after)
            };
            let rounding = rounding_of(wait.waiting, wait.within);
            self.publish_to_delay(event.subset(&indices), wait.after, rounding, &history);
        }
    }

    /// Publishes the whole event to wait; its deadline is `within` from now.
    pub(in crate::pipeline) fn wait_whole(
        &mut self,
        event: &Event<'a>,
        after: Duration,
        until: SystemTime,
        within: Duration,
        waiting: Waiting,
    ) {
        self.fan_out = false;
        self.waits_whole = true;
        let rounding = rounding_of(waiting, within);
        let every: Vec<usize> = (0..event.recipient_count()).collect();
        let history = RetryHistory {
            positions: self.positions_of(event, &every),
            ..self.next_pass(waiting, until)
        };
        self.publish_to_delay(event.body().clone(), after, rounding, &history);
    }

    /// Publishes each part of a large event by itself, to be processed when it is due, and a copy of the
    /// rest, to be split later; its deadline is `within` from now.
    pub(in crate::pipeline) fn split(&mut self, event: &Event<'a>, split: Split, within: Duration) {
        self.fan_out = false;
        for part in split.now {
            let chunk = Chunk {
                n: part.number,
                of: split.of,
            };
            let history = RetryHistory {
                chunk: Some(chunk),
                unsplit: None,
                positions: part.positions,
                refusal: part.refusal,
                ..self.next_pass_after(part.after.min(within))
            };
            let body = event.subset(&part.recipients);
            self.publish_part(body, part.after.min(within), within, &history);
        }
        for part in split.later {
            let unsplit = Unsplit {
                next: part.number,
                of: split.of,
            };
            let history = RetryHistory {
                // Every chunk of an event is of the same pass.
                pass: self.history.pass,
                unsplit: Some(unsplit),
                positions: part.positions,
                refusal: part.refusal,
                ..self.next_pass_after(part.after.min(within))
            };
            let body = event.subset(&part.recipients);
            self.publish_part(body, part.after.min(within), within, &history);
        }
    }

    /// Returns the positions of some recipients in the event as it was published, if it has many.
    fn positions_of(&self, event: &Event<'a>, indices: &[usize]) -> Option<Positions> {
        let positions = event
            .is_fan_out()
            .then(|| self.history.positions_of(indices));
        positions.flatten()
    }

    fn next_pass_after(&self, after: Duration) -> RetryHistory {
        let next = self.next_pass(Waiting::Scheduled, self.now + after);
        if !after.is_zero() {
            return next;
        }
        RetryHistory {
            not_before: None,
            waiting: None,
            ..next
        }
    }

    /// Publishes a part that is due `after` now.
    fn publish_part(
        &mut self,
        body: Bytes,
        after: Duration,
        within: Duration,
        history: &RetryHistory,
    ) {
        let lane = self.inbound.lane.clone();
        let to = if after.is_zero() {
            Route::Due(lane)
        } else {
            let rounding = Rounding::Up { within };
            Route::Delay {
                lane,
                after,
                rounding,
            }
        };
        self.copy(to, Kind::Chunk, body, history);
    }

    fn next_pass(&self, waiting: Waiting, until: SystemTime) -> RetryHistory {
        RetryHistory {
            pass: self.history.pass.saturating_add(1),
            created_at: Some(self.created_at),
            not_before: Some(until),
            waiting: Some(waiting),
            event_id: Some(self.event_id.clone()),
            derived_id: self.derived_id,
            app: self.app_name().or(self.history.app.as_ref()).cloned(),
            ..self.history.clone()
        }
    }

    fn publish_to_delay(
        &mut self,
        body: Bytes,
        after: Duration,
        rounding: Rounding,
        history: &RetryHistory,
    ) {
        let lane = self.inbound.lane.clone();
        self.copy(
            Route::Delay {
                lane,
                after,
                rounding,
            },
            Kind::Retry,
            body,
            history,
        );
    }

    fn copy(&mut self, to: Route, kind: Kind, body: Bytes, history: &RetryHistory) {
        self.publish(to, kind, self.event_id.to_string(), body);
        if let Some(publication) = self.publications.last_mut() {
            publication.priority = *self.inbound.properties.priority();
            publication.headers = history.write();
            put_copy_id(&mut publication.headers, self.ids.make());
        }
    }
}

fn rounding_of(waiting: Waiting, within: Duration) -> Rounding {
    match waiting {
        Waiting::Scheduled | Waiting::QuietHours => Rounding::Down,
        Waiting::Busy | Waiting::Retry(_) => Rounding::Up { within },
    }
}
