//! Files that hold secrets and certificates.
//!
//! What can go wrong here: a secret where its file's name belongs, which an error would show; a
//! file that others may read, or worse, replace; a file that never ends.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::problem::Source;
use crate::config::text::{looks_secret, reason};
use crate::secret::Secret;

/// The longest file that is taken for a secret or a list of certificates, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// What was read from a file, and what its permissions should be.
pub(super) struct Contents {
    pub(super) bytes: Secret<Vec<u8>>,
    pub(super) advice: Option<String>,
}

/// Finds a file: a relative path that the configuration file names begins at that file's folder.
///
/// # Errors
/// If it looks like a secret rather than like a path.
pub(super) fn locate(written: &Path, source: &Source) -> Result<PathBuf, String> {
    let path = match source {
        Source::File(file) => file.parent().unwrap_or(Path::new("")).join(written),
        Source::Default | Source::Credential(_) | Source::Variable(_) | Source::Flag => {
            written.to_owned()
        }
    };
    if looks_secret(&written.to_string_lossy()) && !path.exists() {
        return Err("this looks like the secret itself; write the path of its file".to_owned());
    }
    Ok(path)
}

/// Reads a file that only its reader should see.
///
/// # Errors
/// Why it cannot be used, as a sentence without any of its contents.
pub(super) fn read_secret(path: &Path) -> Result<Contents, String> {
    let (bytes, metadata) = read(path)?;
    if metadata.mode() & 0o002 != 0 {
        return Err(format!(
            "every user can replace {}; chmod 600 it, and make a new key if anybody did",
            path.display()
        ));
    }
    let advice =
        exposure(&metadata).map(|to| format!("{to} can read {}; chmod 600 it", path.display()));
    Ok(Contents { bytes, advice })
}

/// Reads a file that the service manager prepared for this process alone.
///
/// # Errors
/// As [`read_secret`].
pub(super) fn read_credential(path: &Path) -> Result<Contents, String> {
    let (bytes, _) = read(path)?;
    Ok(Contents {
        bytes,
        advice: None,
    })
}

/// Reads certificates in PEM.
///
/// # Errors
/// If the file cannot be read or has no certificate in it.
pub(super) fn read_certificates(path: &Path) -> Result<String, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let (bytes, _) = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes.expose()).collect();
    let some = certificates.is_ok_and(|certificates| !certificates.is_empty());
    String::from_utf8(bytes.expose().clone())
        .ok()
        .filter(|_| some)
        .ok_or_else(|| format!("{} has no certificate in PEM", path.display()))
}

/// Returns who can read a file besides its owner. The group of a file of root is allowed to.
pub(super) fn exposure(metadata: &Metadata) -> Option<&'static str> {
    let mode = metadata.mode();
    if mode & 0o004 != 0 {
        Some("every user")
    } else if mode & 0o060 != 0 && metadata.uid() != 0 {
        Some("the file's group")
    } else {
        None
    }
}

fn read(path: &Path) -> Result<(Secret<Vec<u8>>, Metadata), String> {
    let failed = |error: io::Error| format!("cannot read {}: {}", path.display(), reason(&error));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    if metadata.len() > LIMIT {
        return Err(format!(
            "{} is too large for what it should hold",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    Ok((Secret::new(bytes), metadata))
}
