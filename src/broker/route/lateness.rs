//! How late messages leave the bands, in virtual time: a band gives back first what came first, each
//! message not before its own expiration.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::choose_band;
use crate::broker::Rounding;

const DEFAULT: &[u64] = &[
    1, 2, 4, 8, 15, 30, 60, 120, 240, 480, 900, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400,
];
const FEWER: &[u64] = &[1, 4, 15, 60, 240, 900, 3600, 14_400, 43_200, 86_400];

/// What is held in memory rather than sent to wait again, in milliseconds.
const HOLD: u64 = 1000;

/// What became of the messages of one kind.
#[derive(Debug, Default)]
struct Waits {
    /// How long they were late, in milliseconds, for each wait that was wanted.
    late: Vec<u64>,
    wanted: u64,
    hops: u64,
}

impl Waits {
    fn late_by(&self, share: f64) -> f64 {
        let mut late = self.late.clone();
        late.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((late.len() - 1) as f64 * share) as usize;
        Duration::from_millis(late[index]).as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn mean_share(&self) -> f64 {
        self.late.iter().sum::<u64>() as f64 / self.wanted as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn hops(&self) -> f64 {
        self.hops as f64 / self.late.len() as f64
    }
}

/// Sends so many messages a second for some time, whose waits in milliseconds are drawn in turn.
fn simulate(
    bands: &[u64],
    rounding: Rounding,
    per_second: f64,
    seconds: u64,
    wait: impl Fn(f64) -> u64,
) -> Waits {
    let bands: Vec<_> = bands.iter().copied().map(Duration::from_secs).collect();
    let mut free_at: BTreeMap<usize, u64> = BTreeMap::new();
    let mut waits = Waits::default();
    let mut arrivals = BinaryHeap::new();
    let (mut at, mut number) = (0.0, 0u32);
    while at < f64::from(u32::try_from(seconds).unwrap()) {
        // Evenly spread, without a pattern.
        let drawn = (f64::from(number) * 0.618_033_988_749_895).fract();
        let wanted = wait(drawn);
        let now = u64::try_from(Duration::from_secs_f64(at).as_millis()).unwrap();
        arrivals.push(Reverse((now, now + wanted)));
        waits.wanted += wanted;
        number += 1;
        at += 1.0 / per_second;
    }
    while let Some(Reverse((now, due))) = arrivals.pop() {
        let left = Duration::from_millis(due.saturating_sub(now));
        let index = choose_band(bands.iter().copied(), left, rounding).unwrap();
        let expiration = u64::try_from(left.min(bands[index]).as_millis()).unwrap();
        let leaves = free_at.entry(index).or_default();
        *leaves = (*leaves).max(now + expiration);
        waits.hops += 1;
        if *leaves + HOLD < due {
            arrivals.push(Reverse((*leaves, due)));
        } else {
            waits.late.push(leaves.saturating_sub(due));
        }
    }
    waits
}

/// The wait of a retry: 5 s that double to 10 min, spread over the upper half; each step is met half as
/// often as the one before.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds"
)]
fn retry(drawn: f64) -> u64 {
    let (mut step, mut rest) = (5000.0_f64, drawn);
    while rest >= 0.5 && step < 600_000.0 {
        (step, rest) = (step * 2.0, (rest - 0.5) * 2.0);
    }
    (step.min(600_000.0) * (0.5 + rest.min(0.5))) as u64
}

/// A schedule between one minute and twelve hours ahead, of each order equally often.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds"
)]
fn schedule(drawn: f64) -> u64 {
    (60_000.0 * 720_f64.powf(drawn)) as u64
}

#[test]
fn with_fewer_bands_retries_wait_longer_than_they_want() {
    let up = Rounding::Up {
        within: Duration::MAX,
    };
    for per_second in [0.1, 10.0, 100.0] {
        let [many, few] = [DEFAULT, FEWER].map(|bands| {
            let waits = simulate(bands, up, per_second, 1800, retry);
            println!(
                "retries, {per_second}/s, {} bands: late by {:.0} % on average, p50 {:.1} s, p99 {:.0} s",
                bands.len(),
                100.0 * waits.mean_share(),
                waits.late_by(0.5),
                waits.late_by(0.99),
            );
            waits
        });
        assert!(few.mean_share() > many.mean_share(), "at {per_second}/s");
    }
}

#[test]
fn with_fewer_bands_scheduled_messages_take_more_hops() {
    for per_second in [0.1, 10.0] {
        let [many, few] = [DEFAULT, FEWER].map(|bands| {
            let waits = simulate(bands, Rounding::Down, per_second, 1800, schedule);
            println!(
                "schedules, {per_second}/s, {} bands: {:.1} hops, p99 late by {:.2} s",
                bands.len(),
                waits.hops(),
                waits.late_by(0.99),
            );
            waits
        });
        assert!(few.hops() > many.hops(), "at {per_second}/s");
    }
}
