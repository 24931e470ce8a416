//! What the scripts make it do.

use super::*;

#[tokio::test]
async fn a_script_is_played_push_by_push() {
    let world = world().await;
    let to = world.subscribe(json!([
        { "status": 429, "headers": { "Retry-After": "inf" }, "body": "slow down", "times": 2 },
        { "status": 307, "headers": { "Location": "/elsewhere" } },
        { "status": 201, "headers": { "TTL": "7" } },
    ]));
    for _ in 0..2 {
        let response = world.push(&to, "hello").await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "retry-after")),
            (429, "inf")
        );
        assert_eq!(text(response).await, "slow down");
    }
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(
        (response.status().as_u16(), header(&response, "location")),
        (307, "/elsewhere")
    );
    for _ in 0..2 {
        let response = world.push(&to, "hello").await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "ttl")),
            (201, "7")
        );
    }
    assert!(world.sandbox.play(&to.id, script(json!({ "status": 410 }))));
    assert_eq!(world.push(&to, "hello").await.unwrap().status(), 410);
    assert!(!world.sandbox.play("nobody", Script::default()));
    let statuses = world.sandbox.stats().statuses;
    assert_eq!(statuses, [(201, 2), (307, 1), (410, 1), (429, 2)].into());
}

#[tokio::test]
async fn slow_answers_and_bodies_take_their_time() {
    let world = world().await;
    let late = world.subscribe(json!({ "status": 503, "delay": "150ms" }));
    let waited = timeout(Duration::from_millis(100), world.push(&late, "hello")).await;
    assert!(waited.is_err());
    assert_eq!(world.push(&late, "hello").await.unwrap().status(), 503);
    let dripping = world.subscribe(json!({ "status": 200, "body": "abc", "trickle": "20ms" }));
    let began = SystemClock.now().mono;
    let mut response = world.push(&dripping, "hello").await.unwrap();
    for byte in ["a", "b", "c"] {
        assert_eq!(response.chunk().await.unwrap().unwrap(), byte);
    }
    assert_eq!(response.chunk().await.unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(60));
    let huge = world.subscribe(json!({ "status": 500, "body_bytes": 3_000_000 }));
    let response = world.push(&huge, "hello").await.unwrap();
    assert_eq!(response.content_length(), None);
    assert_eq!(text(response).await.len(), 3_000_000);
}

#[tokio::test]
async fn a_hanging_push_has_arrived_and_is_never_answered() {
    let world = world().await;
    let to = world.subscribe(json!({ "fault": "hang" }));
    let mut arrivals = world.sandbox.arrivals();
    let mut push = pin!(world.push(&to, "hello"));
    let message = tokio::select! {
        answered = &mut push => panic!("{answered:?}"),
        message = arrivals.recv() => message.unwrap(),
    };
    assert_eq!((message.status, message.fault), (None, Some("hang")));
    assert!(timeout(Duration::from_millis(50), push).await.is_err());
}

#[tokio::test]
async fn a_reset_has_its_reason_and_spares_the_connection() {
    let world = world().await;
    for (name, reason) in [
        ("REFUSED_STREAM", h2::Reason::REFUSED_STREAM),
        ("ENHANCE_YOUR_CALM", h2::Reason::ENHANCE_YOUR_CALM),
    ] {
        let to = world.subscribe(json!([{ "fault": "reset", "reason": name }, {}]));
        let error = world.push(&to, "hello").await.unwrap_err();
        let error = of_h2(&error);
        assert!(error.is_reset() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(reason));
        assert_eq!(world.push(&to, "hello").await.unwrap().status(), 201);
    }
    let opened = world.sandbox.stats().connections_opened;
    assert_eq!(opened.into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn goaway_ends_a_connection_and_says_what_was_processed() {
    let world = world().await;
    let to = world.subscribe(json!([
        { "fault": "goaway" }, {}, { "fault": "goaway_unprocessed" }, {}, { "fault": "cut" }, {},
    ]));
    assert_eq!(world.push(&to, "graceful").await.unwrap().status(), 201);
    assert_eq!(world.push(&to, "after").await.unwrap().status(), 201);
    let error = world.push(&to, "unprocessed").await.unwrap_err();
    let error = of_h2(&error);
    assert!(error.is_go_away() && error.is_remote(), "{error:?}");
    assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR));
    assert_eq!(world.push(&to, "after").await.unwrap().status(), 201);
    let error = world.push(&to, "cut").await.unwrap_err();
    let mut source = error.source();
    while let Some(error) = source {
        let found = error.downcast_ref::<h2::Error>();
        assert!(found.is_none_or(|error| !error.is_go_away()), "{error:?}");
        source = error.source();
    }
    assert_eq!(world.push(&to, "after").await.unwrap().status(), 201);
    let opened = world.sandbox.stats().connections_opened;
    assert_eq!(opened.into_values().collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn http_1_1_has_its_own_ways_to_fail() {
    let settings = Settings {
        http2: false,
        ..Settings::default()
    };
    let world = world_of(settings).await;
    for fault in ["reset", "goaway_unprocessed", "cut"] {
        let to = world.subscribe(json!([{ "fault": fault }, {}]));
        assert!(world.push(&to, "hello").await.is_err(), "{fault}");
        assert_eq!(
            world.push(&to, "hello").await.unwrap().status(),
            201,
            "{fault}"
        );
    }
    let to = world.subscribe(json!({ "fault": "goaway" }));
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(header(&response, "connection"), "close");
}

#[tokio::test]
async fn streams_are_limited_and_counted() {
    let settings = Settings {
        max_concurrent_streams: 3,
        latency: Duration::from_millis(30),
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let to = world.subscribe(json!({}));
    let credential = world.sender.authorization(&world.sandbox.origins()[0]);
    let push = || {
        world.push_with(&to, "hello", |headers| {
            headers.insert("authorization", credential.parse().unwrap());
        })
    };
    assert_eq!(push().await.unwrap().status(), 201);
    let pushes = (0..12).map(|_| push());
    for response in futures_util::future::join_all(pushes).await {
        assert_eq!(response.unwrap().status(), 201);
    }
    let stats = world.sandbox.stats();
    assert_eq!((stats.streams_in_flight_max, stats.requests), (3, 13));
    assert_eq!(stats.vapid_tokens, 1);
}
