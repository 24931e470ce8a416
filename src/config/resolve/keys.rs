//! The keys of `[keys]`, read from wherever each one is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::file::{File, Key};
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::resolve::secret;
use crate::config::text::Text;
use crate::vapid::VapidKey;

/// Every key that was written down, by its id; one that cannot be read is known all the same, so
/// that an application that names it has no problem of its own.
pub(super) type Keys = BTreeMap<String, Result<Arc<VapidKey>, Reported>>;

/// Reads every key: those of the file, and those the service manager gives as credentials called
/// `keys.ID.private_key`.
pub(super) fn read(file: &File, scope: &mut Scope<'_>) -> Keys {
    let mut written = file.keys.clone();
    for credential in secret::credentials(scope) {
        let id = credential.strip_prefix("keys.");
        if let Some(id) = id.and_then(|rest| rest.strip_suffix(".private_key")) {
            written.entry(id.to_owned()).or_default();
        }
    }
    let keys: Keys = written
        .into_iter()
        .map(|(id, key)| (id.clone(), read_one(&id, &key, scope)))
        .collect();
    warn_of_equal_keys(&keys, scope);
    keys
}

fn read_one(id: &str, key: &Key, scope: &mut Scope<'_>) -> Result<Arc<VapidKey>, Reported> {
    let section = format!("keys.{id}");
    let name = scope.name(&section, id)?;
    let secret_key = format!("{section}.private_key");
    let (inline, file) = (key.private_key.as_ref(), key.private_key_file.as_ref());
    let Some(found) = secret::find(scope, &secret_key, inline, file)? else {
        if !scope.sound(&[&section]) {
            return Err(Reported);
        }
        let what = "needs private_key_file, the path of a private key; `pushrider keys generate \
                    --out FILE` makes one";
        return Err(scope.missing(&section, what));
    };
    let vapid = VapidKey::parse(name, found.bytes.expose())
        .map_err(|error| scope.problem(&found.key, error.to_string()))?;
    if let Some(Text(public)) = &key.public_key
        && !vapid.has_public_half(public)
    {
        let what = format!(
            "is not the public half of the private key, which is {}; restore the pair with which \
             pages subscribed",
            vapid.public_key_base64url()
        );
        return Err(scope.problem(&format!("{section}.public_key"), what));
    }
    Ok(Arc::new(vapid))
}

/// Warns of one key under two ids, which a ring would try twice.
fn warn_of_equal_keys(keys: &Keys, scope: &mut Scope<'_>) {
    let mut seen = BTreeMap::new();
    for (id, key) in keys {
        if let Ok(key) = key
            && let Some(other) = seen.insert(*key.public_key(), id)
        {
            scope.warn(
                &format!("keys.{id}"),
                format!("is the same key as keys.{other}"),
            );
        }
    }
}
