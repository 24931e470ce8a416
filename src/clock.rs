//! Time and randomness.
//!
//! Rules and state take a [`Now`] (or one of its halves) and a jitter as arguments. Only the adapters
//! (`broker`, `push_service`) and the assembly read [`SystemClock`] and [`RandomJitter`] themselves, which
//! `tests/repo/layering.rs` checks. Wall time is the time of producers, tokens and deadlines and may jump;
//! monotonic time measures pauses and latencies and does not jump.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall-clock time: comparable with what others wrote, may jump.
    pub wall: SystemTime,
    /// Monotonic time: for durations inside this process.
    pub mono: Instant,
}

/// A source of the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current moment.
    fn now(&self) -> Now;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// Returns the monotonic time since the machine started, as the service manager reads it.
    #[must_use]
    pub fn uptime(self) -> Duration {
        let now = clock_gettime(ClockId::Monotonic);
        Duration::try_from(now).unwrap_or_default()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clocks"
    )]
    fn now(&self) -> Now {
        Now {
            wall: SystemTime::now(),
            mono: Instant::now(),
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct FixedClock(Mutex<Now>);

impl FixedClock {
    /// Creates a clock that shows `wall`.
    #[must_use]
    pub fn at(wall: SystemTime) -> Self {
        Self(Mutex::new(Now {
            wall,
            mono: SystemClock.now().mono,
        }))
    }

    /// Moves both clocks ahead by `step`.
    pub fn advance(&self, step: Duration) {
        let mut now = self.0.lock();
        now.wall += step;
        now.mono += step;
    }

    /// Sets the wall clock alone, as an administrator or NTP may.
    pub fn jump(&self, wall: SystemTime) {
        self.0.lock().wall = wall;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }
}

/// Returns a duration in seconds with three decimals, for a person: 0.001, not 9.6e-4.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

/// Returns a duration in milliseconds with three decimals, for a person.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Draws numbers that spread retries out.
pub trait Jitter: Send + Sync + 'static {
    /// Returns a number from 0 (inclusive) to 1 (exclusive), evenly distributed.
    fn draw(&self) -> f64;
}

/// Jitter from the random keys of a `RandomState`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomJitter;

impl Jitter for RandomJitter {
    fn draw(&self) -> f64 {
        let drawn = RandomState::new().hash_one(());
        // The 53 bits that an `f64` holds.
        (drawn >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Jitter that always draws the same number.
#[derive(Clone, Copy, Debug)]
pub struct FixedJitter(pub f64);

impl Jitter for FixedJitter {
    fn draw(&self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_no_exponents_and_no_nanoseconds() {
        let short = Duration::from_nanos(14_932);
        assert_eq!(seconds(short).to_string(), "0");
        assert_eq!(milliseconds(short).to_string(), "0.015");
        let longer = Duration::from_nanos(8_139_115);
        assert_eq!(seconds(longer).to_string(), "0.008");
        assert_eq!(milliseconds(longer).to_string(), "8.139");
    }
}
