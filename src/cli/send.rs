//! `pushrider send`: one message to one subscription, without a broker.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Args;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::configured::Configured;
use super::failure::Failure;
use super::input;
use super::keys::choose;
use super::lines::visible;
use super::runtime::{processors, start_runtime};
use crate::config::Environment;
use crate::daemon;
use crate::daemon::Sent;
use crate::message::Urgency;
use crate::outcome::{Outcome, Waiting};
use crate::push_service::PushRequest;
use crate::wire::headers::RetryHistory;

/// Send one message straight to a subscription, without a broker
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pushrider send subscription.json --payload 'Hello' --ttl 60

Exit status: 0 accepted (with --dry-run: could be sent), 1 otherwise.")]
pub struct Send {
    /// The subscription in JSON, as the browser returned it or as another library stores it; - for
    /// standard input
    #[arg(value_name = "FILE")]
    subscription: PathBuf,
    #[command(flatten)]
    configured: Configured,
    /// The application whose keys sign [default: the only one]
    #[arg(long)]
    app: Option<String>,
    /// The payload; without one the push has no body
    #[arg(long, value_name = "TEXT", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the payload, sent byte for byte
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// How long the push service keeps the message, in seconds [default: the application's]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u32>,
    /// very-low, low, normal or high
    #[arg(long, value_parser = urgency)]
    urgency: Option<String>,
    /// A later message with the same topic replaces this one
    #[arg(long)]
    topic: Option<String>,
    /// Show the request without its secrets, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Write one line of JSON for programs
    #[arg(long)]
    json: bool,
}

/// The members of a delivery result that are shown to a person.
#[derive(Deserialize)]
struct Shown {
    outcome: String,
    reason: String,
    status: Option<u16>,
    detail: Option<String>,
    push_service: Option<String>,
    message_url: Option<String>,
    warnings: Vec<String>,
}

impl Send {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let config = self.configured.load(environment)?;
        let app = choose(&config.daemon.apps, self.app.as_deref())?;
        let event = self.event(app.name.as_str())?;
        let runtime = start_runtime(processors())?;
        let settings = &config.daemon;
        let failed = |error: daemon::Failure| Failure::operator(error.to_string());
        let sent = if self.dry_run {
            let made = runtime.block_on(daemon::request_only(settings, event));
            let (requests, sent) = made.map_err(failed)?;
            if !requests.is_empty() {
                return self.show_requests(&requests, out);
            }
            sent
        } else {
            let sending = runtime.block_on(daemon::send_once(settings, event));
            // A name that hangs in the system's resolver must not hold up the end.
            runtime.shutdown_background();
            sending.map_err(failed)?
        };
        self.show(&sent, out)
    }

    /// Writes the event that a producer would publish.
    fn event(&self, app: &str) -> Result<Bytes, Failure> {
        let bytes = input::read(&self.subscription)?;
        // Kept as text, so that a member that is there twice is judged as in an event.
        let subscription: Box<RawValue> =
            input::parse(&self.subscription, &bytes, "a subscription")?;
        let payload = match (&self.payload, &self.payload_file) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(path)) => Some(input::read(path)?),
            (None, None) => None,
        };
        let rest = json!({
            "app": app,
            "payload_base64": payload.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
            "ttl": self.ttl,
            "urgency": self.urgency,
            "topic": self.topic,
            "results": "all",
        })
        .to_string();
        let rest = rest.trim_start_matches('{');
        Ok(format!("{{\"subscription\":{subscription},{rest}").into())
    }

    fn show(&self, sent: &Sent, out: &mut impl Write) -> Result<(), Failure> {
        let result = match sent {
            Sent::Ended(result) => result,
            Sent::Waits(history) => return self.show_waiting(history, out),
            Sent::Nothing => return Err(Failure::new("the message led to no result")),
        };
        let malformed = |error| Failure::new(format!("cannot read the result: {error}"));
        let shown: Shown = serde_json::from_slice(result).map_err(malformed)?;
        if self.json {
            out.write_all(result)?;
            writeln!(out)?;
        } else {
            describe(&shown, out)?;
        }
        if shown.outcome == Outcome::Accepted.name() {
            return Ok(());
        }
        Err(Failure::new(""))
    }

    /// Shows a message whose end is open after one attempt.
    fn show_waiting(&self, history: &RetryHistory, out: &mut impl Write) -> Result<(), Failure> {
        let why = history.waiting.map_or("unknown", Waiting::name);
        if self.json {
            let line = json!({"outcome": null, "reason": why, "status": history.last_status});
            writeln!(out, "{line}")?;
        } else {
            line(out, "outcome", "none yet; the daemon would try again later")?;
            line(out, "reason", why)?;
            let status = history.last_status.map(|status| status.to_string());
            line(out, "status", status.as_deref().unwrap_or("-"))?;
        }
        Err(Failure::new(""))
    }

    fn show_requests(&self, requests: &[PushRequest], out: &mut impl Write) -> Result<(), Failure> {
        for request in requests {
            let origin = request.endpoint.origin();
            let (headers, body_bytes) = (headers(request), request.body.len());
            if self.json {
                let headers: Value = headers.into_iter().collect();
                let line = json!({
                    "method": "POST",
                    "origin": origin.to_string(),
                    "headers": headers,
                    "body_bytes": body_bytes,
                });
                writeln!(out, "{line}")?;
                continue;
            }
            writeln!(out, "POST {origin}/…")?;
            for (name, value) in headers {
                writeln!(out, "{name}: {value}")?;
            }
            writeln!(out, "\n({body_bytes} bytes of body)")?;
        }
        Ok(())
    }
}

/// Returns the headers of a request, the token hidden.
fn headers(request: &PushRequest) -> Vec<(String, String)> {
    let shown = request.headers.iter().map(|(name, value)| {
        let value = if name == AUTHORIZATION {
            "(hidden)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        (name.to_string(), value.into_owned())
    });
    shown.collect()
}

fn describe(shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    line(out, "outcome", &shown.outcome)?;
    line(out, "reason", &shown.reason)?;
    let status = shown.status.map(|status| status.to_string());
    for (name, value) in [
        ("status", &status),
        ("service", &shown.push_service),
        ("detail", &shown.detail),
        ("message URL", &shown.message_url),
    ] {
        if let Some(value) = value {
            line(out, name, value)?;
        }
    }
    for warning in &shown.warnings {
        line(out, "warning", warning)?;
    }
    Ok(())
}

/// Writes a name and a value.
fn line(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:11}  {}", visible(value))
}

fn urgency(text: &str) -> Result<String, &'static str> {
    let known = Urgency::parse(text).map(|_| text.to_owned());
    known.ok_or("expected very-low, low, normal or high")
}
