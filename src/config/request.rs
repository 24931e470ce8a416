//! What the caller says: where the configuration is, and what stands in the environment.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The default configuration file; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/pushrider/pushrider.toml";

/// The environment variable that names the configuration file.
pub const FILE_VARIABLE: &str = "PUSHRIDER_CONFIG";

/// The variable that is honoured because every AMQP program's deployment already sets it.
pub(super) const AMQP_URL: &str = "AMQP_URL";

/// The variable in which systemd gives the directory of the credentials.
pub(super) const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The variable in which systemd gives the directory for state.
pub(super) const STATE_VARIABLE: &str = "STATE_DIRECTORY";

/// The variables that send the requests of other programs through a proxy, and not those of this one.
pub(super) const PROXY_VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// What the names of our own variables begin with.
pub(super) const PREFIX: &str = "PUSHRIDER_";

/// The environment variables this program reads, read once.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        env::vars_os().map(|(k, v)| (text(k), text(v))).collect()
    }

    /// Returns a variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Walks through the names of all variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

/// Shows the names alone: values may be secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Keeps only the variables this program reads.
impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let ours = |name: &str| {
            name.starts_with(PREFIX)
                || PROXY_VARIABLES.contains(&name)
                || matches!(name, AMQP_URL | CREDENTIALS_VARIABLE | STATE_VARIABLE)
        };
        let kept = variables.into_iter().filter(|(name, _)| ours(name));
        Self(kept.collect())
    }
}

/// What the caller says about where the configuration is.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The configuration file; without one `PUSHRIDER_CONFIG`, then [`DEFAULT_FILE`].
    pub file: Option<PathBuf>,
    /// Keys and values of the command line.
    pub set: Vec<(String, String)>,
    /// The environment.
    pub environment: Environment,
}
