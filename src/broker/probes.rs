//! Which probes of the delay bands are under way, as rules over values.
//!
//! A queue can hold messages that wait and never give them back (broker/README.md §3), and
//! nothing else shows that: they count as neither ready nor unacknowledged. So a probe goes through
//! every band.
//!
//! What can go wrong here: a probe comes back to any daemon that consumes the due queue, and the one
//! that sent it may not see it. A band gives back what was put in first, so a probe that was sent
//! later tells that the earlier ones are out as well, whoever sent them. A daemon that gets probes of
//! others cannot know where its own went, and takes none for lost. While a band is stuck, probes stay
//! in it: then the next one waits twice as long each time, up to [`LONGEST_WAIT`].

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::clock::Now;
use crate::wire::probe::Probe;

/// So many intervals after twice the length of its band a probe is lost: longer than RabbitMQ's
/// dead-letter worker may pause (broker/README.md §3).
const PATIENCE: u32 = 10;

/// A band in trouble gets a probe so often at least, or each time that it is long.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// The unit of the times that probes carry.
const MILLISECOND: Duration = Duration::from_millis(1);

/// The probes of one daemon.
#[derive(Debug)]
pub(super) struct Probes {
    daemon: u64,
    interval: Duration,
    bands: Vec<Band>,
    /// When a probe of another daemon came here last.
    others: Option<Instant>,
    /// Since when there is a connection.
    resumed: Option<Instant>,
}

#[derive(Debug)]
struct Band {
    name: String,
    length: Duration,
    /// When a probe was sent last.
    last: Option<Instant>,
    /// What the last probe says of that.
    last_named: Option<SystemTime>,
    /// When the next one may be sent.
    next: Option<Instant>,
    /// The last probe, until it is back or lost.
    open: Option<SystemTime>,
    /// When the oldest probe that is not known to be back was sent.
    oldest: Option<(SystemTime, Instant)>,
    /// The last probe of this daemon that came back.
    back: Option<SystemTime>,
    /// How many probes in a row were lost.
    lost: u32,
}

impl Probes {
    /// Sends nothing yet; a band gets a probe each `interval`, or each time that it is long.
    pub(super) fn new(
        daemon: u64,
        interval: Duration,
        bands: impl Iterator<Item = (Duration, String)>,
    ) -> Self {
        let bands = bands.map(|(length, name)| Band {
            name,
            length,
            last: None,
            last_named: None,
            next: None,
            open: None,
            oldest: None,
            back: None,
            lost: 0,
        });
        Self {
            daemon,
            interval,
            bands: bands.collect(),
            others: None,
            resumed: None,
        }
    }

    /// Returns the probes to send now, each with the length of its band.
    pub(super) fn due(&mut self, now: Now) -> Vec<(Duration, Probe)> {
        let (daemon, interval) = (self.daemon, self.interval);
        let due = self.bands.iter_mut().filter_map(|band| {
            if band.open.is_some() || band.next.is_some_and(|next| now.mono < next) {
                return None;
            }
            band.last = Some(now.mono);
            band.next = Some(now.mono + band.length.max(interval));
            // A clock that is set back makes no probe older than the one before.
            let after = band.last_named.map(|last| last + MILLISECOND);
            let named = after.map_or(now.wall, |after| now.wall.max(after));
            let probe = Probe::new(&band.name, named, daemon);
            band.last_named = Some(probe.sent_at);
            Some((band.length, probe))
        });
        due.collect()
    }

    /// Notes that a connection is there: without one nothing could come back, so what is under way has its
    /// whole time again.
    pub(super) fn resume(&mut self, now: Instant) {
        self.resumed = Some(now);
    }

    /// Notes that the broker has a probe.
    pub(super) fn confirmed(&mut self, probe: &Probe, now: Instant) {
        let Some(band) = self.band(&probe.band) else {
            return;
        };
        // It may be back before its confirm.
        if band.back == Some(probe.sent_at) {
            return;
        }
        band.open = Some(probe.sent_at);
        band.oldest.get_or_insert((probe.sent_at, now));
    }

    /// Notes that the broker did not take a probe.
    pub(super) fn refused(&mut self, probe: &Probe, now: Instant) {
        let interval = self.interval;
        if let Some(band) = self.band(&probe.band) {
            band.oldest.get_or_insert((probe.sent_at, now));
            band.put_off(interval, now);
        }
    }

