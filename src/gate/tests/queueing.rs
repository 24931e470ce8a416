//! Backlogs in virtual time: how long they take, and how often each recipient goes round.
//!
//! As with the defaults, one prefetch window hands out new events and another hands out those that
//! come back. What is deferred leaves its window and comes again after its delay.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;

const DEFAULTS: Settings = Settings {
    in_flight: 500,
    per_origin: 200,
    max_wait: SECOND,
    rate: None,
    breaker: BreakerSettings {
        failures: 10,
        open: Duration::from_secs(5),
        open_cap: Duration::from_secs(300),
    },
};

/// How many deliveries of new events and of those that come back are in hand.
const WINDOWS: [usize; 2] = [500, 200];

/// What the push service does with the request of this number that comes so long after the start.
type Serve = fn(u32, Duration) -> (Duration, Verdict);

struct World {
    gates: Gates,
    windows: [Semaphore; 2],
    start: Instant,
    serve: Serve,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: u32,
    /// By second: how many recipients were sent to the broker.
    trips: BTreeMap<u64, usize>,
    ends: Vec<End>,
}

/// What one recipient went through.
#[derive(Clone, Copy, Debug)]
struct End {
    tried_at: Duration,
    took: Duration,
    trips: u32,
}

impl World {
    fn new(settings: Settings, serve: Serve) -> Arc<Self> {
        Arc::new(Self {
            gates: Gates::new(settings),
            windows: WINDOWS.map(Semaphore::new),
            start: now(),
            serve,
            state: Mutex::default(),
        })
    }

    /// Pushes to as many recipients as come, `rate` a second, and returns when all were accepted.
    async fn push(self: &Arc<Self>, recipients: u32, rate: u32) -> Figures {
        let mut tasks = JoinSet::new();
        for n in 0..recipients {
            let world = Arc::clone(self);
            tasks.spawn(async move {
                sleep(Duration::from_secs(n.into()) / rate).await;
                world.push_one(n, false).await;
            });
        }
        tasks.join_all().await;
        self.figures()
    }

    async fn push_one(&self, n: u32, mut came_back: bool) {
        let (origin, key, lane) = (origin("a"), key("main"), lane());
        let (mut trips, mut deferrals, mut attempts, mut tried_at) = (0, 0, 0, None);
        loop {
            let window = &self.windows[usize::from(came_back)];
            let permit = window.acquire().await.unwrap();
            let request = Request {
                origin: &origin,
                listing: Listing::Listed,
                key: &key,
                lane: &lane,
                deferrals,
            };
            let delay = match ask(&self.gates, request, now()).await {
                Ok(permit) => {
                    let at = now() - self.start;
                    tried_at = tried_at.or(Some(at));
                    let (takes, verdict) = (self.serve)(self.request(), at);
                    sleep(takes).await;
                    permit.report(&verdict, now());
                    if verdict.meaning == Meaning::Accepted {
                        break;
                    }
                    attempts += 1;
                    deferrals = 0;
                    let back_off = SECOND * 5 * (1 << attempts.min(6));
                    verdict.after.unwrap_or(back_off)
                }
                Err(deferral) => {
                    trips += 1;
                    self.count_trip();
                    deferrals += 1;
                    let jitter = (f64::from(n * 31 + trips) * 0.618_034).fract();
                    deferral.delay(deferrals - 1, SECOND * 86_400, jitter)
                }
            };
            drop(permit);
            sleep(delay).await;
            came_back = true;
        }
        let took = now() - self.start;
        let tried_at = tried_at.unwrap();
        let end = End {
            tried_at,
            took,
            trips,
        };
        self.state.lock().ends.push(end);
    }

    fn request(&self) -> u32 {
        let mut state = self.state.lock();
        state.requests += 1;
        state.requests
    }

    fn count_trip(&self) {
        let second = (now() - self.start).as_secs();
        let mut state = self.state.lock();
        *state.trips.entry(second).or_default() += 1;
    }

