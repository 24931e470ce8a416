//! `pushrider sandbox`: a push service to develop against.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::failure::Failure;
use super::runtime::{processors, start_runtime};
use crate::origin::Service;
use crate::sandbox::{self, Message, Running, Settings, SubscribeRequest};

/// How much of a plaintext a line shows, in characters.
const EXCERPT: usize = 80;

/// Run a local push service in place of a browser: it hands out subscriptions, decrypts what
/// arrives and answers as it is told
#[derive(Debug, clap::Args)]
pub struct Sandbox {
    /// Where to listen for pushes (TLS); repeat for several origins
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: Vec<SocketAddr>,
    /// Speak as this push service does (fcm, mozilla, apple, wns, ntfy, nextpush): its paths, headers,
    /// bodies and codes; repeat for several origins, in their order
    #[arg(long = "as", value_name = "SERVICE", value_parser = service)]
    services: Vec<Service>,
    /// Where to serve the page and control requests (plain HTTP, no authentication)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8444")]
    control: SocketAddr,
    /// Further host name by which the page and control requests may be asked for, as in a network of
    /// containers; localhost and the address always may; may be repeated
    #[arg(long, value_name = "NAME")]
    control_name: Vec<String>,
    /// Host name in the endpoints, instead of the address listened on
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Further name or address for the certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Keep the CA and the subscriptions here between runs; without it the CA is new at every
    /// start
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Hold every answer back this long, for example 50ms
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "0s")]
    latency: Duration,
    /// How many messages to keep for the control listener; 0 only counts them
    #[arg(long, value_name = "N", default_value_t = 1000)]
    keep: usize,
    /// Make this many subscriptions at start and print them, one JSON object a line
    #[arg(long, value_name = "N", default_value_t = 0)]
    subscriptions: usize,
    /// How many requests a client may have open on one HTTP/2 connection
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_streams: u32,
    /// Offer HTTP/1.1 alone
    #[arg(long)]
    http1: bool,
    /// Check heads only and leave bodies encrypted: for benchmarks
    #[arg(long)]
    fast: bool,
    /// Print no line for each message
    #[arg(long, short)]
    quiet: bool,
}

impl Sandbox {
    /// Runs the sandbox until SIGTERM or SIGINT.
    pub(super) fn execute(self) -> Result<(), Failure> {
        let (services, addresses) = (self.services.len(), self.listen.len());
        if services > addresses {
            return Err(Failure::usage(format!(
                "--as is given {services} times for {addresses} address(es) to listen on; repeat \
                 --listen for each, as in --listen 127.0.0.1:8443 --listen 127.0.0.1:8445"
            )));
        }
        let served = start_runtime(processors())?.block_on(serve(&self));
        served.map_err(|error| Failure::new(error.to_string()))
    }

    /// Turns what was asked for into what the sandbox needs.
    fn settings(&self) -> Settings {
        Settings {
            listen: self.listen.clone(),
            services: self.services.clone(),
            clocks: Vec::new(),
            host: self.host.clone(),
            names: self.name.clone(),
            control: Some(self.control),
            control_names: self.control_name.clone(),
            state: self.state.clone(),
            latency: self.latency,
            keep: self.keep,
            decrypt: !self.fast,
            http2: !self.http1,
            max_concurrent_streams: self.max_streams,
        }
    }
}

fn service(name: &str) -> Result<Service, String> {
    Service::named(name).ok_or_else(|| {
        let names: Vec<_> = Service::ALL.iter().map(|service| service.name()).collect();
        format!("there are {}", names.join(", "))
    })
}

async fn serve(args: &Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let running = sandbox::start(args.settings()).await?;
    // Whoever closes standard output early still wants the service.
    let _closed = introduce(&mut io::stdout().lock(), args, &running);
    for _ in 0..args.subscriptions {
        let made = serde_json::to_string(&running.subscribe(SubscribeRequest::default())?)?;
        let _closed = writeln!(io::stdout(), "{made}");
    }
    if args.quiet {
        stopped(&mut terminate, &mut interrupt).await;
    } else {
        tokio::select! {
            () = stopped(&mut terminate, &mut interrupt) => {}
            () = tell(running.arrivals()) => {}
        }
    }
    running.stop().await;
    Ok(())
}

