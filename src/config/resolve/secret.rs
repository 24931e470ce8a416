//! Where a secret is: inline, in a file of its own, or among the service manager's credentials.

use std::path::{Path, PathBuf};

use crate::config::problem::Source;
use crate::config::request::CREDENTIALS_VARIABLE;
use crate::config::resolve::scope::{Reported, Scope};
use crate::config::secrets::{Contents, locate, read_credential, read_secret};
use crate::config::text::SecretText;
use crate::secret::Secret;

/// A secret that was found.
pub(super) struct Found {
    pub(super) bytes: Secret<Vec<u8>>,
    /// The key that led to it, for what is wrong with it.
    pub(super) key: String,
    /// The file that has it, if one has.
    pub(super) path: Option<PathBuf>,
}

/// Finds the secret called `key`: of `key` and `key_file` the one from the higher layer, else the
/// credential of the name `key`.
pub(super) fn find(
    scope: &mut Scope<'_>,
    key: &str,
    inline: Option<&SecretText>,
    file: Option<&PathBuf>,
) -> Result<Option<Found>, Reported> {
    let found = search(scope, key, inline, file)?;
    if let Some(found) = &found {
        scope.note_contents(key, found.bytes.expose());
    }
    Ok(found)
}

fn search(
    scope: &mut Scope<'_>,
    key: &str,
    inline: Option<&SecretText>,
    file: Option<&PathBuf>,
) -> Result<Option<Found>, Reported> {
    let file_key = format!("{key}_file");
    let inline = inline.filter(|_| scope.is_set(key));
    let rank = |key: &str| scope.sources.of(key).rank();
    match (inline, file) {
        (Some(_), Some(_)) if rank(key) == rank(&file_key) => {
            let what = format!("is set, and so is {file_key}; keep one of them");
            Err(scope.problem(key, what))
        }
        (Some(_), Some(path)) if rank(key) < rank(&file_key) => {
            from_file(scope, file_key, path).map(Some)
        }
        (Some(SecretText(text)), _) => Ok(Some(Found {
            bytes: Secret::new(text.expose().clone().into_bytes()),
            key: key.to_owned(),
            path: None,
        })),
        (None, Some(path)) => from_file(scope, file_key, path).map(Some),
        (None, None) => from_credentials(scope, key),
    }
}

/// Lists the names of the credentials that are there.
pub(super) fn credentials(scope: &Scope<'_>) -> Vec<String> {
    let folder = scope.environment.get(CREDENTIALS_VARIABLE).map(Path::new);
    let entries = folder.and_then(|folder| folder.read_dir().ok());
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn from_file(scope: &mut Scope<'_>, key: String, written: &Path) -> Result<Found, Reported> {
    let source = scope.sources.of(&key);
    let read = locate(written, &source).and_then(|path| Ok((read_secret(&path)?, path)));
    let (contents, path) = read.map_err(|what| scope.problem(&key, what))?;
    let Contents { bytes, advice } = contents;
    if let Some(advice) = advice {
        scope.warn(&key, advice);
    }
    let path = Some(path);
    Ok(Found { bytes, key, path })
}

fn from_credentials(scope: &mut Scope<'_>, key: &str) -> Result<Option<Found>, Reported> {
    if !credentials(scope).iter().any(|name| name == key) {
        return Ok(None);
    }
    let folder = scope
        .environment
        .get(CREDENTIALS_VARIABLE)
        .unwrap_or_default();
    let path = Path::new(folder).join(key);
    scope.sources.note(key, Source::Credential(path.clone()));
    let contents = read_credential(&path).map_err(|what| scope.problem(key, what))?;
    Ok(Some(Found {
        bytes: contents.bytes,
        key: key.to_owned(),
        path: Some(path),
    }))
}
