//! The applications of `[apps]`, and the ring of keys of each.

use std::collections::BTreeSet;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use crate::app::{App, RequestRules};
use crate::config::file::{self, File};
use crate::config::resolve::broker::collect;
use crate::config::resolve::keys::{self, Keys};
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::shape::one_of;
use crate::config::text::Text;
use crate::config::text::looks_secret;
use crate::ece::Padding;
use crate::message::Name;
use crate::vapid::{KeyRing, Subject, VapidKey};
use crate::words::nearest;

/// Resolves `[apps]` and `[keys]`.
pub(super) fn resolve(file: &File, scope: &mut Scope<'_>) -> Result<Vec<Arc<App>>, Reported> {
    let keys = keys::read(file, scope);
    if file.apps.is_empty() && scope.sound(&["apps"]) {
        let what = "no application is configured; write a section [apps.NAME] with subject = \
                    \"mailto:you@your-domain\"";
        scope.missing("apps", what);
    }
    let mut used = BTreeSet::new();
    let apps = file.apps.iter();
    let apps = collect(apps.map(|(name, app)| one(name, app, &keys, &mut used, scope)));
    for id in keys.keys().filter(|id| !used.contains(*id)) {
        scope.warn(&format!("keys.{id}"), "no application uses it");
    }
    apps
}

fn one(
    name: &str,
    app: &file::App,
    keys: &Keys,
    used: &mut BTreeSet<String>,
    scope: &mut Scope<'_>,
) -> Result<Arc<App>, Reported> {
    let section = format!("apps.{name}");
    let parsed = app_name(&section, name, scope);
    let subject = subject(&section, app.subject.as_ref(), scope);
    let ring = ring(&section, app, keys, used, scope);
    let ttl = ttl(&section, app, scope);
    Ok(Arc::new(App {
        name: parsed?,
        subject: subject?,
        ring: ring?,
        ttl: ttl?,
        results: app.results,
        progress: app.progress,
        mode: app.mode,
        payload_limit: app.payload_limit.bytes(),
        max_per_second: app
            .max_per_second
            .and_then(|count| NonZeroU32::new(count.get())),
        endpoint: app.endpoint,
        requests: requests(app),
    }))
}

fn requests(app: &file::App) -> RequestRules {
    let own = app.payload_limits.iter();
    RequestRules {
        aesgcm: app.aesgcm,
        padding: match app.padding {
            file::Padding::None => Padding::None,
            file::Padding::Block(block) => {
                let block = u16::try_from(block.get()).ok().and_then(NonZeroU16::new);
                block.map_or(Padding::ToCeiling, Padding::ToBlock)
            }
            file::Padding::Ceiling => Padding::ToCeiling,
        },
        declarative: app.declarative_content_type,
        payload_limits: own
            .map(|(service, limit)| (*service, limit.bytes()))
            .collect(),
    }
}

fn app_name(section: &str, name: &str, scope: &mut Scope<'_>) -> Result<Name, Reported> {
    if name.starts_with('_') {
        // Results of events that name no known application go by `_unknown`.
        return Err(scope.missing(section, "names that begin with _ are reserved"));
    }
    scope.name(section, name)
}

fn subject(
    section: &str,
    subject: Option<&Text>,
    scope: &mut Scope<'_>,
) -> Result<Subject, Reported> {
    let key = format!("{section}.subject");
    let Some(Text(text)) = subject else {
        if !scope.sound(&[&key]) {
            return Err(Reported);
        }
        let what = "is missing; write where push services can reach you: subject = \
                    \"mailto:you@your-domain\"";
        return Err(scope.missing(&key, what));
    };
    Subject::parse(text).map_err(|error| scope.problem(&key, error.to_string()))
}

fn ttl(section: &str, app: &file::App, scope: &mut Scope<'_>) -> Result<u32, Reported> {
    let ttl = app.ttl.get();
    match u32::try_from(ttl.as_secs()) {
        Ok(seconds) if ttl.subsec_nanos() == 0 => Ok(seconds),
        _ => Err(scope.problem(&format!("{section}.ttl"), "must be in whole seconds")),
    }
}

fn ring(
    section: &str,
    app: &file::App,
    keys: &Keys,
    used: &mut BTreeSet<String>,
    scope: &mut Scope<'_>,
) -> Result<KeyRing, Reported> {
    let primary = primary(section, app, keys, scope);
    let mut older = Vec::new();
    let mut named = BTreeSet::from_iter(primary.as_ref().ok().copied());
    for (index, Text(id)) in app.keys.iter().enumerate() {
        let key = format!("{section}.keys[{index}]");
        older.push(if named.insert(id) {
            lookup(&key, id, keys, scope)
        } else {
            Err(scope.problem(&key, format!("the ring has \"{id}\" already")))
        });
    }
    used.extend(named.into_iter().cloned());
    let primary = primary.and_then(|id| lookup(&format!("{section}.primary"), id, keys, scope));
    let older = collect(older.into_iter());
    Ok(KeyRing {
        primary: primary?,
        older: older?,
    })
}

/// Returns the id of the key that signs: the one that is named, or the only one there is.
fn primary<'a>(
    section: &str,
    app: &'a file::App,
    keys: &'a Keys,
    scope: &mut Scope<'_>,
) -> Result<&'a String, Reported> {
    let key = format!("{section}.primary");
    if let Some(Text(id)) = &app.primary {
        return Ok(id);
    }
    let mut ids = keys.keys();
    match (ids.next(), ids.next()) {
        (Some(only), None) => Ok(only),
        _ if !scope.sound(&[&key]) => Err(Reported),
        (None, _) if !scope.sound(&["keys"]) => Err(Reported),
        (None, _) => {
            let what = "there is no key to sign with; `pushrider keys generate --out FILE` makes \
                        one, and a section [keys.ID] with private_key_file = \"FILE\" names it";
            Err(scope.missing("keys", what))
        }
        (Some(_), Some(_)) => {
            let ids: Vec<&str> = keys.keys().map(String::as_str).collect();
            let what = format!("is missing; name the key that signs: {}", one_of(&ids));
            Err(scope.missing(&key, what))
        }
    }
}

fn lookup(
    key: &str,
    id: &str,
    keys: &Keys,
    scope: &mut Scope<'_>,
) -> Result<Arc<VapidKey>, Reported> {
    match keys.get(id) {
        Some(Ok(found)) => Ok(Arc::clone(found)),
        Some(Err(Reported)) => Err(Reported),
        // A private key in the place of its id is not repeated.
        None if looks_secret(id) => {
            Err(scope.problem(key, "expected the id of a section [keys.ID]"))
        }
        None => {
            let near = nearest(id, keys.keys().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            Err(scope.problem(key, format!("there is no section [keys.{id}]{near}")))
        }
    }
}
