//! The sandbox's page in a browser.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushrider::sandbox::Settings;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::env::TestEnv;
use crate::support::{eventually, wanted};

#[tokio::test]
async fn a_subscription_of_the_page_receives_and_is_gone_when_the_page_says_so() {
    let settings = Settings {
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    };
    let env = TestEnv::open_with(settings, "").await;
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/page.js");
    let running = Command::new("node")
        .arg(script)
        .arg(env.sandbox.control().unwrap())
        .args(std::env::var_os("SCREENSHOTS"))
        .env("NODE_PATH", packages.join("node_modules"))
        .env("AMQP_URL", env.vhost.url())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(120), running).await;
    let output = output.expect("the script ends").unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}; run tests/run.sh");
    let dead = eventually(Duration::from_secs(30), async || {
        let dead = env.vhost.take_all("webpush.dead-subscriptions").await;
        wanted(dead, |dead| !dead.is_empty())
    })
    .await;
    let dead: Value = serde_json::from_slice(&dead[0]).unwrap();
    let endpoint = String::from_utf8(output.stdout).unwrap();
    assert_eq!(dead["recipient"]["endpoint"], endpoint.trim());
}
