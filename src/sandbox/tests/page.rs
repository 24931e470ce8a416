//! The page of the control listener, and who may ask for it.

use super::*;

async fn world_with_control() -> (World, String) {
    let world = world_of(Settings {
        control: Some("127.0.0.1:0".parse().unwrap()),
        control_names: vec!["sandbox".to_owned()],
        services: vec![Service::Fcm],
        ..Settings::default()
    })
    .await;
    let control = world.sandbox.control().unwrap();
    (world, control)
}

#[tokio::test]
async fn no_page_elsewhere_controls_the_sandbox() {
    let (world, control) = world_with_control().await;
    let subscribe = |name: &'static str, value: &str| {
        let request = world.client.post(format!("{control}/subscriptions"));
        request.header(name, value).send()
    };
    for (name, value, sentence) in [
        (
            "host",
            "rebound.example:8444",
            "is not this listener's; use localhost",
        ),
        (
            "origin",
            "https://elsewhere.example",
            "may not control the sandbox",
        ),
        ("origin", "null", "may not control the sandbox"),
    ] {
        let refused = subscribe(name, value).await.unwrap();
        assert_eq!(refused.status(), 403, "{value}");
        let told = text(refused).await;
        assert!(told.contains(sentence), "{told}");
    }
    assert_eq!(world.sandbox.stats().subscriptions, 0);
    for (name, value) in [("host", "sandbox:8444"), ("origin", &*control)] {
        assert_eq!(subscribe(name, value).await.unwrap().status(), 201);
    }
    for path in ["/", "/events", "/messages", "/ca.pem", "/nothing"] {
        let request = world.client.get(format!("{control}{path}"));
        let refused = request.header("host", "rebound.example").send().await;
        assert_eq!(refused.unwrap().status(), 403, "{path}");
    }
}

#[tokio::test]
async fn the_page_runs_no_script_but_its_own() {
    let (world, control) = world_with_control().await;
    for path in ["/", "/page.css", "/page.js"] {
        let page = world.client.get(format!("{control}{path}")).send().await;
        let page = page.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"));
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
        let text = text(page).await;
        for markup in ["innerHTML", "insertAdjacentHTML", "style=", "https://"] {
            assert!(!text.contains(markup), "{path}: {markup}");
        }
    }
}

#[tokio::test]
async fn the_page_knows_origins_and_the_newest_subscriptions() {
    let (world, control) = world_with_control().await;
    for _ in 0..60 {
        world.sandbox.subscribe(Script::default()).unwrap();
    }
    let scripted = world.subscribe(json!({ "status": 410 }));
    let page = world.client.get(format!("{control}/page.json"));
    let page = text(page.send().await.unwrap()).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["origins"][0]["service"], "fcm");
    let answers = page["origins"][0]["answers"].as_array().unwrap();
    assert!(answers.contains(&json!("gone")), "{answers:?}");
    let shown = page["subscriptions"].as_array().unwrap();
    assert_eq!(shown.len(), 50);
    assert_eq!(shown[0]["subscription"]["id"], *scripted.id);
    assert_eq!(shown[0]["answer"], json!({ "status": 410 }));
    assert_eq!(shown[1]["answer"], Value::Null);
}

#[tokio::test]
async fn events_tell_what_is_kept_and_what_arrives_until_the_sandbox_stops() {
    let (world, control) = world_with_control().await;
    let to = world.subscribe(json!({}));
    world.push(&to, "kept").await.unwrap();
    let events = world.client.get(format!("{control}/events")).send().await;
    let mut events = events.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut told = String::new();
    for word in ["kept", "arriving"] {
        let reading = async {
            while !told.contains(&format!("\"text\":\"{word}\"")) {
                let chunk = events.chunk().await.unwrap().unwrap();
                told += std::str::from_utf8(&chunk).unwrap();
            }
        };
        timeout(Duration::from_secs(10), reading).await.unwrap();
        world.push(&to, "arriving").await.unwrap();
    }
    world.sandbox.stop.cancel();
    let ended = timeout(Duration::from_secs(10), text(events)).await;
    ended.expect("the stream ends with the sandbox");
}
