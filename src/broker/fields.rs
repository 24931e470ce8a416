//! The fields of AMQP frames, overwritten in place where lapin cannot read them.
//!
//! What can go wrong here: AMQP 0-9-1 calls short strings UTF-8 text, but RabbitMQ does not check
//! it, and it does not limit how deep header tables are nested. lapin ends the connection at a short
//! string that is not UTF-8. It reads nested tables by recursion, so a deep one overflows the stack
//! and aborts the process. Whatever is overwritten keeps its length, and with it every size around
//! it.

use std::ops::Range;

/// The most levels that the headers of a message may have, the header table itself included.
///
/// RabbitMQ's own `x-death` has three.
pub const DEPTH_LIMIT: usize = 32;

const CONNECTION_START: (u16, u16) = (10, 10);
const CONNECTION_TUNE: (u16, u16) = (10, 30);
const CONNECTION_CLOSE: (u16, u16) = (10, 50);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);
const BASIC_DELIVER: (u16, u16) = (60, 60);

/// The properties of a message, the one of the highest flag first (AMQP 0-9-1, class `basic`).
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Short),
    ("content_encoding", Kind::Short),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Bytes(1)),
    ("priority", Kind::Bytes(1)),
    ("correlation_id", Kind::Short),
    ("reply_to", Kind::Short),
    ("expiration", Kind::Short),
    ("message_id", Kind::Short),
    ("timestamp", Kind::Bytes(8)),
    ("type", Kind::Short),
    ("user_id", Kind::Short),
    ("app_id", Kind::Short),
    ("cluster_id", Kind::Short),
];

#[derive(Clone, Copy)]
enum Kind {
    Short,
    Table,
    Bytes(usize),
}

/// The part of a message that could not be read and was overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// This property, or `exchange` or `routing_key`, is not UTF-8; each byte that is not is `?`.
    Text(&'static str),
    /// The name of a header, at any level, is not UTF-8; each byte that is not is `?`.
    HeaderName,
    /// The headers have more than [`DEPTH_LIMIT`] levels; what lies deeper is an array of bytes.
    Depth,
    /// The headers, with what the broker has added to them, do not fit a frame; they are left out.
    Size,
}

/// What a method says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// `basic.deliver`, with its delivery tag.
    Deliver(u64),
    /// `connection.start`, with where its arguments begin.
    Start(usize),
    /// `connection.tune`, with the size of the largest frame, or 0 for no limit.
    Tune(usize),
    /// Any other.
    Other,
}

/// A walk over the payload of a frame, which ends early (`None`) where the payload does.
pub(super) struct Fields<'a> {
    bytes: &'a mut [u8],
    at: usize,
    headers: Range<usize>,
    unreadable: Option<Unreadable>,
}

/// A table or an array that the walk is in.
#[derive(Clone, Copy, Default)]
struct Level {
    end: usize,
    has_names: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(payload: &'a mut [u8]) -> Self {
        Self {
            bytes: payload,
            at: 0,
            headers: 0..0,
            unreadable: None,
        }
    }

    /// Returns where the headers are in a content header; empty if there are none.
    pub(super) fn headers(&self) -> Range<usize> {
        self.headers.clone()
    }

    /// Returns the first part that was overwritten.
    pub(super) fn unreadable(&self) -> Option<Unreadable> {
        self.unreadable
    }

    /// Walks over a method.
    pub(super) fn method(&mut self) -> Option<Method> {
        match (self.u16()?, self.u16()?) {
            BASIC_DELIVER => {
                self.text(Unreadable::Text("consumer_tag"))?;
                let tag = self.u64()?;
                self.skip(1)?;
                self.text(Unreadable::Text("exchange"))?;
                self.text(Unreadable::Text("routing_key"))?;
                Some(Method::Deliver(tag))
            }
            CONNECTION_START => Some(Method::Start(self.at)),
            CONNECTION_TUNE => {
                self.skip(2)?;
                self.u32().map(Method::Tune)
            }
            // RabbitMQ cuts this text after 252 bytes, which may be within a character.
            CONNECTION_CLOSE | CHANNEL_CLOSE => {
                self.skip(2)?;
                self.text(Unreadable::Text("reply_text"))?;
                Some(Method::Other)
            }
            _ => Some(Method::Other),
        }
    }

