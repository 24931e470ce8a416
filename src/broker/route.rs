//! Where a publication goes: the exchange, the routing key, and how long a delay band holds it.
//!
//! A message in the default exchange's hands that no queue takes is confirmed and lost, and so is
//! one that a delay exchange cannot place: those are published `mandatory`, so that they come back.

use std::time::Duration;

use lapin::types::ShortString;

use crate::broker::{Rounding, Route, Settings};
use crate::message::Name;

/// How a publication is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// How long a delay band may hold it.
    pub(super) expiration: Option<Duration>,
    /// Whether a publication that reaches no queue must come back: all but results, which have an
    /// alternate exchange.
    pub(super) mandatory: bool,
}

/// The names that publications are addressed with.
#[derive(Debug)]
pub(super) struct Routes {
    prefix: Name,
    results: ShortString,
    quarantine: ShortString,
    bands: Vec<(Duration, ShortString)>,
}

impl Routes {
    pub(super) fn new(settings: &Settings) -> Self {
        let prefix = settings.prefix.clone();
        let bands = settings
            .bands
            .iter()
            .map(|&band| (band, short(&format!("{prefix}.delay.{}", band_name(band)))))
            .collect();
        Self {
            results: short(&format!("{prefix}.results")),
            quarantine: short(&format!("{prefix}.quarantine")),
            prefix,
            bands,
        }
    }

    /// Returns how a publication is addressed.
    pub(super) fn destination(&self, route: &Route) -> Destination {
        match route {
            Route::Results(key) => Destination {
                exchange: self.results.clone(),
                routing_key: short(key),
                expiration: None,
                mandatory: false,
            },
            Route::Due(lane) => directly_to(self.due(lane)),
            Route::Quarantine => directly_to(self.quarantine.clone()),
            Route::Delay {
                lane,
                after,
                rounding,
            } => match self.band(*after, *rounding) {
                Some((band, name)) => Destination {
                    exchange: name.clone(),
                    routing_key: self.due(lane),
                    expiration: Some((*after).min(band)),
                    mandatory: true,
                },
                None => directly_to(self.due(lane)),
            },
        }
    }

    fn band(&self, after: Duration, rounding: Rounding) -> Option<(Duration, &ShortString)> {
        let index = choose_band(self.bands().map(|(band, _)| band), after, rounding)?;
        self.bands.get(index).map(|(band, name)| (*band, name))
    }

    /// Returns the delay bands and the name that exchange and queue of each share.
    pub(super) fn bands(&self) -> impl Iterator<Item = (Duration, &ShortString)> + Clone {
        self.bands.iter().map(|(band, name)| (*band, name))
    }

    /// Returns the name of a lane's due queue.
    pub(super) fn due(&self, lane: &Name) -> ShortString {
        self.name(&format!("due.{lane}"))
    }

    /// Returns the name of the exchange that control messages are published to.
    pub(super) fn control(&self) -> ShortString {
        self.name("control")
    }

    /// Returns the name of the stream that keeps control messages.
    pub(super) fn control_log(&self) -> ShortString {
        self.name("control.log")
    }

    /// Puts the prefix in front of the rest of a name.
    pub(super) fn name(&self, rest: &str) -> ShortString {
        short(&format!("{}.{rest}", self.prefix))
    }
}

/// Chooses the band for a wait; `None` if there are no bands.
///
/// A retry must not come early: the smallest band that holds it, else the largest; unless that band
/// might hold it until after its deadline, since a message leaves only after those before it. A
/// scheduled message must not come late: the largest band it outlasts, else the smallest, from which
/// its own expiration releases it in time.
fn choose_band(
    bands: impl Iterator<Item = Duration> + Clone,
    after: Duration,
    rounding: Rounding,
) -> Option<usize> {
    let last = bands.clone().count().checked_sub(1)?;
    let holds_it = bands.clone().enumerate().find(|(_, band)| *band >= after);
    let outlasted = || {
        let longer = bands.clone().position(|band| band > after);
        longer.map_or(last, |longer| longer.saturating_sub(1))
    };
    Some(match (rounding, holds_it) {
        (Rounding::Up { within }, Some((index, band))) if band < within => index,
        (Rounding::Up { .. }, None) => last,
        (Rounding::Up { .. } | Rounding::Down, _) => outlasted(),
    })
}

/// Names a band by its largest whole unit: `500ms`, `15s`, `2m`, `8h`.
pub(super) fn band_name(band: Duration) -> String {
    let seconds = band.as_secs();
    match (band.subsec_millis(), seconds % 60, seconds % 3600) {
        (0, 0, 0) => format!("{}h", seconds / 3600),
        (0, 0, _) => format!("{}m", seconds / 60),
        (0, _, _) => format!("{seconds}s"),
        _ => format!("{}ms", band.as_millis()),
    }
}

fn directly_to(queue: ShortString) -> Destination {
    Destination {
        exchange: short(""),
        routing_key: queue,
        expiration: None,
        mandatory: true,
    }
}

