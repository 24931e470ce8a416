//! Its listeners, and its life from one start to the next.

use super::*;

#[tokio::test]
async fn each_address_is_an_origin() {
    let local = "127.0.0.1:0".parse().unwrap();
    let world = world_of(Settings {
        listen: vec![local, "[::1]:0".parse().unwrap(), local],
        ..Settings::default()
    })
    .await;
    let origins = world.sandbox.origins().to_vec();
    assert!(origins[1].starts_with("https://[::1]:"), "{origins:?}");
    for (origin, name) in origins.iter().enumerate() {
        let request = SubscribeRequest {
            origin,
            ..SubscribeRequest::default()
        };
        let to = world.sandbox.subscribe(request).unwrap();
        assert_eq!(
            world.push(&to, "hello").await.unwrap().status(),
            201,
            "{name}"
        );
        let next = &origins[(origin + 1) % origins.len()];
        let moved = SubscriptionJson {
            endpoint: to.endpoint.replace(name, next),
            ..to
        };
        assert_eq!(world.push(&moved, "hello").await.unwrap().status(), 404);
    }
}

#[tokio::test]
async fn the_control_listener_does_what_a_test_in_process_does() {
    let world = world_of(Settings {
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    let control = world.sandbox.control().unwrap();
    let at = |path: &str| format!("{control}{path}");
    let json = |response: Response| async { serde_json::from_str(&text(response).await).unwrap() };
    let key = world.sender.public();
    let request = json!({ "application_server_key": key, "answer": [{ "status": 503 }, {}] });
    let made = world
        .client
        .post(at("/subscriptions"))
        .body(request.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = json(made).await;
    let id = made["id"].as_str().unwrap();
    let to = world.sandbox.service.subscriptions.all().remove(0);
    assert_eq!(serde_json::to_value(&to).unwrap(), made);
    assert_eq!(world.push(&to, "one").await.unwrap().status(), 503);
    let answer = world.client.put(at(&format!("/subscriptions/{id}/answer")));
    let answered = answer.body(r#"{ "status": 410 }"#).send().await.unwrap();
    assert_eq!(answered.status(), 204);
    assert_eq!(world.push(&to, "two").await.unwrap().status(), 410);
    let plain = world
        .client
        .post(at("/subscriptions"))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 201);
    let kept = world
        .client
        .get(at(&format!("/messages?subscription={id}")));
    let kept: Value = json(kept.send().await.unwrap()).await;
    assert_eq!(kept[1]["text"], "two");
    assert_eq!(
        (&kept[0]["status"], &kept[1]["status"]),
        (&json!(503), &json!(410))
    );
    assert_eq!(kept[0]["vapid"]["aud"], world.sandbox.origins()[0]);
    let forgotten = world.client.delete(at("/messages")).send().await.unwrap();
    assert_eq!(forgotten.status(), 204);
    let kept: Value = json(world.client.get(at("/messages")).send().await.unwrap()).await;
    assert_eq!(kept, json!([]));
    let stats: Value = json(world.client.get(at("/stats")).send().await.unwrap()).await;
    assert_eq!(
        (&stats["requests"], &stats["subscriptions"]),
        (&json!(2), &json!(2))
    );
    let ca = world.client.get(at("/ca.pem")).send().await.unwrap();
    assert_eq!(text(ca).await, world.sandbox.ca_pem());
}

#[tokio::test]
async fn what_the_control_listener_refuses_it_explains() {
    let world = world_of(Settings {
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    let control = world.sandbox.control().unwrap();
    for (path, body, status, sentence) in [
        (
            "/subscriptions",
            r#"{ "answr": {} }"#,
            400,
            "unknown field `answr`",
        ),
        (
            "/subscriptions",
            r#"{ "answer": { "status": 99 } }"#,
            400,
            "200 to 999",
        ),
        (
            "/subscriptions",
            r#"{ "application_server_key": "x" }"#,
            400,
            "uncompressed P-256",
        ),
        (
            "/subscriptions",
            r#"{ "answer": { "answer": "dropped" } }"#,
            400,
            "it has accepted, gone, not_found",
        ),
        ("/subscriptions", "{", 400, "EOF"),
        ("/subscriptions/none/answer", "{}", 404, "no subscription"),
    ] {
        let url = format!("{control}{path}");
        let request = if status == 404 {
            world.client.put(url)
        } else {
            world.client.post(url)
        };
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), status);
        let actual = text(response).await;
        assert!(actual.contains(sentence), "{actual}");
    }
}

#[tokio::test]
async fn a_restart_with_state_keeps_authority_and_subscriptions() {
    let state = tempfile::tempdir().unwrap();
    let settings = |listen| Settings {
        listen: vec![listen],
        state: Some(state.path().to_owned()),
        ..Settings::default()
    };
    let first = world_of(settings("127.0.0.1:0".parse().unwrap())).await;
    let to = first.subscribe(json!({}));
    assert_eq!(first.push(&to, "before").await.unwrap().status(), 201);
    let address = first.sandbox.origins()[0].replace("https://", "");
    let ca = first.sandbox.ca_pem().to_owned();
    first.sandbox.stop().await;
    let mut second = world_of(settings(address.parse().unwrap())).await;
    second.client = client(&ca, true);
    assert_eq!(second.push(&to, "after").await.unwrap().status(), 201);
    assert_eq!(second.last(&to).text.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_stopped_sandbox_ends_every_connection_and_frees_its_port() {
    let world = world().await;
    let to = world.subscribe(json!({ "fault": "hang" }));
    let mut arrivals = world.sandbox.arrivals();
    let pushing = world.push(&to, "hello");
    let (sandbox, origin) = (&world.sandbox, world.sandbox.origins()[0].clone());
    let (pushed, ()) = tokio::join!(pushing, async {
        arrivals.recv().await.unwrap();
        sandbox.stop.cancel();
        sandbox.tasks.wait().await;
    });
    assert!(pushed.is_err());
    let address = origin.replace("https://", "");
    tokio::net::TcpListener::bind(address).await.unwrap();
}
