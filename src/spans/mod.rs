//! The spans of messages: consume, push, settle. They are exported by OTLP with the cargo feature `otlp`
//! and cost nothing without it.
//!
//! With the feature, `start` reads the standard `OTEL_*` variables; spans are made only if they name where
//! to export them to. The parent of a consume span is the trace of the event. Names and attributes are those
//! of OpenTelemetry's semantic conventions; none shows an endpoint, which is a capability.

#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;

#[cfg(not(feature = "otlp"))]
pub use self::off::{Exporter, Span, start};
#[cfg(feature = "otlp")]
pub use self::otlp::{Exporter, Span, start};
