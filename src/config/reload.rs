//! The configuration of a daemon that runs, read again.

use std::collections::BTreeSet;

use crate::config::load;
use crate::config::print::Effective;
use crate::config::request::Request;
use crate::daemon::{Reread, Rereading};

/// What a daemon reads once, at its start: these keys, and everything in these sections.
const READ_ONCE: [&str; 6] = [
    "admin",
    "broker",
    "delay",
    "lanes",
    "log.format",
    "push.state_dir",
];

/// Reads a configuration again, and finds what has changed.
#[derive(Debug)]
pub struct Reloads {
    request: Request,
    /// What the daemon started with.
    started: Effective,
    applied: Effective,
    latest: Option<Effective>,
}

impl Reloads {
    /// Creates what reads the configuration of `request` again, which was `started` at first.
    #[must_use]
    pub fn new(request: Request, started: Effective) -> Self {
        Self {
            request,
            applied: started.clone(),
            started,
            latest: None,
        }
    }
}

impl Rereading for Reloads {
    fn reread(&mut self) -> Result<Reread, String> {
        let config = load(&self.request).map_err(|problems| {
            let findings = problems.findings().iter().map(ToString::to_string);
            findings.collect::<Vec<_>>().join("; ")
        })?;
        let changed = self.applied.differences(&config.effective);
        let needs_restart = self.started.differences(&config.effective);
        self.latest = Some(config.effective);
        // What these files hold is read again at each connect.
        let has_url_file = config.daemon.broker.url_file.is_some();
        let is_read_again =
            |key: &String| key == "broker.client_key" || key == "broker.url" && has_url_file;
        let is_read_once = |key: &String| is_read_once(key) && !is_read_again(key);
        let warnings = config.warnings.iter().map(ToString::to_string);
        Ok(Reread {
            reconnects: changed.iter().any(|key| is_of_connections(key)),
            sections: sections(changed.iter().filter(|key| !is_read_once(key))),
            needs_restart: needs_restart.into_iter().filter(is_read_once).collect(),
            warnings: warnings.collect(),
            settings: config.daemon,
            log_filter: config.logging.filter,
        })
    }

    fn applied(&mut self) {
        if let Some(latest) = self.latest.take() {
            self.applied = latest;
        }
    }
}

fn is_read_once(key: &str) -> bool {
    READ_ONCE.iter().any(|once| {
        let rest = key.strip_prefix(once);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
    })
}

/// Returns whether connections to push services depend on a key.
fn is_of_connections(key: &str) -> bool {
    let section = key.split('.').next();
    matches!(section, Some("push" | "guard" | "services"))
}

/// Returns the first word of each key, once.
fn sections<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<String> {
    let words = keys.filter_map(|key| key.split('.').next());
    let words: BTreeSet<_> = words.collect();
    words.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::message::Name;
    use crate::vapid::VapidKey;

    fn key() -> String {
        let key = VapidKey::generate(Name::parse("main").unwrap()).unwrap();
        key.to_pkcs8_pem().unwrap().expose().clone()
    }

    #[test]
    fn what_changed_is_named_by_section_and_what_needs_a_restart_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pushrider.toml");
        let write = |more: &str| {
            let base = "apps.shop.subject = 'mailto:ops@example.org'
                keys.main.private_key_file = 'main.pem'";
            fs::write(&path, format!("{base}\n{more}")).unwrap();
        };
        fs::write(directory.path().join("main.pem"), key()).unwrap();
        write("");
        let request = Request {
            file: Some(path.clone()),
            ..Request::default()
        };
        let started = load(&request).unwrap().effective;
        let mut reloads = Reloads::new(request, started);
        let mut read = || {
            let reread = reloads.reread().unwrap();
            reloads.applied();
            (reread.sections.join(" "), reread.needs_restart.join(" "))
        };
        let told = |sections: &str, keys: &str| (sections.to_owned(), keys.to_owned());
        assert_eq!(read(), told("", ""));
        write("push.timeout = '9s'\nbroker.url = 'amqp://other'\nlog.format = 'text'");
        assert_eq!(read(), told("push", "broker.url log.format"));
        assert_eq!(read(), told("", "broker.url log.format"), "until a restart");
        fs::write(directory.path().join("main.pem"), key()).unwrap();
        write("push.timeout = '9s'\nlog.filter = 'warn'\nguard.ports = [443, 8443]");
        assert_eq!(read(), told("guard keys log", ""));

        write("push.timeout = 'soon'\napps.blog.subject = 3");
        let problem = reloads.reread().unwrap_err();
        assert!(problem.contains("push.timeout: "), "{problem}");
        assert!(problem.contains("; apps.blog.subject: "), "{problem}");
    }
}
