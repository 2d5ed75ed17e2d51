//! What the program logs to stderr: text, lines for journald, or JSON.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level as Gravity, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Level, Log, LogFormat};

/// Lines without a time, each after `<N>`, its priority (`sd-daemon(3)`): so journald knows which
/// are errors, and has the time itself.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Gravity::ERROR => 3,
            Gravity::WARN => 4,
            Gravity::INFO => 6,
            Gravity::DEBUG | Gravity::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Starts logging. `RUST_LOG` is right where it says something; else what is logged depends on
/// `log`, and then on `level`. Under systemd the format is journald's unless `log` says otherwise.
pub fn start(log: &Log, level: Level) {
    let default = match log.level.unwrap_or(level) {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if wanted.is_empty() {
        default.into()
    } else {
        wanted
    };
    let format = log
        .format
        .unwrap_or_else(|| match std::env::var_os("JOURNAL_STREAM").is_some() {
            true => LogFormat::Journal,
            false => LogFormat::Text,
        });
    let is_terminal = std::io::stderr().is_terminal();
    let subscriber = subscriber(&wanted, format, is_terminal, std::io::stderr);
    // A second start within a process, as tests may do it, changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn subscriber<W>(
    wanted: &str,
    format: LogFormat,
    is_terminal: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(wanted))
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(is_terminal).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Journal => {
            let format = Format::default().without_time().with_level(false);
            let format = Journal(format.with_ansi(false));
            Box::new(builder.with_ansi(false).event_format(format).finish())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged at `info` while `act` runs.
    pub(crate) fn logged_by(format: LogFormat, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber("info", format, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    fn logged(format: LogFormat) -> String {
        logged_by(format, || {
            tracing::warn!(bus = "chassis", "no answer");
            tracing::debug!("not shown");
        })
    }

    #[test]
    fn what_is_no_terminal_gets_no_colours() {
        let line = logged(LogFormat::Text);
        assert!(
            !line.contains('\u{1b}') && line.contains(" WARN "),
            "{line:?}"
        );
    }

    #[test]
    fn journald_learns_the_priority() {
        let line = logged(LogFormat::Journal);
        assert!(
            line.starts_with("<4>") && line.ends_with("no answer bus=\"chassis\"\n"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_has_a_member_for_each_field() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["bus"], "chassis");
        assert_eq!(line["message"], "no answer");
    }
}
