//! Answers that are late, long, broken or none.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use http::StatusCode;

use crate::clock::{Clock, SystemClock};
use crate::outcome::Failure;
use crate::push_service::{Client, Settings, Transport};

use super::fake_service::{FakeService, Speaks};
use super::{AMPLE, BRIEF, answered, client, failed, post, request, request_to, settings};

#[tokio::test]
async fn the_deadline_covers_the_head_and_the_body() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    for path in ["/hang", "/trickle/400"] {
        let start = SystemClock.now().mono;
        let attempt = client.post(request(&service, path), BRIEF).await;
        assert_eq!(failed(attempt), Failure::Timeout, "{path}");
        let took = SystemClock.now().mono - start;
        assert!(took >= BRIEF && took < AMPLE, "{path}: {took:?}");
    }
    // Those two gave the connection back.
    answered(post(&client, &service, "/201").await);
    assert_eq!(service.connections(), 1);
}

#[tokio::test]
async fn the_deadline_covers_the_connection() {
    let service = FakeService::start(Speaks::Nothing).await;
    let attempt = client(&service)
        .post(request(&service, "/201"), BRIEF)
        .await;
    assert_eq!(failed(attempt), Failure::Timeout);

    // A listener whose handshake never comes: the connection is given up on before the request.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hasty = Settings {
        connect_timeout: BRIEF,
        ..settings(&service)
    };
    let client = Client::new(&hasty).unwrap();
    let to = format!("https://{}/201", silent.local_addr().unwrap());
    let start = SystemClock.now().mono;
    let attempts = join_all((0..50).map(|_| client.post(request_to(&to), AMPLE))).await;
    for attempt in attempts {
        assert_eq!(failed(attempt), Failure::Connect);
    }
    assert!(SystemClock.now().mono - start < 3 * BRIEF);
}

#[tokio::test]
async fn what_was_taken_stays_taken_whatever_becomes_of_the_body() {
    let service = FakeService::start(Speaks::Both).await;
    let request = request(&service, "/trickle/201");
    let answer = answered(client(&service).post(request, BRIEF).await);
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(&answer.excerpt[..], b"slow");

    let service = FakeService::start(Speaks::Frames(HALF_A_201)).await;
    let answer = answered(post(&client(&service), &service, "/").await);
    assert_eq!(answer.status, StatusCode::CREATED);

    let service = FakeService::start(Speaks::Frames(HALF_A_410)).await;
    let attempt = post(&client(&service), &service, "/").await;
    assert_eq!(failed(attempt), Failure::Interrupted);
}

/// HEADERS (`:status`), DATA without an end, RST_STREAM (`INTERNAL_ERROR`), all on stream 1.
const HALF_A_201: &[u8] = b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03201\
    \0\0\x04\0\0\0\0\0\x01half\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
const HALF_A_410: &[u8] = b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03410\
    \0\0\x04\0\0\0\0\0\x01half\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";

#[tokio::test]
async fn of_a_huge_body_only_the_beginning_is_read() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    for _ in 0..50 {
        let answer = answered(post(&client, &service, "/huge/400").await);
        assert_eq!(answer.excerpt.len(), 4096);
    }
    // The connection outlives fifty bodies that were given up on.
    answered(post(&client, &service, "/201").await);
    assert_eq!(service.connections(), 1);
    let sent = service.log.sent.load(Ordering::SeqCst);
    assert!(sent <= 50 * 128 * 1024, "{sent}");
}

#[tokio::test]
async fn headers_over_the_limit_are_not_an_answer() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    let attempt = post(&client, &service, "/headers").await;
    assert_eq!(failed(attempt), Failure::Protocol);
}

#[tokio::test]
async fn what_the_service_has_not_processed_is_known_as_such() {
    let service = FakeService::start(Speaks::Both).await;
    let refused = post(&client(&service), &service, "/refused").await;
    assert_eq!(failed(refused), Failure::NotProcessed);
    let broken = post(&client(&service), &service, "/broken").await;
    assert_eq!(failed(broken), Failure::Interrupted);

    let leaving = FakeService::start(Speaks::Frames(NONE_TAKEN_UP)).await;
    let attempt = post(&client(&leaving), &leaving, "/201").await;
    assert_eq!(failed(attempt), Failure::NotProcessed);
    // Nothing here sends a request twice.
    assert_eq!(service.log.seen().len(), 2);
}

/// GOAWAY (`NO_ERROR`) that names stream 0 as the last one taken up.
const NONE_TAKEN_UP: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn a_connection_that_breaks_interrupts_its_requests() {
    for speaks in [Speaks::Both, Speaks::Http1] {
        let service = FakeService::start(speaks).await;
        let client = client(&service);
        answered(post(&client, &service, "/201").await);
        let attempt = post(&client, &service, "/cut").await;
        assert_eq!(failed(attempt), Failure::Interrupted, "{speaks:?}");
        answered(post(&client, &service, "/201").await);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_told_apart() {
    let service = FakeService::start(Speaks::Http1).await;
    let attempt = post(&client(&service), &service, "/garbage").await;
    assert_eq!(failed(attempt), Failure::Protocol);
}
