//! What goes wrong with the broker, and who must act.

/// Why running on is useless until an operator acts: exit code 78.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorMustAct {
    /// The URL cannot be read.
    #[error("the AMQP URL is malformed: {0}")]
    MalformedUrl(&'static str),
}
