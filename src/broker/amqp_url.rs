//! The AMQP URL: which one can be used, and what is wrong with any other.
//!
//! What can go wrong here: a password with a reserved character moves the end of the host, and every
//! client reads another host out of it. A parameter after `?` that nothing reads makes a connection
//! other than the one that was asked for. So both are refused. A sentence never quotes the URL, save
//! for the name of a parameter that is known or nearly so.

use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use url::{Host, ParseError, Url};

use crate::secret::Secret;
use crate::words::nearest;

const FORM: &str = "amqp://user:password@host:5672/virtual-host";

/// The largest and the smallest frame that may be asked for, in bytes (AMQP 0-9-1, section 4.2.3, has
/// the smallest; buffers are made for the largest).
const FRAME_MAX: u32 = 128 * 1024;
const FRAME_MIN: u32 = 4096;

/// The parameters that are obeyed.
const OBEYED: [&str; 3] = ["heartbeat", "frame_max", "auth_mechanism"];

/// The parameters of RabbitMQ's and pika's URLs that are refused, and what to do in their place.
const REFUSED: [(&str, &str); 18] = [
    ("cacertfile", CA_FILE),
    ("ca_certs", CA_FILE),
    ("certfile", CLIENT_CERTIFICATE),
    ("keyfile", CLIENT_CERTIFICATE),
    (
        "password",
        "leave it out; broker.client_key_file has a key without a passphrase",
    ),
    ("verify", VERIFY),
    ("depth", VERIFY),
    ("fail_if_no_peer_cert", VERIFY),
    ("ssl_options", CA_FILE),
    (
        "server_name_indication",
        "leave it out; the certificate must have the name of the host in the URL",
    ),
    ("connection_timeout", TIMEOUT),
    ("socket_timeout", TIMEOUT),
    ("stack_timeout", TIMEOUT),
    ("connection_attempts", ATTEMPTS),
    ("retry_delay", ATTEMPTS),
    (
        "blocked_connection_timeout",
        "leave it out; publishing goes on when the broker ends the block",
    ),
    (
        "channel_max",
        "leave it out; a connection has only a few channels",
    ),
    ("locale", "leave it out; the broker has only en_US"),
];
const CA_FILE: &str = "set broker.ca_file in its place";
const CLIENT_CERTIFICATE: &str =
    "set broker.client_certificate_file and broker.client_key_file in its place";
const VERIFY: &str = "leave it out; with amqps:// the certificate is always verified, and \
                      broker.ca_file names a CA that the system does not know";
const TIMEOUT: &str = "set broker.connect_timeout in its place";
const ATTEMPTS: &str = "leave it out; a broker that is away is tried again until it is there";

/// Returns the AMQP URLs of a file: one in each line.
#[must_use]
pub fn lines(text: &str) -> Vec<Secret<String>> {
    let lines = text.lines().map(str::trim);
    let urls = lines.filter(|line| !line.is_empty());
    urls.map(|url| Secret::new(url.to_owned())).collect()
}

/// Judges the AMQP URLs of the hosts of one broker; those that log in by a client certificate need one.
///
/// # Errors
/// With the index of a URL, and the rest of a sentence that begins with the name of the URL and says
/// what to write.
pub fn check_urls(
    urls: &[Secret<String>],
    has_client_certificate: bool,
) -> Result<(), (usize, String)> {
    read_all(urls, has_client_certificate).map(drop)
}

/// Reads AMQP URLs; the errors are those of [`check_urls`].
pub(super) fn read_all(
    urls: &[Secret<String>],
    has_client_certificate: bool,
) -> Result<Vec<AMQPUri>, (usize, String)> {
    let mut uris: Vec<AMQPUri> = Vec::with_capacity(urls.len());
    for (index, url) in urls.iter().enumerate() {
        let uri = read(url.expose()).map_err(|what| (index, what))?;
        if uris.first().is_some_and(|first| first.vhost != uri.vhost) {
            let what = "names another virtual host than the first URL: all hosts are nodes of one cluster, \
                        so write the same virtual host in each";
            return Err((index, what.to_owned()));
        }
        if uri.query.auth_mechanism == Some(SASLMechanism::External) {
            check_external(&uri, has_client_certificate)
                .map_err(|what| (index, what.to_owned()))?;
        }
        uris.push(uri);
    }
    if uris.is_empty() {
        return Err((0, "is missing; write at least one".to_owned()));
    }
    Ok(uris)
}

/// Judges whether a client certificate can be offered, by which the broker knows the user.
fn check_external(uri: &AMQPUri, has_client_certificate: bool) -> Result<(), &'static str> {
    if uri.scheme != AMQPScheme::AMQPS {
        return Err(
            "has auth_mechanism=external, which wants a client certificate and so TLS: write amqps://",
        );
    }
    if !has_client_certificate {
        return Err(
            "has auth_mechanism=external, which wants a client certificate: set \
             broker.client_certificate_file and broker.client_key_file",
        );
    }
    Ok(())
}

