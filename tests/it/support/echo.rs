//! The modules of the broker with a trivial pipeline: each delivery is answered at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::types::FieldTable;
use pushrider::broker::{
    Declare, Delivery, Inbound, Lane, NeedsOperator, Publication, Rounding, Route, Settings,
    SettledDelivery, Then, Triggers, run,
};
use pushrider::health::BrokerState;
use pushrider::message::Name;
use pushrider::metrics::Metrics;
use pushrider::secret::Secret;
use pushrider::wire::Kind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::vhost::{Vhost, arguments};
use super::{eventually, wanted};

/// Where the results of [`result`] are taken from.
pub(crate) const RESULTS: &str = "test.results";

const PATIENCE: Duration = Duration::from_secs(60);

/// The modules of the broker, running.
pub(crate) struct Echo {
    /// What the modules show of themselves.
    pub(crate) state: watch::Receiver<BrokerState>,
    /// What they count.
    pub(crate) metrics: Arc<Metrics>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), NeedsOperator>>,
    held: watch::Sender<bool>,
    seen: watch::Receiver<usize>,
    problems: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    /// Starts; `answer` makes the publications of a delivery.
    pub(crate) fn start(
        settings: Settings,
        answer: impl Fn(&Inbound) -> Vec<Publication> + Send + 'static,
    ) -> Self {
        let (deliveries, mut taken) = mpsc::channel::<Delivery>(256);
        let (owe, publications) = mpsc::channel(256);
        let (state, watched) = watch::channel(BrokerState::default());
        let (held, mut hold) = watch::channel(false);
        let (saw, seen) = watch::channel(0);
        let metrics = Arc::new(Metrics::new().unwrap());
        let stop = CancellationToken::new();
        let counted = Arc::clone(&metrics);
        let problems = keep_problems(watched.clone());
        let redeliveries = Arc::default();
        let life = run(
            settings,
            deliveries,
            publications,
            state,
            counted,
            (redeliveries, Arc::default()),
            Triggers {
                stop_consuming: stop.clone(),
                ..Triggers::default()
            },
        );
        tokio::spawn(async move {
            while let Some(delivery) = taken.recv().await {
                saw.send_modify(|count| *count += 1);
                hold.wait_for(|held| !held).await.unwrap();
                let publications = answer(&delivery.inbound).into();
                let then = Then::Acknowledge {
                    receipt: delivery.receipt,
                    in_hand: delivery.in_hand,
                    settling: delivery.consuming.settle(),
                };
                let settled = SettledDelivery { publications, then };
                if owe.send(settled).await.is_err() {
                    break;
                }
            }
        });
        Self {
            state: watched,
            metrics,
            stop,
            running: tokio::spawn(life),
            held,
            seen,
            problems,
        }
    }

    /// Holds the answers back, or lets them go.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Waits until so many deliveries were handed out.
    pub(crate) async fn has_seen(&self, count: usize) {
        let mut seen = self.seen.clone();
        eventually(PATIENCE, async || {
            let seen = *seen.borrow_and_update();
            if seen >= count { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn is(&self, wanted: impl Fn(&BrokerState) -> bool) {
        eventually(PATIENCE, async || {
            let state = self.state.borrow().clone();
            if wanted(&state) { Ok(()) } else { Err(state) }
        })
        .await;
    }

    /// Waits until it consumes.
    pub(crate) async fn consumes(&self) {
        self.is(|state| state.lanes > 0).await;
    }

    /// Waits until nothing is in flight: what was taken is acknowledged.
    pub(crate) async fn has_acknowledged_all(&self) {
        eventually(PATIENCE, async || {
            wanted(self.metric("pushrider_deliveries_in_flight"), |&n| n == 0.0)
        })
        .await;
    }

    /// Every problem there was, in order.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap().clone()
    }

    /// Reads a metric by the whole of its line before the value.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series}"))
            .trim()
            .parse()
            .unwrap()
    }

    /// Stops in good order.
    pub(crate) async fn stop(self) {
        let state = self.state.clone();
        let before = state.borrow().problem.clone();
        self.hold(false);
        self.stop.cancel();
        self.ended().await.unwrap();
        let after = state.borrow().problem.clone();
        assert!(after.is_none() || after == before, "{after:?}");
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Result<(), NeedsOperator> {
        tokio::time::timeout(PATIENCE, &mut self.running)
            .await
            .unwrap()
            .unwrap()
    }
}

/// Keeps every problem that the state shows.
fn keep_problems(mut state: watch::Receiver<BrokerState>) -> Arc<Mutex<Vec<String>>> {
    let problems = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&problems);
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            let problem = state.borrow_and_update().problem.clone();
            if let Some(problem) = problem {
                kept.lock().unwrap().push(problem);
            }
        }
    });
    problems
}

/// Prints every problem, when a test fails.
impl Drop for Echo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{:?}\n{:#?}", *self.state.borrow(), self.problems());
            println!("{}", self.metrics.render().unwrap_or_default());
        }
    }
}

/// Makes a queue that gets every result.
pub(crate) async fn results(vhost: &Vhost) {
    vhost
        .queue(RESULTS, arguments(&[("x-queue-type", "quorum")]))
        .await;
    vhost.bind(RESULTS, "webpush.results", "#").await;
}

/// Waits until as many distinct results arrived, and tells how many arrived more than once.
pub(crate) async fn all_results(vhost: &Vhost, count: usize) -> usize {
    let mut seen = HashSet::new();
    let mut repeats = 0;
    eventually(PATIENCE, async || {
        for body in vhost.take_texts(RESULTS).await {
            repeats += usize::from(!seen.insert(body));
        }
        wanted(seen.len(), |&seen| seen == count)
    })
    .await;
    repeats
}

/// Settings with short times, one lane and three short delay bands.
pub(crate) fn settings(url: String) -> Settings {
    Settings {
        urls: vec![Secret::new(url)],
        url_file: None,
        ca: None,
        client: None,
        prefix: name("webpush"),
        declare: Declare::Create,
        lanes: vec![Lane {
            name: name("default"),
            prefetch: 200,
            due_prefetch: 50,
            max_bytes: None,
        }],
        bands: [50, 150, 400].map(Duration::from_millis).to_vec(),
        probe_interval: None,
        delivery_limit: 20,
        quarantine_age: Duration::from_hours(1),
        unrouted_messages: 1000,
        unrouted_age: Duration::from_hours(1),
        control: None,
        heartbeat: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(5),
        confirm_timeout: Duration::from_secs(10),
    }
}

/// Makes a name.
pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A result that repeats the body.
pub(crate) fn result(inbound: &Inbound) -> Vec<Publication> {
    let key = "delivery.test.accepted._".to_owned();
    vec![publication(inbound, Route::Results(key), Kind::Result)]
}

/// A retry copy.
pub(crate) fn retry(inbound: &Inbound, after: Duration) -> Vec<Publication> {
    let lane = inbound.lane.clone();
    let rounding = Rounding::Up {
        within: Duration::MAX,
    };
    let route = Route::Delay {
        lane,
        after,
        rounding,
    };
    vec![publication(inbound, route, Kind::Retry)]
}

/// A publication that repeats the body.
pub(crate) fn publication(inbound: &Inbound, to: Route, kind: Kind) -> Publication {
    Publication {
        to,
        kind,
        message_id: String::from_utf8_lossy(&inbound.body).into_owned(),
        correlation_id: None,
        timestamp: 1_700_000_000,
        priority: None,
        headers: FieldTable::default(),
        body: inbound.body.clone(),
    }
}
