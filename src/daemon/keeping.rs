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

use crate::learned::StateFile;
use crate::pipeline::Pipeline;
use crate::plan::Apps;
use crate::push_service::Transport;

/// How often what was learned is written, while there is something new.
const INTERVAL: Duration = Duration::from_secs(5);

/// Reads what an earlier daemon kept in a directory, and keeps it up to date until `end`.
pub(super) fn start<T: Transport>(
    directory: &Path,
    apps: &Apps,
    pipeline: &Arc<Pipeline<T>>,
    end: CancellationToken,
) -> JoinHandle<()> {
    let file = StateFile::within(directory);
    let is_held = |name: &_| apps.iter().any(|app| app.ring.get(name).is_some());
    match file.read(pipeline.learned(), is_held) {
        Ok(()) => info!(directory = %directory.display(), "state is kept"),
        Err(error) => warn!("{error}"),
    }
    tokio::spawn(keep(file, Arc::clone(pipeline), end))
}

async fn keep<T: Transport>(file: StateFile, pipeline: Arc<Pipeline<T>>, end: CancellationToken) {
    let mut kept = pipeline.learned().changes();
    let mut is_warned = false;
    loop {
        let is_over = end.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        let changes = pipeline.learned().changes();
        if changes != kept {
            let (file, pipeline) = (file.clone(), Arc::clone(&pipeline));
            let written = tokio::task::spawn_blocking(move || file.write(pipeline.learned())).await;
            match written {
                Ok(Ok(())) => {
                    kept = changes;
                    is_warned = false;
                }
                Ok(Err(error)) if !is_warned => {
                    warn!("{error}");
                    is_warned = true;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        if is_over {
            return;
        }
    }
}
