//! Queues and policies as RabbitMQ exports them.
//!
//! `rabbitmqctl export_definitions` and `/api/definitions` of the management API give one object, in which
//! operator policies are parameters; `/api/queues`, `/api/policies` and `/api/operator-policies` give a
//! list each.

use fancy_regex::Regex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::AuditError;

/// The queues and policies of a broker.
#[derive(Debug, Default)]
pub struct Export {
    pub(super) queues: Vec<ExportedQueue>,
    pub(super) policies: Vec<ExportedPolicy>,
    pub(super) operator_policies: Vec<ExportedPolicy>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExportedQueue {
    pub(super) name: String,
    /// Exports of one virtual host do not name it.
    pub(super) vhost: Option<String>,
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExportedPolicy {
    pub(super) name: String,
    pub(super) vhost: Option<String>,
    pattern: String,
    #[serde(default, rename = "apply-to")]
    apply_to: Option<String>,
    #[serde(default)]
    definition: Value,
    #[serde(default)]
    pub(super) priority: i64,
}

#[derive(Deserialize)]
struct Definitions {
    queues: Vec<ExportedQueue>,
    #[serde(default)]
    policies: Vec<ExportedPolicy>,
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    component: String,
    name: String,
    vhost: Option<String>,
    value: Value,
}

impl Export {
    /// Reads what `rabbitmqctl export_definitions` writes.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_definitions(json: &[u8]) -> Result<Self, AuditError> {
        let definitions: Definitions = read(json)?;
        let operator = definitions.parameters.into_iter();
        let operator = operator.filter(|it| it.component == "operator_policy");
        Ok(Self {
            queues: definitions.queues,
            policies: definitions.policies,
            operator_policies: operator.map(policy).collect::<Result<_, _>>()?,
        })
    }

    /// Reads three answers of the management API: queues, policies and operator policies.
    ///
    /// # Errors
    /// If one is something else.
    pub fn from_lists(
        queues: &[u8],
        policies: &[u8],
        operator_policies: &[u8],
    ) -> Result<Self, AuditError> {
        Ok(Self {
            queues: read(queues)?,
            policies: read(policies)?,
            operator_policies: read(operator_policies)?,
        })
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, AuditError> {
    serde_json::from_slice(json).map_err(AuditError::Unreadable)
}

fn policy(parameter: Parameter) -> Result<ExportedPolicy, AuditError> {
    let mut value = parameter.value;
    if let Value::Object(members) = &mut value {
        members.insert("name".to_owned(), parameter.name.into());
        members.insert("vhost".to_owned(), parameter.vhost.into());
    }
    serde_json::from_value(value).map_err(AuditError::Unreadable)
}

impl ExportedQueue {
    pub(super) fn arguments(&self) -> Map<String, Value> {
        pairs(&self.arguments)
    }

    pub(super) fn is_quorum(&self) -> bool {
        self.arguments().get("x-queue-type") == Some(&"quorum".into())
    }

    pub(super) fn is_stream(&self) -> bool {
        self.arguments().get("x-queue-type") == Some(&"stream".into())
    }
}

impl ExportedPolicy {
    pub(super) fn definition(&self) -> Map<String, Value> {
        pairs(&self.definition)
    }

    /// Tells whether it applies to a queue.
    pub(super) fn matches(&self, queue: &ExportedQueue) -> Result<bool, AuditError> {
        let of_type = match self.apply_to.as_deref() {
            None | Some("all" | "queues") => true,
            Some("quorum_queues") => queue.is_quorum(),
            Some("streams") => queue.is_stream(),
            Some("classic_queues") => !queue.is_quorum() && !queue.is_stream(),
            Some(_) => false,
        };
        let unreadable = |_| AuditError::Pattern {
            policy: self.name.clone(),
            pattern: self.pattern.clone(),
        };
        let pattern = Regex::new(&self.pattern).map_err(unreadable)?;
        Ok(of_type && pattern.is_match(&queue.name).map_err(unreadable)?)
    }
}

/// RabbitMQ 3.10 exports the definition of an operator policy as a list of pairs.
fn pairs(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.clone(),
        Value::Array(pairs) => pairs
            .iter()
            .filter_map(|pair| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.clone())))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Map::new(),
    }
}
