//! `pushrider topology`: what must exist on the broker, to read or to declare.

use std::io;
use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::Audit;
use super::configured::Configured;
use super::failure::{Failure, tell};
use super::policy::{quoted, set_policy};
use super::runtime::{processors, start_runtime};
use crate::broker;
use crate::broker::{Declared, Definitions};
use crate::config::Environment;

/// Show, declare or audit the exchanges, queues and bindings that the daemon needs
#[derive(Debug, Subcommand)]
pub enum Topology {
    /// Show every exchange, queue and binding, the policy that protects them and the
    /// permissions of a user who only runs the daemon; needs no broker
    Show(Show),
    /// Declare everything that is missing, as the user of the AMQP URL and whatever
    /// broker.declare says
    Declare(Declare),
    /// Find the policies and queue arguments that void a guarantee, and what mends them; exit status
    /// 78 if there are any
    Audit(Audit),
}

/// How to show the topology.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    configured: Configured,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    resources: Resources,
}

/// What only resources of Kubernetes name.
#[derive(Debug, Args)]
struct Resources {
    /// The RabbitmqCluster that the resources refer to; only with --format kubernetes
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The broker user who runs the daemon, to add its permissions; only with --format kubernetes
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Where to declare the topology, and whose.
#[derive(Debug, Args)]
pub struct Declare {
    #[command(flatten)]
    configured: Configured,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people, with the reasons
    Table,
    /// The same for programs
    Json,
    /// What `rabbitmqctl import_definitions` takes; the virtual host must exist
    Definitions,
    /// Resources of RabbitMQ's messaging topology operator, for `kubectl apply`; needs --cluster
    Kubernetes,
}

impl Topology {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.execute(environment, out),
            Self::Declare(declare) => declare.execute(environment, out),
            Self::Audit(audit) => audit.execute(environment, out),
        }
    }
}

impl Show {
    fn execute(self, environment: &Environment, out: &mut impl Write) -> Result<(), Failure> {
        let cluster = self.cluster()?;
        let settings = self.configured.load_broker(environment)?;
        let definitions = Definitions::new(&settings)?;
        let user = self.resources.user.as_deref();
        match self.format {
            Format::Table => table(&definitions, out)?,
            Format::Json => json(&definitions, out)?,
            Format::Definitions => json(&definitions.definitions(), out)?,
            Format::Kubernetes => documents(&definitions.kubernetes(cluster, user), out)?,
        }
        Ok(())
    }

    /// Returns the cluster that resources refer to; empty where there are none.
    fn cluster(&self) -> Result<&str, Failure> {
        let Resources { cluster, user } = &self.resources;
        match (self.format, cluster.as_deref()) {
            (Format::Kubernetes, Some(cluster)) => Ok(cluster),
            (Format::Kubernetes, None) => Err(Failure::usage(
                "--format kubernetes needs --cluster NAME, the RabbitmqCluster of the resources",
            )),
            (_, None) if user.is_none() => Ok(""),
            _ => Err(Failure::usage(
                "--cluster and --user are only for --format kubernetes",
            )),
        }
    }
}

impl Declare {
    fn execute(self, environment: &Environment, out: &mut impl Write) -> Result<(), Failure> {
        let settings = self.configured.load_broker(environment)?;
        let mut declared = Declared::default();
        let declaring = broker::declare_topology(&settings, &mut declared);
        let ended = start_runtime(processors())?.block_on(declaring);
        for object in &declared.made {
            writeln!(out, "made {object}")?;
        }
        for object in &declared.different {
            tell(&format!(
                "warning: {object} exists with other arguments than configured, and is left as \
                 it is"
            ));
        }
        ended?;
        summarise(&declared, out)?;
        Ok(())
    }
}

fn json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Writes a YAML stream: JSON is YAML, and a document begins with `---`.
fn documents(values: &[Value], out: &mut impl Write) -> io::Result<()> {
    for value in values {
        writeln!(out, "---")?;
        json(value, out)?;
    }
    Ok(())
}

