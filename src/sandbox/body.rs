//! Bodies: a push's, read to a limit, and an answer's, at once, without end or drop by drop.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use super::push;
use super::refusal::BODY_LIMIT;

/// How much of a body over the limit is read before it is answered, so that the answer is not lost
/// on a client that is still sending.
const DISCARD_LIMIT: usize = 1024 * 1024;

/// Reads a push's body; none if its stream ended early.
pub(crate) async fn read(mut incoming: Incoming) -> Option<push::Body> {
    let mut gathered = BytesMut::new();
    let mut length = 0;
    while length <= DISCARD_LIMIT {
        let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await
        else {
            break;
        };
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        length += data.len();
        if length > BODY_LIMIT {
            gathered.clear();
        } else if length == data.len() && incoming.is_end_stream() {
            return Some(push::Body::Whole(data));
        } else {
            gathered.extend_from_slice(&data);
        }
    }
    Some(if length > BODY_LIMIT {
        push::Body::TooLong(length)
    } else {
        push::Body::Whole(gathered.freeze())
    })
}

/// How much filler goes out in one piece, in bytes.
const PIECE: usize = 16 * 1024;
static FILLER: [u8; PIECE] = [b'x'; PIECE];

/// The body of an answer.
#[derive(Debug, Default)]
pub(crate) struct ReplyBody {
    text: Bytes,
    filler: u64,
    drip: Option<Drip>,
}

/// One byte after each pause.
#[derive(Debug)]
struct Drip {
    pause: Duration,
    next: Pin<Box<Sleep>>,
}

impl ReplyBody {
    /// Sends a text, and then filler, at once or with a pause before each byte.
    pub(crate) fn new(text: Bytes, filler: u64, trickle: Option<Duration>) -> Self {
        Self {
            text,
            filler,
            drip: trickle.map(|pause| Drip {
                pause,
                next: Box::pin(sleep(pause)),
            }),
        }
    }

    fn take(&mut self, most: usize) -> Bytes {
        if !self.text.is_empty() {
            return self.text.split_to(most.min(self.text.len()));
        }
        let length = usize::try_from(self.filler)
            .unwrap_or(PIECE)
            .min(most)
            .min(PIECE);
        self.filler -= length as u64;
        Bytes::from_static(&FILLER[..length])
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let most = match &mut self.drip {
            None => usize::MAX,
            Some(drip) => {
                ready!(drip.next.as_mut().poll(context));
                drip.next = Box::pin(sleep(drip.pause));
                1
            }
        };
        Poll::Ready(Some(Ok(Frame::data(self.take(most)))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.filler == 0
    }

    /// Filler has no length a client could go by.
    fn size_hint(&self) -> SizeHint {
        if self.filler == 0 {
            SizeHint::with_exact(self.text.len() as u64)
        } else {
            SizeHint::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    async fn pieces(text: &'static str, filler: u64, trickle: Option<Duration>) -> Vec<usize> {
        let mut body = ReplyBody::new(text.into(), filler, trickle);
        let mut pieces = Vec::new();
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            pieces.push(frame.into_data().unwrap().len());
        }
        pieces
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_whole_without_end_or_drop_by_drop() {
        assert_eq!(pieces("", 0, None).await, [0; 0]);
        assert_eq!(pieces("busy", 0, None).await, [4]);
        let huge = pieces("busy", 40_000, None).await;
        assert_eq!(huge, [4, PIECE, PIECE, 40_000 - 2 * PIECE]);
        let began = SystemClock.now().mono;
        assert_eq!(pieces("ab", 2, Some(Duration::from_secs(9))).await, [1; 4]);
        assert_eq!(began.elapsed(), Duration::from_secs(36));
    }
}
