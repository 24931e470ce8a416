//! Encryption, shared between the runtime and threads of its own.
//!
//! Encryption takes about half of the CPU time of a push and needs nothing of the runtime. So one thread can
//! do all reading and writing, which costs less than several that take tasks from each other, while
//! another one encrypts.
//!
//! The threads have a short queue. While it is full, a task of the runtime encrypts by itself instead of
//! waiting: no message waits for those of another lane, and neither side is idle while there is work.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::ece::{EceError, Salt, SenderKey, aes128gcm, aesgcm};
use crate::message::Coding;
use crate::subscription::Keys;

/// So many messages may wait for each thread: fewer leave it idle, more leave it all the work.
const QUEUE_PER_THREAD: usize = 8;

/// A task of the runtime encrypts its message if the last one that did so is so long ago: waking a thread
/// costs as much, and the delay of other tasks is small.
const RARE: Duration = Duration::from_millis(1);

/// So many results are handed over before other tasks get their turn.
const RESULTS_AT_ONCE: usize = 64;

/// A message to encrypt.
pub(super) struct Plaintext {
    pub(super) keys: Keys,
    pub(super) content: Bytes,
    /// The number of bytes of padding.
    pub(super) padding: usize,
    pub(super) coding: Coding,
}

/// A message that is encrypted.
pub(super) enum Encrypted {
    /// The body of the request (RFC 8291).
    Aes128Gcm(Bytes),
    /// The body, and what the headers say of it (draft-ietf-webpush-encryption-04).
    AesGcm(aesgcm::Sealed),
}

/// Encrypts messages: on threads of its own and the caller's, or by default on the caller's alone.
#[derive(Debug, Default)]
pub struct Encryption(Option<Threads>);

#[derive(Debug)]
struct Threads {
    queue: Sender<Job>,
    /// When a message was last so rare that its task encrypted it.
    last_rare: Mutex<Option<Instant>>,
}

struct Job {
    plaintext: Plaintext,
    done: oneshot::Sender<Completion>,
}

/// What came of a message; an error if encrypting it panicked.
type Completion = thread::Result<Result<Encrypted, EceError>>;

/// What came of a message, and the way to the task that waits for it.
type Finished = (Completion, oneshot::Sender<Completion>);

impl Encryption {
    /// Starts so many threads, which end once this is dropped.
    ///
    /// # Errors
    /// If the system starts no thread.
    ///
    /// # Panics
    /// If there is no tokio runtime.
    pub fn start(threads: NonZeroUsize) -> io::Result<Self> {
        let (queue, jobs) = bounded(threads.get() * QUEUE_PER_THREAD);
        let (finished, results) = mpsc::unbounded_channel();
        for _ in 0..threads.get() {
            let (jobs, finished) = (jobs.clone(), finished.clone());
            thread::Builder::new()
                .name("encryption".to_owned())
                .spawn(move || serve(&jobs, &finished))?;
        }
        tokio::spawn(hand_over(results));
        Ok(Self(Some(Threads::new(queue))))
    }

    /// Encrypts a message, each time with another sender key and salt. `now` is the time of the call.
    ///
    /// # Errors
    /// If the message and its padding are too long, or the cryptography library fails.
    pub(super) async fn encrypt(
        &self,
        plaintext: Plaintext,
        now: Instant,
    ) -> Result<Encrypted, EceError> {
        let threads = self.0.as_ref().filter(|threads| !threads.is_rare(now));
        let Some(threads) = threads else {
            return plaintext.encrypt();
        };
        let (done, completion) = oneshot::channel();
        match threads.queue.try_send(Job { plaintext, done }) {
            Ok(()) => match completion.await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_dropped) => Err(EceError::Library("encrypt: its threads have ended")),
            },
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                job.plaintext.encrypt()
            }
        }
    }
}

impl Threads {
    fn new(queue: Sender<Job>) -> Self {
        Self {
            queue,
            last_rare: Mutex::default(),
        }
    }

    /// Returns whether a message at `now` is so rare that its task encrypts it, and records it if so.
    fn is_rare(&self, now: Instant) -> bool {
        let mut last = self.last_rare.lock();
        let is_rare = last.is_none_or(|last| now.saturating_duration_since(last) >= RARE);
        if is_rare {
            *last = Some(now);
        }
        is_rare
    }
}

impl Plaintext {
    /// Encrypts the message with a sender key and a salt of its own.
    pub(super) fn encrypt(&self) -> Result<Encrypted, EceError> {
        let (keys, content, padding) = (&self.keys, &self.content, self.padding);
        let (sender, salt) = (SenderKey::generate()?, Salt::random()?);
        match self.coding {
            Coding::Aes128Gcm => {
                aes128gcm::encrypt(keys, content, padding, sender, salt).map(Encrypted::Aes128Gcm)
            }
            Coding::AesGcm => {
                aesgcm::encrypt(keys, content, padding, sender, salt).map(Encrypted::AesGcm)
            }
        }
    }
}

