//! Finds what voids the guarantees in the queues and policies of a broker, and what mends it.
//!
//! [`audit()`] is a pure function of an [`Export`]: [`mod@effective`] computes what holds for each queue and
//! [`rules`] which guarantees that voids.

mod effective;
mod export;
mod rules;

use serde_json::Value;

use crate::broker::definitions::{Definitions, Queue};
use crate::broker::{NeedsOperator, Policy, Settings};

pub use effective::{Origin, Setting};
pub use export::Export;

use effective::{Effective, effective};
use export::{ExportedPolicy, ExportedQueue};
use rules::{Fault, Use, faults};

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The AMQP URL cannot be read.
    #[error(transparent)]
    Settings(#[from] NeedsOperator),
    /// The text is not what RabbitMQ exports.
    #[error(
        "these are not RabbitMQ's definitions ({0}): give the output of `rabbitmqctl -q \
         export_definitions -`"
    )]
    Unreadable(serde_json::Error),
    /// A pattern is not a regular expression that this library reads.
    #[error("the pattern {pattern:?} of policy {policy:?} cannot be read as a regular expression")]
    Pattern {
        /// The name of the policy.
        policy: String,
        /// Its pattern.
        pattern: String,
    },
}

/// A queue of the daemon's, what holds for it, and what that voids.
#[derive(Debug, PartialEq)]
pub struct Audited {
    /// The queue.
    pub queue: String,
    /// The user policy that applies.
    pub policy: Option<String>,
    /// The operator policy that applies.
    pub operator_policy: Option<String>,
    /// What holds, by the keys of policies.
    pub effective: Vec<(&'static str, Setting)>,
    /// What voids a guarantee; empty where all is well.
    pub findings: Vec<Finding>,
}

/// One thing that voids a guarantee.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// The key and its value, or what is wrong with the queue.
    pub cause: String,
    /// The guarantee.
    pub voids: &'static str,
    /// What happens.
    pub effect: String,
    /// What mends it.
    pub mend: Mend,
}

/// What an operator types.
#[derive(Clone, Debug, PartialEq)]
pub enum Mend {
    /// Declare the topology.
    Declare,
    /// Delete the queue and declare it again.
    Redeclare(String),
    /// Set the policy of the daemon's own.
    Set(Policy),
    /// Clear the user policy of this name, or set it with another pattern.
    Clear(String),
    /// Clear the operator policy of this name, or set it with another pattern.
    ClearOperator(String),
}

/// Audits every queue of the daemon's. A queue is there once for each policy that may apply to it:
/// of several with the highest priority, RabbitMQ applies any.
///
/// # Errors
/// If the AMQP URL or the pattern of a policy cannot be read.
pub fn audit(settings: &Settings, export: &Export) -> Result<Vec<Audited>, AuditError> {
    let definitions = Definitions::new(settings)?;
    let ours = Policy::new(&settings.prefix);
    let is_here = |vhost: &Option<String>| vhost.as_ref().is_none_or(|it| *it == definitions.vhost);
    let user = export.policies.iter().filter(|it| is_here(&it.vhost));
    let operator = export.operator_policies.iter();
    let operator = operator.filter(|it| is_here(&it.vhost));
    let mut audited = Vec::new();
    for wanted in &definitions.queues {
        let mut queues = export.queues.iter();
        let found = queues.find(|it| it.name == wanted.name && is_here(&it.vhost));
        let Some(found) = found else {
            audited.push(missing(wanted));
            continue;
        };
        for policy in highest(user.clone(), found)? {
            for operator in highest(operator.clone(), found)? {
                audited.push(one(settings, &ours, wanted, found, (policy, operator)));
            }
        }
    }
    Ok(audited)
}

/// Returns the policies of the highest priority among those that match, or `None` once.
fn highest<'a>(
    policies: impl Iterator<Item = &'a ExportedPolicy>,
    queue: &ExportedQueue,
) -> Result<Vec<Option<&'a ExportedPolicy>>, AuditError> {
    let mut highest: Vec<Option<&ExportedPolicy>> = vec![None];
    for policy in policies {
        if !policy.matches(queue)? {
            continue;
        }
        let priority = highest[0].map(|it| it.priority);
        if priority.is_none_or(|priority| priority < policy.priority) {
            highest = vec![Some(policy)];
        } else if priority == Some(policy.priority) {
            highest.push(Some(policy));
        }
    }
    Ok(highest)
}

fn missing(wanted: &Queue) -> Audited {
    Audited {
        queue: wanted.name.clone(),
        policy: None,
        operator_policy: None,
        effective: Vec::new(),
        findings: vec![Finding {
            cause: "the queue does not exist".to_owned(),
            voids: "at least once",
            effect: "what is published there is lost".to_owned(),
            mend: Mend::Declare,
        }],
    }
}

fn one(
    settings: &Settings,
    ours: &Policy,
    wanted: &Queue,
    found: &ExportedQueue,
    (policy, operator): (Option<&ExportedPolicy>, Option<&ExportedPolicy>),
) -> Audited {
    let effective = effective(found, policy, operator);
    let rest = found.name.get(settings.prefix.as_str().len() + 1..);
    let usage = Use::of(rest.unwrap_or_default());
    let protects = usage.dead_letters()
        && policy.is_none_or(|policy| policy.priority < i64::from(ours.priority));
    let mut findings = Vec::new();
    if usage == Use::Control {
        findings.extend((!found.is_stream()).then(|| no_stream(&found.name)));
    } else if found.is_quorum() {
        let faults = faults(usage, wanted, &effective).into_iter();
        findings.extend(faults.map(|fault| finding(fault, &found.name, protects.then_some(ours))));
    } else {
        findings.push(Finding {
            cause: "it is not a quorum queue".to_owned(),
            voids: "at least once",
            effect: "it is not replicated, and dead-letters at most once".to_owned(),
            mend: Mend::Redeclare(found.name.clone()),
        });
    }
    Audited {
        queue: found.name.clone(),
        policy: policy.map(|it| it.name.clone()),
        operator_policy: operator.map(|it| it.name.clone()),
        effective: Effective::into_iter(effective).collect(),
        findings,
    }
}

fn no_stream(queue: &str) -> Finding {
    Finding {
        cause: "it is not a stream".to_owned(),
        voids: "cancel and forget",
        effect: "one daemon takes the message from the others".to_owned(),
        mend: Mend::Redeclare(queue.to_owned()),
    }
}

fn finding(fault: Fault, queue: &str, ours: Option<&Policy>) -> Finding {
    let redeclare = || Mend::Redeclare(queue.to_owned());
    let (cause, mend) = match fault.setting {
        None => (format!("{} is not set", fault.key), redeclare()),
        Some(Setting { value, origin }) => {
            let (whose, mend) = match origin {
                Origin::Argument => ("argument".to_owned(), redeclare()),
                Origin::Policy(name) => (
                    format!("policy {name}"),
                    ours.map_or_else(|| Mend::Clear(name.clone()), |it| Mend::Set(it.clone())),
                ),
                Origin::OperatorPolicy(name) => {
                    (format!("operator policy {name}"), Mend::ClearOperator(name))
                }
            };
            let value = Value::to_string(&value);
            (format!("{} = {value} ({whose})", fault.key), mend)
        }
    };
    Finding {
        cause,
        voids: fault.voids,
        effect: fault.effect,
        mend,
    }
}

#[cfg(test)]
mod tests;
