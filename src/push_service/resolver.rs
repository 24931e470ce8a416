//! Names become addresses here, and only those the guard permits are handed on.
//!
//! What can go wrong: a stranger's name leads to an address inside (SSRF), leads there only the
//! second time (rebinding), has a thousand addresses, or never resolves. The connection is made
//! to the very addresses judged here, each new connection is judged anew, few addresses are
//! tried, and lookups are bounded in number. A lookup cannot be called off: its thread ends when
//! the system's resolver gives up, so a name that hangs holds one of the places until then. The
//! large services have places of their own, which strangers' names cannot fill.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::Url;

use crate::guard;
use crate::origin::{Listed, Service};

/// How many names of the large push services are looked up at a time.
const LISTED_LOOKUPS: usize = 8;

/// How many other names are looked up at a time.
const OTHER_LOOKUPS: usize = 24;

/// How many addresses of one name are tried.
const ADDRESSES: usize = 8;

/// Why a name led nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    /// The guard permits none of its addresses.
    #[error("every address of the name is private or special, and guard.allow does not list it")]
    Forbidden,
    /// It has no address.
    #[error("the name has no address")]
    NoAddress,
}

/// Resolves names by the operating system, through the guard.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    rules: Arc<guard::Rules>,
    listed: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl GuardedResolver {
    /// Creates a resolver that hands on only addresses `rules` permit.
    pub(super) fn new(rules: Arc<guard::Rules>) -> Self {
        Self {
            rules,
            listed: Arc::new(Semaphore::new(LISTED_LOOKUPS)),
            others: Arc::new(Semaphore::new(OTHER_LOOKUPS)),
        }
    }

    fn places(&self, name: &str) -> Arc<Semaphore> {
        Arc::clone(if is_listed(name) || self.rules.services.has_host(name) {
            &self.listed
        } else {
            &self.others
        })
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let places = self.places(name.as_str());
        let rules = Arc::clone(&self.rules);
        Box::pin(async move {
            let place = places.acquire_owned().await?;
            // The place is the thread's, not the caller's, who may stop waiting.
            let looked_up = tokio::task::spawn_blocking(move || {
                let _place = place;
                look_up(name.as_str()).map(|found| (name, found))
            });
            let (name, found) = looked_up.await?.map_err(|_| ResolveError::NoAddress)?;
            let permitted = permitted(name.as_str(), found, &rules)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    (name, 0).to_socket_addrs().map(Iterator::collect)
}

/// Keeps the first few addresses that may be connected to.
fn permitted(
    name: &str,
    found: Vec<SocketAddr>,
    rules: &guard::Rules,
) -> Result<Vec<SocketAddr>, ResolveError> {
    if found.is_empty() {
        return Err(ResolveError::NoAddress);
    }
    let mut kept = found;
    kept.retain(|address| rules.permits_resolved(name, address.ip()));
    kept.truncate(ADDRESSES);
    if kept.is_empty() {
        return Err(ResolveError::Forbidden);
    }
    Ok(kept)
}

fn is_listed(name: &str) -> bool {
    Url::parse(&format!("https://{name}/")).is_ok_and(|url| {
        let (_, listed) = Service::detect(&url);
        listed == Listed(true)
    })
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        let parse = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        texts.iter().map(parse).collect()
    }

    #[test]
    fn only_permitted_addresses_are_handed_on() {
        let rules = guard::Rules::default();
        let public = addresses(&["8.8.8.8", "2001:4860:4860::8888"]);
        let mixed = addresses(&[
            "127.0.0.1",
            "8.8.8.8",
            "::1",
            "2001:4860:4860::8888",
            "10.0.0.1",
        ]);
        let judged = |found, rules| permitted("push.example.org", found, rules);
        assert_eq!(judged(mixed, &rules), Ok(public));
        let inside = addresses(&["127.0.0.1", "169.254.169.254"]);
        let forbidden = judged(inside.clone(), &rules);
        assert_eq!(forbidden, Err(ResolveError::Forbidden));
        assert_eq!(judged(Vec::new(), &rules), Err(ResolveError::NoAddress));
        let named = guard::Rules {
            allow_hosts: guard::HostPattern::parse("push.example.org")
                .into_iter()
                .collect(),
            ..guard::Rules::default()
        };
        assert_eq!(judged(inside.clone(), &named), Ok(inside));
    }

    #[test]
    fn a_name_with_a_thousand_addresses_has_eight() {
        let many = vec![addresses(&["8.8.8.8"])[0]; 1000];
        let kept = permitted("push.example.org", many, &guard::Rules::default()).unwrap();
        assert_eq!(kept.len(), ADDRESSES);
    }

    #[tokio::test]
    async fn strangers_names_leave_places_for_the_large_services() {
        let resolver = GuardedResolver::new(Arc::new(guard::Rules::default()));
        let others = resolver.places("push.example.org");
        let _taken = join_all((0..OTHER_LOOKUPS).map(|_| others.acquire())).await;
        assert!(resolver.places("slow.example.net").try_acquire().is_err());
        assert!(resolver.places("fcm.googleapis.com").try_acquire().is_ok());
        assert!(resolver.places("web.push.apple.com").try_acquire().is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_to_loopback_is_refused() {
        let refused = |rules| async {
            let resolver = GuardedResolver::new(Arc::new(rules));
            resolver.resolve("localhost".parse().unwrap()).await.err()
        };
        let error = refused(guard::Rules::default()).await.unwrap();
        assert_eq!(
            error.downcast_ref::<ResolveError>(),
            Some(&ResolveError::Forbidden)
        );
        let allowed = guard::Rules {
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..guard::Rules::default()
        };
        assert!(refused(allowed).await.is_none());
    }
}