    /// Returns the size of the body that follows a content header.
    pub(super) fn body_size(&self) -> u64 {
        let size = self.bytes.get(4..12).and_then(|size| size.try_into().ok());
        size.map_or(0, u64::from_be_bytes)
    }

    /// Walks over a content header: class, weight, size of the body, flags, properties.
    pub(super) fn content_header(&mut self) -> Option<()> {
        self.skip(12)?;
        let flags = self.u16()?;
        for (index, (name, kind)) in PROPERTIES.into_iter().enumerate() {
            if flags << index & 1 << 15 == 0 {
                continue;
            }
            match kind {
                Kind::Short => self.text(Unreadable::Text(name))?,
                Kind::Table => {
                    let start = self.at;
                    self.table()?;
                    self.headers = start..self.at;
                }
                Kind::Bytes(count) => self.skip(count)?,
            }
        }
        Some(())
    }

    /// Walks over a table and everything in it, without recursion.
    fn table(&mut self) -> Option<()> {
        let mut levels = [Level::default(); DEPTH_LIMIT];
        let mut depth = 0;
        levels[0] = self.level(true)?;
        loop {
            let level = levels[depth];
            if self.at >= level.end {
                if depth == 0 {
                    return Some(());
                }
                depth -= 1;
                continue;
            }
            if level.has_names {
                self.text(Unreadable::HeaderName)?;
            }
            let kind = self.u8()?;
            match kind {
                b'F' | b'A' if depth + 1 < DEPTH_LIMIT => {
                    depth += 1;
                    levels[depth] = self.level(kind == b'F')?;
                }
                b'F' | b'A' => {
                    self.bytes[self.at - 1] = b'x';
                    self.note(Unreadable::Depth);
                    self.skip_long()?;
                }
                b'S' | b'x' => self.skip_long()?,
                b'V' => {}
                b't' | b'b' | b'B' => self.skip(1)?,
                b's' | b'u' | b'U' => self.skip(2)?,
                b'I' | b'i' | b'f' => self.skip(4)?,
                b'D' => self.skip(5)?,
                b'l' | b'L' | b'd' | b'T' => self.skip(8)?,
                _ => return None,
            }
        }
    }

    fn level(&mut self, has_names: bool) -> Option<Level> {
        let length = self.u32()?;
        let end = self.at.checked_add(length)?;
        (end <= self.bytes.len()).then_some(Level { end, has_names })
    }

    /// Walks over a short string, and overwrites what is not UTF-8 in it.
    fn text(&mut self, unreadable: Unreadable) -> Option<()> {
        let length = self.u8()?.into();
        let start = self.at;
        self.skip(length)?;
        let text = &mut self.bytes[start..self.at];
        let mut valid = 0;
        while let Err(error) = str::from_utf8(&text[valid..]) {
            let bad = valid + error.valid_up_to();
            text[bad] = b'?';
            valid = bad + 1;
        }
        if valid > 0 {
            self.note(unreadable);
        }
        Some(())
    }

    fn note(&mut self, unreadable: Unreadable) {
        self.unreadable.get_or_insert(unreadable);
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<usize> {
        self.take().map(u32::from_be_bytes)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count)?;
        self.at = (end <= self.bytes.len()).then_some(end)?;
        Some(())
    }

