//! The number of requests a second that go out while others are deferred.
//!
//! Requests that get a permit at once do not show the capacity. So the rate is measured from one
//! deferral to the next, as long as they follow each other closely, in windows of two seconds, or of
//! several round trips where those take longer. What is in flight counts as if it had gone out in the
//! window. A rate that rises counts at once and one that falls counts by half: too high a rate costs
//! trips through the broker, too low a one leaves permits unused. A pause counts as time in which nothing
//! goes out, but only for a minute: a service that often pauses is slow, one that paused for an hour
//! once is not.

use std::time::Duration;

use tokio::time::Instant;

/// The measured rate of one flow of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throughput {
    admitted: u32,
    admitted_at: Option<Instant>,
    window: Option<Window>,
    deferred_at: Option<Instant>,
    /// Requests a second, of the windows that are over.
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    admitted: u32,
}

/// The shortest time to measure a rate in, where none is known.
const SHORTEST: Duration = Duration::from_millis(250);

/// A window of so long in which nothing goes out is a stall.
const STALL: Duration = Duration::from_secs(2);

/// The shortest and the longest window.
const WINDOW: Duration = Duration::from_secs(2);
const LONGEST_WINDOW: Duration = Duration::from_secs(20);

/// How many times what is in flight goes out in a window.
const ROUNDS: u32 = 4;

/// Deferrals that are further apart do not show the rate between them.
const GAP: Duration = Duration::from_secs(5);

/// How long a rate is remembered after the last deferral, and how long a pause counts.
const MEMORY: Duration = Duration::from_secs(60);

impl Throughput {
    /// Counts a request that goes out.
    pub(super) fn admitted(&mut self, now: Instant) {
        self.admitted = self.admitted.wrapping_add(1);
        self.admitted_at = self.admitted_at.max(Some(now));
    }

    /// Records a deferral for want of a permit, beside `in_flight` requests. Returns the requests a
    /// second that go out; `None` while none do, or where not enough is known.
    pub(super) fn deferred(&mut self, in_flight: usize, now: Instant) -> Option<f64> {
        let age = self.deferred_at.map(|at| now.saturating_duration_since(at));
        self.deferred_at = Some(now);
        if age.is_none_or(|age| age > MEMORY) {
            self.rate = None;
        }
        let Some(window) = self.window.filter(|_| age.is_some_and(|age| age <= GAP)) else {
            self.begin(now);
            return self.rate;
        };
        let elapsed = now.saturating_duration_since(window.since);
        let (admitted, in_flight) = (self.admitted_in(window), as_u32(in_flight));
        if elapsed < SHORTEST || (admitted == 0 && elapsed >= STALL) {
            return self.rate.filter(|_| elapsed < STALL);
        }
        let sample = per_second(admitted.saturating_add(in_flight), elapsed);
        let is_long = elapsed >= LONGEST_WINDOW || admitted / ROUNDS >= in_flight;
        if elapsed >= WINDOW && is_long {
            let falls_to = |rate: f64| sample.max(rate.midpoint(sample));
            self.rate = Some(self.rate.map_or(sample, falls_to));
            self.begin(now);
        }
        self.rate.or(Some(sample))
    }

    /// Records a deferral in a pause. Returns the requests a second that went out before the pause.
    pub(super) fn deferred_in_pause(&mut self, now: Instant) -> Option<f64> {
        self.deferred_at = Some(now);
        let recent = |at| now.saturating_duration_since(at) <= MEMORY;
        if !self.admitted_at.is_some_and(recent) {
            self.begin(now);
        }
        self.rate
    }

    fn begin(&mut self, now: Instant) {
        self.window = Some(Window {
            since: now,
            admitted: self.admitted,
        });
    }

    fn admitted_in(&self, window: Window) -> u32 {
        self.admitted.wrapping_sub(window.admitted)
    }
}

fn per_second(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Lets `rate` requests go out in each of `seconds`, one deferral after each.
    fn run(it: &mut Throughput, rate: u32, seconds: u32, now: &mut Instant) -> Option<f64> {
        let mut measured = None;
        for _ in 0..rate * seconds {
            *now += Duration::from_secs(1) / rate;
            it.admitted(*now);
            measured = it.deferred(0, *now);
        }
        measured
    }

    fn is_near(rate: Option<f64>, expected: f64) -> bool {
        rate.is_some_and(|rate| (rate / expected - 1.0).abs() < 0.1)
    }

    #[test]
    fn it_is_what_goes_out_while_requests_are_deferred() {
        let (mut it, mut now) = (Throughput::default(), SystemClock.now().mono);
        (0..500).for_each(|_| it.admitted(now));
        assert_eq!(it.deferred(0, now), None, "nothing is known yet");
        assert!(is_near(run(&mut it, 100, 1, &mut now), 100.0));
        assert!(
            is_near(run(&mut it, 400, 6, &mut now), 400.0),
            "rises at once"
        );
        let falling = run(&mut it, 100, 3, &mut now).unwrap();
        assert!((150.0..400.0).contains(&falling), "falls slowly: {falling}");
        assert!(is_near(run(&mut it, 100, 20, &mut now), 100.0));
    }

    #[test]
    fn a_stall_is_no_rate() {
        let (mut it, mut now) = (Throughput::default(), SystemClock.now().mono);
        run(&mut it, 100, 4, &mut now);
        for _ in 0..50 {
            now += MILLISECOND * 100;
            it.deferred(0, now);
        }
        assert_eq!(it.deferred(0, now), None);
        assert!(run(&mut it, 100, 1, &mut now).is_some());
    }

    #[test]
    fn a_quiet_time_tells_nothing_and_is_forgotten_at_last() {
        let (mut it, mut now) = (Throughput::default(), SystemClock.now().mono);
        run(&mut it, 100, 4, &mut now);
        now += GAP * 2;
        assert!(is_near(it.deferred(0, now), 100.0));
        now += MEMORY * 2;
        assert_eq!(it.deferred(0, now), None);
    }

    #[test]
    fn short_pauses_count_and_a_long_one_does_not() {
        let (mut it, mut now) = (Throughput::default(), SystemClock.now().mono);
        let mut measured = None;
        for _ in 0..40 {
            for _ in 0..25 {
                now += MILLISECOND * 10;
                it.admitted(now);
                measured = it.deferred(0, now);
            }
            for _ in 0..10 {
                now += MILLISECOND * 100;
                it.deferred_in_pause(now);
            }
        }
        assert!(is_near(measured, 20.0), "{measured:?}");
        run(&mut it, 100, 20, &mut now);
        for _ in 0..3600 {
            now += Duration::from_secs(1);
            assert!(is_near(it.deferred_in_pause(now), 100.0));
        }
        assert!(is_near(run(&mut it, 100, 1, &mut now), 100.0));
    }
}
