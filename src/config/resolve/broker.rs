//! The broker: its URL, its lanes, its delay bands.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::broker::{ControlMode, Lane, Settings, check_url};
use crate::config::file::{self, File};
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::resolve::secret;
use crate::config::secrets::{locate, read_certificates};
use crate::message::TTL_LIMIT;
use crate::secret::Secret;

/// Resolves `[broker]`, `[lanes]` and `[delay]`.
pub(super) fn resolve(file: &File, scope: &mut Scope<'_>) -> Result<Settings, Reported> {
    let broker = &file.broker;
    let url = url(broker, scope);
    let ca = certificates(scope, "broker.ca_file", broker.ca_file.as_ref());
    let prefix = scope.name("broker.prefix", &broker.prefix.0);
    let lanes = lanes(file, scope);
    let bands = bands(file, scope);
    let (url, url_file) = url?;
    Ok(Settings {
        url,
        url_file,
        ca: ca?,
        prefix: prefix?,
        declare: broker.declare,
        lanes: lanes?,
        bands: bands?,
        delivery_limit: broker.delivery_limit.get(),
        quarantine_age: broker.quarantine_age.get(),
        unrouted_messages: broker.unrouted_messages.get(),
        unrouted_age: broker.unrouted_age.get(),
        control_retention: match broker.control {
            ControlMode::On => Some(longest_life(file)),
            ControlMode::Off => None,
        },
        heartbeat: broker.heartbeat.get(),
        connect_timeout: broker.connect_timeout.get(),
        confirm_timeout: broker.confirm_timeout.get(),
    })
}

/// Returns how long an event may be under way: until it is due, and for the longest TTL from then on.
fn longest_life(file: &File) -> Duration {
    file.events.schedule_limit.get() + Duration::from_secs(TTL_LIMIT.into())
}

/// Reads the certificates a key names.
pub(super) fn certificates(
    scope: &mut Scope<'_>,
    key: &str,
    path: Option<&PathBuf>,
) -> Result<Option<String>, Reported> {
    let Some(written) = path else {
        return Ok(None);
    };
    let read = locate(written, &scope.sources.of(key)).and_then(|path| read_certificates(&path));
    let text = read.map_err(|what| scope.problem(key, what))?;
    scope.note_contents(key, text.as_bytes());
    Ok(Some(text))
}

/// Returns the URL and the file that has it.
fn url(
    broker: &file::Broker,
    scope: &mut Scope<'_>,
) -> Result<(Secret<String>, Option<PathBuf>), Reported> {
    let (inline, file) = (Some(&broker.url), broker.url_file.as_ref());
    let Some(found) = secret::find(scope, "broker.url", inline, file)? else {
        return Ok((broker.url.0.clone(), None));
    };
    let text = std::str::from_utf8(found.bytes.expose()).map(str::trim);
    let text = text.map_err(|_| scope.problem(&found.key, "is not text"))?;
    check_url(text).map_err(|what| scope.problem(&found.key, what))?;
    Ok((Secret::new(text.to_owned()), found.path))
}

/// Writes where a broker is, without user, password and parameters.
#[must_use]
pub fn place(url: &Secret<String>) -> String {
    let Ok(url) = Url::parse(url.expose()) else {
        return "(hidden)".to_owned();
    };
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

fn lanes(file: &File, scope: &mut Scope<'_>) -> Result<Vec<Lane>, Reported> {
    let lanes = file.lanes.iter().map(|(name, lane)| {
        let name = scope.name(&format!("lanes.{name}"), name)?;
        Ok(Lane {
            name,
            prefetch: lane.prefetch.short(),
            due_prefetch: lane.due_prefetch.short(),
            max_bytes: lane.max_size.map(|size| size.get()),
        })
    });
    collect(lanes)
}

/// Returns all values or nothing, but resolves each, so that every problem is found.
pub(super) fn collect<T>(
    results: impl Iterator<Item = Result<T, Reported>>,
) -> Result<Vec<T>, Reported> {
    let results: Vec<_> = results.collect();
    results.into_iter().collect()
}

fn bands(file: &File, scope: &mut Scope<'_>) -> Result<Vec<Duration>, Reported> {
    const KEY: &str = "delay.bands";
    let bands = &file.delay.bands;
    if !scope.sound(&[KEY]) {
        return Err(Reported);
    }
    if bands.is_empty() {
        return Err(scope.problem(KEY, "must have at least one band such as \"1s\", got none"));
    }
    let pairs = bands.windows(2).enumerate();
    let wrong: Vec<_> = pairs.filter(|(_, pair)| pair[1] <= pair[0]).collect();
    for (index, pair) in &wrong {
        let (before, band) = (pair[0], pair[1]);
        let what = format!("must be longer than the band before it (\"{before}\"), got \"{band}\"");
        scope.problem(&format!("{KEY}[{}]", index + 1), what);
    }
    if wrong.is_empty() {
        Ok(bands.iter().map(|band| band.get()).collect())
    } else {
        Err(Reported)
    }
}
