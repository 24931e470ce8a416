//! The dashboard and the alerts in a real Prometheus that scrapes a real daemon.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::env::{TestEnv, event};
use crate::support::prometheus::Prometheus;
use crate::support::{eventually, wanted};

const DASHBOARD: &str = include_str!("../../config/grafana-dashboard.json");
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the title and the expressions of each panel.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    let mut found = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$__rate_interval", "1m");
            found.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    found
}

/// Returns whether a series has a value above zero, which NaN is not.
fn is_positive(series: &Value) -> bool {
    let value = series["value"][1].as_str();
    value.is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value > 0.0))
}

/// Waits until a panel of the dashboard shows a value above zero where the labels are these.
async fn shows(prometheus: &Prometheus, title: &str, labels: &[(&str, &str)]) {
    let panels = panels();
    let (_, expression) = panels.iter().find(|(it, _)| it == title).unwrap();
    eventually(PATIENCE, async || {
        let series = prometheus.query(expression).await?;
        let is_meant = |one: &Value| {
            let metric = &one["metric"];
            is_positive(one) && labels.iter().all(|(label, value)| metric[label] == *value)
        };
        wanted(series, |series| series.iter().any(is_meant))
            .map_err(|series| format!("{title}, {labels:?}: {series:?}"))
    })
    .await;
}

#[tokio::test]
async fn the_dashboard_shows_what_a_daemon_does() {
    let mut env = TestEnv::open("delay.probe = true").await;
    let prometheus = Prometheus::start(env.daemon.admin());
    // A rate needs a sample from before.
    eventually(PATIENCE, async || {
        let series = prometheus.query("up == 1").await?;
        wanted(series, |series| series.len() == 1).map_err(|series| format!("{series:?}"))
    })
    .await;
    for (id, answers) in [
        ("taken", json!({})),
        ("dead", json!({ "status": 410 })),
        ("late", json!([{ "status": 503 }, {}])),
    ] {
        env.publish(&event(id, &env.subscribe(answers), json!({})))
            .await;
    }
    for id in ["taken", "dead", "late"] {
        env.results_of(id, 1).await;
    }
    for (title, labels) in [
        (
            "Recipients settled, by outcome",
            &[("outcome", "accepted")][..],
        ),
        ("Recipients settled, by outcome", &[("outcome", "gone")]),
        ("Recipients settled, by application", &[("app", "shop")]),
        ("Not accepted, by reason", &[("reason", "unsubscribed")]),
        ("Answer of push services, p99", &[("push_service", "other")]),
        ("From event to outcome, p99", &[("outcome", "accepted")]),
        (
            "Sent to wait, by reason",
            &[("reason", "service_unavailable")],
        ),
        ("Connected to RabbitMQ", &[]),
        ("Resident memory", &[]),
        ("CPU cores used", &[]),
        ("Open file descriptors", &[]),
        (
            "Requests to push services, by answer",
            &[("outcome", "accepted")],
        ),
        ("Messages taken from RabbitMQ", &[("redelivered", "false")]),
        ("Publications, by kind", &[("kind", "result")]),
        ("Publications, by kind", &[("kind", "subscription")]),
    ] {
        shows(&prometheus, title, labels).await;
    }
    for (title, expression) in panels() {
        let series = prometheus.query(&expression).await.unwrap();
        assert!(!series.is_empty(), "{title}: {expression}");
    }
}

#[tokio::test]
async fn every_alert_is_evaluated_and_quiet_while_all_is_well() {
    let env = TestEnv::open("").await;
    let prometheus = Prometheus::start(env.daemon.admin());
    let rules = eventually(PATIENCE, async || {
        let up = prometheus.query("up == 1").await?;
        let rules = prometheus.rules().await?;
        let evaluated = |rules: &Vec<Value>| rules.iter().all(|rule| rule["health"] != "unknown");
        let rules = wanted(rules, evaluated).map_err(|rules| format!("{rules:?}"))?;
        wanted(up, |up| up.len() == 1).map_err(|up| format!("{up:?}"))?;
        Ok::<_, String>(rules)
    })
    .await;
    assert!(rules.len() > 10, "{rules:#?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        assert_ne!(rule["state"], "firing", "{rule:#}");
    }
}
