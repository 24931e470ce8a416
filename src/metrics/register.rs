//! Creates a metric and registers it, in one call each.

use prometheus::core::Collector;
use prometheus::{
    Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Seconds: from one connection on the same machine to the longest deadline.
pub(super) const EXCHANGE_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Seconds: from at once to the longest TTL.
pub(super) const AGE_BUCKETS: &[f64] = &[
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0,
];

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("pushrider")
}

fn buckets(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec())
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    register(registry, IntCounter::with_opts(opts(name, help))?)
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, Error> {
    register(registry, IntCounterVec::new(opts(name, help), labels)?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    register(registry, IntGauge::with_opts(opts(name, help))?)
}

pub(super) fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, Error> {
    register(registry, IntGaugeVec::new(opts(name, help), labels)?)
}

pub(super) fn real_gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, Error> {
    register(registry, GaugeVec::new(opts(name, help), labels)?)
}

pub(super) fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    bounds: &[f64],
) -> Result<Histogram, Error> {
    register(registry, Histogram::with_opts(buckets(name, help, bounds))?)
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    bounds: &[f64],
    labels: &[&str],
) -> Result<HistogramVec, Error> {
    register(
        registry,
        HistogramVec::new(buckets(name, help, bounds), labels)?,
    )
}

/// The type of metric that the function of the same name creates.
#[expect(non_camel_case_types, reason = "they are named after the functions")]
pub(super) mod types {
    pub(in crate::metrics) type counter = prometheus::IntCounter;
    pub(in crate::metrics) type counters = prometheus::IntCounterVec;
    pub(in crate::metrics) type gauge = prometheus::IntGauge;
    pub(in crate::metrics) type gauges = prometheus::IntGaugeVec;
    pub(in crate::metrics) type real_gauges = prometheus::GaugeVec;
    pub(in crate::metrics) type histogram = prometheus::Histogram;
    pub(in crate::metrics) type histograms = prometheus::HistogramVec;
}
