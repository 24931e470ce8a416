//! Spans by the OpenTelemetry SDK, exported as protobuf over HTTP.
//!
//! What can go wrong here: the SDK exports on a thread of its own, where no tokio runtime is, so the
//! requests are made on the daemon's. Its own log is not compiled in; a collector that takes no spans is
//! logged here, once until it takes some again.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::BasicProperties;
use lapin::types::ShortString;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::origin::Origin;
use crate::outcome::{Attempt, Failure};
use crate::wire::trace::Trace;

/// How long the last spans may take at the end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a request may take unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes spans, once there is somewhere to export them to.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Exports spans until it is finished.
#[derive(Debug)]
pub struct Exporter(Option<SdkTracerProvider>);

/// Starts to export spans if the environment says where to. A mistake there is logged, and no spans are
/// exported.
#[must_use]
pub fn start() -> Exporter {
    if !is_wanted(|name| env::var(name).ok()) {
        return Exporter(None);
    }
    match provider() {
        Ok(provider) => {
            let _first = TRACER.set(provider.tracer(env!("CARGO_PKG_NAME")));
            info!("spans are exported by OTLP");
            Exporter(Some(provider))
        }
        Err(error) => {
            warn!("no spans are exported: {error}; see the OTEL_* variables");
            Exporter(None)
        }
    }
}

/// Returns whether variables ask for spans: one names a collector or OTLP, and none says no.
fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    let disabled = value("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    let named = || {
        let endpoint = value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        endpoint.or_else(|| value("OTEL_EXPORTER_OTLP_ENDPOINT"))
    };
    match value("OTEL_TRACES_EXPORTER") {
        _ if disabled => false,
        Some(exporters) => exporters.split(',').any(|it| it.trim() == "otlp"),
        None => named().is_some(),
    }
}

fn provider() -> Result<SdkTracerProvider, HttpError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new()?)
        .build()?;
    let detected = Resource::builder().build();
    let name = detected.get(&Key::new("service.name"));
    let mut resource = Resource::builder();
    // What the SDK says where no variable does.
    if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build())
        .build())
}

impl Exporter {
    /// Exports what is left.
    pub async fn finish(self) {
        let Some(provider) = self.0 else { return };
        let shutdown = move || provider.shutdown_with_timeout(FINISH_TIMEOUT);
        let finished = tokio::task::spawn_blocking(shutdown).await;
        if !matches!(finished, Ok(Ok(()))) {
            warn!("the last spans are not exported");
        }
    }
}

/// Makes the exporter's requests on the daemon's runtime.
#[derive(Clone, Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
    failing: Arc<AtomicBool>,
}

impl Client {
    fn new() -> Result<Self, HttpError> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let timeout = variable("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .and_then(|millis| millis.parse().ok().map(Duration::from_millis));
        let ca = variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_CERTIFICATE"));
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(ca.as_deref())?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout.unwrap_or(REQUEST_TIMEOUT))
            .build()?;
        Ok(Self {
            client,
            runtime: Handle::try_current()?,
            failing: Arc::default(),
        })
    }

    /// Logs the first failure, and the end of it.
    fn judge(&self, failure: Option<String>) {
        let failed = failure.is_some();
        let before = self.failing.swap(failed, Ordering::Relaxed);
        match failure {
            Some(failure) if !before => warn!("the collector takes no spans: {failure}"),
            None if before => info!("the collector takes spans again"),
            Some(_) | None => {}
        }
    }
}

fn tls(ca: Option<&str>) -> Result<ClientConfig, HttpError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path)? {
                roots.add(certificate?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl HttpClient for Client {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> BoxFuture<'sending, Result<Response<Bytes>, HttpError>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        let client = self.client.clone();
        let sending = self
            .runtime
            .spawn(async move { client.send_bytes(request).await });
        Box::pin(async move {
            let sent = sending.await?;
            self.judge(match &sent {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("it answers {}", response.status())),
                Err(error) => Some(error.to_string()),
            });
            sent
        })
    }
}

