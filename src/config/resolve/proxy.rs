//! The proxy on the way to push services: `push.proxy`.

use std::str;

use crate::config::file::File;
use crate::config::request::PROXY_VARIABLES;
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::resolve::secret;
use crate::push_service::Proxy;

const KEY: &str = "push.proxy";

/// Resolves `push.proxy`, and warns of a proxy of the environment that is not used.
pub(super) fn resolve(file: &File, scope: &mut Scope<'_>) -> Result<Option<Proxy>, Reported> {
    let push = &file.push;
    let found = secret::find(scope, KEY, push.proxy.as_ref(), push.proxy_file.as_ref())?;
    let Some(found) = found else {
        if scope.sound(&[KEY]) {
            warn_of_variables(scope);
        }
        return Ok(None);
    };
    let text = str::from_utf8(found.bytes.expose()).map(str::trim);
    let text = text.map_err(|_| scope.problem(&found.key, "is not text"))?;
    let proxy = Proxy::parse(text).map_err(|error| scope.problem(&found.key, error.to_string()))?;
    if file.guard.http {
        let what = "cannot be used with guard.http = true: the proxy would read and answer plain \
                    http requests itself; leave one of them out";
        return Err(scope.problem(&found.key, what));
    }
    Ok(Some(proxy))
}

fn warn_of_variables(scope: &mut Scope<'_>) {
    let is_set = |name: &&str| scope.environment.get(name).is_some();
    let set: Vec<&str> = PROXY_VARIABLES.into_iter().filter(is_set).collect();
    if !set.is_empty() {
        let what = format!(
            "the proxy of the environment ({}) is not used: requests to push services go out \
             directly; to send them through a proxy, set push.proxy",
            set.join(", ")
        );
        scope.warn(KEY, what);
    }
}
