//! What lapin runs on: tokio, with connections whose frames it can read.
//!
//! lapin takes any connection that its runtime can make, and a runtime names the type of its
//! connections. This one is [`Tokio`] in everything but that.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::broker::budget::Budget;
use crate::broker::frames::{Filter, Found};
use crate::clock::{Clock, SystemClock};

/// So many bytes are taken from the socket at once.
const READ_SIZE: usize = 64 * 1024;

/// A heartbeat frame.
const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xce];

/// While the socket is not read, lapin gets a heartbeat so often: it takes a connection for lost
/// that brings nothing for twice the heartbeat's interval, which is a second at least.
const PAUSED_HEARTBEAT: Duration = Duration::from_millis(500);

/// A connection without TLS or with it.
type Unfiltered = Either<TcpStream, TlsStream<TcpStream>>;

/// Returns the runtime that the caller runs on, as lapin takes it.
pub(super) fn current() -> Runtime<Filtering> {
    Runtime::new(Filtering(Tokio::current()))
}

/// Connects to the first of the addresses that answers.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same for one address; any number of bytes may be in hand.
async fn connect_without_budget(address: SocketAddr) -> io::Result<Filtered> {
    let stream = Either::Left(connect(&[address]).await?);
    let budget = Arc::new(Budget::new(u64::MAX));
    Ok(Filtered::new(stream, Arc::default(), budget, 0))
}

/// tokio with filtered connections.
#[derive(Clone, Debug)]
pub(super) struct Filtering(Tokio);

/// A connection whose frames lapin can read.
pub(super) struct Filtered {
    stream: Unfiltered,
    filter: Filter,
    /// What is taken from the socket.
    taken: Vec<u8>,
    /// What lapin may read, and how much of it was handed out.
    ready: Vec<u8>,
    handed_out: usize,
    budget: Arc<Budget>,
    /// Since the budget is exceeded, the time until the next heartbeat for lapin.
    pause: Pin<Box<Sleep>>,
    is_paused: bool,
}

impl Filtered {
    /// Wraps a connection, and filters it by the largest frame that is asked for, or 0 to leave
    /// that to the broker. Its time-outs are those of the tokio that the caller runs on.
    pub(super) fn new(
        stream: Unfiltered,
        found: Arc<Found>,
        budget: Arc<Budget>,
        frame_max: u32,
    ) -> Self {
        Self {
            stream,
            filter: Filter::new(found, Arc::clone(&budget), frame_max),
            taken: vec![0; READ_SIZE],
            ready: Vec::new(),
            handed_out: 0,
            budget,
            pause: Box::pin(sleep(PAUSED_HEARTBEAT)),
            is_paused: false,
        }
    }

    /// Returns how many bytes may be taken from the socket; after a pause it may be none.
    ///
    /// It pauses between frames only, where a heartbeat may stand.
    fn poll_allowance(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if !self.budget.is_exceeded(cx.waker()) {
            self.is_paused = false;
            return Poll::Ready(READ_SIZE);
        }
        let missing = self.filter.missing();
        if missing > 0 {
            return Poll::Ready(missing.min(READ_SIZE));
        }
        if !self.is_paused {
            self.is_paused = true;
            let now = SystemClock.now().mono;
            self.pause.as_mut().reset(now + PAUSED_HEARTBEAT);
        }
        ready!(self.pause.as_mut().poll(cx));
        self.is_paused = false;
        Poll::Ready(0)
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut Unfiltered> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Filtered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.handed_out == this.ready.len() {
            let allowance = ready!(this.poll_allowance(cx));
            if allowance == 0 {
                this.ready.clear();
                this.ready.extend(HEARTBEAT);
                this.handed_out = 0;
                break;
            }
            let mut taken = ReadBuf::new(&mut this.taken[..allowance]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut taken))?;
            let count = taken.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            this.ready.clear();
            this.handed_out = 0;
            this.filter.push(&this.taken[..count], &mut this.ready);
        }
        let waiting = &this.ready[this.handed_out..];
        let count = waiting.len().min(buffer.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        this.handed_out += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl RuntimeKit for Filtering {}

impl Executor for Filtering {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Filtering {
    type TcpStream = Filtered;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        connect_without_budget(address)
    }
}
