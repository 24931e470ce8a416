//! `pushrider topology audit`: which policies and arguments void a guarantee, and what to type.

use std::io;
use std::io::{Read, Write};

use clap::Args;
use url::Url;

use super::configured::Configured;
use super::failure::Failure;
use super::management;
use super::policy::{quoted, set_policy};
use super::runtime::{processors, start_runtime};
use crate::broker::{self, Audited, Definitions, Export, Finding, Mend, Origin, Settings};
use crate::config::Environment;

/// The largest export that is read, in bytes.
const EXPORT_LIMIT: u64 = 64 << 20;

/// Where the queues and policies are read from.
#[derive(Debug, Args)]
pub struct Audit {
    #[command(flatten)]
    configured: Configured,
    /// The management API, as in `https://user:password@broker.example.org:15671`; the user needs the
    /// tag management, and without one in the URL it is that of the AMQP URL [default: standard
    /// input, which is the output of `rabbitmqctl -q export_definitions -`]
    #[arg(long, value_name = "URL")]
    management: Option<Url>,
}

impl Audit {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let settings = &self.configured.load_broker(environment)?;
        let export = match self.management {
            Some(url) => start_runtime(processors())?.block_on(management::read(settings, url))?,
            None => from_input()?,
        };
        let audited = broker::audit(settings, &export).map_err(unusable)?;
        let vhost = quoted(&Definitions::new(settings)?.vhost);
        for queue in &audited {
            write_queue(queue, &vhost, settings, out)?;
        }
        conclude(&audited, out)
    }
}

fn from_input() -> Result<Export, Failure> {
    let mut json = Vec::new();
    io::stdin().take(EXPORT_LIMIT).read_to_end(&mut json)?;
    Export::from_definitions(&json).map_err(unusable)
}

fn unusable(error: broker::AuditError) -> Failure {
    Failure::new(error.to_string())
}

fn write_queue(
    audited: &Audited,
    vhost: &str,
    settings: &Settings,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "queue {}", audited.queue)?;
    for (key, setting) in &audited.effective {
        let whose = match &setting.origin {
            Origin::Argument => "argument".to_owned(),
            Origin::Policy(name) => format!("policy {name}"),
            Origin::OperatorPolicy(name) => format!("operator policy {name}"),
        };
        writeln!(out, "  {key} = {} ({whose})", setting.value)?;
    }
    for finding in &audited.findings {
        let Finding {
            cause,
            voids,
            effect,
            mend,
        } = finding;
        writeln!(out, "  ! {cause} voids \"{voids}\": {effect}")?;
        for line in commands(mend, vhost, settings) {
            writeln!(out, "      {line}")?;
        }
    }
    Ok(())
}

/// Returns what to type, a line for each step.
fn commands(mend: &Mend, vhost: &str, settings: &Settings) -> Vec<String> {
    let declare = || "pushrider topology declare".to_owned();
    let elsewhere = |clear: &str, name: &str| {
        let prefix = &settings.prefix;
        vec![format!(
            "rabbitmqctl {clear} -p {vhost} {}   # or set it with a pattern such as '^(?!{prefix}\\.)'",
            quoted(name)
        )]
    };
    match mend {
        Mend::Declare => vec![declare()],
        Mend::Redeclare(queue) => vec![
            format!(
                "rabbitmqctl delete_queue -p {vhost} --if-empty {}",
                quoted(queue)
            ),
            declare(),
        ],
        Mend::Set(policy) => vec![set_policy(vhost, policy)],
        Mend::Clear(name) => elsewhere("clear_policy", name),
        Mend::ClearOperator(name) => elsewhere("clear_operator_policy", name),
    }
}

fn conclude(audited: &[Audited], out: &mut impl Write) -> Result<(), Failure> {
    let findings: usize = audited.iter().map(|it| it.findings.len()).sum();
    if findings == 0 {
        writeln!(out, "ok, nothing voids a guarantee")?;
        return Ok(());
    }
    let harmed = audited.iter().filter(|it| !it.findings.is_empty());
    Err(Failure::operator(format!(
        "{findings} findings on {} queues void a guarantee; each line with ! says what to type",
        harmed.count()
    )))
}
