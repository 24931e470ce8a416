//! The effective configuration, for an operator to read.

use std::collections::{BTreeMap, BTreeSet};
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
    contents: Contents,
}

/// The digest of what was read elsewhere, by the key that names it.
pub(super) type Contents = BTreeMap<String, Digest>;

/// The SHA-256 of a secret or of certificates.
pub(super) type Digest = [u8; 32];

impl Effective {
    pub(super) fn new(file: File, sources: Sources, contents: Contents) -> Self {
        Self {
            file,
            sources,
            contents,
        }
    }

    /// Returns every key whose value differs in `other`, secrets and files that keys name included.
    #[must_use]
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let [mine, theirs] = [self, other].map(|effective| {
            let mut values = BTreeMap::new();
            flatten("", Table::try_from(&effective.file).ok(), &mut values);
            values
        });
        let mut keys = differing(&mine, &theirs);
        keys.extend(differing(&self.contents, &other.contents));
        keys
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

/// Adds every key below `section` with its value.
fn flatten(section: &str, table: Option<Table>, values: &mut BTreeMap<String, Value>) {
    for (name, value) in table.into_iter().flatten() {
        let key = if section.is_empty() {
            name
        } else {
            format!("{section}.{name}")
        };
        if let Value::Table(table) = value {
            flatten(&key, Some(table), values);
        } else {
            values.insert(key, value);
        }
    }
}

/// Returns the keys that are in one of two maps alone or have different values.
fn differing<V: PartialEq>(a: &BTreeMap<String, V>, b: &BTreeMap<String, V>) -> BTreeSet<String> {
    let keys = a.keys().chain(b.keys());
    keys.filter(|key| a.get(*key) != b.get(*key))
        .cloned()
        .collect()
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