/// Creates an AMQP short string from any text, cut to the 255 bytes that one can have.
pub(super) fn short(text: &str) -> ShortString {
    let end = text.floor_char_boundary(255);
    ShortString::from(&text[..end])
}

#[cfg(test)]
mod lateness;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::tests::settings;

    /// Any band is done before the deadline.
    const IN_TIME: Rounding = Rounding::Up {
        within: Duration::MAX,
    };

    fn bands() -> Vec<Duration> {
        [1, 2, 4, 8, 60].map(Duration::from_secs).to_vec()
    }

    fn chosen(after: Duration, rounding: Rounding) -> Duration {
        let bands = bands();
        bands[choose_band(bands.iter().copied(), after, rounding).unwrap()]
    }

    #[test]
    fn a_retry_takes_the_smallest_band_that_holds_it() {
        for (after, band) in [
            (0, 1),
            (1000, 1),
            (1001, 2),
            (3000, 4),
            (8001, 60),
            (90_000, 60),
        ] {
            let after = Duration::from_millis(after);
            assert_eq!(chosen(after, IN_TIME), Duration::from_secs(band));
        }
    }

    #[test]
    fn a_scheduled_message_takes_the_largest_band_it_outlasts() {
        for (after, band) in [
            (0, 1),
            (999, 1),
            (1999, 1),
            (2000, 2),
            (59_999, 8),
            (90_000, 60),
        ] {
            let after = Duration::from_millis(after);
            assert_eq!(chosen(after, Rounding::Down), Duration::from_secs(band));
        }
        assert_eq!(
            choose_band([].into_iter(), Duration::ZERO, Rounding::Down),
            None
        );
    }

    #[test]
    fn a_retry_whose_band_may_outlast_its_deadline_comes_back_early() {
        for (after, within, band) in [(5, 9, 8), (5, 8, 4), (3, 4, 2), (40, 61, 60), (40, 50, 8)] {
            let within = Duration::from_secs(within);
            let band = Duration::from_secs(band);
            let found = chosen(Duration::from_secs(after), Rounding::Up { within });
            assert_eq!(found, band, "{after} s of {within:?}");
        }
    }

    proptest! {
        #[test]
        fn no_band_that_is_longer_than_the_shortest_outlasts_a_deadline(
            after in 0u64..200_000,
            more in 1u64..200_000,
        ) {
            let within = Duration::from_millis(after + more);
            let chosen = chosen(Duration::from_millis(after), Rounding::Up { within });
            prop_assert!(chosen < within || chosen == bands()[0], "{chosen:?}");
        }

        #[test]
        fn a_scheduled_message_is_never_held_past_its_time(after in 0u64..200_000) {
            let after = Duration::from_millis(after);
            let held = after.min(chosen(after, Rounding::Down));
            prop_assert!(held <= after);
        }

        #[test]
        fn a_short_string_is_any_text_cut_to_what_fits(text in ".{0,300}") {
            let short = short(&text);
            prop_assert!(text.starts_with(short.as_str()));
            prop_assert!(short.as_str().len() == text.len() || short.as_str().len() > 251);
        }
    }

    #[test]
    fn bands_are_named_by_their_largest_whole_unit() {
        for (millis, name) in [
            (150, "150ms"),
            (1000, "1s"),
            (90_000, "90s"),
            (120_000, "2m"),
            (5_400_000, "90m"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(band_name(Duration::from_millis(millis)), name);
        }
    }

    #[test]
    fn every_route_has_its_destination() {
        let routes = Routes::new(&settings());
        let lane = Name::parse("high").unwrap();
        let to = |route| {
            let d = routes.destination(&route);
            let (exchange, key) = (d.exchange.to_string(), d.routing_key.to_string());
            (exchange, key, d.expiration, d.mandatory)
        };
        let row = |exchange: &str, key: &str, expiration: Option<u64>, mandatory| {
            let expiration = expiration.map(Duration::from_millis);
            (exchange.to_owned(), key.to_owned(), expiration, mandatory)
        };
        assert_eq!(
            to(Route::Results("delivery.shop.gone._".into())),
            row("webpush.results", "delivery.shop.gone._", None, false)
        );
        assert_eq!(
            to(Route::Due(lane.clone())),
            row("", "webpush.due.high", None, true)
        );
        assert_eq!(
            to(Route::Quarantine),
            row("", "webpush.quarantine", None, true)
        );
        let delay = |after, rounding| Route::Delay {
            lane: lane.clone(),
            after: Duration::from_millis(after),
            rounding,
        };
        assert_eq!(
            to(delay(60, IN_TIME)),
            row("webpush.delay.150ms", "webpush.due.high", Some(60), true)
        );
        assert_eq!(
            to(delay(9000, IN_TIME)),
            row("webpush.delay.400ms", "webpush.due.high", Some(400), true)
        );
        assert_eq!(
            to(delay(399, Rounding::Down)),
            row("webpush.delay.150ms", "webpush.due.high", Some(150), true)
        );
    }
}
