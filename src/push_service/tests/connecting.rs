//! Connections: how many, of which version, to whom, and what is said of those that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::outcome::{Attempt, Failure, TlsFault};
use crate::push_service::dialer::{Dialer, HTTP1_CONNECTIONS};
use crate::push_service::{Client, Settings, Transport};

use super::fake_service::{FakeService, Speaks};
use super::{AMPLE, BRIEF, answered, client, failed, post, request, request_to, settings};

#[tokio::test]
async fn a_thousand_pushes_at_once_share_one_connection_when_they_fit() {
    let service = FakeService::start(Speaks::Both).await;
    let roomy = Settings {
        requests_per_connection: 1000,
        ..settings(&service)
    };
    let client = Client::new(&roomy).unwrap();
    let all = join_all((0..1000).map(|_| post(&client, &service, "/201"))).await;
    all.into_iter().for_each(|attempt| {
        answered(attempt);
    });
    assert_eq!(service.log.accepted.load(Ordering::SeqCst), 1);
    assert_eq!(service.log.seen().len(), 1000);
}

#[tokio::test]
async fn a_thousand_pushes_at_once_open_no_more_connections_than_allowed() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    for _round in 0..2 {
        let all = join_all((0..1000).map(|_| post(&client, &service, "/201"))).await;
        all.into_iter().for_each(|attempt| {
            answered(attempt);
        });
    }
    assert_eq!(service.log.accepted.load(Ordering::SeqCst), 3);
}

/// RFC 9110 §15.5.20: the request may be made again over another connection.
#[tokio::test]
async fn what_follows_a_misdirected_request_has_a_new_connection() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    let accepted = || service.log.accepted.load(Ordering::SeqCst);
    answered(post(&client, &service, "/201").await);
    let many = join_all((0..20).map(|_| post(&client, &service, "/says/421"))).await;
    for attempt in many {
        assert_eq!(answered(attempt).status.as_u16(), 421);
    }
    assert_eq!(accepted(), 1);
    let again = join_all((0..20).map(|_| post(&client, &service, "/201"))).await;
    for attempt in again {
        answered(attempt);
    }
    assert_eq!(accepted(), 2, "one new connection serves them all");
}

/// Keeps 30 requests under way, each answered after a tenth of a second, for as long as `more` says,
/// which is given how many rounds of requests there were.
async fn push_slowly(service: &FakeService, connections: usize, more: impl Fn(usize) -> bool) {
    let settings = Settings {
        connections_per_origin: connections,
        ..settings(service)
    };
    let client = Client::new(&settings).unwrap();
    let lane = || async {
        for _ in (0..).take_while(|round| more(*round)) {
            let mut attempt = post(&client, service, "/slow").await;
            // Before the server has told its limit, it may refuse what is above.
            while matches!(attempt, Attempt::Failed(Failure::NotProcessed)) {
                attempt = post(&client, service, "/slow").await;
            }
            answered(attempt);
        }
    };
    join_all((0..30).map(|_| lane())).await;
}

#[tokio::test]
async fn a_low_stream_limit_gets_more_connections() {
    for (streams, connections) in [(10, 3), (2, 4)] {
        let service = FakeService::start(Speaks::Streams(streams)).await;
        let pushing = push_slowly(&service, 4, |_| service.connections() < connections);
        let reached = timeout(AMPLE, pushing).await;
        reached.unwrap_or_else(|_| panic!("{} of {connections}", service.connections()));
        assert!(service.connections() <= 4, "no more than allowed");
    }
}

#[tokio::test]
async fn a_stream_limit_that_does_not_bind_costs_no_connection() {
    for speaks in [Speaks::Streams(100), Speaks::Both] {
        let service = FakeService::start(speaks).await;
        push_slowly(&service, 4, |round| round < 12).await;
        assert_eq!(service.connections(), 1);
    }
}

#[tokio::test]
async fn a_slow_first_answer_holds_nobody_up() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    let slow = client.post(request(&service, "/hang"), AMPLE);
    let others = join_all((0..20).map(|_| client.post(request(&service, "/201"), AMPLE)));
    tokio::select! {
        biased;
        _ = slow => panic!("the slow one was answered"),
        others = others => others.into_iter().for_each(|attempt| { answered(attempt); }),
    }
    assert_eq!(service.connections(), 1);
}

#[tokio::test]
async fn an_origin_without_http2_is_pushed_to_over_http1() {
    for speaks in [Speaks::Http1, Speaks::Http1Silently] {
        let service = FakeService::start(speaks).await;
        let client = client(&service);
        for _ in 0..3 {
            let answer = answered(post(&client, &service, "/w/?token=BQ%2bx%2f%3d").await);
            assert_eq!(&answer.excerpt[..], b"words");
        }
        for seen in service.log.seen() {
            assert_eq!(seen.version, "HTTP/1.1");
            assert_eq!(seen.target, "/w/?token=BQ%2bx%2f%3d");
            assert_eq!(seen.body, b"encrypted");
            assert_eq!(seen.headers["content-length"], "9");
            assert_eq!(seen.headers["host"], service.address.to_string().as_str());
            assert_eq!(seen.headers.get("transfer-encoding"), None);
            assert_eq!(seen.headers.get("expect"), None);
        }
        // One connection told which version it is; the other one carried all three.
        assert_eq!(service.log.accepted.load(Ordering::SeqCst), 2, "{speaks:?}");
    }
}

