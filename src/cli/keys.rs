//! `pushrider keys`: make an application server key, show its public half.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::configured::Configured;
use super::failure::{Failure, tell};
use crate::app::{App, Apps};
use crate::config::Environment;
use crate::message::Name;
use crate::secret::Secret;
use crate::vapid::VapidKey;

/// Make an application server key (VAPID), or show the public half of one
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key pair: the private key goes to a file, the public key to standard output
    Generate {
        /// The file to write, PKCS#8 in PEM with mode 0600; it must not exist. With - the private key
        /// goes to standard output and the public key to standard error
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show the public key that pages subscribe with
    Public(Public),
}

/// Which key to show, and how.
#[derive(Debug, Args)]
pub struct Public {
    /// The file of a private key, instead of the configured one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "set", "app"])]
    key: Option<PathBuf>,
    /// The application whose primary key is meant; not needed if there is only one
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    #[command(flatten)]
    configured: Configured,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Base64url)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One line of text
    Base64url,
    /// The 65 bytes of the point
    Raw,
    /// The line of JavaScript that subscribes
    Js,
}

impl Keys {
    pub(super) fn execute(
        self,
        environment: &Environment,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        match self {
            Self::Generate { out: path } => generate(&path, out),
            Self::Public(public) => public.execute(environment, out),
        }
    }
}

/// The name that stands for standard output in the place of a file.
const STANDARD_OUTPUT: &str = "-";

fn generate(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(error.to_string());
    let key = VapidKey::generate(unnamed()?).map_err(|error| failed(&error))?;
    let pem = key.to_pkcs8_pem().map_err(|error| failed(&error))?;
    if path == Path::new(STANDARD_OUTPUT) {
        write!(out, "{}", pem.expose())?;
        tell(&format!("the public key:\n{}", key.public_key_base64url()));
        return Ok(());
    }
    write_new(path, &pem).map_err(|error| refusal(path, &error))?;
    tell(&format!(
        "wrote the private key to {}; a copy in a safe place saves every subscription that is made \
         with it\nthe public key:",
        path.display()
    ));
    writeln!(out, "{}", key.public_key_base64url())?;
    Ok(())
}

/// The name of a key outside a configuration.
fn unnamed() -> Result<Name, Failure> {
    Name::parse("key").ok_or_else(|| Failure::new("a key cannot be called key"))
}

/// Writes a file that only its owner can read, and that was not there before.
fn write_new(path: &Path, pem: &Secret<String>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(pem.expose().as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key would be in the way of the next attempt; the first error is the one to tell.
        let _left = fs::remove_file(path);
    }
    written
}

fn refusal(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if error.kind() == ErrorKind::AlreadyExists {
        return Failure::new(format!(
            "{path} exists and is left alone: a key that is lost takes all its subscriptions with \
             it; name another file"
        ));
    }
    Failure::new(format!("cannot write {path}: {error}"))
}

impl Public {
    fn execute(self, environment: &Environment, out: &mut impl Write) -> Result<(), Failure> {
        if let Some(path) = &self.key {
            return show(&read(path)?, self.format, out);
        }
        let config = self.configured.load(environment)?;
        let app = choose(&config.daemon.apps, self.app.as_deref())?;
        show(&app.ring.primary, self.format, out)
    }
}

fn read(path: &Path) -> Result<VapidKey, Failure> {
    /// Far more than the longest key file.
    const LIMIT: u64 = 64 * 1024;
    let name = unnamed()?;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
        .map_err(|error| Failure::operator(format!("cannot read {}: {error}", path.display())))?;
    let bytes = Secret::new(bytes);
    VapidKey::parse(name, bytes.expose())
        .map_err(|error| Failure::operator(format!("{}: {error}", path.display())))
}

/// Finds the application that is meant: the named one, or the only one.
pub(super) fn choose<'a>(apps: &'a Apps, name: Option<&str>) -> Result<&'a App, Failure> {
    let mut fits = apps
        .iter()
        .filter(|app| name.is_none_or(|name| app.name.as_str() == name));
    if let (Some(app), None) = (fits.next(), fits.next()) {
        return Ok(app);
    }
    let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
    let names = names.join(", ");
    Err(Failure::usage(format!(
        "name the application with --app: {names}"
    )))
}

fn show(key: &VapidKey, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    let text = key.public_key_base64url();
    match format {
        Format::Base64url => writeln!(out, "{text}")?,
        Format::Raw => out.write_all(key.public_key())?,
        Format::Js => writeln!(
            out,
            "registration.pushManager.subscribe({{ userVisibleOnly: true, applicationServerKey: \
             \"{text}\" }})"
        )?,
    }
    out.flush()?;
    Ok(())
}
