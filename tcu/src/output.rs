//! What a run shows: JSON lines for machines, bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::board::Board;
use crate::engine::{Phase, Report};
use crate::flash::{self, Job, Step};
use crate::vehicle::Event;

/// A progress event, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line {
    /// Something about the campaign as a whole: fetched, verified, resumed.
    Campaign {
        /// What.
        detail: String,
    },
    /// An image comes from the repository.
    Download {
        /// Its path.
        artifact: String,
        /// Bytes there are.
        have: u64,
        /// Bytes in all.
        of: u64,
    },
    /// The transaction enters a phase.
    Phase {
        /// Its name.
        phase: &'static str,
        /// The same in words.
        detail: String,
    },
    /// A job starts.
    Job {
        /// The ECU.
        ecu: String,
        /// The job.
        detail: Job,
    },
    /// A step of a job begins.
    Step {
        /// The ECU.
        ecu: String,
        /// The step.
        step: Step,
    },
    /// Pages were accepted.
    Progress {
        /// The ECU.
        ecu: String,
        /// Bytes accepted.
        done: u32,
        /// Bytes in all.
        total: u32,
    },
    /// A job starts again.
    Retry {
        /// The ECU.
        ecu: String,
        /// Which start this will be.
        attempt: u32,
        /// Why.
        detail: String,
    },
    /// A job has failed.
    Failed {
        /// The ECU.
        ecu: String,
        /// The job.
        job: Job,
        /// Why.
        detail: String,
    },
    /// A job has succeeded.
    Done {
        /// The ECU.
        ecu: String,
        /// The job.
        detail: Job,
    },
    /// The backend was told what the ECUs run.
    Manifest {
        /// Whether it believes it.
        accepted: bool,
        /// The ECUs that did not answer.
        silent: Vec<String>,
    },
    /// A precondition was lost: the campaign rests.
    Paused {
        /// Which, in words.
        detail: String,
    },
    /// All preconditions are met again.
    Continued,
}

impl Line {
    /// The line of a phase.
    #[must_use]
    pub fn phase(phase: Phase) -> Self {
        let detail = phase_name(phase).to_owned();
        let phase = match phase {
            Phase::Staging => "staging",
            Phase::Activating => "activating",
            Phase::AwaitingHealthy => "awaiting-healthy",
            Phase::Sealing => "sealing",
            Phase::Reverting => "reverting",
            Phase::Done(_) => "done",
        };
        Self::Phase { phase, detail }
    }

    /// The line of a machine's event; `None` for what only a log wants.
    #[must_use]
    pub fn of(event: Event, names: &[String]) -> Option<Self> {
        let name = |ecu: usize| names.get(ecu).cloned().unwrap_or_default();
        Some(match event {
            Event::Phase(phase) => Self::phase(phase),
            Event::Started(ecu, job) => Self::Job {
                ecu: name(ecu),
                detail: job,
            },
            Event::Job(ecu, flash::Event::Step(step)) => Self::Step {
                ecu: name(ecu),
                step,
            },
            Event::Job(ecu, flash::Event::Transferred { done, total }) => Self::Progress {
                ecu: name(ecu),
                done,
                total,
            },
            Event::Job(ecu, flash::Event::Retry { attempt, failure }) => Self::Retry {
                ecu: name(ecu),
                attempt,
                detail: failure.to_string(),
            },
            Event::Ended(ecu, job, Ok(())) => Self::Done {
                ecu: name(ecu),
                detail: job,
            },
            Event::Ended(ecu, job, Err(failure)) => Self::Failed {
                ecu: name(ecu),
                job,
                detail: failure.to_string(),
            },
            Event::Pending(..) | Event::Repeated(_) | Event::Answered(..) => return None,
        })
    }
}

/// What became of a manifest, in words.
pub(crate) fn manifest(accepted: bool, silent: &[String]) -> String {
    let verdict = match accepted {
        true => "the backend knows what the ECUs run",
        false => "the backend does not believe the manifest",
    };
    match silent {
        [] => format!("-- {verdict}"),
        silent => format!("-- {verdict}; no answer from {}", silent.join(", ")),
    }
}

/// A phase in words.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Staging => "staging",
        Phase::Activating => "all staged: activating",
        Phase::AwaitingHealthy => "all activated: waiting for healthy reports",
        Phase::Sealing => "all healthy: committed, sealing",
        Phase::Reverting => "reverting",
        Phase::Done(_) => "done",
    }
}

/// How a run is shown, and the board that shows it to others.
#[derive(Debug)]
pub struct Output {
    shown: Shown,
    board: Option<Arc<Board>>,
}

#[derive(Debug)]
enum Shown {
    /// JSON lines.
    Json,
    /// Lines of text.
    Plain,
    /// A bar per ECU, text above.
    Bars(MultiProgress, HashMap<String, ProgressBar>),
}

