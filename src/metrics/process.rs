//! The metrics that every Prometheus client has of its process, read from `/proc` at each scrape.
//!
//! Elsewhere than on Linux, and where `/proc` cannot be read, they are left out.

use std::fs;

use prometheus::core::{Collector, Desc, GenericCounter, GenericGauge};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Error, Gauge};
use rustix::param::clock_ticks_per_second;

/// The process's standard metrics.
#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    resident_bytes: Gauge,
    start_seconds: Gauge,
}

impl Process {
    /// Creates the metrics.
    ///
    /// # Errors
    /// If a name is not one of Prometheus', which a test would have found.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            cpu_seconds: cpu_counter()?,
            open_fds: GenericGauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: GenericGauge::new(
                "process_max_fds",
                "How many file descriptors may be open.",
            )?,
            resident_bytes: GenericGauge::new(
                "process_resident_memory_bytes",
                "Memory that is resident.",
            )?,
            start_seconds: GenericGauge::new(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
            )?,
        })
    }
}

fn cpu_counter() -> Result<Counter, Error> {
    GenericCounter::new(
        "process_cpu_seconds_total",
        "CPU time of the process, its own and the system's for it.",
    )
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [
            &self.open_fds,
            &self.max_fds,
            &self.resident_bytes,
            &self.start_seconds,
        ];
        let gauges = gauges.into_iter().flat_map(Collector::desc);
        self.cpu_seconds.desc().into_iter().chain(gauges).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).ok();
        let ticks_per_second = clock_ticks_per_second() as f64;
        let mut families = Vec::new();
        let mut show = |gauge: &Gauge, value: Option<f64>| {
            if let Some(value) = value {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        };
        let stat = read("self/stat").and_then(|text| Stat::parse(&text));
        let booted = read("stat").and_then(|text| booted_at(&text));
        let started = stat.as_ref().zip(booted);
        show(
            &self.start_seconds,
            started.map(|(stat, booted)| booted + stat.start_ticks / ticks_per_second),
        );
        show(
            &self.open_fds,
            fs::read_dir("/proc/self/fd")
                .ok()
                .map(|it| it.count() as f64),
        );
        show(
            &self.max_fds,
            read("self/limits").and_then(|text| max_fds(&text)),
        );
        show(
            &self.resident_bytes,
            read("self/status").and_then(|text| resident_bytes(&text)),
        );
        // A counter of its own for each scrape, so that two at once do not add up.
        if let (Some(stat), Ok(counter)) = (stat, cpu_counter()) {
            counter.inc_by(stat.cpu_ticks / ticks_per_second);
            families.extend(counter.collect());
        }
        families
    }
}

/// What `/proc/self/stat` says, in clock ticks.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    /// Since the machine was booted.
    start_ticks: f64,
}

impl Stat {
    /// Reads the fields `utime`, `stime` and `starttime` (proc_pid_stat(5)).
    fn parse(text: &str) -> Option<Self> {
        // The name of the program, in parentheses, may have spaces and parentheses.
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // The first of these is field 3 of the manual page.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
        })
    }
}

/// Returns when the machine was booted, in seconds since 1970, from `/proc/stat`.
fn booted_at(text: &str) -> Option<f64> {
    first_number(text, "btime ")
}

/// Returns the soft limit of open files from `/proc/self/limits`.
fn max_fds(text: &str) -> Option<f64> {
    first_number(text, "Max open files")
}

/// Returns the resident memory from `/proc/self/status`, which has kibibytes.
fn resident_bytes(text: &str) -> Option<f64> {
    first_number(text, "VmRSS:").map(|kibibytes| kibibytes * 1024.0)
}

fn first_number(text: &str, label: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 4 0 12345 9 9";
        let expected = Stat {
            cpu_ticks: 200.0,
            start_ticks: 12_345.0,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        let text = "cpu 1 2\nbtime 1795262400\n";
        assert_eq!(booted_at(text), Some(1_795_262_400.0));
        let text = "Limit   Soft  Hard\nMax open files            1024      4096   files\n";
        assert_eq!(max_fds(text), Some(1024.0));
        assert_eq!(max_fds("Max open files unlimited unlimited files"), None);
        let text = "VmHWM:\t  20 kB\nVmRSS:\t    10 kB\n";
        assert_eq!(resident_bytes(text), Some(10_240.0));
    }

    #[test]
    fn this_process_has_each_metric() {
        let value = |family: &MetricFamily| {
            let metric = &family.get_metric()[0];
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        };
        let process = Process::new().unwrap();
        let families = process.collect();
        let values: Vec<_> = families.iter().map(|it| (it.name(), value(it))).collect();
        assert_eq!(values.len(), process.desc().len(), "{values:?}");
        for (name, least, most) in [
            ("process_cpu_seconds_total", 0.0, 1e6),
            ("process_open_fds", 3.0, 1e6),
            ("process_max_fds", 3.0, 1e10),
            ("process_resident_memory_bytes", 1e6, 1e11),
            ("process_start_time_seconds", 1.6e9, 1e11),
        ] {
            let found = values.iter().find(|(one, _)| *one == name);
            let value = found.unwrap().1;
            assert!((least..most).contains(&value), "{name} {value}");
        }
    }
}
