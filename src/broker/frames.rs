//! The frames that a broker sends, made readable for lapin.
//!
//! A [`Filter`] stands between the socket and lapin. It holds back method and content header frames
//! until they are complete, overwrites what lapin cannot read in them ([`fields`]) and notes the
//! delivery in [`Found`], so that its message can be refused with a reason. Bodies and everything
//! else pass as they are; the [`Budget`] counts the bytes of bodies that pass.
//!
//! What can go wrong here besides: RabbitMQ adds `x-death` to the headers of what it dead-letters,
//! and sends them in one frame even if that exceeds the limit that it has set itself. lapin ends the
//! connection at such a frame, so it goes on without its headers.
//!
//! [`fields`]: super::fields

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::broker::budget::Budget;
use crate::broker::fields::{Fields, Method, Unreadable};
use crate::broker::product::Product;

const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The bytes before the payload of a frame: type, channel, size of the payload.
const HEAD: usize = 7;

/// The flags of the properties, by their place in a frame, and the flag of the headers.
const FLAGS: usize = HEAD + 12;
const HAS_HEADERS: u8 = 1 << 5;

/// What a peer speaks in place of AMQP frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// TLS: an alert or a handshake record (RFC 8446, section 5.1).
    Tls,
    /// HTTP/1.
    Http,
    /// Anything else, the header of another AMQP version among it.
    Other,
}

impl Protocol {
    /// Returns what the first bytes of a peer belong to.
    fn of(head: &[u8]) -> Self {
        match head {
            [0x15 | 0x16, 3, ..] => Self::Tls,
            [b'H', b'T', b'T', b'P', b'/', ..] => Self::Http,
            _ => Self::Other,
        }
    }
}

/// What of a connection lapin cannot read, or does not tell.
///
/// The deliveries are kept by channel and delivery tag.
#[derive(Debug, Default)]
pub(super) struct Found {
    foreign: OnceLock<Protocol>,
    product: OnceLock<Product>,
    deliveries: Mutex<BTreeMap<(u16, u64), Unreadable>>,
    /// How many there are, so that other deliveries need no lock.
    count: AtomicUsize,
}

impl Found {
    fn note(&self, channel: u16, tag: u64, unreadable: Unreadable) {
        let mut deliveries = self.deliveries.lock();
        deliveries.insert((channel, tag), unreadable);
        self.count.store(deliveries.len(), Ordering::Release);
    }

    /// Removes and returns what could not be read of a delivery.
    pub(super) fn take(&self, channel: u16, tag: u64) -> Option<Unreadable> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut deliveries = self.deliveries.lock();
        let unreadable = deliveries.remove(&(channel, tag));
        self.count.store(deliveries.len(), Ordering::Release);
        unreadable
    }

    /// Returns what the peer speaks, if not AMQP.
    pub(super) fn foreign(&self) -> Option<Protocol> {
        self.foreign.get().copied()
    }

    /// Returns which broker the peer is, if it has said so.
    pub(super) fn product(&self) -> Option<&Product> {
        self.product.get()
    }
}

/// Rewrites the bytes of one connection so that lapin can read them.
pub(super) struct Filter {
    state: State,
    /// The head of a frame, or a frame that is looked at, as far as it has arrived.
    held: Vec<u8>,
    /// The last delivery of each channel; its content header comes next.
    open: BTreeMap<u16, Delivery>,
    found: Arc<Found>,
    /// The size of the largest frame that lapin takes.
    frame_max: usize,
    /// How many bytes of the last message's body are to come, and where they are counted.
    body_left: u64,
    budget: Arc<Budget>,
}

/// What comes next in the stream.
#[derive(Clone, Copy)]
enum State {
    /// So many bytes of the head of a frame.
    Head(usize),
    /// So many bytes of a frame that is looked at.
    Held(usize),
    /// So many bytes of a frame that passes as it is.
    Passing(usize),
    /// Anything, for the peer does not speak AMQP.
    Foreign,
}

struct Delivery {
    tag: u64,
    unreadable: Option<Unreadable>,
}

impl Filter {
    /// `frame_max` is what is asked for; 0 leaves it to the broker.
    pub(super) fn new(found: Arc<Found>, budget: Arc<Budget>, frame_max: u32) -> Self {
        Self {
            frame_max: limit(frame_max.try_into().unwrap_or_default()),
            state: State::Head(HEAD),
            held: Vec::new(),
            open: BTreeMap::new(),
            found,
            body_left: 0,
            budget,
        }
    }

    /// Returns how many bytes are missing to the end of a frame or of its head, 0 between frames.
    pub(super) fn missing(&self) -> usize {
        match self.state {
            State::Head(HEAD) | State::Foreign => 0,
            State::Head(left) | State::Held(left) | State::Passing(left) => left,
        }
    }