/// A span, which ends when this is dropped; none where nothing is exported.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    /// Begins to process a message that was taken from a queue. The parent is the trace of the event.
    #[must_use]
    pub fn consume(queue: &ShortString, properties: &BasicProperties) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self(None);
        };
        let trace = properties.headers().as_ref().map(Trace::read);
        let producer = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &Headers(trace.unwrap_or_default()));
        let name = format!("consume {queue}");
        let mut attributes = messaging("consume", "process");
        attributes.push(KeyValue::new(
            "messaging.destination.name",
            queue.to_string(),
        ));
        if let Some(id) = properties.message_id() {
            attributes.push(KeyValue::new("messaging.message.id", id.to_string()));
        }
        Self::begin(tracer, name, SpanKind::Consumer, attributes, &producer)
    }

    /// Begins a request to a push service, within the span that is [around](Self::around) this.
    #[must_use]
    pub fn push(origin: &Origin) -> Self {
        let parent = Context::current();
        let Some(tracer) = TRACER.get().filter(|_| parent.has_active_span()) else {
            return Self(None);
        };
        let attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("server.address", origin.host().to_owned()),
        ];
        Self::begin(
            tracer,
            "POST".to_owned(),
            SpanKind::Client,
            attributes,
            &parent,
        )
    }

    /// Begins to settle the message of this span, until everything is confirmed.
    #[must_use]
    pub fn settle(&self) -> Self {
        let (Some(tracer), Some(parent)) = (TRACER.get(), &self.0) else {
            return Self(None);
        };
        let attributes = messaging("ack", "settle");
        Self::begin(
            tracer,
            "ack".to_owned(),
            SpanKind::Client,
            attributes,
            parent,
        )
    }

    /// Records what a push service answered, and ends.
    pub fn answered(self, attempt: &Attempt) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        let error = match attempt {
            Attempt::Answered(answer) => {
                let status = answer.status;
                let code = i64::from(status.as_u16());
                span.set_attribute(KeyValue::new("http.response.status_code", code));
                (!status.is_success()).then(|| status.as_str().to_owned())
            }
            Attempt::Failed(failure) => Some(error_type(failure).to_owned()),
        };
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(""));
        }
    }

    /// Runs a future within this span.
    pub async fn around<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            Some(context) => future.with_context(context.clone()).await,
            None => future.await,
        }
    }

    fn begin(
        tracer: &SdkTracer,
        name: String,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        parent: &Context,
    ) -> Self {
        let builder = tracer.span_builder(name).with_kind(kind);
        let span = builder
            .with_attributes(attributes)
            .start_with_context(tracer, parent);
        Self(Some(parent.with_span(span)))
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Returns the class of a failure, as OpenTelemetry's `error.type` has it.
fn error_type(failure: &Failure) -> &'static str {
    match failure {
        Failure::Timeout => "timeout",
        Failure::Dns | Failure::ForbiddenAddress => "dns",
        Failure::Tls(_) => "tls",
        Failure::Proxy(_) => "proxy",
        Failure::Connect => "connect",
        Failure::Interrupted | Failure::NotProcessed => "connection_lost",
        Failure::Protocol => "protocol",
    }
}

fn messaging(operation: &'static str, kind: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "rabbitmq"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", kind),
    ]
}

/// The trace of an event, as OpenTelemetry reads headers.
struct Headers(Trace);

impl Extractor for Headers {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "traceparent" => self.0.traceparent.as_deref(),
            "tracestate" => self.0.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_wanted_where_a_variable_says_where_to_export_them() {
        const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for (variables, wanted) in [
            (&[][..], false),
            (&[ENDPOINT], true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
            (
                &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/b")],
                true,
            ),
            (&[("OTEL_TRACES_EXPORTER", "otlp")], true),
            (&[("OTEL_TRACES_EXPORTER", "console, otlp")], true),
            (&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")], false),
            (&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")], false),
        ] {
            let find = |name: &str| {
                let mut of = variables.iter().filter(|(known, _)| *known == name);
                of.next().map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_wanted(find), wanted, "{variables:?}");
        }
    }
}
