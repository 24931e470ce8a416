//! The runtime of the commands that do network input and output.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{self, Runtime};

/// The most workers that are started unasked. A push costs about a tenth of a millisecond, so eight
/// of them outrun what one broker connection carries.
const WORKER_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// Starts the runtime with as many workers as asked for, else one for each processor this process
/// may use.
pub(super) fn start_runtime(threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = threads.unwrap_or(processors.min(WORKER_LIMIT));
    runtime::Builder::new_multi_thread()
        .worker_threads(threads.get())
        .enable_all()
        .build()
}
