//! The hosts of the broker, and which of them is used.

use std::fmt;

use crate::broker::connect::{Address, Link, read_uris};
use crate::broker::error::SessionError;
use crate::broker::{NeedsOperator, Settings};
use crate::metrics::Role;
use crate::secret::Secret;

/// The addresses of all hosts; shows host and port of the one that is used.
pub(super) struct Addresses {
    /// In the order in which they are tried; never empty.
    all: Vec<Address>,
    /// The index of the one that is used.
    used: usize,
}

impl Addresses {
    /// Reads the URLs and the certificates; begins with the first URL.
    pub(super) fn new(settings: &Settings) -> Result<Self, NeedsOperator> {
        Self::with_urls(&settings.urls, settings)
    }

    fn with_urls(urls: &[Secret<String>], settings: &Settings) -> Result<Self, NeedsOperator> {
        let uris = read_uris(urls, settings.client.is_some())?.into_iter();
        let all = uris.map(|uri| Address::new(uri, settings));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            used: 0,
        })
    }

    /// Takes other URLs; the place in the turn stays. Returns the password of the host in use if nothing else
    /// of its URL has changed.
    pub(super) fn replace(
        &mut self,
        urls: &[Secret<String>],
        settings: &Settings,
    ) -> Result<Option<Secret<String>>, NeedsOperator> {
        let mut next = Self::with_urls(urls, settings)?;
        next.used = self.used % next.count();
        let password = next.current().changed_password(self.current());
        *self = next;
        Ok(password)
    }

    /// Returns the address that is used.
    pub(super) fn current(&self) -> &Address {
        &self.all[self.used]
    }

    /// Counts the hosts.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Goes on to the next host, and from the last to the first.
    pub(super) fn advance(&mut self) {
        self.used = (self.used + 1) % self.count();
    }

    /// Connects to the first host that takes the connection; tries each once.
    pub(super) async fn connect(&mut self, role: Role) -> Result<Link, SessionError> {
        let mut errors = Vec::new();
        for _ in 0..self.count() {
            match self.current().connect(role).await {
                Ok(link) => return Ok(link),
                Err(error) if error.needs_operator().is_some() || self.count() == 1 => {
                    return Err(error.into());
                }
                Err(error) => errors.push(*error),
            }
            self.advance();
        }
        Err(SessionError::NoHost(errors))
    }

    /// Tries the hosts that are not used; returns why there is no connection to some of them.
    pub(super) async fn connect_to_others(&self, role: Role) -> Vec<String> {
        let mut problems = Vec::new();
        for (index, address) in self.all.iter().enumerate() {
            if index == self.used {
                continue;
            }
            match address.connect(role).await {
                Ok(link) => link.close().await,
                Err(error) => problems.push(match error.needs_operator() {
                    Some(act) => format!("{address}: {act}"),
                    None => error.to_string(),
                }),
            }
        }
        problems
    }

    /// Names the host at which an operator must act, where there are several.
    pub(super) fn locate(&self, act: NeedsOperator) -> NeedsOperator {
        if self.count() == 1 {
            return act;
        }
        NeedsOperator::AtHost {
            host: self.to_string(),
            act: Box::new(act),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::settings;

    fn urls(hosts: &[&str]) -> Vec<Secret<String>> {
        let urls = hosts.iter().map(|host| format!("amqp://u:p@{host}"));
        urls.map(Secret::new).collect()
    }

    fn addresses(hosts: &[&str]) -> Addresses {
        Addresses::with_urls(&urls(hosts), &settings()).unwrap()
    }

    #[test]
    fn hosts_take_turns_also_after_other_urls() {
        let mut addresses = addresses(&["a", "b", "c"]);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(addresses.to_string());
            addresses.advance();
        }
        assert_eq!(seen, ["a:5672", "b:5672", "c:5672", "a:5672"]);
        let mut replace = |hosts: &[&str]| {
            addresses.replace(&urls(hosts), &settings()).unwrap();
            addresses.to_string()
        };
        assert_eq!(replace(&["d", "e", "f"]), "e:5672");
        assert_eq!(replace(&["g"]), "g:5672");
    }

    #[test]
    fn a_password_is_told_only_where_nothing_else_has_changed() {
        let mut addresses = addresses(&["a"]);
        for (url, told) in [
            ("amqp://u:p@a", None),
            ("amqp://u:q@a", Some("q")),
            ("amqp://u:q@a", None),
            ("amqp://v:r@a", None),
            ("amqp://v:s@b", None),
            ("amqps://v:t@b?auth_mechanism=amqplain", None),
            ("amqps://v:u@b?auth_mechanism=amqplain", Some("u")),
        ] {
            let urls = [Secret::new(url.to_owned())];
            let password = addresses.replace(&urls, &settings()).unwrap();
            let password = password.map(|password| password.expose().clone());
            assert_eq!(password.as_deref(), told, "{url}");
        }
    }

    #[test]
    fn the_host_is_named_where_there_are_several() {
        let act = || NeedsOperator::LoginRefused;
        assert_eq!(addresses(&["a"]).locate(act()), act());
        let said = addresses(&["a", "b"]).locate(act()).to_string();
        assert!(
            said.starts_with("a:5672: the broker refuses the user name"),
            "{said}"
        );
    }
}
