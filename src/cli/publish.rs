//! `pushrider publish`: one event through the broker.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::timeout;

use super::configured::Configured;
use super::failure::{Failure, tell};
use super::input;
use super::keys::choose;
use super::outputs::{is_failure, write_output};
use super::runtime::{processors, start_runtime};
use crate::app::Results;
use crate::broker::{CommandClient, Followed, PublishError};
use crate::config::Environment;
use crate::message::Name;

/// Publish one event to the broker and wait for its confirm
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pushrider publish event.json --lane high --wait

Exit status: 0 confirmed (with --wait: every recipient accepted), 1 otherwise.")]
pub struct Publish {
    /// The event in JSON; - for standard input
    #[arg(value_name = "FILE")]
    event: PathBuf,
    #[command(flatten)]
    configured: Configured,
    /// The application, where the event names none [default: the only one]
    #[arg(long, value_parser = name)]
    app: Option<Name>,
    /// The lane
    #[arg(long, default_value = "default", value_parser = name)]
    lane: Name,
    /// Wait for the results of every recipient, and print them
    #[arg(long)]
    wait: bool,
    /// How long to wait for the results
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Write one line of JSON for each result, for programs
    #[arg(long)]
    json: bool,
}

/// What of an event decides where it goes and what comes back.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    id: Value,
    app: Option<String>,
    recipients: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    results: Value,
}

/// An event, ready to be published.
struct Event {
    id: String,
    routing_key: String,
    recipients: usize,
    body: Vec<u8>,
}

impl Publish {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let config = self.configured.load(environment)?;
        let body = input::read(&self.event)?;
        let members: Members = input::parse(&self.event, &body, "an event")?;
        let asked = self.app.as_ref().map(Name::as_str);
        if let (Some(asked), Some(own)) = (asked, &members.app)
            && asked != own
        {
            let problem = format!("--app is {asked}, and the event is for {own}; leave out --app");
            return Err(Failure::usage(problem));
        }
        let app = match asked.or(members.app.as_deref()) {
            Some(app) => app,
            None => choose(&config.daemon.apps, None)?.name.as_str(),
        };
        if self.wait {
            let known = config.daemon.apps.iter().find(|it| it.name.as_str() == app);
            let configured = known.map(|app| app.results);
            let own = members.results.as_str().and_then(Results::parse);
            has_every_result(own, configured).map_err(Failure::usage)?;
        }
        let event = Event {
            id: id_of(&members.id),
            routing_key: format!("{app}.{}", self.lane),
            recipients: members.recipients.as_ref().map_or(1, Vec::len),
            body: with_app(body, app),
        };
        start_runtime(processors())?.block_on(async {
            let client = CommandClient::connect(&config.daemon.broker).await?;
            let done = self.publish(&client, &event, out).await;
            client.close().await;
            done
        })
    }

    async fn publish(
        &self,
        client: &CommandClient,
        event: &Event,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let followed = match self.wait {
            true => Some(client.follow(&["delivery.#"]).await?),
            false => None,
        };
        client
            .publish_event(&event.routing_key, &event.id, &event.body)
            .await?;
        tell(&format!("published {} to {}", event.id, event.routing_key));
        match followed {
            Some(followed) => self.print_results(followed, event, out).await,
            None => Ok(()),
        }
    }

    /// Prints the results of the event until every recipient has one.
    async fn print_results(
        &self,
        mut followed: Followed,
        event: &Event,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let (mut came, mut failed) = (0, false);
        let all = async {
            while came < event.recipients {
                let Some(body) = followed.next().await else {
                    return Err(Failure::new("the connection to the broker is lost"));
                };
                let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                    continue;
                };
                if body["event_id"].as_str() == Some(&event.id) {
                    write_output(out, &body, self.json)?;
                    came += 1;
                    failed |= is_failure(&body);
                }
            }
            Ok(())
        };
        match timeout(self.timeout, all).await {
            Ok(Ok(())) if failed => Err(Failure::new("")),
            Ok(ended) => ended,
            Err(_elapsed) => Err(Failure::new(format!(
                "{came} of {} results came within {:?}; see that the daemon runs, or wait longer \
                 with --timeout",
                event.recipients, self.timeout
            ))),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Broker(act) => act.into(),
            PublishError::Refused | PublishError::Unroutable => Self::new(error.to_string()),
        }
    }
}

/// Checks that every recipient of an event gets a result, by its own member or else as its application
/// is configured.
fn has_every_result(own: Option<Results>, configured: Option<Results>) -> Result<(), String> {
    let (results, place) = match own {
        Some(own) => (own, "the event's `results`"),
        None => (configured.unwrap_or_default(), "`apps.<app>.results`"),
    };
    if results == Results::All {
        return Ok(());
    }
    Err(format!(
        "--wait would wait for results that are not published: {place} is not \"all\"; set \
         `\"results\": \"all\"` in the event, or leave out --wait"
    ))
}

/// Returns the event's own name, or a random one: the keys of a `RandomState` are random.
fn id_of(id: &Value) -> String {
    match id.as_str() {
        Some(id) => id.to_owned(),
        None if id.is_u64() => id.to_string(),
        None => format!("{:016x}", RandomState::new().hash_one(process::id())),
    }
}

/// Writes the application into an event that does not have the member.
fn with_app(body: Vec<u8>, app: &str) -> Vec<u8> {
    let names: BTreeMap<String, IgnoredAny> = serde_json::from_slice(&body).unwrap_or_default();
    match body.trim_ascii_start().strip_prefix(b"{") {
        Some(rest) if !names.is_empty() && !names.contains_key("app") => {
            let first = format!("{{\"app\":{},", Value::from(app));
            [first.as_bytes(), rest].concat()
        }
        _ => body,
    }
}

/// Reads the name of an application or a lane.
pub(super) fn name(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).ok_or("expected 1 to 64 characters of a-z, 0-9, _ and -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_gets_an_application_where_it_has_none() {
        for (event, expected) in [
            (r#" {"id":1}"#, r#"{"app":"shop","id":1}"#),
            (r#"{"app":"blog"}"#, r#"{"app":"blog"}"#),
            (r#"{"app":null}"#, r#"{"app":null}"#),
            ("{ }", "{ }"),
        ] {
            let made = with_app(event.as_bytes().to_vec(), "shop");
            assert_eq!(String::from_utf8(made).unwrap(), expected);
        }
    }

    #[test]
    fn waiting_for_results_that_are_not_published_is_refused() {
        use Results::{All, Failures, None as Nothing};
        assert_eq!(has_every_result(None, None), Ok(()));
        assert_eq!(has_every_result(Some(All), Some(Failures)), Ok(()));
        assert_eq!(has_every_result(None, Some(All)), Ok(()));
        let refused = has_every_result(None, Some(Failures)).unwrap_err();
        assert!(refused.contains("apps.<app>.results"), "{refused}");
        let refused = has_every_result(Some(Nothing), Some(All)).unwrap_err();
        assert!(refused.contains("the event's"), "{refused}");
    }

    #[test]
    fn an_event_keeps_its_id_and_gets_one_where_it_has_none() {
        assert_eq!(id_of(&Value::from("order-1")), "order-1");
        assert_eq!(id_of(&Value::from(17)), "17");
        assert_eq!(id_of(&Value::Null).len(), 16);
    }
}
