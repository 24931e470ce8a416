//! The copies of a message that go round again: those who wait, and the parts of a large event.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::broker::{Pace, Route};
use crate::outcome::Waiting;
use crate::pipeline::fate::Wait;
use crate::plan::Split;
use crate::wire::Kind;
use crate::wire::event::Event;
use crate::wire::headers::{Chunk, Passage, Places, Unsplit, put_copy_id};

use super::Settlement;

impl<'a> Settlement<'a> {
    /// Notes a recipient that must wait.
    pub(in crate::pipeline) fn wait(&mut self, index: usize, wait: Wait) {
        self.tally.waits();
        self.waiting.add(index, wait);
    }

    /// Sends off those who wait: one copy of the event for all who wait alike.
    pub(in crate::pipeline) fn send_waiting_off(&mut self, event: &Event<'a>) {
        for (wait, indices) in std::mem::take(&mut self.waiting).into_groups() {
            let passage = Passage {
                deferrals: wait.deferrals,
                attempts: wait.attempts,
                requests: wait.requests,
                last_status: wait.last_status,
                vapid_key: wait.vapid_key,
                places: self.places_of(event, &indices),
                ..self.next_pass(wait.waiting, self.now + wait.after)
            };
            let within = wait.within;
            let pace = Pace::AtLeast { within };
            self.send_off(event.subset(&indices), wait.after, pace, &passage);
        }
    }

    /// Sends the whole event to wait; its deadline is `within` from now.
    pub(in crate::pipeline) fn wait_whole(
        &mut self,
        event: &Event<'a>,
        after: Duration,
        until: SystemTime,
        within: Duration,
        waiting: Waiting,
    ) {
        self.fan_out = false;
        let pace = match waiting {
            Waiting::Scheduled => Pace::Towards,
            Waiting::Busy | Waiting::Retry(_) => Pace::AtLeast { within },
        };
        let every: Vec<usize> = (0..event.recipient_count()).collect();
        let passage = Passage {
            places: self.places_of(event, &every),
            ..self.next_pass(waiting, until)
        };
        self.send_off(event.body().clone(), after, pace, &passage);
    }

    /// Publishes each part of a large event by itself, to be taken at once, and a copy of what is to
    /// be split later.
    pub(in crate::pipeline) fn split(&mut self, event: &Event<'a>, split: Split) {
        self.fan_out = false;
        for part in split.now {
            let chunk = Chunk {
                n: part.number,
                of: split.of,
            };
            let passage = Passage {
                chunk: Some(chunk),
                unsplit: None,
                places: part.places,
                refusal: part.refusal,
                ..self.next_pass_at_once()
            };
            self.send_on(event.subset(&part.recipients), &passage);
        }
        for part in split.later {
            let unsplit = Unsplit {
                next: part.number,
                of: split.of,
            };
            let passage = Passage {
                // Every chunk of an event is of the same pass.
                pass: self.passage.pass,
                unsplit: Some(unsplit),
                places: part.places,
                refusal: part.refusal,
                ..self.next_pass_at_once()
            };
            self.send_on(event.subset(&part.recipients), &passage);
        }
    }

    /// Returns where some recipients stand in the event as it was published, if there are many.
    fn places_of(&self, event: &Event<'a>, indices: &[usize]) -> Option<Places> {
        let places = event.is_fan_out().then(|| self.passage.places_of(indices));
        places.flatten()
    }

    fn next_pass_at_once(&self) -> Passage {
        Passage {
            not_before: None,
            waiting: None,
            ..self.next_pass(Waiting::Scheduled, self.now)
        }
    }

    fn send_on(&mut self, body: Bytes, passage: &Passage) {
        let lane = self.inbound.lane.clone();
        self.copy(Route::Due(lane), Kind::Chunk, body, passage);
    }

    fn next_pass(&self, waiting: Waiting, until: SystemTime) -> Passage {
        Passage {
            pass: self.passage.pass.saturating_add(1),
            created_at: Some(self.created_at),
            not_before: Some(until),
            waiting: Some(waiting),
            event_id: Some(self.event_id.clone()),
            ..self.passage.clone()
        }
    }

    fn send_off(&mut self, body: Bytes, after: Duration, pace: Pace, passage: &Passage) {
        let lane = self.inbound.lane.clone();
        self.copy(
            Route::Delay { lane, after, pace },
            Kind::Retry,
            body,
            passage,
        );
    }

    fn copy(&mut self, to: Route, kind: Kind, body: Bytes, passage: &Passage) {
        self.publish(to, kind, self.event_id.to_string(), body);
        if let Some(publication) = self.publications.last_mut() {
            publication.headers = passage.write();
            put_copy_id(&mut publication.headers, self.ids.make());
        }
    }
}
