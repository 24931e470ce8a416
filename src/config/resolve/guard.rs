//! Which hosts to push to: `[guard]` and `[services]`.

use std::collections::BTreeMap;

use url::Url;

use crate::config::file::File;
use crate::config::hosts::{Allowed, Hosts};
use crate::config::resolve::scope::{Reported, Scope};
use crate::guard;
use crate::origin::{Origin, Service, Services};

/// Resolves `[guard]` and `[services]`; `proxied` says that a proxy resolves the names of endpoints.
pub(super) fn resolve(
    file: &File,
    proxied: bool,
    scope: &mut Scope<'_>,
) -> Result<guard::Rules, Reported> {
    let services = services(file, scope);
    let hosts = hosts(file, scope);
    let guard = &file.guard;
    if guard.ports.is_empty() && scope.sound(&["guard.ports"]) {
        let what = "must have at least one port, got none; push services answer on 443";
        return Err(scope.problem("guard.ports", what));
    }
    let (allow, allow_hosts) = Allowed::parted(guard.allow.iter());
    let (deny, deny_hosts) = Allowed::parted(guard.deny.iter().map(|denied| &denied.0));
    Ok(guard::Rules {
        hosts: hosts?,
        allow,
        allow_hosts,
        deny,
        deny_hosts,
        ports: guard.ports.iter().map(|port| port.short()).collect(),
        http: guard.http,
        proxied,
        services: services?,
    })
}

fn hosts(file: &File, scope: &mut Scope<'_>) -> Result<guard::Hosts, Reported> {
    match &file.guard.hosts {
        Hosts::Public => Ok(guard::Hosts::Public),
        Hosts::Known => Ok(guard::Hosts::Known),
        Hosts::These(hosts)
            if hosts.is_empty()
                && file.services.is_empty()
                && scope.sound(&["guard.hosts", "services"]) =>
        {
            let what = "must have at least one host while there are no [services], got none";
            Err(scope.problem("guard.hosts", what))
        }
        Hosts::These(hosts) => Ok(guard::Hosts::These(
            hosts.iter().map(|host| host.0.clone()).collect(),
        )),
    }
}

fn services(file: &File, scope: &mut Scope<'_>) -> Result<Services, Reported> {
    let mut written = BTreeMap::new();
    let mut services = Vec::new();
    let mut failed = None;
    for name in file.services.keys() {
        match service(file, scope, name, &mut written) {
            Ok(service) => services.push(service),
            Err(reported) => failed = Some(reported),
        }
    }
    failed.map_or(Ok(services.into_iter().collect()), Err)
}

/// Resolves one service; `written` has the name by which each origin was given.
fn service<'a>(
    file: &'a File,
    scope: &mut Scope<'_>,
    name: &'a str,
    written: &mut BTreeMap<Origin, &'a str>,
) -> Result<(Origin, Service), Reported> {
    let section = format!("services.{name}");
    let url = origin_url(name).map_err(|what| scope.missing(&section, what))?;
    let origin = Origin::of(&url);
    if let Some(other) = written.insert(origin.clone(), name) {
        let what = format!("is the same origin as services.{other}; one of them is enough");
        return Err(scope.missing(&section, what));
    }
    if url.scheme() == "http" && !file.guard.http && scope.sound(&["guard.http"]) {
        let what = "is an http origin, which is pushed to only with guard.http = true";
        return Err(scope.missing(&section, what));
    }
    let key = format!("{section}.as");
    match file.services.get(name).and_then(|service| service.family) {
        Some(family) => Ok((origin, family.0)),
        // One of the wrong shape is reported already.
        None if !scope.sound(&[&key]) => Err(Reported),
        None => {
            let what = "needs as, the family of the push service there, for example as = \"ntfy\"";
            Err(scope.missing(&section, what))
        }
    }
}

/// Parses an origin, which has a scheme, a host, at most a port, and nothing more.
fn origin_url(text: &str) -> Result<Url, &'static str> {
    const EXPECTED: &str = "expected an origin such as https://push.example.org or \
                            https://push.example.org:8443";
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(EXPECTED);
    }
    if url.host_str().is_some_and(|host| host.ends_with('.')) {
        return Err("the host ends in a dot, as that of no endpoint does");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an origin has no user name and no password");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("has a path; an origin ends with the host or the port");
    }
    Ok(url)
}
