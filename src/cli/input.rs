//! What a command reads: a file, or standard input.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::failure::Failure;

/// The most bytes that are read: more than the largest event.
const LIMIT: u64 = 8 * 1024 * 1024;

/// The name that stands for standard input in the place of a file.
const STANDARD_INPUT: &str = "-";

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new(STANDARD_INPUT) {
        io::stdin().take(LIMIT + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
    };
    let source = source(path);
    match read {
        Err(error) => Err(Failure::new(format!("cannot read {source}: {error}"))),
        Ok(_) if bytes.len() as u64 > LIMIT => Err(Failure::new(format!(
            "{source} is larger than {LIMIT} bytes"
        ))),
        Ok(_) => Ok(bytes),
    }
}

/// Parses what was read. An error names the place and quotes nothing: a subscription is a secret.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    path: &Path,
    bytes: &'a [u8],
    what: &str,
) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let source = source(path);
        Failure::new(format!(
            "{source}: expected the JSON of {what} (line {line}, column {column})"
        ))
    })
}

fn source(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) {
        return "standard input".to_owned();
    }
    path.display().to_string()
}