    /// Notes that a probe came back, and returns whether its band is known.
    pub(super) fn returned(&mut self, probe: &Probe, now: Instant) -> bool {
        let is_own = probe.daemon == self.daemon;
        if !is_own {
            self.others = Some(now);
        }
        let Some(band) = self.band(&probe.band) else {
            return false;
        };
        let is_out = |sent: SystemTime| sent <= probe.sent_at;
        // Clocks of other machines may be wrong, and must not vouch for what is not sent yet.
        band.back = if is_own {
            Some(probe.sent_at)
        } else {
            band.back
        };
        band.open = band.open.filter(|sent| !is_out(*sent));
        band.lost = 0;
        // A newer one that is under way has its own time.
        if band.oldest.is_some_and(|(sent, _)| is_out(sent)) {
            band.oldest = band.open.zip(band.last);
        }
        true
    }

    /// Gives up the probes that are overdue, and returns the bands of those that are surely lost.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<String> {
        let mut lost = Vec::new();
        for band in &mut self.bands {
            let patience = band.length * 2 + self.interval * PATIENCE;
            let Some(last) = band.last.filter(|_| band.open.is_some()) else {
                continue;
            };
            let since = self.resumed.map_or(last, |resumed| last.max(resumed));
            if now.saturating_duration_since(since) < patience {
                continue;
            }
            band.open = None;
            band.put_off(band.length.max(self.interval), now);
            let is_alone = self.others.is_none_or(|others| others < last);
            lost.extend(is_alone.then(|| band.name.clone()));
        }
        lost
    }

    /// Returns for each band how long ago the oldest probe was sent that is not known to be back.
    pub(super) fn ages(&self, now: Instant) -> impl Iterator<Item = (&str, Duration)> {
        self.bands.iter().map(move |band| {
            let age = band.oldest.map(|(_, at)| now.saturating_duration_since(at));
            (band.name.as_str(), age.unwrap_or_default())
        })
    }

    fn band(&mut self, name: &str) -> Option<&mut Band> {
        self.bands.iter_mut().find(|band| band.name == name)
    }
}

