//! What outsiders choose does not grow the number of series.

use super::*;

#[tokio::test]
async fn ten_thousand_origins_and_unknown_applications_add_no_series() {
    let env = env([]);
    env.pipeline.metrics.start_app(&name("shop"));
    let series = || env.pipeline.metrics.render().unwrap().lines().count();
    let before = series();
    for n in 0..10_000 {
        let endpoint = format!("https://host{n}.example.org/push");
        let of_shop =
            event(json!({ "id": n.to_string(), "subscription": subscription(&endpoint) }));
        let publications = env.pipeline.process(&inbound(of_shop)).await;
        assert_eq!(
            outline(&publications),
            ["delivery.shop.accepted._ accepted"]
        );
        let of_none = event(json!({ "id": n.to_string(), "app": format!("app-{n}") }));
        env.pipeline.process(&inbound(of_none)).await;
    }
    assert_eq!(series(), before);
    let text = env.pipeline.metrics.render().unwrap();
    for line in [
        r#"{app="shop",outcome="accepted",push_service="other",reason="accepted"} 10000"#,
        r#"{app="(unknown)",outcome="rejected",push_service="fcm",reason="unknown_app"} 10000"#,
    ] {
        assert!(text.contains(line), "{line}");
    }
}
