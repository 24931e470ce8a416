//! The file that keeps the keys of subscriptions through a restart.
//!
//! It has one line for each change, in their order: the first sixteen digits of a subscription's
//! fingerprint, as logs show it, and the name of its key, or nothing if the entry was removed. It holds no
//! endpoint. Changes are appended, so that a write costs what has changed. A file that has grown to twice
//! its entries is replaced as a whole. What can go wrong here: a disk that is full or read-only, a file from
//! another program, a process that dies while it writes. A malformed line is skipped, a last line without
//! its end is dropped, a file that changed since the last write is replaced, and a daemon that cannot write
//! goes on without.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::subscription_keys::{Change, SubscriptionKeys};
use crate::message::Name;

/// The file in a state directory.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What is in the file, if it is known to be right.
    written: Option<Written>,
}

/// What is in the file.
#[derive(Clone, Copy, Debug)]
struct Written {
    length: u64,
    lines: usize,
    /// The number of lines at which it is replaced.
    lines_limit: usize,
}

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

/// The longest file that is read: more lines than a file may have.
const LENGTH_LIMIT: u64 = 512 << 20;

/// How many lines a file may have besides two for each entry.
const SPARE_LINES: usize = 1 << 16;

impl StateFile {
    /// Names the file in a directory.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        Self {
            path: directory.join(FILE_NAME),
            written: None,
        }
    }

    /// Reads the entries of keys for which `is_held` is true. A missing file has no entries.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(
        &mut self,
        subscription_keys: &SubscriptionKeys,
        is_held: impl Fn(&Name) -> bool,
    ) -> Result<(), StateError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error("read", error)),
        };
        let mut reader = BufReader::new(file.take(LENGTH_LIMIT));
        let (mut line, mut lines, mut length) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            let read = read.map_err(|error| self.error("read", error))?;
            let Some(whole) = line.strip_suffix(b"\n") else {
                break;
            };
            lines += 1;
            length += read as u64;
            match entry(whole) {
                Some((beginning, Some(key))) if is_held(&key) => {
                    subscription_keys.insert_at(beginning, &key)
                }
                Some((beginning, _)) => subscription_keys.remove_at(beginning),
                None => {}
            }
        }
        // Changes are counted from here on.
        let _before = subscription_keys.latest();
        let lines_limit = lines_limit(subscription_keys.entries().count());
        self.written = line.is_empty().then_some(Written {
            length,
            lines,
            lines_limit,
        });
        Ok(())
    }

    /// Writes what changed since the last time.
    ///
    /// # Errors
    /// If it cannot be written; the next call writes everything.
    pub fn write(&mut self, subscription_keys: &SubscriptionKeys) -> Result<(), StateError> {
        let (written, latest) = (self.written.take(), subscription_keys.latest());
        let result = match written.zip(latest) {
            Some((written, latest)) if self.may_append(written, latest.len()) => {
                append(&self.path, written, &latest)
            }
            Some(_) | None => replace(&self.path, subscription_keys),
        };
        self.written = Some(result.map_err(|error| self.error("write", error))?);
        Ok(())
    }

    fn may_append(&self, written: Written, changes: usize) -> bool {
        let is_as_it_was = fs::metadata(&self.path).is_ok_and(|it| it.len() == written.length);
        is_as_it_was && written.lines + changes <= written.lines_limit
    }

    fn error(&self, what: &'static str, cause: io::Error) -> StateError {
        StateError {
            what,
            path: self.path.clone(),
            cause,
        }
    }
}

fn lines_limit(known: usize) -> usize {
    2 * known + SPARE_LINES
}

