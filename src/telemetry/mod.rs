//! One type per happening, which logs and counts in one call; metric names; log set-up.
//!
//! A happening is a struct in the file of its room with an `emit(self)` that writes the log line and moves the metric,
//! so that neither is forgotten and names are found in one place. Metric names: `polyphase_<noun>_<unit>[_total]`;
//! labels are closed lists, never a serial number or a meter id. Log text: lowercase, no full stop; fields dotted
//! (`dtu.id`, `meter.id`, `poll.id`).

pub mod actor;
pub mod alarm;
pub mod api;
pub mod audit;
pub mod backup;
pub mod concentrator;
pub mod control;
pub mod field;
pub mod import;
pub mod integrations;
pub mod live;
pub mod logs;
pub mod notices;
pub mod places;
pub mod report;
pub mod spool;
pub mod storage;
pub mod tls;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::sync::LazyLock;

/// Every metric of the process. One registry, because one process has one `/metrics`.
pub static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

fn register<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    // names are constants of this room; `tests` below registers every one, so a clash cannot ship
    #[expect(
        clippy::expect_used,
        reason = "a bad constant metric name is a build fault, found by the room's own test"
    )]
    let metric = made.expect("metric options are valid");
    if let Err(error) = REGISTRY.register(Box::new(metric.clone())) {
        tracing::error!(%error, "metric registered twice");
    }
    metric
}

pub(crate) fn counter(name: &str, help: &str) -> IntCounter {
    register(IntCounter::new(name, help))
}

pub(crate) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help), labels))
}

pub(crate) fn gauge(name: &str, help: &str) -> IntGauge {
    register(IntGauge::new(name, help))
}

pub(crate) fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(IntGaugeVec::new(Opts::new(name, help), labels))
}

pub(crate) fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    register(HistogramVec::new(
        HistogramOpts::new(name, help).buckets(buckets.to_vec()),
        labels,
    ))
}

/// Memory, descriptors, CPU time and start of the process (`process_*`), read from /proc at each scrape.
static PROCESS: LazyLock<()> = LazyLock::new(|| {
    if let Err(error) = REGISTRY.register(Box::new(ProcessCollector::for_self())) {
        tracing::error!(%error, "the process's own metrics are not registered");
    }
});

/// Registers every metric, so that a scrape shows zeros before the first happening.
pub fn touch_all() {
    LazyLock::force(&PROCESS);
    actor::touch();
    alarm::touch();
    api::touch();
    tls::touch();
    audit::touch();
    backup::touch();
    control::touch();
    concentrator::touch();
    field::touch();
    spool::touch();
    integrations::touch();
    live::touch();
    notices::touch();
    places::touch();
    import::touch();
    report::touch();
    storage::touch();
}

/// The text that `/metrics` answers, Prometheus exposition format 0.0.4.
///
/// # Errors
/// When a metric cannot be encoded (a bug in its labels).
pub fn gather() -> Result<String, prometheus::Error> {
    let mut text = String::new();
    TextEncoder::new().encode_utf8(&REGISTRY.gather(), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_registers_once() {
        super::touch_all();
        super::touch_all();
        let text = super::gather().unwrap();
        assert!(text.contains("polyphase_"));
        for name in [
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
        ] {
            assert!(text.contains(name), "{name}");
        }
    }
}
