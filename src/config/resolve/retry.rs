//! Retries: the general policy, and those of families of push services.

use crate::config::file::{File, Retry, ServiceRetry};
use crate::config::resolve::bounds::{at_most, quoted};
use crate::config::resolve::broker::collect;
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::shape::one_of;
use crate::origin::Service;
use crate::retry::{Policies, Policy};
use crate::words::nearest;

/// Resolves `[retry]`.
pub(super) fn policies(file: &File, scope: &mut Scope<'_>) -> Result<Policies, Reported> {
    let general = general(&file.retry, scope);
    let own = file.retry.services.iter().map(|(name, own)| {
        let service = service(name, scope)?;
        Ok((service, of_service(general, name, own, scope)))
    });
    Ok(Policies::new(general, collect(own)?))
}

fn general(retry: &Retry, scope: &mut Scope<'_>) -> Policy {
    let [base, cap] = [retry.base.get(), retry.cap.get()];
    let keys = ["retry.base", "retry.cap"];
    if base > cap && scope.sound(&keys) {
        at_most(scope, keys, quoted(cap), quoted(base));
    }
    Policy {
        max_attempts: retry.max_attempts.get(),
        base,
        cap,
        retry_after_cap: retry.retry_after_cap.get(),
    }
}

fn service(name: &str, scope: &mut Scope<'_>) -> Result<Service, Reported> {
    Service::named(name).ok_or_else(|| {
        let names: Vec<_> = Service::ALL.iter().map(|service| service.name()).collect();
        let what = match nearest(name, names.iter().copied()) {
            Some(near) => format!("no such family of push services; did you mean {near}?"),
            None => format!("expected a family of push services: {}", one_of(&names)),
        };
        scope.missing(&format!("retry.services.{name}"), what)
    })
}

/// What a family does not say is as in general; only what is said can be wrong here.
fn of_service(general: Policy, name: &str, own: &ServiceRetry, scope: &mut Scope<'_>) -> Policy {
    let policy = Policy {
        max_attempts: own.max_attempts.map_or(general.max_attempts, |it| it.get()),
        base: own.base.map_or(general.base, |it| it.get()),
        cap: own.cap.map_or(general.cap, |it| it.get()),
        retry_after_cap: own
            .retry_after_cap
            .map_or(general.retry_after_cap, |it| it.get()),
    };
    let [base, cap] = ["base", "cap"].map(|key| format!("retry.services.{name}.{key}"));
    if policy.base <= policy.cap || !scope.sound(&[&base, &cap, "retry.base", "retry.cap"]) {
        return policy;
    }
    let (got, limit) = (quoted(policy.base), quoted(policy.cap));
    match (own.base, own.cap) {
        (Some(_), Some(_)) => at_most(scope, [&base, &cap], limit, got),
        (Some(_), None) => at_most(scope, [&base, "retry.cap"], limit, got),
        (None, Some(_)) => {
            let what = format!("must be at least retry.base ({got}), got {limit}");
            scope.problem(&cap, what);
        }
        // The general policy is wrong, and was judged.
        (None, None) => {}
    }
    policy
}