/// Encrypts what comes until there is no sender any more.
fn serve(jobs: &Receiver<Job>, finished: &mpsc::UnboundedSender<Finished>) {
    for Job { plaintext, done } in jobs {
        // A push that was given up needs no message.
        if !done.is_closed() {
            let completion = catch_unwind(AssertUnwindSafe(|| plaintext.encrypt()));
            let _runtime_ended = finished.send((completion, done));
        }
    }
}

/// Hands results to the tasks that wait for them. A task of the runtime does that, because each time that
/// another thread wakes a task costs a system call.
async fn hand_over(mut results: mpsc::UnboundedReceiver<Finished>) {
    let mut finished = Vec::with_capacity(RESULTS_AT_ONCE);
    while results.recv_many(&mut finished, RESULTS_AT_ONCE).await > 0 {
        for (completion, done) in finished.drain(..) {
            let _given_up = done.send(completion);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::subscription::{AuthSecret, UserAgentKey};

    fn plaintext(coding: Coding, length: usize) -> Plaintext {
        let public = SenderKey::generate().unwrap();
        Plaintext {
            keys: Keys {
                p256dh: UserAgentKey::from_bytes(public.public_key()).unwrap(),
                auth: AuthSecret::new([7; 16]),
            },
            content: vec![b'x'; length].into(),
            padding: 0,
            coding,
        }
    }

    fn length(encrypted: Result<Encrypted, EceError>) -> Result<usize, EceError> {
        encrypted.map(|encrypted| match encrypted {
            Encrypted::Aes128Gcm(body) => body.len(),
            Encrypted::AesGcm(sealed) => sealed.body.len(),
        })
    }

    /// Returns a queue for one message that nothing serves; the message at `now` is not rare.
    fn without_threads(now: Instant) -> (Encryption, Receiver<Job>) {
        let (queue, jobs) = bounded(1);
        let threads = Threads::new(queue);
        assert!(threads.is_rare(now));
        (Encryption(Some(threads)), jobs)
    }

    #[tokio::test]
    async fn threads_and_callers_encrypt_alike() {
        let alone = Encryption::default();
        let shared = Encryption::start(NonZeroUsize::MIN).unwrap();
        let now = SystemClock.now().mono;
        for coding in [Coding::Aes128Gcm, Coding::AesGcm] {
            for size in [0, 300, 3993, 5000] {
                let expected = length(alone.encrypt(plaintext(coding, size), now).await);
                // The first is rare, and the next ones are for the thread.
                for _ in 0..3 {
                    let found = length(shared.encrypt(plaintext(coding, size), now).await);
                    assert_eq!(found, expected);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_full_queue_keeps_no_message_waiting() {
        let now = SystemClock.now().mono;
        let (encryption, jobs) = without_threads(now);
        let encrypt = || encryption.encrypt(plaintext(Coding::Aes128Gcm, 300), now);
        let mut waiting = Box::pin(encrypt());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(encrypt().await.is_ok(), "full");
        let job = jobs.try_recv().unwrap();
        assert!(job.done.send(Ok(job.plaintext.encrypt())).is_ok());
        assert!(waiting.await.is_ok());
    }

    #[test]
    fn a_message_is_rare_once_a_millisecond() {
        let threads = Threads::new(bounded(1).0);
        let now = SystemClock.now().mono;
        let spared = [0, 1, 999, 1000, 1001, 1999, 2500]
            .map(|micros| threads.is_rare(now + Duration::from_micros(micros)));
        assert_eq!(spared, [true, false, false, true, false, false, true]);
    }

    #[tokio::test]
    async fn a_panic_while_encrypting_reaches_the_task() {
        let now = SystemClock.now().mono;
        let (encryption, jobs) = without_threads(now);
        let encrypt = || encryption.encrypt(plaintext(Coding::Aes128Gcm, 300), now);
        let panics = async {
            assert!(AssertUnwindSafe(encrypt()).catch_unwind().await.is_err());
        };
        let answers = async {
            tokio::task::yield_now().await;
            let job = jobs.try_recv().unwrap();
            let _waits = job.done.send(Err(Box::new("a panic")));
        };
        tokio::join!(panics, answers);
    }

    #[tokio::test]
    async fn threads_end_with_what_started_them() {
        let (queue, jobs) = bounded(1);
        let (finished, mut results) = mpsc::unbounded_channel();
        let thread = thread::spawn(move || serve(&jobs, &finished));
        let (done, _given_up) = oneshot::channel();
        let plaintext = plaintext(Coding::Aes128Gcm, 300);
        queue.send(Job { plaintext, done }).ok().unwrap();
        assert!(results.recv().await.is_some());
        drop(queue);
        thread.join().unwrap();
    }
}
