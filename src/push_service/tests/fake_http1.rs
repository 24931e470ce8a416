//! HTTP/1.1 of the fake push service, by hand: what is on the wire is what a test sees.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio_rustls::server::TlsStream;

use super::fake_service::{Log, Seen};

/// Answers requests until the connection ends.
pub(super) async fn serve_http1(mut io: TlsStream<TcpStream>, log: Arc<Log>) {
    log.spoken.fetch_add(1, Ordering::SeqCst);
    let mut input = Vec::new();
    loop {
        let Some(end) = find(&input, b"\r\n\r\n") else {
            match io.read_buf(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let seen = parse_head(std::str::from_utf8(&input[..end]).unwrap());
        let length = &seen.headers["content-length"];
        let length: usize = length.to_str().unwrap().parse().unwrap();
        while input.len() < end + 4 + length {
            io.read_buf(&mut input).await.unwrap();
        }
        let body = input.split_off(end + 4)[..length].to_vec();
        input.clear();
        let target = seen.target.clone();
        log.note(Seen { body, ..seen });
        let busy = log.busy.fetch_add(1, Ordering::SeqCst) + 1;
        log.busiest.fetch_max(busy, Ordering::SeqCst);
        // Everyone who is about to send gets to.
        for _ in 0..1000 {
            yield_now().await;
        }
        log.busy.fetch_sub(1, Ordering::SeqCst);
        let answer: &[u8] = match target.as_str() {
            "/cut" => return,
            "/garbage" => b"IMAP4rev1 ready\r\n\r\n",
            _ => b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nwords",
        };
        if io.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn find(input: &[u8], wanted: &[u8]) -> Option<usize> {
    input.windows(wanted.len()).position(|at| at == wanted)
}

fn parse_head(head: &str) -> Seen {
    let mut lines = head.split("\r\n");
    let target = lines.next().unwrap().split(' ').nth(1).unwrap();
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse().unwrap(), value.parse().unwrap())
    });
    Seen {
        version: "HTTP/1.1",
        target: target.to_owned(),
        headers: fields.collect::<HeaderMap>(),
        body: Vec::new(),
    }
}