    /// Reads bytes as they arrive, and appends to `ready` what lapin may read.
    ///
    /// Where the stream is cut into calls makes no difference to what comes out of all of them.
    pub(super) fn push(&mut self, mut bytes: &[u8], ready: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let next = match self.state {
                State::Head(left) | State::Held(left) | State::Passing(left) => left,
                State::Foreign => bytes.len(),
            };
            let (now, later) = bytes.split_at(next.min(bytes.len()));
            let left = next - now.len();
            match self.state {
                State::Head(_) | State::Held(_) => self.held.extend_from_slice(now),
                State::Passing(_) | State::Foreign => ready.extend_from_slice(now),
            }
            self.state = match self.state {
                State::Head(_) if left == 0 => self.begin_frame(ready),
                State::Head(_) => State::Head(left),
                State::Held(_) if left == 0 => self.end_held(ready),
                State::Held(_) => State::Held(left),
                State::Passing(_) if left == 0 => State::Head(HEAD),
                State::Passing(_) => State::Passing(left),
                State::Foreign => State::Foreign,
            };
            bytes = later;
        }
    }

    /// Decides by the head of a frame whether the frame is looked at.
    fn begin_frame(&mut self, ready: &mut Vec<u8>) -> State {
        let size = self.held[3..HEAD].try_into().map(u32::from_be_bytes);
        let size = size.ok().and_then(|size| usize::try_from(size).ok());
        // One byte more marks the end of the frame.
        let size = size.unwrap_or_default().saturating_add(1);
        match self.held[0] {
            METHOD | CONTENT_HEADER => State::Held(size),
            kind => {
                if kind == BODY {
                    self.count(size as u64 - 1);
                }
                if !matches!(kind, BODY | HEARTBEAT) {
                    self.found.foreign.get_or_init(|| Protocol::of(&self.held));
                }
                ready.append(&mut self.held);
                match kind {
                    BODY | HEARTBEAT => State::Passing(size),
                    _ => State::Foreign,
                }
            }
        }
    }

    /// Counts the payload of a body frame.
    fn count(&mut self, payload: u64) {
        self.body_left = self.body_left.saturating_sub(payload);
        self.budget.read(payload, self.body_left);
    }

    fn end_held(&mut self, ready: &mut Vec<u8>) -> State {
        self.look();
        ready.append(&mut self.held);
        State::Head(HEAD)
    }

    /// Looks at a complete frame, and makes it readable.
    fn look(&mut self) {
        let channel = u16::from_be_bytes([self.held[1], self.held[2]]);
        let end = self.held.len() - 1;
        if self.held[0] == CONTENT_HEADER {
            return self.look_at_content_header(channel);
        }
        let mut fields = Fields::new(&mut self.held[HEAD..end]);
        match fields.method() {
            Some(Method::Deliver(tag)) => {
                let unreadable = fields.unreadable();
                self.open.insert(channel, Delivery { tag, unreadable });
            }
            Some(Method::Start(at)) => {
                if let Some(product) = Product::read(&self.held[HEAD + at..end]) {
                    self.found.product.get_or_init(|| product);
                }
            }
            Some(Method::Tune(size)) => self.frame_max = self.frame_max.min(limit(size)),
            // What ends too early is lapin's to complain about.
            Some(Method::Other) | None => {}
        }
    }

    fn look_at_content_header(&mut self, channel: u16) {
        let end = self.held.len() - 1;
        let mut fields = Fields::new(&mut self.held[HEAD..end]);
        let _complete = fields.content_header();
        self.body_left = fields.body_size();
        let headers = fields.headers();
        let mut unreadable = fields.unreadable();
        if self.held.len() > self.frame_max && !headers.is_empty() {
            self.remove(headers);
            unreadable = Some(Unreadable::Size);
        }
        if let Some(delivery) = self.open.remove(&channel)
            && let Some(unreadable) = delivery.unreadable.or(unreadable)
        {
            self.found.note(channel, delivery.tag, unreadable);
        }
    }

    /// Removes the headers from a content header.
    fn remove(&mut self, headers: Range<usize>) {
        self.held.drain(HEAD + headers.start..HEAD + headers.end);
        self.held[FLAGS] &= !HAS_HEADERS;
        let size = u32::try_from(self.held.len() - HEAD - 1).unwrap_or_default();
        self.held[3..HEAD].copy_from_slice(&size.to_be_bytes());
    }
}

