//! One origin in trouble beside one that is well, in virtual time: what the first takes from the
//! second is only what the rules let it take, whatever the machine is busy with.
//!
//! A prefetch window hands out new events in turn, the same number a second for both origins; another
//! one hands out those that come back. A recipient that must wait gives its place in the window back and comes
//! again after its delay, as through the broker.

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{interval, sleep};

use super::*;

/// The windows of new events and of those that come back, in the proportions of the defaults, and
/// how long a service that is well takes.
const WINDOW: usize = 100;
const DUE_WINDOW: usize = 40;
const LATENCY: Duration = Duration::from_millis(50);

/// One event of each origin comes so often; both for so long.
const EVERY: Duration = Duration::from_millis(2);
const FOR: Duration = Duration::from_secs(60);

/// When the sick origin is well again.
const SICK_FOR: Duration = Duration::from_secs(30);

/// How an origin is sick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sickness {
    Absent,
    Stalls,
    Down,
    Throttles,
    Slow,
    /// Every event goes to an unlisted host of its own, which stalls.
    Tarpits,
    /// The same, but they answer before they stall, and take all that unlisted hosts are given.
    Traps,
}

impl Sickness {
    fn is_unlisted(self) -> bool {
        matches!(self, Self::Tarpits | Self::Traps)
    }
}

#[derive(Clone, Copy, Debug)]
struct Job {
    number: u32,
    of_sick: bool,
    passes: u32,
    deferrals: u32,
    came: Instant,
}

struct World {
    gates: Gates,
    start: Instant,
    sickness: Sickness,
    fresh: UnboundedSender<Job>,
    due: UnboundedSender<Job>,
    /// How long each event took that is not of the sick origin and came while that was sick.
    took: Mutex<Vec<Duration>>,
    /// When the sick origin was asked, once it was well again.
    asked: Mutex<Vec<Duration>>,
    accepted: AtomicUsize,
}

impl World {
    async fn work(self: Arc<Self>, job: Job, permit: OwnedSemaphorePermit) {
        let is_unlisted = job.of_sick && self.sickness.is_unlisted();
        let host = match (job.of_sick, is_unlisted) {
            (false, _) => "well".to_owned(),
            (true, false) => "sick".to_owned(),
            (true, true) => format!("s{}.sick", job.number),
        };
        let request = Request {
            origin: &origin(&host),
            listing: Listing::of(!is_unlisted),
            key: &key("main"),
            lane: &lane(),
            deferrals: job.deferrals,
        };
        let mut deferrals = 0;
        let delay = match ask(&self.gates, request, now()).await {
            Ok(permit) => self.send(job, permit).await,
            Err(deferral) => {
                deferrals = job.deferrals + 1;
                Some(deferral.delay(job.deferrals, FOR * 10, jitter(job)))
            }
        };
        drop(permit);
        if let Some(delay) = delay {
            sleep(delay).await;
            let passes = job.passes + 1;
            let _ended = self.due.send(Job {
                passes,
                deferrals,
                ..job
            });
        }
    }

