//! Reads the file that has the URLs again: at each connect, and while connections live.
//!
//! Passwords rotate, and OAuth 2 tokens expire. Where only the password of a URL has changed, the
//! connections that live are told (`connection.update_secret`). Where the broker refuses, it ends the
//! connection, and the next generation logs in with what the file has then.

use std::convert::Infallible;
use std::fs;
use std::future;
use std::time::Duration;

use tokio::select;
use tokio::time::sleep;

use crate::broker::addresses::Addresses;
use crate::broker::amqp_url;
use crate::broker::answer::answered_in_turn;
use crate::broker::connect::Link;
use crate::broker::generation::Generation;
use crate::broker::reply::Plain;
use crate::broker::shared::Shared;
use crate::secret::Secret;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// Reads the URLs again before a connect; the former ones stay where they cannot be read.
pub(super) fn before_connect(addresses: &mut Addresses, shared: &Shared) {
    if let Err(problem) = read(addresses, shared) {
        tell(&problem, shared);
    }
}

/// Looks at the file from time to time and when asked to, and tells the connections of a generation a
/// password that has changed.
pub(super) async fn follow(
    generation: &Generation,
    addresses: &mut Addresses,
    shared: &Shared,
) -> Infallible {
    if shared.settings.url_file.is_none() {
        return future::pending().await;
    }
    let mut told = None;
    loop {
        select! {
            () = sleep(LOOK) => {}
            () = shared.read_urls.notified() => {}
        }
        match read(addresses, shared) {
            Ok(Some(password)) => update(generation, &password).await,
            Ok(None) => {}
            Err(problem) if told.as_ref() == Some(&problem) => continue,
            Err(problem) => {
                tell(&problem, shared);
                told = Some(problem);
                continue;
            }
        }
        told = None;
    }
}

/// Reads the URLs; returns the password if nothing else of the URL in use has changed.
fn read(addresses: &mut Addresses, shared: &Shared) -> Result<Option<Secret<String>>, String> {
    let Some(path) = &shared.settings.url_file else {
        return Ok(None);
    };
    let text = fs::read_to_string(path).map(Secret::new);
    let text = text.map_err(|error| error.to_string())?;
    let urls = amqp_url::lines(text.expose());
    let replaced = addresses.replace(&urls, &shared.settings);
    replaced.map_err(|error| error.to_string())
}

fn tell(problem: &str, shared: &Shared) {
    if let Some(path) = &shared.settings.url_file {
        tracing::warn!(
            path = %path.display(),
            problem,
            "the URL of the broker cannot be read again; the former one is used"
        );
    }
}

async fn update(generation: &Generation, password: &Secret<String>) {
    for link in generation.links() {
        if let Err(error) = update_one(link, password).await {
            let problem = Plain(&error);
            tracing::warn!(%problem, "the broker refuses the new password on a living connection");
            return;
        }
    }
    tracing::info!("the broker was told the new password on each living connection");
}

async fn update_one(link: &Link, password: &Secret<String>) -> lapin::Result<()> {
    let secret = password.expose().as_str().into();
    let reason = "the password was changed".into();
    let updating = link.connection.update_secret(secret, reason);
    answered_in_turn("connection.update-secret", &link.budget, updating).await
}