impl Band {
    /// Lets the next probe wait, twice as long as after the one before.
    fn put_off(&mut self, first: Duration, now: Instant) {
        let wait = Backoff::new(first, LONGEST_WAIT.max(first)).wait(self.lost);
        self.next = Some(now + wait);
        self.lost = self.lost.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, FixedClock};

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);

    struct World {
        probes: Probes,
        clock: FixedClock,
    }

    impl World {
        fn new() -> Self {
            let bands = [(SECOND, "1s".to_owned()), (MINUTE * 10, "10m".to_owned())];
            Self {
                probes: Probes::new(1, MINUTE, bands.into_iter()),
                clock: FixedClock::at(SystemTime::UNIX_EPOCH + MINUTE),
            }
        }

        /// Sends what is due, has it confirmed and returns it.
        fn send(&mut self) -> Vec<Probe> {
            let now = self.clock.now();
            let due = self.probes.due(now);
            let sent: Vec<_> = due.into_iter().map(|(_, probe)| probe).collect();
            for probe in &sent {
                self.probes.confirmed(probe, now.mono);
            }
            sent
        }

        fn back(&mut self, probe: &Probe) {
            let now = self.clock.now().mono;
            assert!(self.probes.returned(probe, now));
        }

        fn ages(&self) -> Vec<u64> {
            let now = self.clock.now().mono;
            let ages = self.probes.ages(now);
            ages.map(|(_, age)| age.as_secs()).collect()
        }

        fn lost(&mut self) -> Vec<String> {
            self.probes.give_up(self.clock.now().mono)
        }
    }

    fn names(probes: &[Probe]) -> Vec<&str> {
        probes.iter().map(|probe| probe.band.as_str()).collect()
    }

    #[test]
    fn a_band_gets_the_next_probe_when_the_last_is_back_and_its_time_has_come() {
        let mut world = World::new();
        let first = world.send();
        assert_eq!(names(&first), ["1s", "10m"]);
        world.clock.advance(SECOND);
        world.back(&first[0]);
        assert_eq!(world.ages(), [0, 1]);
        assert!(world.send().is_empty(), "a minute is not over");
        world.clock.advance(MINUTE);
        assert_eq!(names(&world.send()), ["1s"]);
        world.clock.advance(MINUTE * 10);
        assert_eq!(world.ages(), [600, 661]);
        assert!(world.send().is_empty(), "one is enough");
        world.back(&first[1]);
        assert_eq!(names(&world.send()), ["10m"]);
    }

    #[test]
    fn what_is_back_before_its_confirm_is_not_waited_for() {
        let mut world = World::new();
        let now = world.clock.now();
        let due = world.probes.due(now);
        let (_, probe) = &due[0];
        world.back(probe);
        world.probes.confirmed(probe, now.mono);
        world.clock.advance(MINUTE);
        assert_eq!(world.ages(), [0, 0]);
    }

    #[test]
    fn a_daemon_whose_clock_is_ahead_does_not_hide_what_is_stuck() {
        let mut world = World::new();
        world.back(&Probe::new("1s", SystemTime::UNIX_EPOCH + MINUTE * 600, 99));
        world.send();
        world.clock.advance(MINUTE);
        assert_eq!(world.ages(), [60, 60]);
    }

    #[test]
    fn a_stuck_band_ages_from_its_first_probe_on_and_gets_fewer_and_fewer() {
        let mut world = World::new();
        world.send();
        let mut lost = Vec::new();
        let mut sent = 1;
        for minute in 1..=24 * 60 {
            world.clock.advance(MINUTE);
            lost.extend(world.lost());
            sent += names(&world.send())
                .iter()
                .filter(|it| **it == "1s")
                .count();
            assert_eq!(world.ages()[0], minute * 60);
        }
        assert!((20..30).contains(&sent), "{sent}");
        let of_short = lost.iter().filter(|it| *it == "1s").count();
        assert!(sent - of_short <= 1, "{of_short} of {sent}");
    }

    #[test]
    fn a_later_probe_tells_that_earlier_ones_are_out_and_ends_the_alarm() {
        let mut world = World::new();
        let first = world.send();
        world.clock.advance(MINUTE * 13);
        assert_eq!(world.lost(), ["1s"]);
        world.clock.advance(MINUTE);
        let second = world.send();
        assert_eq!(names(&second), ["1s"]);
        assert_eq!(world.ages()[0], 840);
        world.back(&first[0]);
        assert_eq!(world.ages()[0], 0, "the second has only been sent");
        world.clock.advance(SECOND);
        assert_eq!(world.ages()[0], 1);
        let mut of_another = Probe::new("1s", world.clock.now().wall, 99);
        world.back(&of_another);
        assert_eq!(world.ages()[0], 0);
        of_another.band = "7s".to_owned();
        let now = world.clock.now().mono;
        assert!(!world.probes.returned(&of_another, now), "an unknown band");
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_no_probe_to_wait_for() {
        let mut world = World::new();
        world.clock.jump(SystemTime::UNIX_EPOCH + MINUTE * 600);
        world.send();
        world.clock.advance(MINUTE * 13);
        assert_eq!(world.lost(), ["1s"]);
        world.clock.jump(SystemTime::UNIX_EPOCH + MINUTE);
        world.clock.advance(MINUTE);
        let second = world.send();
        assert_eq!(names(&second), ["1s"]);
        world.clock.advance(SECOND);
        world.back(&second[0]);
        assert_eq!(world.ages()[0], 0);
    }

    #[test]
    fn what_could_not_come_back_without_a_connection_is_not_lost_at_once() {
        let mut world = World::new();
        let sent = world.send();
        world.clock.advance(MINUTE * 60);
        world.probes.resume(world.clock.now().mono);
        assert_eq!(world.lost(), Vec::<String>::new());
        world.clock.advance(SECOND);
        assert_eq!(world.ages()[0], 3601);
        world.back(&sent[0]);
        assert_eq!(world.ages(), [0, 3601]);
        world.clock.advance(MINUTE * 31);
        assert_eq!(world.lost(), ["10m"], "it has had its time since");
    }

    #[test]
    fn beside_other_daemons_nothing_is_taken_for_lost() {
        let mut world = World::new();
        world.send();
        world.clock.advance(SECOND);
        world.back(&Probe::new("10m", SystemTime::UNIX_EPOCH, 99));
        world.clock.advance(MINUTE * 13);
        assert_eq!(world.lost(), Vec::<String>::new());
        assert_eq!(world.ages()[0], 781);
        world.clock.advance(MINUTE);
        assert_eq!(
            names(&world.send()),
            ["1s"],
            "it is sent again all the same"
        );
    }

    #[test]
    fn what_the_broker_refuses_ages_and_is_sent_again_later() {
        let mut world = World::new();
        let now = world.clock.now();
        for probe in world.probes.due(now) {
            world.probes.refused(&probe.1, now.mono);
        }
        world.clock.advance(MINUTE);
        assert_eq!(world.ages(), [60, 60]);
        let again = world.probes.due(world.clock.now());
        assert_eq!(again.len(), 2, "a long band need not wait its length");
        for probe in again {
            world.probes.refused(&probe.1, world.clock.now().mono);
        }
        world.clock.advance(MINUTE);
        assert!(world.send().is_empty());
        world.clock.advance(MINUTE);
        let third = world.send();
        assert_eq!(names(&third), ["1s", "10m"]);
        world.back(&third[0]);
        assert_eq!(world.ages(), [0, 180]);
    }
}