    fn skip_long(&mut self) -> Option<()> {
        let length = self.u32()?;
        self.skip(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use lapin::protocol::basic::parse_properties;
    use lapin::types::parsing::parse_field_table;
    use proptest::prelude::*;

    use super::*;

    /// A value of a header, with names as bytes.
    #[derive(Clone, Debug)]
    pub(in crate::broker) enum Value {
        Fixed(u8, Vec<u8>),
        Long(u8, Vec<u8>),
        Array(Vec<Self>),
        Table(Vec<(Vec<u8>, Self)>),
    }

    impl Value {
        fn write(&self, to: &mut Vec<u8>) {
            match self {
                Self::Fixed(kind, bytes) => {
                    to.push(*kind);
                    to.extend(bytes);
                }
                Self::Long(kind, bytes) => {
                    to.push(*kind);
                    to.extend(long(bytes));
                }
                Self::Array(values) => {
                    let mut inside = Vec::new();
                    values.iter().for_each(|value| value.write(&mut inside));
                    to.push(b'A');
                    to.extend(long(&inside));
                }
                Self::Table(entries) => {
                    to.push(b'F');
                    to.extend(table(entries));
                }
            }
        }

        fn is_readable(&self, levels: usize) -> bool {
            match self {
                Self::Fixed(..) | Self::Long(..) => true,
                Self::Array(values) => {
                    levels > 0 && values.iter().all(|value| value.is_readable(levels - 1))
                }
                Self::Table(entries) => levels > 0 && are_readable(entries, levels - 1),
            }
        }
    }

    fn are_readable(entries: &[(Vec<u8>, Value)], levels: usize) -> bool {
        entries
            .iter()
            .all(|(name, value)| str::from_utf8(name).is_ok() && value.is_readable(levels))
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    }

    fn short(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn table(entries: &[(Vec<u8>, Value)]) -> Vec<u8> {
        let mut inside = Vec::new();
        for (name, value) in entries {
            inside.extend(short(name));
            value.write(&mut inside);
        }
        long(&inside)
    }

    /// A table in a table and so on, or arrays, so many levels in all.
    fn nested(kind: u8, levels: usize) -> Vec<u8> {
        let mut inside = Vec::new();
        for _ in 1..levels {
            let name: &[u8] = if kind == b'F' { b"\x01k" } else { b"" };
            inside = [name, &[kind], &long(&inside)].concat();
        }
        let first: &[u8] = if kind == b'F' { b"" } else { b"\x01k" };
        long(&[first, &inside].concat())
    }

    fn walk(table: &mut [u8]) -> Option<Unreadable> {
        let mut fields = Fields::new(table);
        fields.table().unwrap();
        fields.unreadable()
    }

    /// The payload of a content header with all properties, each text `text`.
    pub(in crate::broker) fn content_header(text: &[u8], table: &[u8]) -> Vec<u8> {
        let mut header = [&[0, 60][..], &[0; 10], &[0xff, 0xfc]].concat();
        for (_, kind) in PROPERTIES {
            match kind {
                Kind::Short => header.extend(short(text)),
                Kind::Table => header.extend(table),
                Kind::Bytes(count) => header.extend(vec![1; count]),
            }
        }
        header
    }

    /// The payload of `basic.deliver`.
    pub(in crate::broker) fn deliver(tag: u64, exchange: &[u8], routing_key: &[u8]) -> Vec<u8> {
        let tag = tag.to_be_bytes();
        let (exchange, key) = (short(exchange), short(routing_key));
        [&[0, 60, 0, 60][..], b"\x01c", &tag, &[0], &exchange, &key].concat()
    }

    #[test]
    fn every_short_string_of_a_message_is_made_utf_8() {
        let mut header = content_header(b"b\xe4r \xff", b"\0\0\0\0");
        let mut fields = Fields::new(&mut header);
        fields.content_header().unwrap();
        assert_eq!(fields.at, fields.bytes.len());
        assert_eq!(fields.unreadable(), Some(Unreadable::Text("content_type")));
        assert_eq!(header, content_header(b"b?r ?", b"\0\0\0\0"));
        assert_eq!(parse_properties(&header[12..]).unwrap().0, b"");
    }

    #[test]
    fn the_property_that_is_not_utf_8_is_named() {
        for (index, (name, kind)) in PROPERTIES.into_iter().enumerate() {
            let Kind::Short = kind else { continue };
            let flags = (1u16 << 15 >> index).to_be_bytes();
            let mut header = [&[0; 12][..], &flags, b"\x02\xc3("].concat();
            let mut fields = Fields::new(&mut header);
            fields.content_header().unwrap();
            assert_eq!(fields.unreadable(), Some(Unreadable::Text(name)));
            assert!(parse_properties(&header[12..]).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_delivery_with_a_routing_key_that_is_not_utf_8_keeps_its_tag() {
        let mut method = deliver(7, b"webpush.events", b"shop.\xfc");
        let mut fields = Fields::new(&mut method);
        assert_eq!(fields.method(), Some(Method::Deliver(7)));
        assert_eq!(fields.unreadable(), Some(Unreadable::Text("routing_key")));
        assert_eq!(method, deliver(7, b"webpush.events", b"shop.?"));
    }

    #[test]
    fn the_text_of_a_close_may_be_cut_within_a_character() {
        for (class, method) in [CONNECTION_CLOSE, CHANNEL_CLOSE] {
            let head = [class.to_be_bytes(), method.to_be_bytes(), [1, 148]].concat();
            let mut close = [&head[..], b"\x05vh\xc3...", &[0; 4]].concat();
            close[6] = 6;
            assert_eq!(Fields::new(&mut close).method(), Some(Method::Other));
            assert_eq!(&close[6..13], b"\x06vh?...");
        }
    }

    #[test]
    fn the_deepest_headers_that_fit_a_frame_are_read_without_recursion() {
        for (kind, levels) in [(b'F', 18_000), (b'A', 26_000)] {
            let mut table = nested(kind, levels);
            assert!(table.len() > 125_000 && table.len() < 131_072);
            assert_eq!(walk(&mut table), Some(Unreadable::Depth));
            assert!(parse_field_table(&table[..]).is_ok());
        }
    }

    #[test]
    fn headers_up_to_the_limit_of_levels_stay_as_they_are() {
        for kind in [b'F', b'A'] {
            let before = nested(kind, DEPTH_LIMIT);
            let mut table = before.clone();
            assert_eq!(walk(&mut table), None);
            assert_eq!(table, before);
            let mut deeper = nested(kind, DEPTH_LIMIT + 1);
            assert_eq!(walk(&mut deeper), Some(Unreadable::Depth));
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let fixed = |kinds: &'static [u8], size| {
            let kind = prop::sample::select(kinds);
            (kind, prop::collection::vec(any::<u8>(), size))
                .prop_map(|(kind, bytes)| Value::Fixed(kind, bytes))
        };
        let long = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40));
        let leaf = prop_oneof![
            Just(Value::Fixed(b'V', Vec::new())),
            fixed(b"tbB", 1),
            fixed(b"suU", 2),
            fixed(b"Iif", 4),
            fixed(b"D", 5),
            fixed(b"lLdT", 8),
            long.prop_map(|(text, bytes)| Value::Long(if text { b'S' } else { b'x' }, bytes)),
        ];
        leaf.prop_recursive(40, 120, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::vec((any_name(), inner), 0..3).prop_map(Value::Table),
            ]
        })
    }

    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            9 => "[a-zä€🦀-]{0,8}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..8),
        ]
    }

    proptest! {
        #[test]
        fn lapin_reads_every_table_and_what_it_could_read_stays_as_it_is(
            entries in prop::collection::vec((any_name(), any_value()), 0..4),
        ) {
            let before = table(&entries);
            let mut after = before.clone();
            let unreadable = walk(&mut after);
            let (rest, _) = parse_field_table(&after[..]).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(unreadable.is_none(), are_readable(&entries, DEPTH_LIMIT - 1));
            prop_assert_eq!(unreadable.is_none(), before == after);
            prop_assert_eq!(walk(&mut after), None);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Fields::new(&mut bytes).content_header();
            Fields::new(&mut bytes).method();
            Fields::new(&mut bytes).table();
        }
    }
}
