//! The runtime of the commands that do network input and output.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// The most threads that are started unasked. A push costs about a tenth of a millisecond, so eight
/// of them outrun what one broker connection carries.
const THREAD_LIMIT: usize = 8;

/// Starts the runtime with as many threads as asked for, else one for every two processors this process
/// may use.
///
/// A second thread makes every push dearer by a fifth (`cargo bench --bench e2e -- --workers 2`): tasks
/// move between threads, and each task runs right after the one that woke it, so that a connection
/// writes few requests at a time. Two processors are mostly two hardware threads of one core.
pub(super) fn start_runtime(threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let threads = threads.map_or_else(default_threads, NonZeroUsize::get);
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

fn default_threads() -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    processors.div_ceil(2).min(THREAD_LIMIT)
}
