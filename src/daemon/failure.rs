//! Why the daemon ends.

use crate::admin;
use crate::broker::NeedsOperator;
use crate::push_service::ClientError;
use crate::systemd;

/// Why the daemon ended without a signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Only an operator can mend it: exit code 78.
    #[error(transparent)]
    Operator(#[from] NeedsOperator),
    /// The admin listener cannot be opened.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The client for push services cannot be built.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The service manager cannot be reached.
    #[error(transparent)]
    ServiceManager(#[from] systemd::NotifyError),
    /// The metrics cannot be registered.
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The signals that stop the process cannot be received.
    #[error("cannot listen for SIGTERM, SIGINT and SIGHUP: {0}")]
    Signals(#[from] std::io::Error),
    /// The threads that encrypt cannot be started.
    #[error("cannot start the threads that encrypt: {0}")]
    Threads(#[source] std::io::Error),
    /// A task that must not end has ended.
    #[error("the {0} ended unexpectedly; the process must be started anew")]
    Task(&'static str),
}