async fn stopped(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Prints what a person needs to push here.
fn introduce(out: &mut impl Write, args: &Sandbox, running: &Running) -> io::Result<()> {
    let control = running.control().unwrap_or_default();
    let kept = args
        .state
        .as_ref()
        .map(|directory| directory.join("ca.pem"));
    let ca = kept.as_ref().map_or_else(
        || format!("{control}/ca.pem"),
        |path| path.display().to_string(),
    );
    writeln!(
        out,
        "pushrider sandbox, a push service for development and tests"
    )?;
    for (origin, service) in running.origins().iter().zip(running.services()) {
        write!(out, "  pushes   {origin}")?;
        if service != Service::Other {
            write!(out, "  as {}", service.name())?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "  page     {control}/\n  control  {control}  (/subscriptions /messages /events /stats /ca.pem)"
    )?;
    writeln!(out, "  CA       {ca}\n")?;
    if kept.is_none() {
        let hint = "The CA is made anew at every start (--state DIR keeps it); save it:";
        writeln!(out, "{hint}\n\n  curl -o sandbox-ca.pem {ca}\n")?;
    }
    let file = kept.unwrap_or_else(|| "sandbox-ca.pem".into());
    let lines = configuration(running, &file.display().to_string());
    writeln!(
        out,
        "To push here, put this into pushrider.toml:\n\n{lines}"
    )?;
    explain(out, &control)?;
    name_answers(out, running)?;
    out.flush()
}

/// Prints the names of the answers of each service that is spoken for.
fn name_answers(out: &mut impl Write, running: &Running) -> io::Result<()> {
    let services: BTreeSet<_> = running.services().collect();
    for service in services {
        let names = sandbox::answers(service).join(", ");
        writeln!(out, "Answers by name, of {}: {names}\n", service.name())?;
    }
    Ok(())
}

/// Prints how to talk to the control listener.
fn explain(out: &mut impl Write, control: &str) -> io::Result<()> {
    let answers = r#"[{"status": 503, "times": 2}, {"answer": "accepted"}]"#;
    writeln!(
        out,
        "Get a subscription, and see what has arrived, here or on the page:\n\n\
         \x20 curl -X POST {control}/subscriptions\n\
         \x20 curl {control}/messages\n\n\
         Make a subscription fail twice, then work:\n\n\
         \x20 curl -X PUT {control}/subscriptions/s1/answer -d '{answers}'\n"
    )
}

/// Writes the part of a configuration that lets the daemon push to these origins.
fn configuration(running: &Running, ca_file: &str) -> String {
    let guard = guard_of(running.origins());
    let services: String = running
        .origins()
        .iter()
        .zip(running.services())
        .filter(|(_, service)| *service != Service::Other)
        .map(|(origin, service)| {
            format!("\n  [services.{origin:?}]\n  as = {:?}\n", service.name())
        })
        .collect();
    format!("{guard}\n  [push]\n  ca_file = {ca_file:?}\n{services}")
}

fn guard_of(origins: &[String]) -> String {
    let urls: Vec<_> = origins
        .iter()
        .filter_map(|origin| url::Url::parse(origin).ok())
        .collect();
    let mut nets: Vec<_> = urls.iter().filter_map(net).collect();
    let mut ports: Vec<_> = urls
        .iter()
        .filter_map(url::Url::port_or_known_default)
        .collect();
    nets.sort_unstable();
    nets.dedup();
    ports.sort_unstable();
    ports.dedup();
    format!("  [guard]\n  allow = {nets:?}\n  ports = {ports:?}\n")
}

/// Returns the net that holds an origin's one address; a name may be loopback in both families.
fn net(origin: &url::Url) -> Option<String> {
    match origin.host()? {
        url::Host::Domain(_) => Some("127.0.0.1/32".to_owned()),
        url::Host::Ipv4(address) => Some(format!("{address}/32")),
        url::Host::Ipv6(address) => Some(format!("{address}/128")),
    }
}

/// Prints a line for each message until the sandbox ends.
async fn tell(mut arrivals: Receiver<Arc<Message>>) {
    loop {
        let line = match arrivals.recv().await {
            Ok(message) => line(&message),
            Err(RecvError::Lagged(missed)) => format!("… {missed} messages not shown"),
            Err(RecvError::Closed) => return,
        };
        let _closed = writeln!(io::stdout(), "{line}");
    }
}

/// Describes one message: `s1  201  hello`.
fn line(message: &Message) -> String {
    let answer = match (message.status, message.fault) {
        (Some(status), None) => status.to_string(),
        (Some(status), Some(fault)) => format!("{status} {fault}"),
        (None, fault) => fault.unwrap_or("-").to_owned(),
    };
    let taken = message.status.is_some_and(|status| status < 300);
    let what = match (&message.error, &message.text, &message.plaintext) {
        (Some(error), _, _) if taken => format!("taken, though wrong: {error}"),
        (Some(error), _, _) => format!("refused: {error}"),
        (None, Some(text), _) => excerpt(text),
        (None, None, Some(bytes)) => format!("({} bytes that are not UTF-8)", bytes.len()),
        (None, None, None) if message.content_encoding.is_none() => "(no body)".to_owned(),
        (None, None, None) => "(not decrypted)".to_owned(),
    };
    format!("{}  {answer}  {what}", message.subscription)
}

/// Cuts a text, and makes what would move the terminal's cursor visible.
fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT).flat_map(visible).collect();
    if text.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    shown
}

