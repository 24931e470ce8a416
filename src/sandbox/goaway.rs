//! A stream that can say `GOAWAY` over the head of the HTTP/2 stack.
//!
//! The stack only ever names the last stream it has seen, so it cannot say of a request that it was
//! not processed. This wrapper puts the frame between two of the stack's own: a stack flushes only
//! when every frame it began is written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `GOAWAY`, last stream 0, `NO_ERROR` (RFC 9113 §6.8): nothing was processed, try elsewhere.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A stream that sends `GOAWAY` once `refuse` is set.
#[derive(Debug)]
pub(crate) struct GoAway<T> {
    inner: T,
    refuse: Arc<AtomicBool>,
    written: usize,
}

impl<T> GoAway<T> {
    /// Wraps a stream, which carries on as ever until `refuse` is set.
    pub(crate) fn new(inner: T, refuse: Arc<AtomicBool>) -> Self {
        Self {
            inner,
            refuse,
            written: 0,
        }
    }

    fn refused(&self) -> bool {
        self.written == GOAWAY.len()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for GoAway<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for GoAway<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refused() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refuse.load(Ordering::Acquire) && !self.refused() {
            while !self.refused() {
                let rest = &GOAWAY[self.written..];
                let more = ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
                if more == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += more;
            }
            // Whoever reads must come back to find the end.
            context.waker().wake_by_ref();
        }
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.refused() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