fn append(path: &Path, written: Written, latest: &[Change]) -> io::Result<Written> {
    let mut lines = Vec::new();
    for (beginning, key) in latest {
        let key = key.as_ref().map_or("", Name::as_str);
        writeln!(lines, "{beginning:016x} {key}")?;
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(&lines)?;
    file.sync_data()?;
    Ok(Written {
        length: written.length + lines.len() as u64,
        lines: written.lines + latest.len(),
        ..written
    })
}

/// Replaces the file, so that a reader finds the old one or the new one.
fn replace(path: &Path, subscription_keys: &SubscriptionKeys) -> io::Result<Written> {
    let next = path.with_extension("next");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = BufWriter::new(options.open(&next)?);
    let mut lines = 0;
    for (beginning, key) in subscription_keys.entries() {
        writeln!(file, "{beginning:016x} {key}")?;
        lines += 1;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    Ok(Written {
        length: file.metadata()?.len(),
        lines,
        lines_limit: lines_limit(lines),
    })
}

/// Parses a line: the key is `None` where the entry was removed.
fn entry(line: &[u8]) -> Option<(u64, Option<Name>)> {
    let (beginning, key) = str::from_utf8(line).ok()?.split_once(' ')?;
    let is_digits = beginning.len() == 16 && beginning.bytes().all(|it| it.is_ascii_hexdigit());
    let beginning = u64::from_str_radix(beginning, 16)
        .ok()
        .filter(|_| is_digits)?;
    if key.is_empty() {
        return Some((beginning, None));
    }
    Some((beginning, Some(Name::parse(key)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Fingerprint;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn read(file: &mut StateFile) -> SubscriptionKeys {
        let subscription_keys = SubscriptionKeys::new(16);
        file.read(&subscription_keys, |key| key.as_str() != "2018")
            .unwrap();
        subscription_keys
    }

    fn entries(subscription_keys: &SubscriptionKeys) -> Vec<(u64, Name)> {
        subscription_keys.entries().collect()
    }

    #[test]
    fn what_is_written_is_read_again_and_no_endpoint_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        assert_eq!(entries(&read(&mut file)), []);
        let subscription_keys = SubscriptionKeys::new(16);
        for n in 0..1000 {
            subscription_keys.insert(Fingerprint::of(&format!("https://a/{n}")), &name("2025"));
        }
        subscription_keys.insert(Fingerprint::of("https://a/x"), &name("2019"));
        file.write(&subscription_keys).unwrap();
        let again = read(&mut file);
        assert!(entries(&again) == entries(&subscription_keys));
        assert_eq!(
            again.get(Fingerprint::of("https://a/x")),
            Some(name("2019"))
        );
        let text = fs::read_to_string(&file.path).unwrap();
        let x = Fingerprint::of("https://a/x");
        assert!(text.contains(&format!("{x} 2019\n")), "as logs show it");
        assert!(!text.contains("https"));
    }

    #[test]
    fn lines_that_are_none_and_keys_that_are_not_held_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        let good = "00112233445566ff 2025\n";
        let bytes = [
            b"\n\xff\xfe\n \n0011 2025\n+011223344556677 2025\n".as_slice(),
            b"0011223344556678 2018\n0011223344556677 not a name\n",
            good.as_bytes(),
        ]
        .concat();
        fs::write(&file.path, bytes).unwrap();
        let entries = entries(&read(&mut file));
        assert_eq!(entries, [(0x0011_2233_4455_66ff, name("2025"))]);
    }

    /// Records or removes 20 subscriptions among 40, of which some have entries.
    fn change(subscription_keys: &SubscriptionKeys, round: u64) {
        for n in 0..20 {
            let subscription = Fingerprint::of(&(n * (round + 1) % 40).to_string());
            match n % 3 {
                0 => subscription_keys.remove(subscription),
                1 => subscription_keys.insert(subscription, &name("2019")),
                _ => subscription_keys.insert(subscription, &name("2025")),
            }
        }
    }

    #[test]
    fn a_write_costs_what_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        let subscription_keys = read(&mut file);
        for n in 0..100_000 {
            subscription_keys.insert(Fingerprint::of(&n.to_string()), &name("2025"));
        }
        file.write(&subscription_keys).unwrap();
        let length = || {
            fs::metadata(directory.path().join(FILE_NAME))
                .unwrap()
                .len()
        };
        let before = length();
        subscription_keys.remove(Fingerprint::of("7"));
        subscription_keys.insert(Fingerprint::of("8"), &name("2019"));
        file.write(&subscription_keys).unwrap();
        let lines = "0123456789abcdef \n0123456789abcdef 2019\n";
        assert_eq!(length() - before, lines.len() as u64);
        assert!(entries(&read(&mut file)) == entries(&subscription_keys));
    }

    #[test]
    fn changes_are_read_again_in_their_order_through_any_number_of_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        let mut subscription_keys = read(&mut file);
        for round in 0..200 {
            change(&subscription_keys, round);
            file.write(&subscription_keys).unwrap();
            if round % 7 == 0 {
                file = StateFile::within(directory.path());
                let again = read(&mut file);
                assert_eq!(entries(&again), entries(&subscription_keys), "{round}");
                subscription_keys = again;
            }
        }
    }

    #[test]
    fn a_file_that_has_grown_to_twice_what_is_known_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        let subscription_keys = read(&mut file);
        let lines = || {
            let text = fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
            text.lines().count()
        };
        let mut most = 0;
        for n in 0..30_000 {
            for key in ["2019", "2025", "2019", "2025"] {
                subscription_keys.insert(Fingerprint::of(&(n % 10).to_string()), &name(key));
            }
            if n % 1000 == 0 {
                file.write(&subscription_keys).unwrap();
                most = most.max(lines());
            }
        }
        assert!(most > 10_000 && most <= lines_limit(10), "{most}");
        file.write(&subscription_keys).unwrap();
        assert!(entries(&read(&mut file)) == entries(&subscription_keys));
    }

    #[test]
    fn a_line_without_its_end_is_dropped_and_the_file_made_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        // The end of "2025a" was not written.
        let text = "0000000000000001 2019\n0000000000000002 2025";
        fs::write(&file.path, text).unwrap();
        let subscription_keys = read(&mut file);
        assert_eq!(entries(&subscription_keys), [(1, name("2019"))]);
        subscription_keys.insert_at(3, &name("2025"));
        file.write(&subscription_keys).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        assert_eq!(text, "0000000000000001 2019\n0000000000000003 2025\n");
    }

    #[test]
    fn a_file_that_is_not_as_it_was_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::within(directory.path());
        let subscription_keys = read(&mut file);
        subscription_keys.insert_at(1, &name("2019"));
        file.write(&subscription_keys).unwrap();
        for damage in [None, Some("0000000000000009 2025\nand more\n")] {
            match damage {
                None => fs::remove_file(&file.path).unwrap(),
                Some(text) => fs::write(&file.path, text).unwrap(),
            }
            subscription_keys.insert_at(2, &name("2025"));
            subscription_keys.remove_at(2);
            file.write(&subscription_keys).unwrap();
            let text = fs::read_to_string(&file.path).unwrap();
            assert_eq!(text, "0000000000000001 2019\n");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let mut file = StateFile::within(Path::new("/nonexistent"));
        let error = file
            .write(&SubscriptionKeys::new(16))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot write /nonexistent/subscription-keys, so"),
            "{error}"
        );
    }
}
