//! What a person sees of a running installation: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Deserialize;

/// An event of `tcu --json`, as far as it is shown.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Something about the campaign.
    Campaign {
        /// What.
        detail: String,
    },
    /// The transaction enters a phase.
    Phase {
        /// Which.
        detail: String,
    },
    /// An image is downloaded.
    Download(Download),
    /// Pages were accepted.
    Progress {
        /// The ECU.
        ecu: String,
        /// Bytes accepted.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A job starts again.
    Retry {
        /// The ECU.
        ecu: String,
        /// Why.
        detail: String,
    },
    /// A job failed.
    Failed {
        /// The ECU.
        ecu: String,
        /// Why.
        detail: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// How far the download of an image is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Download {
    /// Its path in the repository.
    pub artifact: String,
    /// Bytes there are.
    pub have: u64,
    /// Bytes in all.
    pub of: u64,
}

impl Event {
    /// The event that `line` is.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// Shows events.
#[derive(Debug)]
pub struct Display {
    terminal: Option<MultiProgress>,
    bars: HashMap<String, ProgressBar>,
    /// Quarters of each ECU's image that were reported, where there is no terminal.
    quarters: HashMap<String, u64>,
    quiet: bool,
}

impl Display {
    /// A display on standard output; a quiet one shows nothing.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && !quiet;
        Self {
            terminal: terminal.then(MultiProgress::new),
            bars: HashMap::new(),
            quarters: HashMap::new(),
            quiet,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Campaign { detail } | Event::Phase { detail } => self.say(detail),
            Event::Retry { ecu, detail } => self.say(&format!("{ecu} again: {detail}")),
            Event::Failed { ecu, detail } => self.say(&format!("{ecu} failed: {detail}")),
            Event::Progress { ecu, done, total } => self.progress(ecu, *done, *total),
            Event::Download(_) | Event::Other => {}
        }
    }

    fn progress(&mut self, ecu: &str, done: u64, total: u64) {
        if let Some(terminal) = &self.terminal {
            let bar = self.bars.entry(ecu.to_owned()).or_insert_with(|| {
                let bar = ProgressBar::new(total).with_prefix(ecu.to_owned());
                let style = "    {prefix:12} {bar:40} {bytes:>10} of {total_bytes} {bytes_per_sec}";
                bar.set_style(
                    ProgressStyle::with_template(style)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                terminal.add(bar)
            });
            bar.set_position(done);
            if done >= total {
                bar.finish();
            }
            return;
        }
        let quarter = (done * 4).checked_div(total).unwrap_or(4);
        let before = self.quarters.insert(ecu.to_owned(), quarter).unwrap_or(0);
        if quarter > before {
            self.say(&format!("{ecu}: {} %", quarter * 25));
        }
    }

    fn say(&self, text: &str) {
        match &self.terminal {
            _ if self.quiet => {}
            // Only a terminal that has gone away fails; then nobody reads.
            Some(terminal) => drop(terminal.println(format!("    {text}"))),
            None => println!("    {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_events_are_read_and_others_are_no_error() {
        let line = r#"{"event":"progress","ecu":"steering","done":4096,"total":8192}"#;
        let Some(Event::Progress { ecu, done, total }) = Event::parse(line) else {
            panic!("not progress");
        };
        assert_eq!((ecu.as_str(), done, total), ("steering", 4096, 8192));
        let step = r#"{"event":"step","ecu":"steering","step":"seal"}"#;
        assert!(matches!(Event::parse(step), Some(Event::Other)));
        assert!(Event::parse("no JSON").is_none());
    }

    #[test]
    fn a_quiet_display_counts_but_is_silent() {
        let mut display = Display::new(true);
        display.progress("steering", 10, 20);
        assert_eq!(display.quarters["steering"], 2);
        display.progress("door", 0, 0);
    }
}