/// Reads a limit; 0 is none.
fn limit(size: usize) -> usize {
    if size == 0 { usize::MAX } else { size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::fields::tests::{content_header, deliver};
    use crate::broker::product::tests::start;

    const NO_HEADERS: &[u8] = b"\0\0\0\0";

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind], &channel.to_be_bytes()[..], &size, payload, &[0xce]].concat()
    }

    /// Deliveries on two channels, whose frames alternate, with what RabbitMQ sends between them.
    fn stream(text: &[u8]) -> Vec<u8> {
        [
            frame(METHOD, 0, b"\0\x0a\0\x0aanything"),
            frame(METHOD, 1, &deliver(1, b"x", b"a")),
            frame(METHOD, 2, &deliver(9, b"x", text)),
            frame(HEARTBEAT, 0, b""),
            frame(CONTENT_HEADER, 1, &content_header(text, NO_HEADERS)),
            frame(CONTENT_HEADER, 2, &content_header(b"b", NO_HEADERS)),
            frame(BODY, 2, b"\x01\xff\xce\x02"),
            frame(BODY, 1, text),
            frame(METHOD, 1, &deliver(2, b"x", b"c")),
            frame(CONTENT_HEADER, 1, &content_header(b"d", NO_HEADERS)),
        ]
        .concat()
    }

    fn unlimited() -> Arc<Budget> {
        Arc::new(Budget::new(u64::MAX))
    }

    fn filtered<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Arc<Found>) {
        let found = Arc::new(Found::default());
        let mut filter = Filter::new(Arc::clone(&found), unlimited(), 0);
        let mut ready = Vec::new();
        pieces.for_each(|piece| filter.push(piece, &mut ready));
        (ready, found)
    }

    #[test]
    fn only_the_delivery_that_could_not_be_read_is_found_and_only_once() {
        let (_, found) = filtered([&*stream(b"\xff")].into_iter());
        assert_eq!(found.take(1, 2), None);
        assert_eq!(found.take(2, 1), None);
        let text = |name| Some(Unreadable::Text(name));
        assert_eq!(found.take(1, 1), text("content_type"));
        assert_eq!(found.take(1, 1), None);
        assert_eq!(found.take(2, 9), text("routing_key"));
        assert_eq!(found.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bodies_and_heartbeats_pass_before_their_frames_are_complete() {
        for kind in [BODY, HEARTBEAT] {
            let whole = frame(kind, 1, &[7; 100]);
            assert_eq!(filtered([&whole[..50]].into_iter()).0, whole[..50]);
        }
    }

    #[test]
    fn headers_that_outgrow_a_frame_are_left_out_and_the_rest_stays() {
        let tune = |size: u32| [&b"\0\x0a\0\x1e\0\0"[..], &size.to_be_bytes(), &[0, 60]].concat();
        let table = [&[0, 0, 2, 2][..], b"\x01kS", &[0, 0, 1, 251], &[b'x'; 507]].concat();
        let header = frame(CONTENT_HEADER, 1, &content_header(b"text", &table));
        let size = u32::try_from(header.len()).unwrap();
        let deliver = frame(METHOD, 1, &deliver(1, b"x", b"a"));
        let filtered_by = |asked, offered| {
            let found = Arc::new(Found::default());
            let mut filter = Filter::new(Arc::clone(&found), unlimited(), asked);
            let mut ready = Vec::new();
            let tune = frame(METHOD, 0, &tune(offered));
            let stream = [&*tune, &deliver, &header].concat();
            filter.push(&stream, &mut ready);
            let header = ready.split_off(tune.len() + deliver.len());
            (header, found.take(1, 1))
        };
        for (asked, offered) in [(0, 0), (0, size), (size, 0), (size, size + 1)] {
            assert_eq!(filtered_by(asked, offered), (header.clone(), None));
        }
        let mut without = content_header(b"text", &[]);
        without[12] &= !HAS_HEADERS;
        let without = frame(CONTENT_HEADER, 1, &without);
        for (asked, offered) in [(0, size - 1), (size - 1, 0), (size - 1, size)] {
            let left_out = (without.clone(), Some(Unreadable::Size));
            assert_eq!(filtered_by(asked, offered), left_out);
        }
    }

    #[test]
    fn the_product_is_read_when_the_connection_opens() {
        let properties = [("product", "RabbitMQ"), ("version", "4.0.5")];
        let start = [&b"\0\x0a\0\x0a"[..], &start(&properties)].concat();
        let frame = frame(METHOD, 0, &start);
        let (passed, found) = filtered(frame.chunks(7));
        assert_eq!(passed, frame);
        assert_eq!(found.product().unwrap().to_string(), "RabbitMQ 4.0.5");
    }

    #[test]
    fn what_is_not_amqp_passes_as_it_is() {
        for (text, protocol) in [
            (&b"AMQP\0\0\x09\x01AMQP\0\0\x09\x01"[..], Protocol::Other),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Protocol::Http),
            (b"\x15\x03\x03\0\x02\x02\x46", Protocol::Tls),
        ] {
            let (passed, found) = filtered(text.chunks(1));
            assert_eq!((&*passed, found.foreign()), (text, Some(protocol)));
        }
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_makes_no_difference(
            text in prop::collection::vec(any::<u8>(), 0..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = stream(&text);
            let (whole, found) = filtered([&*stream].into_iter());
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
            let (parts, again) = filtered(pieces);
            prop_assert_eq!(&parts, &whole);
            prop_assert_eq!(found.take(1, 1), again.take(1, 1));
            prop_assert_eq!(whole.len(), stream.len());
            prop_assert_eq!(whole == stream, str::from_utf8(&text).is_ok());
        }

        #[test]
        fn no_byte_is_lost_whatever_comes(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..9], 0..300),
        ) {
            let mut filter = Filter::new(Arc::default(), unlimited(), 0);
            let mut ready = Vec::new();
            filter.push(&bytes, &mut ready);
            prop_assert_eq!(ready.len() + filter.held.len(), bytes.len());
        }
    }
}
