//! The daemon: built from its settings, run, and stopped.
//!
//! What can fail locally fails before anything is consumed: by then the keys are read, the listener
//! is bound, the certificates parse. After that only an operator's signal ends it, or a task that
//! must not end: then the process goes down and the service manager starts another.

mod dispatch;
mod drain;
mod failure;
mod one_message;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin;
use crate::admin::ApplicationServerKey;
use crate::app::{App, Apps};
use crate::broker;
use crate::clock::{Clock, RandomJitter, SystemClock};
use crate::gate;
use crate::gate::Gates;
use crate::health::{BrokerState, Health};
use crate::metrics::Metrics;
use crate::pipeline;
use crate::pipeline::Pipeline;
use crate::plan;
use crate::push_service;
use crate::push_service::{Client, Transport};
use crate::retry;
use crate::sender;
use crate::sender::Sender;
use crate::systemd;

use self::dispatch::Dispatch;
use self::drain::{Running, Signals};

pub(crate) use self::failure::Failure;
pub(crate) use self::one_message::{Sent, request_only, send_once};

/// Everything an operator decides about the daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker.
    pub broker: broker::Settings,
    /// Sending.
    pub push_service: push_service::Settings,
    /// One deadline over a whole exchange with a push service.
    pub push_timeout: Duration,
    /// Whether messages without a topic get one of their own.
    pub replace_duplicates: bool,
    /// Permits.
    pub gate: gate::Settings,
    /// Retries, by the family of the push service.
    pub retry: retry::Policies,
    /// The applications and their keys.
    pub apps: Apps,
    /// The largest event, in bytes.
    pub event_limit: usize,
    /// How far ahead an event may be scheduled.
    pub schedule_limit: Duration,
    /// How many recipients of one event are processed together.
    pub chunk: usize,
    /// Where to keep what should outlive a restart; nowhere without.
    pub state_dir: Option<PathBuf>,
    /// The admin listener.
    pub admin: admin::Settings,
    /// How long in-flight work may take to finish after a signal.
    pub grace: Duration,
}

/// How many settlements may wait for the publisher. It takes them as they come, unless the broker
/// blocks it; then this fills up and the prefetch window ends consumption.
const SETTLED_LIMIT: usize = 1024;

/// No wait of the gate's own, spread included, is longer: turns at a rate, keys that are refused or
/// taken for wrong.
const OWN_WAITS: Duration = Duration::from_hours(2);

/// How long a wait that is short enough is held in memory rather than sent to the broker.
const HOLD: Duration = Duration::from_secs(1);

/// Runs the daemon until SIGTERM or SIGINT, then finishes what is in flight.
///
/// # Errors
/// If something local is wrong at the start, the first connection to the broker shows that an
/// operator must act, or a task ends that must not.
pub(crate) async fn run(settings: Settings) -> Result<(), Failure> {
    let signals = Signals::new()?;
    let metrics = Arc::new(Metrics::new()?);
    for app in settings.apps.iter() {
        metrics.start_app(&app.name);
    }
    let health = Arc::new(Health::new(SystemClock.now().mono));
    let client = Client::new(&settings.push_service)?;
    let pipeline = Arc::new(pipeline_of(&settings, client, &metrics));
    let listener = admin::bind(&settings.admin).await?;
    let notifier = systemd::Notifier::from_env()?;

    let end = CancellationToken::new();
    if let Some(listener) = listener {
        info!(address = %listener.address(), "metrics and health");
        let keys = application_server_keys(&settings.apps);
        let (metrics, health) = (Arc::clone(&metrics), Arc::clone(&health));
        tokio::spawn(admin::serve(listener, metrics, health, keys, end.clone()));
    }
    let writer = settings.state_dir.as_deref().map(|directory| {
        let keys = Arc::clone(pipeline.subscription_keys());
        state::start(directory, &settings.apps, keys, end.clone())
    });
    let lanes = settings.broker.lanes.len();
    let running = start(settings, pipeline, metrics, Arc::clone(&health));
    notifier.ready(&health.status_line());
    let reporter = tokio::spawn(systemd::report(notifier, health, end.clone()));
    info!(version = env!("CARGO_PKG_VERSION"), lanes, "started");
    let ended = running.supervise(signals).await;
    // What the service manager should hear last is said before the process ends.
    end.cancel();
    let _ = reporter.await;
    if let Some(writer) = writer {
        let _ = writer.await;
    }
    ended
}

/// Connects the broker's tasks with the pipeline and lets them go.
fn start(
    settings: Settings,
    pipeline: Arc<Pipeline<Client>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) -> Running {
    let (deliveries, taken) = mpsc::channel(1);
    let (settled, to_settle) = mpsc::channel(SETTLED_LIMIT);
    let (state, changes) = watch::channel(BrokerState::default());
    let redeliveries = Arc::<broker::Redeliveries>::default();
    let stop_consuming = CancellationToken::new();
    let broker = tokio::spawn(broker::run(
        settings.broker,
        deliveries,
        to_settle,
        state,
        metrics,
        Arc::clone(&redeliveries),
        stop_consuming.clone(),
    ));
    tokio::spawn(follow_broker(changes, Arc::clone(&health)));
    Running {
        broker,
        dispatch: Dispatch::start(pipeline, redeliveries, taken, settled, Arc::clone(&health)),
        health,
        stop_consuming,
        grace: settings.grace,
    }
}

fn pipeline_of<T: Transport>(
    settings: &Settings,
    transport: T,
    metrics: &Arc<Metrics>,
) -> Pipeline<T> {
    let processing = pipeline::Settings {
        apps: settings.apps.clone(),
        event_limit: settings.event_limit,
        plan: plan::Settings {
            chunk: settings.chunk,
            hold: HOLD,
            horizon: settings.schedule_limit,
            longest_wait: longest_wait(settings),
        },
        guard: Arc::clone(&settings.push_service.guard),
        replace_duplicates: settings.replace_duplicates,
    };
    let sending = sender::Settings {
        retry: settings.retry.clone(),
        push_timeout: settings.push_timeout,
    };
    let sender = Sender::new(
        sending,
        transport,
        Gates::new(settings.gate),
        Arc::clone(metrics),
        Arc::new(SystemClock),
        Arc::new(RandomJitter),
    );
    Pipeline::new(processing, sender, Arc::clone(metrics))
}

/// Returns the longest wait between two attempts: what the gate asks for of its own is within
/// [`OWN_WAITS`], its breakers apart.
fn longest_wait(settings: &Settings) -> Duration {
    let asked = settings.retry.longest_wait();
    asked.max(settings.gate.breaker.open_cap) + OWN_WAITS
}

/// What the pages of each application subscribe with.
fn application_server_keys(apps: &Apps) -> Vec<ApplicationServerKey> {
    let key_of = |app: &Arc<App>| ApplicationServerKey {
        app: app.name.clone(),
        key_id: app.ring.primary.name().clone(),
        point: *app.ring.primary.public_key(),
    };
    apps.iter().map(key_of).collect()
}

/// Copies the state of the connections to the broker into `health`.
async fn follow_broker(mut changes: watch::Receiver<BrokerState>, health: Arc<Health>) {
    while changes.changed().await.is_ok() {
        health.set_broker(changes.borrow_and_update().clone());
    }
}
