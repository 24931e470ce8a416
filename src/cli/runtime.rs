//! The runtime of the commands that do network input and output, and how many threads run.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{self, Runtime};

/// The most threads that are started unasked. A push costs about a tenth of a millisecond, so eight
/// of them outrun what one broker connection carries.
const THREAD_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// How many threads do what in the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Threads {
    /// Run the tasks.
    pub(super) runtime: NonZeroUsize,
    /// Encrypt for them.
    pub(super) encryption: NonZeroUsize,
}

impl Threads {
    /// Divides so many threads, by default one for each processor. Encryption is half of the CPU time of a
    /// push, so half of the threads do it, and at least one.
    pub(super) fn of(threads: Option<NonZeroUsize>) -> Self {
        let threads = threads.unwrap_or_else(processors).get();
        let at_least_one = |threads| NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        Self {
            runtime: at_least_one(threads / 2),
            encryption: at_least_one(threads.div_ceil(2)),
        }
    }
}

/// Returns how many threads are started unasked: one for each processor this process may use.
pub(super) fn processors() -> NonZeroUsize {
    let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    processors.min(THREAD_LIMIT)
}

/// Starts a runtime of so many threads. If that is one, it is the thread that waits for the runtime,
/// which costs a tenth less CPU time than a worker that could share its tasks with others.
pub(super) fn start_runtime(threads: NonZeroUsize) -> io::Result<Runtime> {
    if threads == NonZeroUsize::MIN {
        return runtime::Builder::new_current_thread().enable_all().build();
    }
    runtime::Builder::new_multi_thread()
        .worker_threads(threads.get())
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_threads_encrypt_and_none_is_missing() {
        for (threads, runtime, encryption) in
            [(1, 1, 1), (2, 1, 1), (3, 1, 2), (4, 2, 2), (8, 4, 4)]
        {
            let divided = Threads::of(NonZeroUsize::new(threads));
            let found = (divided.runtime.get(), divided.encryption.get());
            assert_eq!(found, (runtime, encryption), "{threads}");
        }
    }
}