impl Output {
    /// JSON if wanted, bars on a terminal, else lines.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let bars = !json && std::io::stderr().is_terminal();
        let mut output = Self::plain(json);
        if bars {
            output.shown = Shown::Bars(MultiProgress::new(), HashMap::new());
        }
        output
    }

    /// JSON if wanted, else lines.
    #[must_use]
    pub fn plain(json: bool) -> Self {
        let shown = if json { Shown::Json } else { Shown::Plain };
        Self { shown, board: None }
    }

    /// Shows everything on the board too.
    #[must_use]
    pub fn on(self, board: &Arc<Board>) -> Self {
        let board = Some(board.clone());
        Self { board, ..self }
    }

    /// Shows the event of a machine that works on the ECUs `names`, or logs it where no line is for it.
    pub fn event(&mut self, event: Event, names: &[String]) {
        if let Event::Repeated(ecu) = event {
            // The response comes in the end; who looks for a bad bus or a slow ECU finds it here.
            let ecu = names.get(ecu).map(String::as_str);
            tracing::info!(ecu, "no response in time: asked again");
        }
        if let Some(line) = Line::of(event, names) {
            self.line(&line);
        }
    }

    /// Shows an event.
    pub fn line(&mut self, line: &Line) {
        if let Some(board) = &self.board {
            board.line(line);
        }
        match &mut self.shown {
            Shown::Json => print_json(line),
            Shown::Plain => {
                if let Some(text) = text(line) {
                    print(&text);
                }
            }
            Shown::Bars(bars, by_ecu) => show_on_bar(bars, by_ecu, line),
        }
    }

    /// A transaction begins or goes on.
    pub fn begin(&self, campaign: &str, ecus: &[String], committed: bool) {
        if let Some(board) = &self.board {
            board.begin(campaign, ecus, committed);
        }
    }

    /// Shows the final report.
    pub fn report(&mut self, report: &Report) {
        if let Some(board) = &self.board {
            board.report(report);
        }
        match &self.shown {
            Shown::Json => print_json(report),
            Shown::Plain => print(&table(report)),
            Shown::Bars(bars, _) => {
                let _ = bars.clear();
                print(&table(report));
            }
        }
    }

    /// Shows any other result of a command.
    pub fn value(&mut self, value: &impl Serialize, text: &str) {
        match self.shown {
            Shown::Json => print_json(value),
            Shown::Plain | Shown::Bars(..) => print(text),
        }
    }
}

/// Nobody reads on a closed pipe, and that is no reason to leave a vehicle half-way.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

fn print_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        print(&text);
    }
}

/// A line for people; pages and steps would be too many.
fn text(line: &Line) -> Option<String> {
    Some(match line {
        Line::Campaign { detail } | Line::Phase { detail, .. } => format!("-- {detail}"),
        Line::Download { artifact, have, of } if have == of => format!("   {artifact}: {of} bytes"),
        Line::Job { ecu, detail } => format!("   {ecu}: {}", detail.words()),
        Line::Retry {
            ecu,
            attempt,
            detail,
        } => format!("   {ecu}: start {attempt} after {detail}"),
        Line::Failed { ecu, detail, .. } => format!("   {ecu}: failed, {detail}"),
        Line::Done { ecu, detail } => format!("   {ecu}: {} done", detail.words()),
        Line::Paused { detail } => format!("-- paused: {detail}"),
        Line::Continued => "-- goes on".to_owned(),
        Line::Manifest { accepted, silent } => manifest(*accepted, silent),
        Line::Download { .. } | Line::Step { .. } | Line::Progress { .. } => return None,
    })
}

fn show_on_bar(bars: &MultiProgress, by_ecu: &mut HashMap<String, ProgressBar>, line: &Line) {
    let mut bar = |ecu: &String| {
        let new = || {
            let bar = bars.add(ProgressBar::new(1));
            let template = "{prefix:16} {bar:30} {percent:>3} % {binary_bytes_per_sec:>14} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(ecu.clone());
            bar
        };
        by_ecu.entry(ecu.clone()).or_insert_with(new).clone()
    };
    match line {
        Line::Progress { ecu, done, total } => {
            let bar = bar(ecu);
            bar.set_length(u64::from(*total));
            bar.set_position(u64::from(*done));
        }
        Line::Step { ecu, step } => bar(ecu).set_message(step.name()),
        Line::Done { ecu, detail } => bar(ecu).set_message(format!("{} done", detail.words())),
        Line::Failed { ecu, detail, .. } => bar(ecu).set_message(detail.clone()),
        Line::Retry { .. }
        | Line::Campaign { .. }
        | Line::Phase { .. }
        | Line::Paused { .. }
        | Line::Manifest { .. }
        | Line::Continued => {
            if let Some(text) = text(line) {
                let _ = bars.println(text);
            }
        }
        Line::Download { .. } | Line::Job { .. } => {}
    }
}

/// The report as a table.
fn table(report: &Report) -> String {
    let mut rows =
        vec![["ECU", "bus", "from", "to", "bytes", "seconds", "state", ""].map(str::to_owned)];
    for ecu in &report.ecus {
        let state = serde_json::to_value(ecu.state).ok();
        let state = state.as_ref().and_then(serde_json::Value::as_str);
        rows.push([
            ecu.name.clone(),
            ecu.bus.clone(),
            ecu.from.clone(),
            ecu.to.clone(),
            ecu.bytes.to_string(),
            format!("{:.1}", ecu.seconds),
            state.unwrap_or_default().to_owned(),
            ecu.reason.clone().unwrap_or_default(),
        ]);
    }
    let mut text = columns(&rows);
    let state = serde_json::to_value(report.campaign.state).unwrap_or_default();
    text += &format!(
        "campaign {}: {}",
        report.campaign.id,
        state.as_str().unwrap_or_default()
    );
    if let Some(reason) = &report.campaign.reason {
        text += &format!(" ({reason})");
    }
    text
}

/// Rows with aligned columns.
#[must_use]
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max();
            line += &format!("{cell:width$}  ", width = width.unwrap_or(0));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::LogFormat, logging::tests::logged_by};

    #[test]
    fn a_request_that_had_to_be_repeated_is_logged_with_its_ecu() {
        let names = ["brake".to_owned(), "door".to_owned()];
        let log = |event| {
            logged_by(LogFormat::Text, || {
                Output::plain(true).event(event, &names);
            })
        };
        let line = log(Event::Repeated(1));
        assert!(
            line.contains("asked again") && line.contains("\"door\""),
            "{line}"
        );
        assert_eq!(log(Event::Pending(1, 1)), "");
    }
}