fn visible(character: char) -> Vec<char> {
    if character.is_control() {
        character.escape_default().collect()
    } else {
        vec![character]
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn args(line: &[&str]) -> Sandbox {
        let command = Sandbox::augment_args(clap::Command::new("sandbox"));
        let matches = command
            .try_get_matches_from([&["sandbox"], line].concat())
            .unwrap();
        Sandbox::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn several_origins_can_be_asked_for() {
        let one = args(&[]).settings();
        assert_eq!(one.listen, ["127.0.0.1:8443".parse().unwrap()]);
        let two = args(&["--listen", "[::1]:1", "--listen", "127.0.0.1:2", "--fast"]).settings();
        assert_eq!(two.listen.len(), 2);
        assert!(!two.decrypt);
    }

    #[test]
    fn the_configuration_names_every_address_and_port_once() {
        let origins = [
            "https://127.0.0.1:8443",
            "https://127.0.0.1:9443",
            "https://[::1]",
        ];
        let shown = guard_of(&origins.map(str::to_owned));
        let parsed: toml::Table = toml::from_str(&shown).unwrap();
        let list = |values: &[&str]| toml::Value::from(values.to_vec());
        assert_eq!(parsed["guard"]["allow"], list(&["127.0.0.1/32", "::1/128"]));
        assert_eq!(
            parsed["guard"]["ports"],
            toml::Value::from(vec![443, 8443, 9443])
        );
    }

    #[test]
    fn a_service_without_an_address_is_told_and_not_dropped() {
        let failure = args(&["--as", "fcm", "--as", "apple"])
            .execute()
            .unwrap_err();
        assert_eq!(failure.status, 2);
        let expected = "--as is given 2 times for 1 address(es) to listen on; repeat --listen";
        assert!(failure.message.starts_with(expected), "{}", failure.message);
    }

    #[tokio::test]
    async fn the_configuration_says_what_each_origin_speaks_as() {
        let line =
            "--listen 127.0.0.1:0 --listen 127.0.0.1:0 --control 127.0.0.1:0 --as other --as wns";
        let args = args(&line.split(' ').collect::<Vec<_>>());
        let running = sandbox::start(args.settings()).await.unwrap();
        let parsed: toml::Table = toml::from_str(&configuration(&running, "ca.pem")).unwrap();
        assert_eq!(parsed["push"]["ca_file"].as_str(), Some("ca.pem"));
        let services = parsed["services"].as_table().unwrap();
        assert_eq!(services.len(), 1);
        assert_eq!(services[&running.origins()[1]]["as"].as_str(), Some("wns"));
        assert!(service("gcm").unwrap_err().contains("nextpush"));
    }

    #[tokio::test]
    async fn a_person_is_told_how_to_begin() {
        let args = args(&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        let running = sandbox::start(args.settings()).await.unwrap();
        let mut told = Vec::new();
        introduce(&mut told, &args, &running).unwrap();
        let told = String::from_utf8(told).unwrap();
        let control = running.control().unwrap();
        for part in [
            &running.origins()[0],
            &format!("curl -X POST {control}/subscriptions"),
            &format!("curl -o sandbox-ca.pem {control}/ca.pem"),
            "of other: accepted, gone, not_found",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn an_excerpt_cannot_move_the_cursor() {
        assert_eq!(excerpt("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(excerpt(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
        assert_eq!(excerpt(&"é".repeat(80)), "é".repeat(80));
    }
}
