//! The effective configuration, for an operator to read.

use std::fmt;

use toml::{Table, Value};

use crate::config::file::File;
use crate::config::layers::Sources;

/// The configuration as it came out of its layers: as TOML, secrets hidden, what is not a default
/// with its source.
#[derive(Clone, Debug)]
pub struct Effective {
    file: File,
    sources: Sources,
}

impl Effective {
    pub(super) fn new(file: File, sources: Sources) -> Self {
        Self { file, sources }
    }

    fn section(
        &self,
        f: &mut fmt::Formatter<'_>,
        path: &str,
        title: &str,
        table: &Table,
    ) -> fmt::Result {
        let (sections, keys): (Vec<_>, Vec<_>) =
            table.iter().partition(|(_, value)| value.is_table());
        if !keys.is_empty() {
            writeln!(f, "\n[{title}]")?;
        }
        for (name, value) in keys {
            let key = format!("{path}.{name}");
            let source = self.sources.of(&key);
            if source.rank() > 0 {
                writeln!(f, "{name} = {value}  # {source}")?;
            } else {
                writeln!(f, "{name} = {value}")?;
            }
        }
        for (name, value) in sections {
            if let Value::Table(table) = value {
                let title = format!("{title}.{}", quoted(name));
                self.section(f, &format!("{path}.{name}"), &title, table)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = Table::try_from(&self.file).map_err(|_| fmt::Error)?;
        writeln!(
            f,
            "# The effective configuration; what is not a default says where it is from."
        )?;
        for (name, value) in &table {
            if let Value::Table(table) = value {
                self.section(f, name, name, table)?;
            }
        }
        Ok(())
    }
}

/// Puts a name that TOML would not take as it is in quotes: an origin.
fn quoted(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.bytes().all(bare) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}
