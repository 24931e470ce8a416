//! How many requests one HTTP/2 connection carries at once, found out by how they fare.
//!
//! A server says how many streams it takes (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §5.1.2), and
//! the HTTP library keeps to it, but does not report it: what is above waits inside, while another
//! connection could carry it. What can be seen is when a request goes out, because its body is asked
//! for only then. So a request that was held for a noticeable time, on a connection that was busy and
//! went on answering, tells that no more fit than were out meanwhile.
//!
//! What can go wrong: an answer is seen a little later than its stream is free, so up to twice as
//! many requests seem to be out as there are; and a process that was not scheduled for a moment looks
//! like a server that holds requests back. So it takes two such moments without a request that went
//! out at once between them; the measured limit is never below half of what is seen to be out; what goes out at
//! once beyond it corrects it; and now and then one more is tried. A limit that is too low costs a
//! connection more.

use std::time::Duration;

use tokio::time::Instant;

/// The requests to one origin, by connection.
#[derive(Debug)]
pub(super) struct Load {
    /// The most requests one connection is given before the next, and what is known to fit.
    most: usize,
    fits: usize,
    /// How many have gone out at once since that was learnt.
    at_once: u32,
    connections: Box<[ConnectionLoad]>,
}

/// The requests on one connection.
#[derive(Clone, Copy, Debug, Default)]
struct ConnectionLoad {
    /// Given to the connection.
    given: usize,
    /// Gone out, of those.
    out: usize,
    answered: u64,
    stalled: Option<Stalled>,
}

/// Requests are held, and none went out at once since.
#[derive(Clone, Copy, Debug)]
struct Stalled {
    since: Instant,
    fit: usize,
}

/// One request on a connection, as it was when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The index of its connection.
    pub(super) connection: usize,
    at: Instant,
    given: usize,
    out: usize,
    answered: u64,
}

/// How long a request is held before that is worth another connection.
const HELD: Duration = Duration::from_millis(50);

/// After so many that went out at once, one more is tried.
const PROBE: u32 = 1000;

impl Load {
    /// Creates the state of so many connections, of which each is given at most so many requests while another has
    /// room.
    pub(super) fn new(connections: usize, requests: usize) -> Self {
        Self {
            most: requests.max(1),
            fits: requests.max(1),
            at_once: 0,
            connections: vec![ConnectionLoad::default(); connections.max(1)].into(),
        }
    }

    /// Gives a request to the first connection with a free stream, or else to the one with the fewest.
    pub(super) fn enter(&mut self, now: Instant) -> Entry {
        let connection = self.choose();
        let carried = &mut self.connections[connection];
        let before = *carried;
        carried.given += 1;
        Entry {
            connection,
            at: now,
            given: before.given,
            out: before.out,
            answered: before.answered,
        }
    }

    fn choose(&self) -> usize {
        let given = |index: &usize| self.connections[*index].given;
        let indices = 0..self.connections.len();
        let roomy = indices.clone().find(|index| given(index) < self.fits);
        roomy.or_else(|| indices.min_by_key(given)).unwrap_or(0)
    }

    /// Records that a request went out at `now`.
    pub(super) fn went_out(&mut self, entry: &Entry, now: Instant) {
        let carried = &mut self.connections[entry.connection];
        carried.out += 1;
        let out = carried.out;
        if now.saturating_duration_since(entry.at) < HELD {
            carried.stalled = None;
            self.went_out_at_once(entry, out);
        } else if entry.given > 0 && carried.answered > entry.answered {
            // Rather one too few: as soon as all connections are full, that is corrected.
            let fit = if entry.out > 0 {
                entry.out.min(out)
            } else {
                out
            };
            let stalled = carried.stalled.get_or_insert(Stalled { since: now, fit });
            stalled.fit = stalled.fit.min(fit).max(out.div_ceil(2));
            if now.saturating_duration_since(stalled.since) >= HELD {
                self.fits = self.fits.min(stalled.fit);
                self.at_once = 0;
            }
        }
    }