#[tokio::test]
async fn http1_connections_are_bounded() {
    let service = FakeService::start(Speaks::Http1).await;
    let client = client(&service);
    answered(post(&client, &service, "/201").await);
    let all = join_all((0..300).map(|_| post(&client, &service, "/201"))).await;
    all.into_iter().for_each(|attempt| {
        answered(attempt);
    });
    let busiest = service.log.busiest.load(Ordering::SeqCst);
    assert!((2..=HTTP1_CONNECTIONS).contains(&busiest), "{busiest}");
}

#[tokio::test]
async fn an_origin_that_falls_back_to_http1_is_followed() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    answered(post(&client, &service, "/goaway").await);
    service.now_speaks(Speaks::Http1);
    assert_eq!(
        failed(post(&client, &service, "/201").await),
        Failure::NotProcessed
    );
    answered(post(&client, &service, "/201").await);
    assert_eq!(service.log.seen().last().unwrap().version, "HTTP/1.1");
}

#[tokio::test]
async fn an_origin_that_asks_for_http1_gets_it() {
    let service = FakeService::start(Speaks::Both).await;
    let fresh = client(&service);
    answered(post(&fresh, &service, "/http1-required").await);
    assert_eq!(service.log.seen().last().unwrap().version, "HTTP/1.1");

    let client = client(&service);
    answered(post(&client, &service, "/201").await);
    let attempt = post(&client, &service, "/http1-required").await;
    assert_eq!(failed(attempt), Failure::NotProcessed);
    answered(post(&client, &service, "/http1-required").await);
    assert_eq!(service.log.seen().last().unwrap().version, "HTTP/1.1");
}

#[tokio::test]
async fn a_connection_that_is_going_away_is_replaced() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    for round in 1..=3 {
        answered(post(&client, &service, "/goaway").await);
        answered(post(&client, &service, "/201").await);
        assert!(service.connections() <= 1 + 2 * round);
    }
    assert!(service.connections() > 1);
}

#[tokio::test]
async fn one_that_runs_out_of_time_connecting_takes_nobody_with_it() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = FakeService::start(Speaks::Both).await;
    let client = Client::new(&Settings {
        connect_timeout: 2 * BRIEF,
        ..settings(&service)
    });
    let client = client.unwrap();
    let to = format!("https://{}/201", silent.local_addr().unwrap());
    let hasty = client.post(request_to(&to), BRIEF);
    let patient = client.post(request_to(&to), AMPLE);
    let (hasty, patient) = tokio::join!(biased; hasty, patient);
    assert_eq!(failed(hasty), Failure::Timeout);
    // It has had its own try, in its own time.
    assert_eq!(failed(patient), Failure::Connect);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let service = FakeService::start(Speaks::Both).await;
    let other = FakeService::start(Speaks::Both).await;
    let mistaken = Settings {
        ca: Some(other.ca.clone()),
        ..settings(&service)
    };
    let client = Client::new(&mistaken).unwrap();
    let attempts = join_all((0..50).map(|_| post(&client, &service, "/201"))).await;
    for attempt in attempts {
        let Failure::Tls(failure) = failed(attempt) else {
            panic!("the certificate is accepted");
        };
        assert_eq!(failure.fault, TlsFault::UnknownIssuer);
    }
    // The requests that waited for the connection shared its failure.
    assert_eq!(service.log.accepted.load(Ordering::SeqCst), 1);
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_connect_failure() {
    let service = FakeService::start(Speaks::Both).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("https://{}/201", free.local_addr().unwrap());
    drop(free);
    let attempt = client(&service).post(request_to(&to), AMPLE).await;
    assert_eq!(failed(attempt), Failure::Connect);
}

#[tokio::test]
async fn nothing_connects_to_an_address_the_guard_refuses() {
    let service = FakeService::start(Speaks::Both).await;
    let strict = Settings {
        guard: Arc::default(),
        ..settings(&service)
    };
    let client = Client::new(&strict).unwrap();
    let port = service.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:7f00:1]", "[::1]"] {
        let request = request_to(&format!("https://{host}:{port}/201"));
        let attempt = client.post(request, AMPLE).await;
        assert_eq!(failed(attempt), Failure::ForbiddenAddress, "{host}");
    }
    assert_eq!(service.log.accepted.load(Ordering::SeqCst), 0);

    let allowed = super::client(&service);
    let by_name = request_to(&format!("https://localhost:{port}/201"));
    answered(allowed.post(by_name, AMPLE).await);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    let service = FakeService::start(Speaks::Both).await;
    let client = client(&service);
    let request = request_to("https://no-such-name.invalid/push");
    assert_eq!(failed(client.post(request, AMPLE).await), Failure::Dns);
}

#[tokio::test]
async fn a_connection_that_has_died_without_a_word_is_found_out() {
    let service = FakeService::start(Speaks::Both).await;
    let settings = settings(&service);
    let dialer = Dialer::new(&settings).unwrap().impatient(BRIEF / 2);
    let client = Client::with(dialer, &settings).unwrap();
    let attempt = post(&client, &service, "/freeze").await;
    assert_eq!(failed(attempt), Failure::Interrupted);
    answered(post(&client, &service, "/201").await);
    assert_eq!(service.connections(), 2);
}
