//! Reads the file that has the URLs again: at each connect, and while connections live.
//!
//! Passwords rotate, and OAuth 2 tokens expire. Where only the password of a URL has changed, the
//! connections that live are told (`connection.update_secret`). Where the broker refuses, it ends the
//! connection, and the next generation logs in with what the file has then.

use std::convert::Infallible;
use std::fs;
use std::future;
use std::path::Path;
use std::time::Duration;

use tokio::select;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::broker::Settings;
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

/// The file that has the URLs, if there is one.
#[derive(Debug, Default)]
pub(super) struct UrlFile {
    /// Why it cannot be read, once that is logged.
    told: Option<String>,
}

impl UrlFile {
    /// Reads the URLs again before a connect; the former ones stay where they cannot be read.
    pub(super) fn before_connect(&mut self, addresses: &mut Addresses, settings: &Settings) {
        // No connection lives that could be told.
        let _password = self.read(addresses, settings);
    }

    /// Tells the connections of a generation each password that changes; never ends.
    pub(super) async fn follow(
        &mut self,
        generation: &Generation,
        addresses: &mut Addresses,
        shared: &Shared,
    ) -> Infallible {
        let (settings, asked) = (&shared.settings, &shared.read_urls);
        loop {
            let password = self.changed_password(addresses, settings, asked).await;
            update(generation, &password).await;
        }
    }

    /// Looks at the file from time to time and when asked to, until only the password of the URL in use is
    /// another, and returns that.
    async fn changed_password(
        &mut self,
        addresses: &mut Addresses,
        settings: &Settings,
        asked: &Notify,
    ) -> Secret<String> {
        if settings.url_file.is_none() {
            return future::pending().await;
        }
        loop {
            select! {
                () = sleep(LOOK) => {}
                () = asked.notified() => {}
            }
            if let Some(password) = self.read(addresses, settings) {
                return password;
            }
        }
    }

    /// Reads the URLs; returns the password if nothing else of the URL in use has changed. A problem that
    /// stays is logged once.
    fn read(&mut self, addresses: &mut Addresses, settings: &Settings) -> Option<Secret<String>> {
        let path = settings.url_file.as_deref()?;
        match replace(addresses, path, settings) {
            Ok(password) => {
                self.told = None;
                password
            }
            Err(problem) => {
                if self.told.as_ref() != Some(&problem) {
                    tracing::warn!(
                        path = %path.display(),
                        problem,
                        "the URL of the broker cannot be read again; the former one is used"
                    );
                    self.told = Some(problem);
                }
                None
            }
        }
    }
}

/// Takes the URLs of a file; returns the password if nothing else of the URL in use has changed.
fn replace(
    addresses: &mut Addresses,
    path: &Path,
    settings: &Settings,
) -> Result<Option<Secret<String>>, String> {
    let text = fs::read_to_string(path).map(Secret::new);
    let text = text.map_err(|error| error.to_string())?;
    let urls = amqp_url::lines(text.expose());
    let replaced = addresses.replace(&urls, settings);
    replaced.map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::broker::tests::settings;
    use crate::clock::{Clock, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn a_password_that_changes_is_found_with_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let write = |text: &str| fs::write(&path, text).unwrap();
        let settings = Settings {
            url_file: Some(path.clone()),
            ..settings()
        };
        let mut addresses = Addresses::new(&settings).unwrap();
        let (mut file, asked) = (UrlFile::default(), Notify::new());
        let mut changed = async |looks: u32| {
            let began = SystemClock.now().mono;
            let changed = file.changed_password(&mut addresses, &settings, &asked);
            let found = timeout(LOOK * looks, changed).await.ok();
            let password = found.map(|password| password.expose().clone());
            (password, SystemClock.now().mono - began, file.told.clone())
        };
        write("amqp://guest:second@localhost\n");
        let second = (Some("second".to_owned()), LOOK, None);
        assert_eq!(changed(2).await, second);
        assert_eq!(changed(3).await.0, None, "it is the same");
        for (text, problem) in [
            ("", "write at least one"),
            ("amqp://guest:third@local host", "url"),
        ] {
            write(text);
            let (password, _, told) = changed(2).await;
            assert_eq!(password, None);
            let told = told.unwrap();
            assert!(
                told.to_lowercase().contains(problem) && !told.contains("third"),
                "{told}"
            );
        }
        write("amqp://other:third@localhost");
        assert_eq!(
            changed(2).await,
            (None, LOOK * 2, None),
            "another user logs in anew"
        );
        write("amqp://other:fourth@localhost");
        asked.notify_one();
        let fourth = (Some("fourth".to_owned()), Duration::ZERO, None);
        assert_eq!(changed(2).await, fourth);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_nothing_is_read() {
        let settings = settings();
        let mut addresses = Addresses::new(&settings).unwrap();
        let (mut file, asked) = (UrlFile::default(), Notify::new());
        asked.notify_one();
        file.before_connect(&mut addresses, &settings);
        let changed = file.changed_password(&mut addresses, &settings, &asked);
        assert!(timeout(LOOK * 2, changed).await.is_err());
    }
}
