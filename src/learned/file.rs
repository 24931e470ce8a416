//! The file that keeps what was learned through a restart.
//!
//! One line for each subscription: the first sixteen digits of its fingerprint, as logs show it, and
//! the name of its key. No endpoint is in it. What can go wrong here: a disk that is full or
//! read-only, a file that somebody else wrote, a process that dies while it writes. The file is
//! replaced as a whole, so a reader finds the old one or the new one; a line that is none is passed
//! over; and a daemon that cannot write goes on without.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::LearnedKeys;
use crate::message::Name;

/// The file in a state directory.
#[derive(Clone, Debug)]
pub struct StateFile(PathBuf);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}, so which keys subscriptions were made with is found out again after a restart: {cause}", path.display())]
pub struct StateError {
    what: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// The name of the file.
const FILE_NAME: &str = "subscription-keys";

/// The longest file that is read: more lines than the table has cells.
const LENGTH_LIMIT: u64 = 256 << 20;

impl StateFile {
    /// Names the file in a directory.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        Self(directory.join(FILE_NAME))
    }

    /// Learns what the file says of keys that `is_held` knows; a file that is not there says nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(
        &self,
        learned: &LearnedKeys,
        is_held: impl Fn(&Name) -> bool,
    ) -> Result<(), StateError> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error("read", error)),
        };
        for line in BufReader::new(file.take(LENGTH_LIMIT)).split(b'\n') {
            let line = line.map_err(|error| self.error("read", error))?;
            if let Some((beginning, key)) = entry(&line).filter(|(_, key)| is_held(key)) {
                learned.insert(beginning, &key);
            }
        }
        Ok(())
    }

    /// Replaces the file by one that says what was learned until now.
    ///
    /// # Errors
    /// If it cannot be written; the old one stays.
    pub fn write(&self, learned: &LearnedKeys) -> Result<(), StateError> {
        let next = self.0.with_extension("next");
        write_all(&next, learned)
            .and_then(|()| fs::rename(&next, &self.0))
            .map_err(|error| self.error("write", error))
    }

    fn error(&self, what: &'static str, cause: io::Error) -> StateError {
        StateError {
            what,
            path: self.0.clone(),
            cause,
        }
    }
}

fn write_all(path: &Path, learned: &LearnedKeys) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = BufWriter::new(options.open(path)?);
    for (beginning, key) in learned.snapshot().entries() {
        writeln!(file, "{beginning:016x} {key}")?;
    }
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn entry(line: &[u8]) -> Option<(u64, Name)> {
    let (beginning, key) = str::from_utf8(line).ok()?.split_once(' ')?;
    let is_digits = beginning.len() == 16 && beginning.bytes().all(|it| it.is_ascii_hexdigit());
    let beginning = u64::from_str_radix(beginning, 16).ok();
    beginning.filter(|_| is_digits).zip(Name::parse(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Fingerprint;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn read(file: &StateFile) -> LearnedKeys {
        let learned = LearnedKeys::default();
        file.read(&learned, |key| key.as_str() != "2018").unwrap();
        learned
    }

    fn told(learned: &LearnedKeys) -> Vec<(u64, Name)> {
        let snapshot = learned.snapshot();
        snapshot
            .entries()
            .map(|(n, key)| (n, key.clone()))
            .collect()
    }

    #[test]
    fn what_is_written_is_read_again_and_no_endpoint_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::within(directory.path());
        assert_eq!(told(&read(&file)), []);
        let learned = LearnedKeys::default();
        for n in 0..1000 {
            learned.learn(Fingerprint::of(&format!("https://a/{n}")), &name("2025"));
        }
        learned.learn(Fingerprint::of("https://a/x"), &name("2019"));
        file.write(&learned).unwrap();
        let again = read(&file);
        assert!(told(&again) == told(&learned));
        assert_eq!(
            again.get(Fingerprint::of("https://a/x")),
            Some(name("2019"))
        );
        let text = fs::read_to_string(&file.0).unwrap();
        let x = Fingerprint::of("https://a/x");
        assert!(text.contains(&format!("{x} 2019\n")), "as logs show it");
        assert!(!text.contains("https"));
    }

    #[test]
    fn lines_that_are_none_and_keys_that_are_not_held_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::within(directory.path());
        let good = "00112233445566ff 2025";
        let bytes = [
            b"\n\xff\xfe\n \n0011 2025\n+011223344556677 2025\n".as_slice(),
            b"0011223344556678 2018\n0011223344556677 not a name\n",
            good.as_bytes(),
        ]
        .concat();
        fs::write(&file.0, bytes).unwrap();
        let entries = told(&read(&file));
        assert_eq!(entries, [(0x0011_2233_4455_66ff, name("2025"))]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let file = StateFile::within(Path::new("/nonexistent"));
        let error = file.write(&LearnedKeys::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write /nonexistent/subscription-keys, so"),
            "{error}"
        );
    }
}
