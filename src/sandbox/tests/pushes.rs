//! What a push is held against.

use super::*;

#[tokio::test]
async fn a_right_push_is_taken_decrypted_and_kept() {
    for (http2, version) in [(true, "HTTP/2"), (false, "HTTP/1.1")] {
        let settings = Settings {
            http2,
            ..Settings::default()
        };
        let world = world_of(settings).await;
        let to = world
            .sandbox
            .subscribe(SubscribeRequest::default())
            .unwrap();
        let response = world.push(&to, "héllo").await.unwrap();
        let origin = &world.sandbox.origins()[0];
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "location"), format!("{origin}/message/1"));
        assert_eq!(header(&response, "ttl"), "60");
        let message = world.last(&to);
        assert_eq!(message.text.as_deref(), Some("héllo"));
        assert_eq!(message.plaintext.as_deref(), Some("héllo".as_bytes()));
        assert_eq!(message.http_version, version);
        assert_eq!((message.status, message.error), (Some(201), None));
        assert_eq!(message.key, Some(world.sender.public()));
        assert_eq!(message.vapid.unwrap().aud, *origin);
        world.sandbox.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_push_is_told_why_and_kept() {
    let world = world().await;
    let request = SubscribeRequest {
        application_server_key: Some(Sender::new().public()),
        ..SubscribeRequest::default()
    };
    let bound = world.sandbox.subscribe(request).unwrap();
    let other = world
        .sandbox
        .subscribe(SubscribeRequest::default())
        .unwrap();
    let response = world.push(&bound, "hello").await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(text(response).await.contains("public key mismatch"));
    let crossed = SubscriptionJson {
        keys: bound.keys.clone(),
        ..other.clone()
    };
    let response = world.push(&crossed, "hello").await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains("another p256dh or auth"));
    let no_ttl = |headers: &mut HeaderMap| drop(headers.remove("ttl"));
    let response = world.push_with(&other, "hello", no_ttl).await.unwrap();
    assert_eq!(response.status(), 400);
    let message = world.last(&other);
    assert_eq!(message.error.unwrap(), "TTL is missing (RFC 8030 §5.2)");
    let response = world.push(&other, &"x".repeat(3994)).await.unwrap();
    assert_eq!(response.status(), 413);
    let response = world.push(&other, &"x".repeat(3993)).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(world.sandbox.stats().decrypt_failures, 1);
}

#[tokio::test]
async fn a_body_without_end_is_answered_all_the_same() {
    let world = world().await;
    let to = world.subscribe(json!({ "status": 201 }));
    let (mut headers, _) = world
        .sender
        .request(&world.sandbox.origins()[0], &to.keys, b"");
    headers.insert("content-length", "20000000".parse().unwrap());
    let request = world.client.post(&to.endpoint).headers(headers);
    let response = request.body(vec![0; 20_000_000]).send().await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn only_a_post_to_a_known_token_is_a_push() {
    let world = world().await;
    let to = world.subscribe(json!({ "status": 201 }));
    let unknown = SubscriptionJson {
        endpoint: format!("{}x", to.endpoint),
        ..to.clone()
    };
    let response = world.push(&unknown, "hello").await.unwrap();
    assert_eq!(response.status(), 404);
    let response = world.client.get(&to.endpoint).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "POST");
}

#[tokio::test]
async fn each_origin_speaks_as_a_service_of_its_own() {
    let settings = Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap(); 3],
        services: vec![Service::Mozilla, Service::Apple],
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let at = |origin| {
        let request = SubscribeRequest {
            origin,
            ..SubscribeRequest::default()
        };
        world.sandbox.subscribe(request).unwrap()
    };
    let [mozilla, apple, last] = [at(0), at(1), at(2)];
    assert!(mozilla.endpoint.contains("/wpush/v2/"));
    let no_ttl = |headers: &mut HeaderMap| drop(headers.remove("ttl"));
    let response = world.push_with(&mozilla, "hello", no_ttl).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains(r#""errno":111"#));
    for one in [&apple, &last] {
        let response = world.push(one, "hello").await.unwrap();
        assert_eq!(response.status(), 201);
        assert!(response.headers().contains_key("apns-id"));
    }
    // Taken as by the real one, and recorded as wrong here.
    let crossed = SubscriptionJson {
        keys: apple.keys.clone(),
        ..mozilla.clone()
    };
    assert_eq!(world.push(&crossed, "hello").await.unwrap().status(), 201);
    let message = world.last(&mozilla);
    assert_eq!(message.status, Some(201));
    assert!(message.error.unwrap().contains("another p256dh or auth"));
    assert_eq!(world.sandbox.stats().decrypt_failures, 1);
}

#[tokio::test]
async fn a_script_asks_for_the_services_own_words() {
    let settings = Settings {
        services: vec![Service::Mozilla],
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let to = world.subscribe(json!([{ "answer": "gone" }, { "status": 503 }]));
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            header(&response, "cache-control")
        ),
        (410, "max-age=86400")
    );
    let response = world.push(&to, "hello").await.unwrap();
    assert_eq!(header(&response, "retry-after"), "120");
    let apples = script(json!({ "answer": "idle_timeout" }));
    assert!(!world.sandbox.play(&to.id, apples.clone()));
    let refused = world.sandbox.subscribe(apples).unwrap_err().to_string();
    assert!(refused.contains("\"idle_timeout\"") && refused.contains("constrained_device"));
}

#[tokio::test]
async fn what_ntfy_cuts_off_is_taken_and_told() {
    let settings = Settings {
        services: vec![Service::Ntfy],
        ..Settings::default()
    };
    let world = world_of(settings).await;
    let to = world
        .sandbox
        .subscribe(SubscribeRequest::default())
        .unwrap();
    let response = world.push(&to, &"x".repeat(3994)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(world.last(&to).error.unwrap().contains("longer than 4096"));
    let response = world.push(&to, "hello").await.unwrap();
    let message: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(message["topic"].as_str().unwrap().len(), 14);
    assert_eq!(world.last(&to).text.as_deref(), Some("hello"));
}

#[tokio::test]
async fn without_decryption_the_head_alone_is_checked() {
    let world = world_of(Settings {
        decrypt: false,
        keep: 0,
        ..Settings::default()
    })
    .await;
    let to = world.subscribe(json!({}));
    assert_eq!(world.push(&to, "hello").await.unwrap().status(), 201);
    let wrong = |headers: &mut HeaderMap| {
        headers.insert(HeaderName::from_static("ttl"), "x".parse().unwrap());
    };
    assert_eq!(
        world.push_with(&to, "hello", wrong).await.unwrap().status(),
        400
    );
    assert!(world.sandbox.messages(None).is_empty());
}
