//! The body of a request, which records when the request goes out.
//!
//! The HTTP library asks for a body only once its stream is open. What can go wrong: it may ask after
//! the request was given up, when the stream no longer counts.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{Clock, SystemClock};

use super::streams::{Entry, Load};

/// The size of the DATA frames of a small body. The HTTP library copies a frame of fewer than 256 bytes, so
/// that those of many requests are written and encrypted at once; it writes a larger one by itself.
const FRAME_SIZE: usize = 255;

/// A larger body is one frame, since by then more frames cost as much as the writing.
const SPLIT_LIMIT: usize = 4 * FRAME_SIZE;

/// The requests to one origin, which every one of them changes.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Load>);

/// One request on a connection.
#[derive(Debug)]
pub(super) struct Stream {
    load: Arc<Shared>,
    entry: Entry,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Held,
    Out,
    Over,
}

/// Ends a request's stay on its connection when it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Stream>);

/// The bytes of a request and the stream they go out on.
pub(super) struct ObservedBody {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl Shared {
    pub(super) fn new(load: Load) -> Self {
        Self(Mutex::new(load))
    }

    /// Gives a request to a connection; Returns which one.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> (usize, InFlight) {
        let entry = self.0.lock().enter(now);
        let stream = Stream {
            load: Arc::clone(self),
            entry,
            phase: Mutex::new(Phase::Held),
        };
        (entry.connection, InFlight(Arc::new(stream)))
    }
}

impl InFlight {
    /// Creates the body of the request. An empty body is never polled, so it is not observed.
    pub(super) fn body(&self, bytes: Bytes) -> reqwest::Body {
        if bytes.is_empty() {
            return bytes.into();
        }
        let stream = Arc::clone(&self.0);
        reqwest::Body::wrap(ObservedBody { bytes, stream })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut phase = self.0.phase.lock();
        let had_gone_out = *phase == Phase::Out;
        self.0.load.0.lock().leave(&self.0.entry, had_gone_out);
        *phase = Phase::Over;
    }
}

impl Stream {
    fn goes_out(&self, now: Instant) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Held {
            self.load.0.lock().went_out(&self.entry, now);
            *phase = Phase::Out;
        }
    }
}

impl Body for ObservedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.stream.goes_out(SystemClock.now().mono);
        let length = self.bytes.len();
        let size = if length <= SPLIT_LIMIT {
            length.min(FRAME_SIZE)
        } else {
            length
        };
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn frames(length: usize) -> Vec<usize> {
        let shared = Arc::new(Shared::new(Load::new(1, 1)));
        let (_, in_flight) = shared.enter(SystemClock.now().mono);
        let mut body = ObservedBody {
            bytes: vec![7; length].into(),
            stream: Arc::clone(&in_flight.0),
        };
        let mut frames = Vec::new();
        let context = &mut Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(context) {
            frames.push(frame.into_data().unwrap().len());
            assert_eq!(body.is_end_stream(), body.bytes.is_empty());
        }
        frames
    }

    #[test]
    fn a_small_body_is_sent_in_frames_that_leave_with_others() {
        assert_eq!(frames(103), [103]);
        assert_eq!(frames(403), [255, 148]);
        assert_eq!(frames(SPLIT_LIMIT), [FRAME_SIZE; 4]);
        assert_eq!(frames(SPLIT_LIMIT + 1), [SPLIT_LIMIT + 1]);
        assert_eq!(frames(4096), [4096]);
    }
}
