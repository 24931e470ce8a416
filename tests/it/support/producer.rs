//! A producer that writes AMQP byte by byte, for what no client library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::vhost::Vhost;

/// The flags of the properties that a test sets.
pub(crate) const PROPERTIES: [(&str, u16); 9] = [
    ("content_type", 1 << 15),
    ("content_encoding", 1 << 14),
    ("correlation_id", 1 << 10),
    ("reply_to", 1 << 9),
    ("message_id", 1 << 7),
    ("type", 1 << 5),
    ("app_id", 1 << 3),
    ("cluster_id", 1 << 2),
    ("headers", HEADERS),
];

/// The flag of the headers.
pub(crate) const HEADERS: u16 = 1 << 13;

/// A confirming channel.
pub(crate) struct Producer(TcpStream);

impl Producer {
    /// Connects as the user who may do everything.
    pub(crate) async fn connect(vhost: &Vhost) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", vhost.port())).await;
        let mut producer = Self(stream.unwrap());
        producer.0.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        assert_eq!(producer.answer().await, [0, 10, 0, 10]);
        let start_ok = [
            &long(b"")[..],
            b"\x05PLAIN",
            &long(b"\0guest\0guest"),
            b"\x05en_US",
        ];
        producer.method(0, 10, 11, &start_ok.concat()).await;
        assert_eq!(producer.answer().await, [0, 10, 0, 30]);
        let frame_max = (128u32 * 1024).to_be_bytes();
        let tune_ok = [&[0, 8][..], &frame_max, &[0, 0]].concat();
        producer.method(0, 10, 31, &tune_ok).await;
        let open = [&short(vhost.name().as_bytes())[..], &[0, 0]].concat();
        producer.method(0, 10, 40, &open).await;
        assert_eq!(producer.answer().await, [0, 10, 0, 41]);
        producer.method(1, 20, 10, &[0]).await;
        assert_eq!(producer.answer().await, [0, 20, 0, 11]);
        producer.method(1, 85, 10, &[0]).await;
        assert_eq!(producer.answer().await, [0, 85, 0, 11]);
        producer
    }

    /// Publishes to the events exchange with one property, as its bytes are on the wire, and waits
    /// until the broker has taken it.
    pub(crate) async fn publish(&mut self, key: &[u8], flag: u16, property: &[u8], body: &[u8]) {
        let publish = [&[0, 0][..], &short(b"webpush.events"), &short(key), &[0]].concat();
        self.method(1, 60, 40, &publish).await;
        let size = (body.len() as u64).to_be_bytes();
        let flags = flag.to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &flags, property].concat();
        self.frame(2, 1, &header).await;
        self.frame(3, 1, body).await;
        assert_eq!(self.answer().await, [0, 60, 0, 80], "the broker refuses it");
    }

    async fn method(&mut self, channel: u16, class: u8, method: u8, arguments: &[u8]) {
        let payload = [&[0, class, 0, method], arguments].concat();
        self.frame(1, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let channel = channel.to_be_bytes();
        let frame = [&[kind], &channel[..], &long(payload), &[0xce]].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// Reads a frame, and returns its class and method.
    async fn answer(&mut self) -> [u8; 4] {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).await.unwrap();
        let size = u32::from_be_bytes(head[3..].try_into().unwrap());
        let mut payload = vec![0; size as usize + 1];
        self.0.read_exact(&mut payload).await.unwrap();
        payload[..4].try_into().unwrap()
    }
}

/// Writes a short string.
pub(crate) fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// Writes a long string; tables and arrays are written alike.
pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}
