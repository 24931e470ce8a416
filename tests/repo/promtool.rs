//! What Prometheus' own tool says of the metrics and of the alerts.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use pushrider::metrics::Metrics;

use crate::sources::root;

/// Renders every series, with those of one delay band and of a daemon that reads control messages.
pub(crate) fn rendered() -> String {
    let metrics = Metrics::new().unwrap();
    metrics.start_delay_band("1s", Duration::from_secs(1));
    metrics.control_read(true);
    metrics.render().unwrap()
}

/// Runs promtool in the repository with `input`, and returns what it says if it finds fault.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let missing = "promtool cannot be run: install the Debian package \"prometheus\"";
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(missing);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

#[test]
fn the_metrics_keep_to_prometheus_conventions() {
    let text = rendered();
    promtool(&["check", "metrics"], &text).unwrap();
    let wrong = "# HELP a A.\n# TYPE a counter\na 1\n";
    promtool(&["check", "metrics"], wrong).expect_err("a counter without _total is wrong");
}

#[test]
fn the_alerts_are_raised_when_they_should_be_and_not_before() {
    promtool(&["check", "rules", "config/prometheus-alerts.yml"], "").unwrap();
    promtool(&["test", "rules", "tests/alerts.yml"], "").unwrap();
}

/// Returns the names of the alerts.
fn alerts() -> Vec<String> {
    let rules = fs::read_to_string(root().join("config/prometheus-alerts.yml")).unwrap();
    let name = |line: &str| Some(line.trim().strip_prefix("- alert: ")?.to_owned());
    rules.lines().filter_map(name).collect()
}

#[test]
fn every_alert_has_a_test_and_a_section_that_says_what_to_do() {
    let runbook = fs::read_to_string(root().join("systemd/README.md")).unwrap();
    let tests = fs::read_to_string(root().join("tests/alerts.yml")).unwrap();
    let rules = fs::read_to_string(root().join("config/prometheus-alerts.yml")).unwrap();
    let alerts = alerts();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        let heading = format!("\n### {alert}\n");
        let (_, section) = runbook
            .split_once(&heading)
            .unwrap_or_else(|| panic!("systemd/README.md has no section {alert}"));
        let section = section.split("\n#").next().unwrap();
        for part in ["**Meaning:**", "**See:**", "**Do:**"] {
            assert!(section.contains(part), "section {alert}: no {part}");
        }
        let raised = format!("alertname: {alert}\n        exp_alerts:\n          - ");
        assert!(
            tests.contains(&raised),
            "tests/alerts.yml never raises {alert}"
        );
        let quiet = format!("alertname: {alert}\n        exp_alerts: []");
        assert!(
            tests.contains(&quiet),
            "tests/alerts.yml never keeps {alert} quiet"
        );
        let link = format!("runbook: systemd/README.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} does not name its section");
    }
    let sections = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Pushrider"));
    assert_eq!(sections.count(), alerts.len(), "a section is of no alert");
}

/// Returns every name of a series that the daemon has.
fn series() -> Vec<String> {
    let text = rendered();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line[..line.find(['{', ' ']).unwrap()].to_owned();
    samples.map(name).collect()
}

/// Expects that each metric of ours that a file names exists.
fn names_only_metrics_that_exist(path: &str) {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let series = series();
    let name = regex::Regex::new("(?:pushrider|process)_[a-z_]+").unwrap();
    let mut count = 0;
    for found in name.find_iter(&text) {
        let is_series = series.iter().any(|one| one == found.as_str());
        assert!(is_series, "{path} names {}", found.as_str());
        count += 1;
    }
    assert!(count > 5, "{path} names {count} metrics");
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist_in_expressions_that_are_right() {
    let path = "config/grafana-dashboard.json";
    names_only_metrics_that_exist(path);
    let text = fs::read_to_string(root().join(path)).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules: Vec<_> = targets
        .enumerate()
        .map(|(n, target)| {
            let expr = target["expr"].as_str().unwrap();
            let expr = expr.replace("$__rate_interval", "5m");
            serde_json::json!({ "record": format!("panel{n}"), "expr": expr })
        })
        .collect();
    assert!(rules.len() > 5, "{rules:?}");
    // JSON is YAML.
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(file.path(), groups.to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "").unwrap();
}

#[test]
fn the_alerts_name_only_metrics_that_exist() {
    names_only_metrics_that_exist("config/prometheus-alerts.yml");
}
