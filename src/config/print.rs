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

    fn section(&self, f: &mut fmt::Formatter<'_>, path: &str, table: &Table) -> fmt::Result {
        let (sections, keys): (Vec<_>, Vec<_>) =
            table.iter().partition(|(_, value)| value.is_table());
        if !keys.is_empty() {
            writeln!(f, "\n[{path}]")?;
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
                self.section(f, &format!("{path}.{name}"), table)?;
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
                self.section(f, name, table)?;
            }
        }
        Ok(())
    }
}
