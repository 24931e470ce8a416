//! What outlives the daemon: which key each subscription was made with.
//!
//! It is a memory that saves requests, not a promise: a daemon that cannot keep it says so and goes
//! on, and one that is killed has lost the last few seconds of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::Apps;
use crate::sender::{StateFile, SubscriptionKeys};

/// How often what was learned is written, while there is something new.
const INTERVAL: Duration = Duration::from_secs(5);

/// Reads what an earlier daemon kept in a directory, and keeps it up to date until `end`.
pub(super) fn start(
    directory: &Path,
    apps: &Apps,
    keys: Arc<SubscriptionKeys>,
    end: CancellationToken,
) -> JoinHandle<()> {
    let mut file = StateFile::within(directory);
    let is_held = |name: &_| apps.iter().any(|app| app.ring.get(name).is_some());
    match file.read(&keys, is_held) {
        Ok(()) => info!(directory = %directory.display(), "state is kept"),
        Err(error) => warn!("{error}"),
    }
    tokio::spawn(keep(file, keys, end))
}

async fn keep(mut file: StateFile, keys: Arc<SubscriptionKeys>, end: CancellationToken) {
    let mut kept = keys.changes();
    let mut is_warned = false;
    loop {
        let is_over = end.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        let changes = keys.changes();
        if changes != kept {
            let keys = Arc::clone(&keys);
            let writing = tokio::task::spawn_blocking(move || {
                let written = file.write(&keys);
                (file, written)
            });
            // A write that panics is a bug, which the log has.
            let Ok((returned, written)) = writing.await else {
                return;
            };
            file = returned;
            match written {
                Ok(()) => {
                    kept = changes;
                    is_warned = false;
                }
                Err(error) if !is_warned => {
                    warn!("{error}");
                    is_warned = true;
                }
                Err(_) => {}
            }
        }
        if is_over {
            return;
        }
    }
}