fn table(definitions: &Definitions, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "virtual host {}", definitions.vhost)?;
    objects(definitions, out)?;
    bindings(definitions, out)?;
    writeln!(out, "\narguments, and why")?;
    let width = widest(definitions.reasons.keys());
    for (argument, reason) in &definitions.reasons {
        writeln!(out, "  {argument:width$}  {reason}")?;
    }
    policies(definitions, out)?;
    permissions(definitions, out)
}

fn objects(definitions: &Definitions, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nexchanges")?;
    let width = widest(definitions.exchanges.iter().map(|it| &it.name));
    for exchange in &definitions.exchanges {
        let (name, kind) = (&exchange.name, exchange.kind);
        writeln!(out, "  {name:width$}  {kind:6}  {}", exchange.purpose)?;
        arguments(&exchange.arguments, out)?;
    }
    writeln!(out, "\nqueues")?;
    let width = widest(definitions.queues.iter().map(|it| &it.name));
    for queue in &definitions.queues {
        writeln!(out, "  {:width$}  {}", queue.name, queue.purpose)?;
        arguments(&queue.arguments, out)?;
    }
    Ok(())
}

fn arguments(arguments: &Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
    for (name, value) in arguments {
        writeln!(out, "    {name} = {value}")?;
    }
    Ok(())
}

fn bindings(definitions: &Definitions, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nbindings: exchange, routing key, queue or exchange")?;
    let keys: Vec<_> = definitions
        .bindings
        .iter()
        .map(|it| format!("{:?}", it.routing_key))
        .collect();
    let width = widest(definitions.bindings.iter().map(|it| &it.source));
    let key_width = widest(keys.iter());
    for (binding, key) in definitions.bindings.iter().zip(&keys) {
        let (source, destination) = (&binding.source, &binding.destination);
        writeln!(out, "  {source:width$}  {key:key_width$}  {destination}")?;
    }
    Ok(())
}

fn policies(definitions: &Definitions, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\npolicy that keeps policies of others off the queues that dead-letter; an administrator \
         sets it"
    )?;
    let vhost = quoted(&definitions.vhost);
    for policy in &definitions.policies {
        let definition = serde_json::to_string(&policy.definition)?;
        writeln!(
            out,
            "  pattern     {}\n  definition  {definition}\n  priority    {}\n\n  {}",
            policy.pattern,
            policy.priority,
            set_policy(&vhost, policy),
        )?;
    }
    Ok(())
}

fn permissions(definitions: &Definitions, out: &mut impl Write) -> io::Result<()> {
    let needed = &definitions.permissions;
    writeln!(
        out,
        "\npermissions of a user who runs the daemon and declares nothing (broker.declare = \
         \"passive\")\n  configure  {}\n  write      {}\n  read       {}\n\n  rabbitmqctl \
         set_permissions -p {} USER {} {} {}",
        needed.configure,
        needed.write,
        needed.read,
        quoted(&definitions.vhost),
        quoted(&needed.configure),
        quoted(&needed.write),
        quoted(&needed.read),
    )
}

fn widest<'a>(texts: impl Iterator<Item = &'a String>) -> usize {
    texts.map(String::len).max().unwrap_or_default()
}

fn summarise(declared: &Declared, out: &mut impl Write) -> io::Result<()> {
    let there = declared.there.len() + declared.different.len();
    writeln!(
        out,
        "{} made, {there} there already, {} bindings in place",
        declared.made.len(),
        declared.bindings.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_counted_among_what_was_there() {
        let list = |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect();
        let declared = Declared {
            made: list(&["queue a", "exchange b"]),
            there: list(&["queue c"]),
            different: list(&["queue d"]),
            bindings: list(&["binding of a to b (\"\")"]),
        };
        let mut out = Vec::new();
        summarise(&declared, &mut out).unwrap();
        let expected = "2 made, 2 there already, 1 bindings in place\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
