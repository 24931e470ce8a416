//! Log lines: text for people, JSON for machines, never a secret.
//!
//! Nothing of ours puts a secret into a line. Dependencies do: at DEBUG an HTTP client prints URLs,
//! which are capabilities, and lapin prints a returned message, body and all, already at WARN, and
//! what it could not parse at ERROR; what matters of it the modules of the broker log themselves. So a level
//! without a target speaks of pushrider alone; dependencies stay at [`QUIET`] unless an
//! operator names one. What reaches us by the `log` crate is dropped.

use std::any::Any;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::panic::{self, Location};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, Layer, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

/// What an operator decides about logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How lines are written.
    pub format: Format,
    /// What is logged: a level for pushrider, and `target=level` for anything more particular, as
    /// in `info`, or `info,pushrider::broker=debug,hyper=info`.
    pub filter: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal or in the journal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the lines are written to, as far as it matters for their looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Someone watches.
    Terminal {
        /// Whether levels are coloured; `NO_COLOR` forbids it.
        colours: bool,
    },
    /// systemd's journal: it keeps the times, and takes the priority from `<N>`.
    Journal,
    /// A file or a pipe.
    Stream,
}

/// The crate's own targets begin with this.
const OURS: &str = "pushrider";

/// What the filter's text leaves out.
const DEFAULT: LevelFilter = LevelFilter::INFO;

/// What dependencies may say unless the operator names them.
const QUIET: [(&str, LevelFilter); 2] = [("", LevelFilter::WARN), ("lapin", LevelFilter::OFF)];

/// The filter of the lines that are logged, which can be replaced.
pub(crate) struct ActiveFilter(reload::Handle<Targets, Registry>);

impl ActiveFilter {
    /// Replaces the filter.
    ///
    /// # Errors
    /// If `filter` cannot be read, or nothing is logged any more.
    pub(crate) fn replace(&self, filter: &str) -> Result<(), LoggingError> {
        let replaced = self.0.reload(targets(filter)?);
        replaced.map_err(|_| LoggingError::Ended)
    }
}

/// Logs to standard error from now on.
///
/// # Errors
/// If the filter cannot be read, or logs already go somewhere.
pub(crate) fn init(settings: &Settings) -> Result<ActiveFilter, LoggingError> {
    let (subscriber, filter) = subscriber(settings, sink(), io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)?;
    Ok(filter)
}

/// Logs panics in place of the standard library, whose message may repeat a string of an event.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        tell_panic(panic.payload(), panic.location())
    }));
}

/// Logs where a panic happened, and its message where that is constant text.
fn tell_panic(payload: &dyn Any, location: Option<&Location<'_>>) {
    let message = payload.downcast_ref::<&'static str>();
    let location = location.map(tracing::field::display);
    error!(
        location,
        text = message,
        "a panic, which is a bug in pushrider"
    );
}

/// Builds what [`init`] installs, with the lines going to `writer`.
///
/// # Errors
/// If the filter cannot be read.
pub(crate) fn subscriber<W>(
    settings: &Settings,
    sink: Sink,
    writer: W,
) -> Result<(Box<dyn Subscriber + Send + Sync>, ActiveFilter), LoggingError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(&settings.filter)?);
    let active = ActiveFilter(handle);
    // A line that cannot be written must not become a panic in eprintln!.
    let layer = Layer::new().with_writer(writer).log_internal_errors(false);
    let text = match settings.format {
        Format::Auto => sink != Sink::Stream,
        Format::Text => true,
        Format::Json => false,
    };
    let registry = Registry::default().with(filter);
    if !text {
        let json = layer.json().flatten_event(true).with_span_list(false);
        return Ok((Box::new(registry.with(json)), active));
    }
    let subscriber: Box<dyn Subscriber + Send + Sync> = match sink {
        Sink::Terminal { colours } => Box::new(registry.with(layer.with_ansi(colours))),
        Sink::Stream => Box::new(registry.with(layer.with_ansi(false))),
        Sink::Journal => {
            let plain = format::format().with_ansi(false).without_time();
            let layer = layer.with_ansi(false).event_format(Prioritised(plain));
            Box::new(registry.with(layer))
        }
    };
    Ok((subscriber, active))
}

/// Why logging could not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoggingError {
    /// A part of the filter is neither a level nor `target=level`.
    #[error(
        "log.filter: {0:?} is neither a level (off, error, warn, info, debug, trace) nor \
         TARGET=LEVEL, as in \"info,pushrider::broker=debug\""
    )]
    Filter(String),
    /// A subscriber was there before.
    #[error("logs of this process already go somewhere")]
    AlreadySet,
    /// There is no subscriber any more.
    #[error("logs of this process go nowhere")]
    Ended,
}

/// Reads a filter; a target without a level is refused, since `inof` would be one.
fn targets(filter: &str) -> Result<Targets, LoggingError> {
    let mut ours = DEFAULT;
    let mut named = Vec::new();
    for part in filter
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let refuse = || LoggingError::Filter(part.to_owned());
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level),
            None => (None, part),
        };
        let level: LevelFilter = level.trim().parse().map_err(|_| refuse())?;
        match target {
            None => ours = level,
            Some("") => return Err(refuse()),
            Some(target) => named.push((target, level)),
        }
    }
    // A quieter pushrider quietens its dependencies, too.
    let quiet = QUIET.map(|(target, level)| (target, level.min(ours)));
    Ok(Targets::new()
        .with_targets(quiet)
        .with_target(OURS, ours)
        .with_targets(named))
}