    /// Sends one request; returns how long to wait for the next attempt.
    async fn send(&self, job: Job, permit: Permit) -> Option<Duration> {
        let since = now() - self.start;
        let sickness = if job.of_sick && since < SICK_FOR {
            self.sickness
        } else {
            Sickness::Absent
        };
        if job.of_sick && since >= SICK_FOR {
            self.asked.lock().push(since - SICK_FOR);
        }
        let (takes, verdict) = match sickness {
            Sickness::Absent => (LATENCY, accepted()),
            Sickness::Traps if since < SICK_FOR / 3 => (LATENCY * 3, accepted()),
            Sickness::Stalls | Sickness::Tarpits | Sickness::Traps => (SECOND * 10, timed_out()),
            Sickness::Down => (LATENCY, unavailable()),
            Sickness::Throttles => (LATENCY, throttled(Some(Scope::Origin), 5)),
            Sickness::Slow => (SECOND * 2, accepted()),
        };
        sleep(takes).await;
        permit.report(&verdict, now());
        if verdict.meaning != Meaning::Accepted {
            return Some(SECOND * 5);
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if !job.of_sick && job.came - self.start < SICK_FOR {
            self.took.lock().push(now() - job.came);
        }
        None
    }
}

fn timed_out() -> Verdict {
    Verdict {
        reason: Reason::Timeout,
        ..unavailable()
    }
}

/// Any number from 0 to 1, the same in every run.
fn jitter(job: Job) -> f64 {
    (f64::from(job.number * 31 + job.passes) * 0.618_034).fract()
}

/// Publishes the events of both origins.
async fn publish(world: Arc<World>) {
    let mut clock = interval(EVERY);
    for number in 0..events() {
        let came = clock.tick().await;
        for of_sick in [false, true] {
            if of_sick && world.sickness == Sickness::Absent {
                continue;
            }
            let job = Job {
                number,
                of_sick,
                passes: 0,
                deferrals: 0,
                came,
            };
            world.fresh.send(job).unwrap();
        }
    }
}

/// How many events each origin gets.
fn events() -> u32 {
    u32::try_from(FOR.as_millis() / EVERY.as_millis()).unwrap()
}

/// Hands events out, as many at once as the window has places.
async fn hand_out(world: Arc<World>, mut jobs: UnboundedReceiver<Job>, window: usize) {
    let window = Arc::new(Semaphore::new(window));
    while let Some(job) = jobs.recv().await {
        let permit = Arc::clone(&window).acquire_owned().await.unwrap();
        tokio::spawn(Arc::clone(&world).work(job, permit));
    }
}

/// Lets both origins have their events until all are through.
async fn live(sickness: Sickness) -> Arc<World> {
    let ((fresh, lane), (due, returning)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let world = Arc::new(World {
        gates: Gates::new(Settings {
            in_flight: WINDOW,
            per_origin: WINDOW / 5 * 2,
            ..SETTINGS
        }),
        start: now(),
        sickness,
        fresh,
        due,
        took: Mutex::default(),
        asked: Mutex::default(),
        accepted: AtomicUsize::new(0),
    });
    let publishing = tokio::spawn(publish(Arc::clone(&world)));
    let handing_out = [
        tokio::spawn(hand_out(Arc::clone(&world), lane, WINDOW)),
        tokio::spawn(hand_out(Arc::clone(&world), returning, DUE_WINDOW)),
    ];
    publishing.await.unwrap();
    let origins = if sickness == Sickness::Absent { 1 } else { 2 };
    while world.accepted.load(Ordering::Relaxed) < origins * events() as usize {
        sleep(SECOND).await;
        assert!(now() - world.start < FOR * 10, "{sickness:?}");
    }
    handing_out.iter().for_each(|task| task.abort());
    world
}

/// Returns the median, and what 95 and 99 of 100 stay below.
fn percentiles(took: &[Duration]) -> [Duration; 3] {
    let mut took = took.to_vec();
    took.sort_unstable();
    [50, 95, 99].map(|percent| took[took.len() * percent / 100])
}

#[tokio::test(start_paused = true)]
async fn who_is_well_is_within_a_tenth_of_being_alone() {
    let alone = live(Sickness::Absent).await;
    let alone = percentiles(&alone.took.lock());
    for sickness in [
        Sickness::Stalls,
        Sickness::Down,
        Sickness::Throttles,
        Sickness::Slow,
        Sickness::Tarpits,
        Sickness::Traps,
    ] {
        let world = live(sickness).await;
        let beside = percentiles(&world.took.lock());
        println!("{sickness:?}: {beside:?}, {alone:?} alone");
        for (beside, alone) in beside.iter().zip(alone) {
            assert!(*beside <= alone * 11 / 10, "{sickness:?}: {beside:?}");
        }
        assert_no_storm(sickness, &world.asked.lock());
    }
}

/// Asserts that a service that was left alone is met with a few requests first, and with at most about twice
/// as many in each round trip as in the one before.
fn assert_no_storm(sickness: Sickness, asked: &[Duration]) {
    if sickness == Sickness::Slow || sickness.is_unlisted() {
        return;
    }
    let first = asked.iter().min().copied().unwrap();
    let mut before = 0;
    for round in 0..20 {
        let (from, to) = (first + LATENCY * round, first + LATENCY * (round + 1));
        let now = asked.iter().filter(|at| (from..to).contains(*at)).count();
        assert!(now <= 2 * before + 5, "{sickness:?}: {now} after {before}");
        before = now;
    }
}
