//! The broker: its URL, its lanes, its delay bands.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::broker::{self, ClientCertificate, ControlMode, ControlSettings, Lane, Settings};
use crate::config::file::{self, File};
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::resolve::secret;
use crate::config::secrets::{locate, read_certificates};
use crate::control::Bounds;
use crate::message::TTL_LIMIT;
use crate::secret::Secret;

/// The key that has several URLs.
const LIST: &str = "broker.urls";

/// Resolves `[broker]`, `[lanes]` and `[delay]`.
pub(super) fn resolve(file: &File, scope: &mut Scope<'_>) -> Result<Settings, Reported> {
    let broker = &file.broker;
    let client = client(broker, scope);
    let urls = urls(broker, scope);
    let ca = certificates(scope, "broker.ca_file", broker.ca_file.as_ref());
    let prefix = scope.name("broker.prefix", &broker.prefix.0);
    let lanes = lanes(file, scope);
    let bands = bands(file, scope);
    let (urls, url_file) = urls?;
    Ok(Settings {
        urls,
        url_file,
        ca: ca?,
        client: client?,
        prefix: prefix?,
        declare: broker.declare,
        lanes: lanes?,
        bands: bands?,
        probe_interval: file.delay.probe.then(|| file.delay.probe_interval.get()),
        delivery_limit: broker.delivery_limit.get(),
        quarantine_age: broker.quarantine_age.get(),
        unrouted_messages: broker.unrouted_messages.get(),
        unrouted_age: broker.unrouted_age.get(),
        control: match broker.control {
            ControlMode::On => Some(ControlSettings {
                stream_bytes: broker.control_size.get(),
                bounds: Bounds {
                    targets: broker.control_targets.size(),
                    retention: longest_life(file),
                },
            }),
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

/// Finds the client's certificate and its key.
fn client(
    broker: &file::Broker,
    scope: &mut Scope<'_>,
) -> Result<Option<ClientCertificate>, Reported> {
    const KEY: &str = "broker.client_key";
    const FILE: &str = "broker.client_certificate_file";
    let key = secret::find(scope, KEY, None, broker.client_key_file.as_ref())?;
    let (written, key) = match (&broker.client_certificate_file, key) {
        (None, None) => return Ok(None),
        (Some(written), Some(key)) => (written, key),
        (None, Some(key)) => {
            let what = format!("is the key of a certificate: set {FILE} as well");
            return Err(scope.problem(&key.key, what));
        }
        (Some(_), None) => {
            let what = format!("is of no use without its key: set {KEY}_file as well");
            return Err(scope.problem(FILE, what));
        }
    };
    let certificate = locate(written, &scope.sources.of(FILE));
    let read = certificate.and_then(|path| Ok((read_certificates(&path)?, path)));
    let (text, certificate) = read.map_err(|what| scope.problem(FILE, what))?;
    broker::check_client_key(&text, key.bytes.expose())
        .map_err(|what| scope.problem(&key.key, what))?;
    // It cannot be inline, so there is a file.
    let key = key.path.unwrap_or_default();
    Ok(Some(ClientCertificate { certificate, key }))
}

/// The URLs, and the file that has them.
type Urls = (Vec<Secret<String>>, Option<PathBuf>);

/// Finds the URLs: a list, one URL, or a file with one URL in each line.
fn urls(broker: &file::Broker, scope: &mut Scope<'_>) -> Result<Urls, Reported> {
    let has_client_certificate = broker.client_certificate_file.is_some();
    if has_list(scope)? {
        return Ok((list(broker, scope)?, None));
    }
    let (inline, file) = (Some(&broker.url), broker.url_file.as_ref());
    let Some(found) = secret::find(scope, "broker.url", inline, file)? else {
        return Ok((vec![broker.url.0.clone()], None));
    };
    let text = std::str::from_utf8(found.bytes.expose());
    let text = text.map_err(|_| scope.problem(&found.key, "is not text"))?;
    let urls = match found.path {
        Some(_) => broker::lines(text),
        None => vec![Secret::new(text.trim().to_owned())],
    };
    broker::check_urls(&urls, has_client_certificate).map_err(|(index, what)| {
        let what = match urls.len() {
            0 | 1 => what,
            _ => format!("URL number {} {what}", index + 1),
        };
        scope.problem(&found.key, what)
    })?;
    Ok((urls, found.path))
}

/// Returns whether `broker.urls` has the last word.
fn has_list(scope: &mut Scope<'_>) -> Result<bool, Reported> {
    let rank = scope.sources.of(LIST).rank();
    let mut is_highest = true;
    for key in ["broker.url", "broker.url_file"] {
        let other = scope.sources.of(key).rank();
        if rank > 0 && rank == other {
            let what = format!("is set, and so is {key}; keep one of them");
            return Err(scope.problem(LIST, what));
        }
        is_highest &= rank > other;
    }
    Ok(is_highest)
}

fn list(broker: &file::Broker, scope: &mut Scope<'_>) -> Result<Vec<Secret<String>>, Reported> {
    if !scope.sound(&[LIST]) {
        return Err(Reported);
    }
    let urls: Vec<_> = broker.urls.iter().map(|url| url.0.clone()).collect();
    let lines: Vec<&str> = urls.iter().map(|url| url.expose().as_str()).collect();
    scope.note_contents(LIST, lines.join("\n").as_bytes());
    broker::check_urls(&urls, broker.client_certificate_file.is_some()).map_err(
        |(index, what)| match urls.len() {
            0 => scope.problem(LIST, "must have at least one URL, got none"),
            _ => scope.problem(&format!("{LIST}[{index}]"), what),
        },
    )?;
    Ok(urls)
}

/// Writes where the hosts of a broker are, without user, password and parameters.
#[must_use]
pub fn places(urls: &[Secret<String>]) -> String {
    urls.iter().map(place).collect::<Vec<_>>().join(", ")
}

fn place(url: &Secret<String>) -> String {
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