/// Finds out what standard error is.
fn sink() -> Sink {
    if io::stderr().is_terminal() {
        Sink::Terminal {
            colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    } else if is_journal() {
        Sink::Journal
    } else {
        Sink::Stream
    }
}

/// Returns whether standard error is the stream that `JOURNAL_STREAM` names.
///
/// The variable alone is inherited by everything below a service, redirected or not, so its device
/// and inode are compared (`systemd.exec(5)`).
fn is_journal() -> bool {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let metadata = stderr.and_then(|stderr| std::fs::File::from(stderr).metadata());
    metadata.is_ok_and(|it| stream == format!("{}:{}", it.dev(), it.ino()))
}

/// Writes the priority in front of a line, as the journal reads it (`sd-daemon(3)`).
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(format: Format, sink: Sink, filter: &str, run: fn()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = Settings {
            format,
            filter: filter.to_owned(),
        };
        let (subscriber, _) = subscriber(&settings, sink, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, run);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn say_everything() {
        error!("ours");
        warn!("ours");
        info!("ours");
        debug!("ours");
        error!(target: "lapin::channels", "theirs");
        warn!(target: "lapin::returned_messages", "theirs: a message body");
        warn!(target: "h2::proto", "theirs");
        debug!(target: "hyper_util::client", "theirs: an endpoint");
    }

    #[test]
    fn a_level_speaks_of_pushrider_and_dependencies_must_be_named() {
        for (filter, expected) in [
            ("info", "error:ours warn:ours info:ours warn:h2"),
            ("", "error:ours warn:ours info:ours warn:h2"),
            ("trace", "error:ours warn:ours info:ours debug:ours warn:h2"),
            ("error", "error:ours"),
            ("off", ""),
            ("off,pushrider::logging=warn", "error:ours warn:ours"),
            (
                "off, hyper_util=debug, lapin=warn",
                "error:lapin warn:lapin debug:hyper_util",
            ),
        ] {
            let lines = captured(Format::Json, Sink::Stream, filter, say_everything);
            let short: Vec<_> = lines
                .lines()
                .map(|line| {
                    let line: serde_json::Value = serde_json::from_str(line).unwrap();
                    let target = line["target"].as_str().unwrap();
                    let target = target.split(':').next().unwrap();
                    let who = if target == OURS { "ours" } else { target };
                    format!("{}:{who}", line["level"].as_str().unwrap().to_lowercase())
                })
                .collect();
            assert_eq!(short.join(" "), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_meant_is_refused_with_the_part_that_is_wrong() {
        for (filter, part) in [
            ("inof", "inof"),
            ("info,lapin", "lapin"),
            ("info,lapin=loud", "lapin=loud"),
            ("=debug", "=debug"),
            ("pushrider[span]=debug=", "pushrider[span]=debug="),
        ] {
            let error = targets(filter).unwrap_err();
            assert_eq!(error, LoggingError::Filter(part.to_owned()), "{filter}");
        }
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_the_strings_it_was_about() {
        let tell = || {
            let sliced = panic::catch_unwind(|| &"payload-\u{e9}"[..9]);
            tell_panic(&*sliced.unwrap_err(), Some(Location::caller()));
            let fixed = panic::catch_unwind(|| panic!("no such state"));
            tell_panic(&*fixed.unwrap_err(), None);
        };
        let lines = captured(Format::Json, Sink::Stream, "info", tell);
        assert!(!lines.contains("payload"), "{lines}");
        let [sliced, fixed] = [0, 1].map(|n| lines.lines().nth(n).unwrap());
        assert!(sliced.contains("src/logging.rs:"), "{lines}");
        assert!(fixed.contains("no such state"), "{lines}");
        assert!(
            lines
                .lines()
                .all(|line| line.contains(r#""level":"ERROR""#))
        );
    }

    fn settle_one() {
        let span = info_span!("message", message_id = "order-1", attempt = 2);
        span.in_scope(|| info!(outcome = "accepted", status = 201, "settled"));
    }

    #[test]
    fn json_lines_are_flat_objects_with_a_utc_time() {
        let lines = captured(Format::Auto, Sink::Stream, "info", settle_one);
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "settled");
        assert_eq!(line["outcome"], "accepted");
        assert_eq!(line["status"], 201);
        assert_eq!(line["span"]["message_id"], "order-1");
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z'), "{time}");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn the_looks_follow_the_sink() {
        let journal = captured(Format::Auto, Sink::Journal, "info", settle_one);
        assert!(journal.starts_with("<6> INFO message{"), "{journal}");
        assert!(!journal.contains('\u{1b}'), "{journal}");
        let terminal = captured(
            Format::Auto,
            Sink::Terminal { colours: true },
            "info",
            settle_one,
        );
        assert!(terminal.contains('\u{1b}'), "{terminal}");
        let text = captured(Format::Text, Sink::Stream, "info", settle_one);
        assert!(text.contains("outcome=\"accepted\""), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let json = captured(Format::Json, Sink::Journal, "info", settle_one);
        assert!(json.starts_with('{'), "{json}");
    }
}
