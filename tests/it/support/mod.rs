//! What the integration tests stand on.

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod connect_proxy;
pub(crate) mod daemon;
pub(crate) mod echo;
pub(crate) mod env;
pub(crate) mod listeners;
pub(crate) mod node;
pub(crate) mod producer;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod vhost;

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `probe` gives a value, and panics with its last complaint if it never does.
pub(crate) async fn eventually<T, E: Debug>(
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = None;
    let polling = async {
        loop {
            match probe().await {
                Ok(value) => return value,
                Err(complaint) => last = Some(complaint),
            }
            sleep(POLL).await;
        }
    };
    match timeout(within, polling).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("not within {within:?}; at last: {last:?}"),
    }
}

/// Complains with `seen` unless it is as wanted.
pub(crate) fn wanted<T: Debug>(seen: T, is_wanted: impl FnOnce(&T) -> bool) -> Result<T, T> {
    if is_wanted(&seen) {
        Ok(seen)
    } else {
        Err(seen)
    }
}