/// Reads an AMQP URL; the errors are the rest of a sentence.
pub(super) fn read(text: &str) -> Result<AMQPUri, String> {
    if text.chars().any(char::is_control) {
        return Err("has a line break or another control character in it".to_owned());
    }
    check_parts(after_scheme(text)?)?;
    let url = Url::parse(text).map_err(|error| {
        if error == ParseError::InvalidPort {
            return no_port();
        }
        format!("has a host that cannot be read; write {FORM}")
    })?;
    if url.port() == Some(0) {
        return Err(no_port());
    }
    check_vhost(url.path())?;
    check_parameters(&url)?;
    let mut uri: AMQPUri = text.parse().map_err(|_| {
        "has escapes that are not UTF-8 in the user, the password or the virtual host".to_owned()
    })?;
    if let Some(Host::Ipv6(address)) = url.host() {
        uri.authority.host = address.to_string();
    }
    Ok(uri)
}

/// Returns what follows `amqp://` or `amqps://`.
fn after_scheme(text: &str) -> Result<&str, String> {
    const BEGIN: &str = "must begin with amqp:// or amqps://";
    let (scheme, rest) = text.split_once("://").ok_or(BEGIN)?;
    match scheme.to_ascii_lowercase().as_str() {
        "amqp" | "amqps" => Ok(rest),
        "http" | "https" => Err(format!(
            "{BEGIN}; the management interface speaks {scheme}, and AMQP has a port of its own, usually \
             5672, or 5671 with TLS"
        )),
        _ => Err(BEGIN.to_owned()),
    }
}

/// Judges how the characters divide the URL, which no parser of URLs objects to.
fn check_parts(rest: &str) -> Result<(), String> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains('@') {
        let cut = &tail[..1];
        let escape = match cut {
            "/" => "%2F",
            "?" => "%3F",
            _ => "%23",
        };
        return Err(format!(
            "has a {cut} before the last @, and the host would end there: in the user and the password \
             write {escape} for {cut}, and after the host write %40 for @"
        ));
    }
    if tail.contains('#') {
        return Err("has a #, which begins nothing here: write %23 for it".to_owned());
    }
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains('@') {
        return Err("has an @ in the user or the password: write %40 for it".to_owned());
    }
    if rest
        .match_indices('%')
        .any(|(at, _)| !is_escape(&rest[at..]))
    {
        return Err("has a % that begins no escape: write %25 for it".to_owned());
    }
    if !host.starts_with('[') && host.matches(':').count() > 1 {
        return Err("has an IPv6 address without brackets: write it as in [::1]:5672".to_owned());
    }
    if host.is_empty() || host.starts_with(':') {
        return Err(format!("names no host; write {FORM}"));
    }
    Ok(())
}

fn is_escape(text: &str) -> bool {
    let digits = text.as_bytes().get(1..3);
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

fn no_port() -> String {
    format!(
        "has a port that is no number from 1 to 65535; a user and a password end with @, and the host \
         follows: {FORM}"
    )
}

fn check_vhost(path: &str) -> Result<(), String> {
    match path.matches('/').count() {
        1 if path == "/" => Err(
            "ends with /, which names the virtual host \"\"; leave it out for the virtual host \"/\""
                .to_owned(),
        ),
        0 | 1 => Ok(()),
        _ => Err(
            "has a / in the virtual host: write %2F for it, and for the virtual host \"/\" only \
             amqp://host or amqp://host/%2F"
                .to_owned(),
        ),
    }
}

fn check_parameters(url: &Url) -> Result<(), String> {
    let mut seen = Vec::new();
    for (name, value) in url.query_pairs() {
        let Some(&known) = OBEYED.iter().find(|known| **known == name) else {
            return Err(refusal(&name));
        };
        if seen.contains(&known) {
            return Err(format!("has the parameter {known} twice; keep one"));
        }
        seen.push(known);
        check_value(known, &value)?;
    }
    Ok(())
}

/// Judges a value as lapin would read it, but for the values that would not have the effect they name.
fn check_value(name: &str, value: &str) -> Result<(), String> {
    let within = |range: std::ops::RangeInclusive<u32>| {
        value.parse().is_ok_and(|number| range.contains(&number))
    };
    let expected = match name {
        "heartbeat" if !within(1..=u16::MAX.into()) => {
            "a whole number of seconds from 1 to 65535; without one a broker that is silent is never \
             noticed"
        }
        "frame_max" if !within(FRAME_MIN..=FRAME_MAX) => {
            "a whole number of bytes from 4096 to 131072, or leave it out"
        }
        "auth_mechanism" if !is_mechanism(value) => {
            "plain, amqplain, anonymous, or external with a client certificate"
        }
        _ => return Ok(()),
    };
    Err(format!(
        "has a wrong value of the parameter {name}: expected {expected}"
    ))
}

fn is_mechanism(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    matches!(
        lower.as_str(),
        "plain" | "amqplain" | "anonymous" | "external"
    )
}

/// Returns why a parameter that is not obeyed is refused.
fn refusal(name: &str) -> String {
    if let Some((name, mend)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return format!("has the parameter {name}, which is not read: {mend}");
    }
    let refused = REFUSED.iter().map(|(refused, _)| *refused);
    match nearest(name, OBEYED.into_iter().chain(refused)) {
        Some(near) => format!("has a parameter that is not known; did you mean {near}?"),
        None => format!(
            "has a parameter that is not known; there are {}",
            OBEYED.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests;