    fn figures(&self) -> Figures {
        let state = self.state.lock();
        let (ends, trips) = (&state.ends, &state.trips);
        let mut took: Vec<_> = ends.iter().map(|end| end.took).collect();
        took.sort_unstable();
        let after_a_minute = trips.range(60..).map(|(_, count)| *count);
        let figures = Figures {
            p99: took[took.len() * 99 / 100],
            last: took[took.len() - 1],
            last_tried: ends.iter().map(|end| end.tried_at).max().unwrap(),
            trips: trips.values().sum::<usize>() as f64 / ends.len() as f64,
            most_trips: ends.iter().map(|end| end.trips).max().unwrap(),
            peak: after_a_minute.max().unwrap_or_default(),
        };
        println!("{} recipients: {figures:?}", ends.len());
        figures
    }
}

#[derive(Clone, Copy, Debug)]
struct Figures {
    p99: Duration,
    last: Duration,
    last_tried: Duration,
    /// How often a recipient was sent to the broker, on average and at most.
    trips: f64,
    most_trips: u32,
    /// The most recipients that were sent to the broker in one second, after the first minute.
    peak: usize,
}

fn seconds(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

/// An origin that serves 100 a second is busy from the first to the last, and no recipient makes needless trips through the broker.
#[tokio::test(start_paused = true)]
async fn a_backlog_for_a_slow_origin_is_served_without_idling_and_without_circling() {
    let narrow = Settings {
        per_origin: 10,
        ..DEFAULTS
    };
    let quick: Serve = |_, _| (seconds(0.1), accepted());
    let slow: Serve = |_, _| (seconds(2.0), accepted());
    for (settings, serve) in [(narrow, quick), (DEFAULTS, slow)] {
        for (recipients, longest) in [(10_000, 110), (30_000, 320)] {
            let world = World::new(settings, serve);
            let figures = world.push(recipients, 5000).await;
            assert!(figures.last <= SECOND * longest, "{figures:?}");
            assert!(figures.trips <= 3.0, "{figures:?}");
            assert!(figures.most_trips <= 8, "{figures:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn scheduled_messages_due_at_once_are_hardly_later_than_the_service_takes() {
    for window in [0, 1] {
        let world = World::new(DEFAULTS, |_, _| (seconds(0.05), accepted()));
        let mut tasks = JoinSet::new();
        for n in 0..20_000 {
            let world = Arc::clone(&world);
            tasks.spawn(async move { world.push_one(n, window == 1).await });
        }
        tasks.join_all().await;
        let figures = world.figures();
        assert!(figures.p99 <= SECOND * 6, "{figures:?}");
    }
}

const HOUR: u64 = 3600;

#[tokio::test(start_paused = true)]
async fn a_backlog_goes_round_seldom_while_an_origin_is_down_for_an_hour() {
    for (recipients, most) in [(100_000, 12.0), (1000, 26.0)] {
        let world = World::new(DEFAULTS, |_, at| match at.as_secs() {
            0..HOUR => (seconds(5.0), unavailable()),
            _ => (seconds(0.05), accepted()),
        });
        let figures = world.push(recipients, 5000).await;
        assert!(figures.trips <= most, "{figures:?}");
        assert!(figures.peak <= 1500, "{figures:?}");
        let longest = SECOND * 3600 + DEFAULTS.breaker.open_cap + SECOND * 600;
        assert!(figures.last <= longest, "{figures:?}");
    }
}

/// One in 33 is throttled, which pauses the origin for a second.
#[tokio::test(start_paused = true)]
async fn no_recipient_starves_at_an_origin_that_often_pauses() {
    let world = World::new(DEFAULTS, |number, _| match number % 33 {
        0 => (seconds(0.05), throttled(Some(Scope::Origin), 1)),
        _ => (seconds(0.05), accepted()),
    });
    let figures = world.push(20_000, 5000).await;
    assert!(figures.last_tried <= SECOND * 1200, "{figures:?}");
    assert!(figures.trips <= 8.0, "{figures:?}");
    assert!(figures.most_trips <= 30, "{figures:?}");
}
