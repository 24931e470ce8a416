//! Sending: deadlines, connections, permits, breakers, retries, and how they fit together.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::file::File;
use crate::config::request::STATE_VARIABLE;
use crate::config::resolve::bounds::{at_most, quoted};
use crate::config::resolve::broker::certificates;
use crate::config::resolve::guard;
use crate::config::resolve::proxy;
use crate::config::resolve::retry::policies;
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::secrets::locate;
use crate::gate;
use crate::push_service;
use crate::retry;

/// What `[push]`, `[gate]`, `[retry]`, `[guard]` and `[services]` come to.
pub(super) struct Sending {
    pub(super) push_service: push_service::Settings,
    pub(super) gate: gate::Settings,
    pub(super) retry: retry::Policies,
}

/// Resolves `[push]`, `[gate]`, `[retry]`, `[guard]` and `[services]`.
pub(super) fn resolve(file: &File, scope: &mut Scope<'_>) -> Result<Sending, Reported> {
    let push = &file.push;
    let ca = certificates(scope, "push.ca_file", push.ca_file.as_ref());
    let proxy = proxy::resolve(file, scope);
    let proxied = matches!(proxy, Ok(Some(_)));
    let guard = guard::resolve(file, proxied, scope);
    let connect_timeout = connect_timeout(file, scope);
    let per_origin = per_origin(file, scope);
    check_grace(file, scope);
    let retry = policies(file, scope);
    Ok(Sending {
        push_service: push_service::Settings {
            connect_timeout,
            ca: ca?,
            proxy: proxy?,
            connections_per_origin: push.connections_per_origin.size(),
            requests_per_connection: push.requests_per_connection.size(),
            idle_timeout: push.idle_timeout.get(),
            guard: Arc::new(guard?),
        },
        gate: gate::Settings {
            in_flight: push.in_flight.size(),
            per_origin,
            max_wait: push.max_wait.get(),
            rate: rate(file),
            breaker: breaker(file, scope),
        },
        retry: retry?,
    })
}

/// Returns where state is kept: where the key says, else the service manager's state directory.
pub(super) fn state_dir(file: &File, scope: &mut Scope<'_>) -> Result<Option<PathBuf>, Reported> {
    const KEY: &str = "push.state_dir";
    let Some(written) = &file.push.state_dir else {
        // Of several directories, which colons divide, the first.
        let offered = scope.environment.get(STATE_VARIABLE);
        let first = offered.and_then(|all| all.split(':').next());
        return Ok(first.map(PathBuf::from));
    };
    let found = locate(written, &scope.sources.of(KEY)).map_err(|what| scope.problem(KEY, what))?;
    if found.is_dir() {
        return Ok(Some(found));
    }
    let what = format!(
        "{} is not a directory; make it, for the daemon to write to",
        found.display()
    );
    Err(scope.problem(KEY, what))
}

/// A whole exchange includes connecting. The default gives way to a shorter deadline.
fn connect_timeout(file: &File, scope: &mut Scope<'_>) -> Duration {
    let [timeout, connect] = [file.push.timeout.get(), file.push.connect_timeout.get()];
    let keys = ["push.connect_timeout", "push.timeout"];
    if connect > timeout && scope.is_set(keys[0]) && scope.sound(&keys) {
        at_most(scope, keys, quoted(timeout), quoted(connect));
    }
    connect.min(timeout)
}

/// One origin cannot have more than all. The default gives way to a smaller whole.
fn per_origin(file: &File, scope: &mut Scope<'_>) -> usize {
    let [all, one] = [file.push.in_flight, file.push.per_origin].map(|count| count.size());
    let keys = ["push.per_origin", "push.in_flight"];
    if one > all && scope.is_set(keys[0]) && scope.sound(&keys) {
        at_most(scope, keys, all, one);
    }
    one.min(all)
}

/// The default of the cap gives way to a longer time.
fn breaker(file: &File, scope: &mut Scope<'_>) -> gate::BreakerSettings {
    let [open, cap] = [file.gate.open.get(), file.gate.open_cap.get()];
    let keys = ["gate.open", "gate.open_cap"];
    if open > cap && scope.is_set(keys[1]) && scope.sound(&keys) {
        at_most(scope, keys, quoted(cap), quoted(open));
    }
    gate::BreakerSettings {
        failures: file.gate.failures.get(),
        open,
        open_cap: cap.max(open),
    }
}

fn rate(file: &File) -> Option<gate::Rate> {
    let requests = NonZeroU32::new(file.push.requests_per_second?.get());
    requests.map(gate::Rate::per_second)
}

/// What is in flight at a signal gets its whole deadline: otherwise every restart pushes twice.
fn check_grace(file: &File, scope: &mut Scope<'_>) {
    const KEYS: [&str; 3] = ["push.timeout", "shutdown.grace", "push.max_wait"];
    let [timeout, wait] = [file.push.timeout.get(), file.push.max_wait.get()];
    let (needed, grace) = (timeout + wait, file.shutdown.grace.get());
    if needed < grace || !scope.sound(&KEYS) {
        return;
    }
    // The key of the highest layer is the one that was changed last; of equals, the first.
    let rank = |key: &&str| scope.sources.of(key).rank();
    let changed = KEYS.into_iter().rev().max_by_key(rank).unwrap_or(KEYS[0]);
    let what = if changed == KEYS[1] {
        let needed = quoted(needed);
        format!(
            "must be longer than push.timeout and push.max_wait together ({needed}), got {}",
            quoted(grace)
        )
    } else {
        let (other, other_value, got) = if changed == KEYS[0] {
            (KEYS[2], wait, timeout)
        } else {
            (KEYS[0], timeout, wait)
        };
        format!(
            "must be, together with {other} ({}), shorter than shutdown.grace ({}), got {}",
            quoted(other_value),
            quoted(grace),
            quoted(got)
        )
    };
    scope.problem(changed, what);
}
