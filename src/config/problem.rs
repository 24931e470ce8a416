//! What is wrong with a configuration, and where it came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from, in ascending order of precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is built in.
    Default,
    /// A file of `$CREDENTIALS_DIRECTORY`.
    Credential(PathBuf),
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line.
    Flag,
}

impl Source {
    /// Returns which of two sources has the last word: the one with the higher rank.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Credential(_) => 1,
            Self::File(_) => 2,
            Self::Variable(_) => 3,
            Self::Flag => 4,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Credential(path) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// One thing an operator should know about one key: a problem or a warning.
#[derive(Clone, Debug, PartialEq, Eq, derive_more::Display)]
#[display("{} ({source})", self.sentence())]
pub struct Finding {
    /// The key's path, as `push.timeout` or `delay.bands[2]`; empty for a whole file.
    pub key: String,
    /// What is wrong and what to write instead; never a secret.
    pub what: String,
    /// Where the value came from.
    pub source: Source,
}

impl Finding {
    /// Writes everything but the source.
    fn sentence(&self) -> String {
        if self.key.is_empty() {
            self.what.clone()
        } else {
            format!("{}: {}", self.key, self.what)
        }
    }
}

/// Every problem of a configuration; an operator must act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Finding>);

impl Problems {
    pub(super) fn push(&mut self, key: impl Into<String>, what: impl Into<String>, source: Source) {
        self.0.push(Finding {
            key: key.into(),
            what: what.into(),
            source,
        });
    }

    /// Returns whether `key`, something inside it or something around it is among the problems; a
    /// file that cannot be read may have had anything in it.
    pub(super) fn concern(&self, key: &str) -> bool {
        self.0.iter().any(|problem| {
            let unread = problem.key.is_empty() && matches!(problem.source, Source::File(_));
            unread || inside(&problem.key, key) || inside(key, &problem.key)
        })
    }

    /// Returns the problems in the order of their discovery.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns whether `key` is `section` or below it.
fn inside(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The column beyond which sources are not aligned.
const WIDTH: usize = 80;

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the configuration", self.0.len())?;
        let sentences: Vec<String> = self.0.iter().map(Finding::sentence).collect();
        let widths = sentences.iter().map(|sentence| sentence.chars().count());
        let width = widths.filter(|width| *width <= WIDTH).max().unwrap_or(0);
        for (sentence, problem) in sentences.iter().zip(&self.0) {
            write!(f, "\n  {sentence:width$}  ({})", problem.source)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_a_table_with_their_sources() {
        let mut problems = Problems::default();
        problems.push("push.timeout", "too long", Source::Flag);
        problems.push("a", "b", Source::Variable("PUSHRIDER_A".to_owned()));
        problems.push("", "x".repeat(90), Source::File("/etc/p.toml".into()));
        let lines = [
            "3 problems in the configuration".to_owned(),
            "  push.timeout: too long  (--set)".to_owned(),
            "  a: b                    (PUSHRIDER_A)".to_owned(),
            format!("  {}  (/etc/p.toml)", "x".repeat(90)),
        ];
        assert_eq!(problems.to_string(), lines.join("\n"));
    }

    #[test]
    fn a_problem_concerns_what_is_inside_and_around_it() {
        let mut problems = Problems::default();
        problems.push("delay.bands[2]", "too short", Source::Default);
        for (key, concerned) in [
            ("delay", true),
            ("delay.bands", true),
            ("delay.bands[2]", true),
            ("delay.band", false),
            ("delays", false),
            ("push", false),
        ] {
            assert_eq!(problems.concern(key), concerned, "{key}");
        }
        problems.push("", "not TOML", Source::File("pushrider.toml".into()));
        assert!(problems.concern("push"));
    }
}