    fn went_out_at_once(&mut self, entry: &Entry, out: usize) {
        if entry.given == entry.out {
            self.fits = self.fits.max(out).min(self.most);
        }
        self.at_once += 1;
        if self.at_once >= PROBE {
            self.at_once = 0;
            self.fits = (self.fits + 1).min(self.most);
        }
    }

    /// Records that a request is over, whether it had gone out or not.
    pub(super) fn leave(&mut self, entry: &Entry, had_gone_out: bool) {
        let carried = &mut self.connections[entry.connection];
        carried.given = carried.given.saturating_sub(1);
        if had_gone_out {
            carried.out = carried.out.saturating_sub(1);
            carried.answered += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn given(load: &Load) -> Vec<usize> {
        load.connections.iter().map(|it| it.given).collect()
    }

    /// A server that takes `streams` at once on each connection and answers after `latency`
    /// milliseconds.
    struct World {
        load: Load,
        streams: usize,
        latency: u64,
        held: Vec<VecDeque<Entry>>,
        out: Vec<(u64, Entry)>,
        start: Instant,
        millisecond: u64,
    }

    impl World {
        fn new(connections: usize, requests: usize, streams: usize, latency: u64) -> Self {
            Self {
                load: Load::new(connections, requests),
                streams,
                latency,
                held: vec![VecDeque::new(); connections],
                out: Vec::new(),
                start: SystemClock.now().mono,
                millisecond: 0,
            }
        }

        /// Keeps `wanted` requests under way.
        fn run(&mut self, milliseconds: u64, wanted: usize) {
            for _ in 0..milliseconds {
                self.millisecond += 1;
                let now = self.start + Duration::from_millis(self.millisecond);
                let (done, out) = self
                    .out
                    .iter()
                    .partition(|(end, _)| *end <= self.millisecond);
                let done: Vec<(u64, Entry)> = done;
                self.out = out;
                done.iter()
                    .for_each(|(_, entry)| self.load.leave(entry, true));
                let under_way = self.out.len() + self.held.iter().map(VecDeque::len).sum::<usize>();
                for _ in under_way..wanted {
                    let entry = self.load.enter(now);
                    self.held[entry.connection].push_back(entry);
                }
                for connection in 0..self.held.len() {
                    self.send(connection, now);
                }
            }
        }

        fn send(&mut self, connection: usize, now: Instant) {
            let carried = |out: &[(u64, Entry)]| {
                let here = out.iter().filter(|(_, it)| it.connection == connection);
                here.count()
            };
            while carried(&self.out) < self.streams {
                let Some(entry) = self.held[connection].pop_front() else {
                    return;
                };
                self.load.went_out(&entry, now);
                // Not all answers take as long.
                let end = self.millisecond + self.latency + self.out.len() as u64 % 7;
                self.out.push((end, entry));
            }
        }
    }

    #[test]
    fn a_connection_is_filled_before_the_next_is_opened() {
        let (mut load, now) = (Load::new(3, 2), SystemClock.now().mono);
        let entries: Vec<_> = (0..5).map(|_| load.enter(now)).collect();
        assert_eq!(given(&load), [2, 2, 1]);
        load.leave(&entries[0], false);
        load.enter(now);
        assert_eq!(given(&load), [2, 2, 1]);
    }

    #[test]
    fn full_connections_share_the_load() {
        let (mut load, now) = (Load::new(3, 2), SystemClock.now().mono);
        (0..13).for_each(|_| {
            load.enter(now);
        });
        let mut given = given(&load);
        given.sort_unstable();
        assert_eq!(given, [4, 4, 5]);
    }

    #[test]
    fn the_server_s_limit_is_found_and_other_connections_carry_the_rest() {
        for (streams, wanted, latency) in [(10, 40, 50), (1, 4, 30), (10, 35, 100), (30, 100, 40)] {
            let mut world = World::new(4, 100, streams, latency);
            world.run(2000, wanted);
            let fits = world.load.fits;
            let about = streams.saturating_sub(1).max(1)..=streams + 1;
            assert!(about.contains(&fits), "{fits} of {streams}");
            let held: usize = world.held.iter().map(VecDeque::len).sum();
            assert!(
                held <= 1 + wanted / 10,
                "{held} of {wanted} at {streams} each"
            );
        }
    }

    #[test]
    fn where_everything_fits_one_connection_is_enough() {
        for (wanted, latency) in [(1, 500), (50, 100), (100, 5), (100, 1000)] {
            let mut world = World::new(4, 100, 1000, latency);
            world.run(3000, wanted);
            assert_eq!(given(&world.load)[1..], [0, 0, 0]);
            assert_eq!(world.load.fits, 100);
        }
    }

    #[test]
    fn connecting_teaches_nothing() {
        let (mut load, now) = (Load::new(4, 100), SystemClock.now().mono);
        let entries: Vec<_> = (0..100).map(|_| load.enter(now)).collect();
        let later = now + Duration::from_secs(3);
        entries.iter().for_each(|entry| load.went_out(entry, later));
        assert_eq!(load.fits, 100);
    }

    /// Ten are out and sixty more come, all of which go out at once after a moment in which nothing
    /// was done; returns when that was.
    fn stutter(load: &mut Load, now: Instant) -> Instant {
        let early: Vec<_> = (0..10).map(|_| load.enter(now)).collect();
        early.iter().for_each(|entry| load.went_out(entry, now));
        let late: Vec<_> = (0..60).map(|_| load.enter(now)).collect();
        let after = now + HELD * 3;
        early.iter().for_each(|entry| load.leave(entry, true));
        late.iter().for_each(|entry| load.went_out(entry, after));
        late.iter().for_each(|entry| load.leave(entry, true));
        after
    }

    #[test]
    fn a_moment_without_a_turn_teaches_nothing() {
        let (mut load, mut now) = (Load::new(4, 100), SystemClock.now().mono);
        for _ in 0..10 {
            now = stutter(&mut load, now);
            assert_eq!(load.fits, 100);
        }
    }

    #[test]
    fn a_lesson_that_is_too_low_is_corrected() {
        let (mut load, now) = (Load::new(4, 100), SystemClock.now().mono);
        load.fits = 10;
        let all: Vec<_> = (0..40).map(|_| load.enter(now)).collect();
        all.iter().for_each(|entry| load.went_out(entry, now));
        assert_eq!(load.fits, 10);
        let beyond = load.enter(now);
        load.went_out(&beyond, now);
        assert_eq!(load.fits, 11, "all were full, and one more went out");
        all.iter().for_each(|entry| load.leave(entry, true));
        for _ in 0..100 * PROBE {
            let entry = load.enter(now);
            load.went_out(&entry, now);
            load.leave(&entry, true);
        }
        assert_eq!(load.fits, 100);
    }

    proptest! {
        #[test]
        fn what_fits_stays_between_one_and_the_most(
            connections in 1usize..5,
            requests in 1usize..50,
            steps in proptest::collection::vec((0u8..3, 0u64..40), 0..300),
        ) {
            let mut load = Load::new(connections, requests);
            let mut now = SystemClock.now().mono;
            let (mut held, mut out) = (VecDeque::new(), VecDeque::new());
            for (step, milliseconds) in steps {
                now += Duration::from_millis(milliseconds);
                match step {
                    0 => held.push_back(load.enter(now)),
                    1 => if let Some(entry) = held.pop_front() {
                        load.went_out(&entry, now);
                        out.push_back(entry);
                    },
                    _ => if let Some(entry) = out.pop_front() {
                        load.leave(&entry, true);
                    },
                }
                prop_assert!((1..=requests).contains(&load.fits));
                let total: usize = given(&load).iter().sum();
                prop_assert_eq!(total, held.len() + out.len());
            }
        }
    }
}
