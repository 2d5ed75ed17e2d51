//! Counters in the text format of Prometheus.

use std::fmt::Write;

use crate::engine::{CampaignState, Report};
use crate::output::Line;

/// What is counted since the service started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Polls of the repository.
    pub polls: u64,
    /// Polls that failed.
    pub failed_polls: u64,
    /// Seconds since 1970 of the last poll that succeeded.
    pub last_poll: u64,
    /// Campaigns by how they ended.
    pub campaigns: [u64; 5],
    /// Jobs that failed.
    pub failed_jobs: u64,
    /// Jobs that were started again.
    pub retries: u64,
    /// Page bytes that ECUs accepted.
    pub page_bytes: u64,
    /// How often a lost precondition interrupted a campaign.
    pub pauses: u64,
}

/// The states in the order of [`Metrics::campaigns`].
const STATES: [CampaignState; 5] = [
    CampaignState::Completed,
    CampaignState::Rejected,
    CampaignState::Reverted,
    CampaignState::Incomplete,
    CampaignState::GivenUp,
];

impl Metrics {
    pub(super) fn line(&mut self, line: &Line) {
        match line {
            Line::Retry { .. } => self.retries += 1,
            Line::Failed { .. } => self.failed_jobs += 1,
            Line::Paused { .. } => self.pauses += 1,
            _ => {}
        }
    }

    pub(super) fn report(&mut self, report: &Report) {
        let states = STATES.iter().zip(&mut self.campaigns);
        for (_, count) in states.filter(|(state, _)| **state == report.campaign.state) {
            *count += 1;
        }
        self.page_bytes += report.ecus.iter().map(|ecu| ecu.bytes).sum::<u64>();
    }

    /// The text that a scraper reads. `installing` says whether ECUs are being changed.
    #[must_use]
    pub fn text(&self, installing: bool) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
            // A `String` takes everything.
            let _ = writeln!(text, "# HELP canopus_tcu_{name} {help}");
            let _ = writeln!(text, "# TYPE canopus_tcu_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "canopus_tcu_{name}{labels} {value}");
            }
        };
        let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        let [completed, rejected, reverted, incomplete, given_up] = self.campaigns;
        put("info", "gauge", "The running program.", &[(version, 1)]);
        let counters = [
            ("polls_total", "Polls of the repository.", self.polls),
            (
                "failed_polls_total",
                "Polls that failed.",
                self.failed_polls,
            ),
            (
                "failed_jobs_total",
                "Jobs on ECUs that failed.",
                self.failed_jobs,
            ),
            (
                "retries_total",
                "Jobs on ECUs that were started again.",
                self.retries,
            ),
            (
                "page_bytes_total",
                "Page bytes that ECUs accepted.",
                self.page_bytes,
            ),
            (
                "pauses_total",
                "Interruptions by a lost precondition.",
                self.pauses,
            ),
        ];
        for (name, help, value) in counters {
            put(name, "counter", help, &[("", value)]);
        }
        put(
            "campaigns_total",
            "counter",
            "Campaigns by how they ended.",
            &[
                ("{state=\"completed\"}", completed),
                ("{state=\"rejected\"}", rejected),
                ("{state=\"reverted\"}", reverted),
                ("{state=\"incomplete\"}", incomplete),
                ("{state=\"given-up\"}", given_up),
            ],
        );
        let gauges = [
            (
                "last_poll_timestamp_seconds",
                "The last poll that succeeded.",
                self.last_poll,
            ),
            (
                "installing",
                "Whether ECUs are being changed.",
                installing.into(),
            ),
            (
                "resident_memory_peak_bytes",
                "Peak resident set size.",
                peak_rss(),
            ),
        ];
        for (name, help, value) in gauges {
            put(name, "gauge", help, &[("", value)]);
        }
        text
    }
}

/// The largest resident set size so far in bytes; 0 where the kernel does not tell.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib.and_then(|kib| kib.trim().parse().ok()).unwrap_or(0);
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CampaignReport;

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let mut metrics = Metrics::default();
        metrics.report(&Report {
            campaign: CampaignReport {
                id: "c".into(),
                state: CampaignState::Reverted,
                reason: None,
                broken_rules: Vec::new(),
                attack: None,
            },
            ecus: Vec::new(),
        });
        let text = metrics.text(true);
        assert!(text.contains("canopus_tcu_campaigns_total{state=\"reverted\"} 1\n"));
        assert!(text.contains("canopus_tcu_installing 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("canopus_tcu_"), "{line}");
            assert!(value.parse::<u64>().is_ok(), "{line}");
        }
        let help = text.matches("# HELP ").count();
        assert_eq!(help, text.matches("# TYPE ").count());
    }

    #[test]
    fn the_kernel_tells_the_peak() {
        assert!(peak_rss() > 100_000);
    }
}
