//! The life with the broker: generations of connections, one after the other.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::{Delivery, OperatorMustAct, Owed, Settings, State};
use crate::metrics::Metrics;

/// Lives with the broker until `owed` is closed and everything in it is settled.
///
/// Cancelling `stop_consuming` ends the consumers; publishing, confirming and acknowledging go on.
///
/// # Errors
/// If the first connect shows that an operator must act. After the first success nothing is fatal.
pub async fn run(
    settings: Settings,
    deliveries: mpsc::Sender<Delivery>,
    owed: mpsc::Receiver<Owed>,
    state: watch::Sender<State>,
    metrics: Arc<Metrics>,
    stop_consuming: CancellationToken,
) -> Result<(), OperatorMustAct> {
    let _ = (settings, deliveries, owed, state, metrics, stop_consuming);
    Ok(())
}

/// Opens the broker, looks at every exchange and queue without changing anything, and names what
/// is missing or refused.
///
/// # Errors
/// If the broker cannot be reached or entered at all.
pub async fn check(settings: &Settings) -> Result<Vec<String>, OperatorMustAct> {
    let _ = settings;
    Ok(Vec::new())
}
