//! Names become addresses here, and only those the guard permits are handed on.
//!
//! What can go wrong: an unlisted host's name leads to an address inside (SSRF), leads there only the
//! second time (rebinding), has a thousand addresses, or never resolves. The connection is made
//! to the very addresses judged here, each new connection is judged anew, few addresses are
//! tried, and lookups are bounded in number. A lookup cannot be called off: its thread ends when
//! the system's resolver gives up. So one that takes long gives its place to the next name, while
//! there are fewer than [`SLOW_LOOKUPS`] of them, and one domain has few lookups at a time. The
//! large services have permits of their own, which no other name can use.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use crate::guard;
use crate::keyed_semaphore::{KeyPermit, KeyedSemaphore};
use crate::origin::Service;

/// How many names of the large push services are looked up at a time.
const LISTED_LOOKUPS: usize = 8;

/// How many other names are looked up at a time.
const OTHER_LOOKUPS: usize = 24;

/// How many other names of one domain are looked up at a time.
const LOOKUPS_OF_DOMAIN: usize = 4;

/// A lookup that takes longer gives its place to another.
const QUICK: Duration = Duration::from_millis(500);

/// How many lookups that take longer go on without a place.
const SLOW_LOOKUPS: usize = 200;

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

/// Looks a name up, however long that takes.
type LookUp = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// Resolves names by the operating system, through the guard.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    rules: Arc<guard::Rules>,
    listed: Arc<Semaphore>,
    others: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    domains: Arc<KeyedSemaphore<Box<str>>>,
    look_up: LookUp,
}

/// What a lookup holds.
struct Held {
    place: OwnedSemaphorePermit,
    _domain: Option<KeyPermit<Box<str>>>,
}

impl GuardedResolver {
    /// Creates a resolver that hands on only addresses `rules` permit.
    pub(super) fn new(rules: Arc<guard::Rules>) -> Self {
        Self {
            rules,
            listed: Arc::new(Semaphore::new(LISTED_LOOKUPS)),
            others: Arc::new(Semaphore::new(OTHER_LOOKUPS)),
            slow: Arc::new(Semaphore::new(SLOW_LOOKUPS)),
            domains: Arc::new(KeyedSemaphore::new(LOOKUPS_OF_DOMAIN, usize::MAX)),
            look_up: |name| (name, 0).to_socket_addrs().map(Iterator::collect),
        }
    }

    /// Waits until a name may be looked up.
    async fn admit(&self, name: &str) -> Option<Held> {
        let is_listed = is_listed(name) || self.rules.services.has_host(name);
        let (places, domain) = if is_listed {
            (&self.listed, None)
        } else {
            let domain = self.domains.acquire(domain_of(name).into()).await?;
            (&self.others, Some(domain))
        };
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        Some(Held {
            place,
            _domain: domain,
        })
    }

    async fn look_up(self, name: Arc<str>, mut held: Held) -> io::Result<Vec<SocketAddr>> {
        let look_up = self.look_up;
        let mut looking = spawn_blocking(move || look_up(&name));
        if let Ok(found) = timeout(QUICK, &mut looking).await {
            return found?;
        }
        if let Ok(slow) = self.slow.try_acquire_owned() {
            held.place = slow;
        }
        let found = looking.await;
        drop(held);
        found?
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let name: Arc<str> = name.as_str().into();
            let held = resolver.admit(&name).await.ok_or(ResolveError::NoAddress)?;
            let rules = Arc::clone(&resolver.rules);
            // The lookup holds it, not the caller, which may stop waiting.
            let looked_up = tokio::spawn(resolver.look_up(Arc::clone(&name), held));
            let found = looked_up.await?.map_err(|_| ResolveError::NoAddress)?;
            let permitted = permitted(&name, found, &rules)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Returns the last two labels of a name, which mostly have one owner.
fn domain_of(name: &str) -> &str {
    let name = name.trim_end_matches('.');
    let dot = name.rmatch_indices('.').nth(1);
    dot.map_or(name, |(dot, _)| &name[dot + 1..])
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
        let (_, listing) = Service::detect(&url);
        listing.is_listed()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use tokio::task::JoinHandle;

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

    /// Resolves every name to a public address; one that begins with `hangs` after five seconds.
    fn resolver() -> GuardedResolver {
        let mut resolver = GuardedResolver::new(Arc::default());
        resolver.look_up = |name| {
            if name.starts_with("hangs") {
                let (_open, silent) = mpsc::channel::<()>();
                let _timeout = silent.recv_timeout(Duration::from_secs(5));
            }
            Ok(addresses(&["8.8.8.8"]))
        };
        resolver
    }

    fn begin(resolver: &GuardedResolver, name: &str) -> JoinHandle<bool> {
        let resolving = resolver.resolve(name.parse().unwrap());
        tokio::spawn(async move { resolving.await.is_ok() })
    }

    #[tokio::test]
    async fn names_that_hang_do_not_starve_the_others() {
        let resolver = resolver();
        let hang: Vec<_> = (0..200)
            .map(|n| begin(&resolver, &format!("hangs{n}.d{}.example", n % 20)))
            .collect();
        tokio::task::yield_now().await;
        for name in ["push.example.org", "fcm.googleapis.com"] {
            let found = timeout(Duration::from_millis(4500), begin(&resolver, name));
            assert!(found.await.is_ok_and(|found| found.unwrap()), "{name}");
        }
        for hanging in hang {
            hanging.abort();
        }
    }

    #[tokio::test]
    async fn names_that_hang_leave_places_for_the_large_services() {
        let resolver = resolver();
        let _taken = Arc::clone(&resolver.others).acquire_many_owned(24).await;
        let found = begin(&resolver, "web.push.apple.com");
        assert!(found.await.unwrap());
        let others = timeout(QUICK, resolver.admit("push.example.org"));
        assert!(others.await.is_err());
    }

    #[tokio::test]
    async fn one_domain_has_few_lookups_at_a_time() {
        let resolver = resolver();
        let names = (0..LOOKUPS_OF_DOMAIN).map(|n| format!("n{n}.example.org"));
        let held = join_all(names.map(async |name| resolver.admit(&name).await)).await;
        assert!(held.iter().all(Option::is_some));
        let another = async |name| timeout(QUICK, resolver.admit(name)).await.is_ok();
        assert!(!another("a.b.example.org.").await);
        assert!(another("a.example.net").await);
    }

    #[test]
    fn a_domain_is_the_last_two_labels() {
        for (name, domain) in [
            ("a.b.example.org", "example.org"),
            ("a.example.org.", "example.org"),
            ("example.org", "example.org"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(domain_of(name), domain);
        }
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
