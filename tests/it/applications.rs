//! Several applications: which one an event is for, also once it has waited in the broker.

use std::time::Duration;

use jiff::Timestamp;
use pushrider::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};

#[tokio::test]
async fn a_routing_key_names_the_application_also_after_waiting() {
    let mut env = TestEnv::open("apps.blog.subject = 'mailto:ops@example.org'").await;
    let willing = env.subscribe(json!({}));
    let busy = env.subscribe(json!([{ "status": 503 }, { "status": 201 }]));
    let at = SystemClock.now().wall + Duration::from_secs(2);
    let at = format!("{:.3}", Timestamp::try_from(at).unwrap());
    let publish = async |key: &str, event: Value| {
        let body = event.to_string();
        env.vhost
            .publish("webpush.events", key, body.as_bytes())
            .await;
    };
    publish("blog.default", event("now", &willing, json!({}))).await;
    publish("blog.no-lane", event("retried", &busy, json!({}))).await;
    let later = json!({ "deliver_at": at });
    publish("blog.default", event("later", &willing, later)).await;
    let of_shop = json!({ "deliver_at": at, "app": "shop" });
    publish("blog.default", event("of-shop", &willing, of_shop)).await;
    for (id, app, attempts, warnings) in [
        ("now", "blog", 1, 0),
        ("retried", "blog", 2, 0),
        ("later", "blog", 1, 0),
        ("of-shop", "shop", 1, 1),
    ] {
        let result = env.results_of(id, 1).await.remove(0);
        assert_eq!(result["outcome"], "accepted", "{result}");
        assert_eq!(result["app"], app, "{result}");
        assert_eq!(result["attempts"], attempts, "{result}");
        let warned = result["warnings"].as_array().unwrap();
        assert_eq!(warned.len(), warnings, "{result}");
        let words = "routing_key_mismatch: the routing key names the application blog";
        assert!(
            warned
                .iter()
                .all(|it| it.as_str().unwrap().starts_with(words))
        );
    }
    env.daemon.stop().await;
}
