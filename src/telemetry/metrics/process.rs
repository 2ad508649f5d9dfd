//! Metrics of the server's own process, under the names that all Prometheus client libraries use. They are read for each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::process::usage::OwnUsage;

/// Collector of `process_*`. A value that the system does not report is left out.
#[derive(Debug)]
pub(super) struct OwnProcess;

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(now) = OwnUsage::now() else {
            return Ok(());
        };
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            let descriptor = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(descriptor)
        };
        put(
            "process_cpu_seconds",
            "CPU time of the server's process, in user and kernel mode.",
            &ConstCounter::new(now.usage.cpu_time.as_secs_f64()),
        )?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 are below 2^53"
        )]
        let start_time = now.start_time as f64;
        put(
            "process_start_time_seconds",
            "Start of the server's process, in seconds since 1970.",
            &ConstGauge::new(start_time),
        )?;
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory of the server's process.",
                Some(now.usage.resident),
            ),
            (
                "process_virtual_memory_bytes",
                "Address space of the server's process.",
                Some(now.virtual_memory),
            ),
            (
                "process_open_fds",
                "Open file descriptors of the server's process.",
                now.open_files,
            ),
            (
                "process_max_fds",
                "File descriptors that the server's process may open.",
                now.max_open_files,
            ),
            (
                "process_threads",
                "Threads of the server's process.",
                now.threads,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                put(name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}
