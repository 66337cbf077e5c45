//! The program's own state as counters and gauges, in Prometheus' text.

use std::fmt::Write as _;

use rrd::Timestamp;

use super::{Health, float};
use crate::own_series::seconds_left;

impl Health {
    /// All families, one after the other.
    pub(super) fn write_metrics(&self, out: &mut String) {
        for (name, kind, help, value) in self.gauges() {
            family(out, name, kind, help, &[(String::new(), value)]);
        }
        if let Some(ends_at) = self.tls.as_ref().and_then(|tls| tls.ends_at()) {
            let name = "roundel_tls_certificate_expires_in_seconds";
            let help = "Until the first certificate of the chain in use ends.";
            let left = seconds_left(ends_at, self.clock.wall());
            family(out, name, "gauge", help, &[(String::new(), left)]);
        }
        let counts = self.accounting.total();
        let refused: Vec<_> = counts
            .refused
            .iter()
            .map(|(reason, count)| (format!("{{reason=\"{}\"}}", reason.word()), float(*count)))
            .collect();
        let help = "Samples not taken, by reason.";
        family(out, "roundel_samples_refused_total", "counter", help, &refused);
    }

    /// Name, kind, help and value of every family that has one series.
    fn gauges(&self) -> Vec<(&'static str, &'static str, &'static str, f64)> {
        let stats = self.journal.stats();
        let counts = self.accounting.total();
        let instances = self.store.instances();
        let series: usize = instances.iter().map(|instance| instance.series_count).sum();
        let bytes: u64 = instances.iter().map(|instance| instance.file_len).sum();
        let behind = stats.committed.saturating_sub(stats.applied);
        vec![
            (
                "roundel_instances",
                "gauge",
                "Instances with an archive.",
                float(instances.len() as u64),
            ),
            ("roundel_series", "gauge", "Series with a column.", float(series as u64)),
            ("roundel_archive_bytes", "gauge", "Length of all archive files.", float(bytes)),
            (
                "roundel_warm_bytes",
                "gauge",
                "Memory that holds rows which queries read lately.",
                float(self.store.warm_bytes() as u64),
            ),
            (
                "roundel_archive_limit_bytes",
                "gauge",
                "The disk limit: what all archives may take.",
                float(self.disk_limit),
            ),
            (
                "roundel_scrubbed_bytes_total",
                "counter",
                "Bytes of archives compared with their checksums.",
                float(self.scrubbed.bytes()),
            ),
            (
                "roundel_scrub_mismatches_total",
                "counter",
                "Tiles that did not match their checksums, twice.",
                float(self.scrubbed.mismatches()),
            ),
            (
                "roundel_scrub_last_pass_timestamp_seconds",
                "gauge",
                "When all archives were last checked as a whole; 0 before.",
                self.scrubbed.last_pass().map_or(0.0, Timestamp::as_secs_f64),
            ),
            ("roundel_journal_fill_ratio", "gauge", "Share of the journal in use.", stats.fill),
            (
                "roundel_journal_commits_total",
                "counter",
                "Groups of frames synced.",
                float(stats.commit_count),
            ),
            (
                "roundel_journal_frames_total",
                "counter",
                "Sequence number last appended.",
                float(stats.appended),
            ),
            (
                "roundel_worker_lag_frames",
                "gauge",
                "Frames synced and not yet applied.",
                float(behind),
            ),
            (
                "roundel_instances_unavailable",
                "gauge",
                "Instances whose archive cannot be read or written; their samples are refused.",
                float(self.store.unavailable().len() as u64),
            ),
            (
                "roundel_samples_received_total",
                "counter",
                "Samples received.",
                float(counts.received),
            ),
            (
                "roundel_samples_stored_total",
                "counter",
                "Samples in an archive.",
                float(counts.stored),
            ),
            (
                "roundel_samples_duplicate_total",
                "counter",
                "Samples known already.",
                float(counts.duplicate),
            ),
            (
                "roundel_samples_late_total",
                "counter",
                "Samples too late to change a row.",
                float(counts.late),
            ),
            (
                "roundel_samples_in_flight",
                "gauge",
                "Samples received and not yet applied by the worker; 0 at rest, or the books are wrong.",
                float(u64::try_from(counts.in_flight()).unwrap_or_default()),
            ),
        ]
    }
}

/// One family in Prometheus' text: its series are pairs of written labels and values.
fn family(out: &mut String, name: &str, kind: &str, help: &str, series: &[(String, f64)]) {
    // Writing to a string cannot fail.
    let _written = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in series {
        let _written = writeln!(out, "{name}{labels} {value}");
    }
}
