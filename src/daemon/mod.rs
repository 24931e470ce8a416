//! The daemon: built from its settings, run, and stopped.
//!
//! What can fail locally fails before anything is consumed: by then the keys are read, the listener
//! is bound, the certificates parse. After that only an operator's signal ends it, or a task that
//! must not end: then the process goes down and the service manager starts another.

mod dispatch;
mod drain;
mod failure;
mod one_message;
mod reload;
mod settings;
mod state;

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin;
use crate::broker;
use crate::clock::{Clock, RandomJitter, SystemClock};
use crate::gate::Gates;
use crate::health::{BrokerState, Health};
use crate::logging::ActiveFilter;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::push_service::{Client, Transport};
use crate::sender::{Encryption, Sender};
use crate::spans;
use crate::systemd;

use self::dispatch::Dispatch;
use self::drain::{Running, Signals};
use self::reload::Reloader;
use self::settings::{application_server_keys, pipeline_settings, sender_settings};

pub(crate) use self::failure::Failure;
pub(crate) use self::one_message::{Sent, request_only, send_once};
pub(crate) use self::reload::{Reread, Rereading};
pub(crate) use self::settings::Settings;

/// How many settlements may wait for the publisher. It takes them as they come, unless the broker
/// blocks it; then this fills up and the prefetch window ends consumption.
const SETTLED_LIMIT: usize = 1024;

/// Runs the daemon until SIGTERM or SIGINT, then finishes what is in flight. SIGHUP applies the
/// `configuration` as it is then; what is logged follows `log_filter`. Messages are encrypted on so many
/// `threads` besides those of the runtime.
///
/// # Errors
/// If something local is wrong at the start, the first connection to the broker shows that an
/// operator must act, or a task ends that must not.
pub(crate) async fn run(
    settings: Settings,
    configuration: Box<dyn Rereading>,
    log_filter: ActiveFilter,
    threads: NonZeroUsize,
) -> Result<(), Failure> {
    let signals = Signals::new()?;
    let exporter = spans::start();
    let metrics = Arc::new(Metrics::new()?);
    for app in settings.apps.iter() {
        metrics.start_app(&app.name);
    }
    let health = Arc::new(Health::new(SystemClock.now().mono));
    let client = Client::new(&settings.push_service)?;
    let encryption = Encryption::start(threads).map_err(Failure::Threads)?;
    let pipeline = Arc::new(pipeline_of(&settings, client, encryption, &metrics));
    let listener = admin::bind(&settings.admin).await?;
    let notifier = Arc::new(systemd::Notifier::from_env()?);
    metrics.config_applied(SystemClock.now().wall);

    let end = CancellationToken::new();
    let reloader = Reloader {
        configuration,
        log_filter,
        pipeline: watch::Sender::new(pipeline),
        keys: watch::Sender::new(application_server_keys(&settings.apps)),
        metrics: Arc::clone(&metrics),
    };
    if let Some(listener) = listener {
        info!(address = %listener.address(), "metrics and health");
        let keys = reloader.keys.subscribe();
        let (metrics, health) = (Arc::clone(&metrics), Arc::clone(&health));
        tokio::spawn(admin::serve(listener, metrics, health, keys, end.clone()));
    }
    let writer = settings.state_dir.as_deref().map(|directory| {
        let keys = Arc::clone(reloader.pipeline.borrow().subscription_keys());
        state::start(directory, &settings.apps, keys, end.clone())
    });
    let lanes = settings.broker.lanes.len();
    let running = start(
        settings,
        reloader,
        metrics,
        Arc::clone(&health),
        Arc::clone(&notifier),
    );
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
    exporter.finish().await;
    ended
}

/// Connects the broker's tasks with the pipeline and lets them go.
fn start(
    settings: Settings,
    reloader: Reloader,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    notifier: Arc<systemd::Notifier>,
) -> Running {
    let (deliveries, taken) = mpsc::channel(dispatch::ROOM);
    let (settled, to_settle) = mpsc::channel(SETTLED_LIMIT);
    let (state, changes) = watch::channel(BrokerState::default());
    let redeliveries = Arc::<broker::Redeliveries>::default();
    let triggers = broker::Triggers::default();
    let withdrawn = Arc::clone(reloader.pipeline.borrow().withdrawn());
    let broker = tokio::spawn(broker::run(
        settings.broker,
        deliveries,
        to_settle,
        state,
        metrics,
        (Arc::clone(&redeliveries), withdrawn),
        triggers.clone(),
    ));
    tokio::spawn(follow_broker(changes, Arc::clone(&health)));
    let pipeline = reloader.pipeline.subscribe();
    Running {
        broker,
        dispatch: Dispatch::start(pipeline, redeliveries, taken, settled, Arc::clone(&health)),
        reloader,
        notifier,
        health,
        triggers,
        grace: settings.grace,
    }
}

fn pipeline_of<T: Transport>(
    settings: &Settings,
    transport: T,
    encryption: Encryption,
    metrics: &Arc<Metrics>,
) -> Pipeline<T> {
    let sender = Sender::new(
        sender_settings(settings),
        transport,
        Gates::new(settings.gate),
        Arc::clone(metrics),
        Arc::new(SystemClock),
        Arc::new(RandomJitter),
    );
    let sender = sender.with_encryption(encryption);
    Pipeline::new(pipeline_settings(settings), sender, Arc::clone(metrics))
}

/// Copies the state of the connections to the broker into `health`.
async fn follow_broker(mut changes: watch::Receiver<BrokerState>, health: Arc<Health>) {
    while changes.changed().await.is_ok() {
        health.set_broker(changes.borrow_and_update().clone());
    }
}
