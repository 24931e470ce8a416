//! `pushrider cancel` and `pushrider forget`: take back what was published.

use std::io::Write;
use std::time::SystemTime;

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::configured::Configured;
use super::failure::Failure;
use super::lines::visible;
use super::publish::name;
use super::runtime::{processors, start_runtime};
use crate::broker::CommandClient;
use crate::clock::{Clock, SystemClock};
use crate::config::Environment;
use crate::message::Name;
use crate::subscription::{Endpoint, Fingerprint};
use crate::wire::control;
use crate::wire::control::Control;

/// Cancel events: who was not pushed to yet is not pushed to
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("events").required(true),
    after_help = "\
Example:
  pushrider cancel --app shop --group spring --reason 'wrong price'

Daemons know within a second, and daemons that start later know, too. Each recipient gets a result with the
outcome cancelled when its message is taken up."
)]
pub struct Cancel {
    #[command(flatten)]
    publishing: Publishing,
    /// The id of one event, whenever it comes
    #[arg(long, group = "events")]
    id: Option<String>,
    /// The group of the events
    #[arg(long, group = "events")]
    group: Option<String>,
    /// The label of the events
    #[arg(long, group = "events")]
    label: Option<String>,
    /// With a group or a label: only events created before then [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "id")]
    created_before: Option<Timestamp>,
}

/// Forget a subscription or a person: nothing is sent there any more
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("recipients").required(true),
    after_help = "\
Example:
  pushrider forget --app shop --recipient-id u42

Of an endpoint only the fingerprint is published. A recipient id is published as it is, and kept in the stream."
)]
pub struct Forget {
    #[command(flatten)]
    publishing: Publishing,
    /// The endpoint of the subscription
    #[arg(long, value_name = "URL", group = "recipients", value_parser = Endpoint::parse)]
    endpoint: Option<Endpoint>,
    /// The fingerprint of the endpoint, as results have it
    #[arg(long, value_name = "HEX", group = "recipients")]
    fingerprint: Option<String>,
    /// Your name for the recipients
    #[arg(long, value_name = "ID", group = "recipients")]
    recipient_id: Option<String>,
}

/// What both have in common.
#[derive(Debug, Args)]
struct Publishing {
    #[command(flatten)]
    configured: Configured,
    /// The application
    #[arg(long, value_parser = name)]
    app: Name,
    /// Why, for the results
    #[arg(long)]
    reason: Option<String>,
    /// Print the published message in JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let now = SystemClock.now().wall;
        let created_before = self.created_before.map_or(now, SystemTime::from);
        let before = if self.id.is_some() {
            Value::Null
        } else {
            written(created_before)?
        };
        let target = json!({ "id": self.id, "group": self.group, "label": self.label,
            "created_before": before });
        let what = match (&self.id, &self.group, &self.label) {
            (Some(id), ..) => format!("the event {id}"),
            (_, Some(group), _) => format!("the group {group}"),
            (.., label) => format!("the label {}", label.as_deref().unwrap_or_default()),
        };
        let until = before.as_str();
        let until = until.map(|at| format!(", of events created before {at}"));
        let done = format!("cancelled {what}{}", until.unwrap_or_default());
        self.publishing
            .publish("cancel", target, &done, now, environment, out)
    }
}

impl Forget {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        // As it is sent: by that, every spelling is found.
        let of_endpoint = self
            .endpoint
            .map(|it| Fingerprint::of(it.as_str()).to_hex());
        let fingerprint = of_endpoint.or(self.fingerprint);
        let target = json!({ "fingerprint": fingerprint, "recipient_id": self.recipient_id });
        let done = match (&fingerprint, &self.recipient_id) {
            (Some(fingerprint), _) => format!("forgot the subscription {fingerprint}"),
            (None, id) => format!("forgot the recipient {}", id.as_deref().unwrap_or_default()),
        };
        let now = SystemClock.now().wall;
        self.publishing
            .publish("forget", target, &done, now, environment, out)
    }
}

impl Publishing {
    /// Publishes a control message, and says so when the broker has confirmed it.
    fn publish(
        self,
        command: &str,
        target: Value,
        done: &str,
        now: SystemTime,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let settings = self.configured.load_broker(environment)?;
        if settings.control.is_none() {
            let problem = "broker.control is \"off\": no daemon would read the message";
            return Err(Failure::operator(problem));
        }
        let mut message = json!({ "app": self.app, "requested_at": written(now)? });
        message[command] = without_null(target);
        if let Some(reason) = self.reason {
            message["reason"] = reason.into();
        }
        let (routing_key, body) = (format!("{}.{command}", self.app), message.to_string());
        let control = control::decode(&routing_key, body.as_bytes());
        let _: Control = control.map_err(|fault| Failure::usage(fault.to_string()))?;
        start_runtime(processors())?.block_on(async {
            let client = CommandClient::connect(&settings).await?;
            let published = client.publish_control(&routing_key, body.as_bytes()).await;
            client.close().await;
            published
        })?;
        if self.json {
            writeln!(out, "{body}")?;
        } else {
            writeln!(out, "{}", visible(&format!("{done} ({routing_key})")))?;
        }
        Ok(())
    }
}

fn without_null(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    object
}

fn written(moment: SystemTime) -> Result<Value, Failure> {
    let moment = Timestamp::try_from(moment).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(format!("{moment:.3}").into())
}
