//! The settings file, `/etc/canopus/tcu.toml`: what the options of the command line say, and what
//! only a service needs. Nothing in it is guessed: a key that nobody knows is an error, and all of
//! them are named at once, each with its place.

mod preconditions;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de};
use toml::de::{DeTable, DeValue};

pub use preconditions::{DataRecord, NeededFor, Preconditions, Signal};

use crate::api::Tls;
use crate::error::Error;
use crate::link::Transport;
use crate::policy::{Mode, Rules, Window};

/// Where the settings are, unless the command line names another file.
pub const DEFAULT_PATH: &str = "/etc/canopus/tcu.toml";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A number of which the file may only give what lies in a range; the error names its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let found = u64::try_from(number).ok();
        found
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{number} is not from {MIN} to {MAX}")))
    }
}

/// Seconds, from one to a year.
pub type Seconds = Bounded<1, 31_536_000>;

/// The settings. Where the command line says something else it is right.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// `vehicle.json`.
    pub vehicle: Option<PathBuf>,
    /// The pinned roots.
    pub root: Option<PathBuf>,
    /// The authorities that vouch for the repository's server.
    pub ca: Option<PathBuf>,
    /// The state folder.
    pub state: Option<PathBuf>,
    /// The telematics unit's own key.
    pub tcu_key: Option<PathBuf>,
    /// How PDUs are carried.
    pub transport: Option<Transport>,
    /// ECUs that are staged at the same time on one bus.
    pub parallel: Option<Bounded<1, 16>>,
    /// One ECU after the other in the whole vehicle.
    pub one_at_a_time: bool,
    /// Seconds for a new image to report healthy.
    pub health_timeout_s: Option<Seconds>,
    /// Where campaigns come from.
    pub repository: Repository,
    /// The local API.
    pub api: Api,
    /// When a campaign may begin.
    pub policy: Policy,
    /// In which situation of the vehicle.
    pub preconditions: Preconditions,
    /// What an update may cost the battery.
    pub battery: Battery,
    /// What is logged.
    pub log: Log,
}

/// The local API.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Api {
    /// Its socket.
    pub socket: Option<PathBuf>,
    /// Where it is served over TCP. There is no way to do that without TLS and clients' certificates.
    pub tls: Option<Tls>,
    /// The most MiB that a bundle may have.
    pub upload_max_mib: Option<Bounded<1, 65_536>>,
}

/// When a campaign may begin.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Policy {
    /// By itself, after consent, or at once.
    pub mode: Mode,
    /// Maintenance windows, in local time; none is always.
    pub windows: Vec<Window>,
    /// Minutes by which local time is ahead of UTC.
    pub utc_offset_min: Offset,
    /// How often a campaign may be postponed.
    pub postpone_limit: Option<Bounded<0, 1000>>,
    /// The longest postponement in hours.
    pub postpone_longest_h: Option<Bounded<1, 720>>,
}

/// Minutes ahead of UTC, from -720 to 840.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Offset(i16);

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let minutes = i64::deserialize(deserializer)?;
        let offset = i16::try_from(minutes).ok();
        let offset = offset.filter(|minutes| (-720..=840).contains(minutes));
        let wrong = || de::Error::custom(format!("{minutes} is not from -720 to 840"));
        offset.map(Self).ok_or_else(wrong)
    }
}

impl Policy {
    /// The rules that follow from it.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let limit = self.postpone_limit.map_or(3, |limit| limit.get());
        let longest = self.postpone_longest_h.map_or(24, |hours| hours.get());
        Rules {
            mode: self.mode,
            windows: self.windows.clone(),
            offset_min: self.utc_offset_min.0,
            postpone_limit: u32::try_from(limit).unwrap_or(u32::MAX),
            postpone_longest_s: longest.saturating_mul(3600),
        }
    }
}

/// What an update may cost the battery.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Battery {
    /// Energy in Wh that it may draw; a campaign that needs more is left.
    pub budget_wh: Option<Bounded<1, 100_000>>,
    /// What the vehicle draws while it is updated, in W.
    pub draw_w: Option<Bounded<1, 100_000>>,
}

/// Where campaigns come from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Repository {
    /// The https URL.
    pub url: Option<String>,
    /// Seconds between two polls.
    pub interval_s: Option<Seconds>,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Log {
    /// What is not less grave than this is logged, unless `RUST_LOG` says otherwise.
    pub level: Option<Level>,
    /// How.
    pub format: Option<LogFormat>,
}

/// How grave a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// What ends a command.
    Error,
    /// What an operator wants to know.
    Warn,
    /// What happens.
    Info,
    /// How.
    Debug,
    /// All of it.
    Trace,
}

/// How messages are written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people, with the time.
    Text,
    /// Lines for journald, which has the time itself: `<N>` before each is its priority.
    Journal,
    /// One JSON object a line.
    Json,
}

/// What is wrong in a settings file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not TOML, or a value that its key cannot have.
    #[error("{0}")]
    Malformed(String),
    /// Keys that mean nothing, each with line and column.
    #[error("{}", list(.0))]
    Unknown(Vec<UnknownKey>),
}

/// A key that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// Its line, from 1.
    pub line: usize,
    /// Its column, from 1.
    pub column: usize,
    /// The key with the tables around it.
    pub key: String,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, key } = self;
        write!(f, "line {line}, column {column}: unknown key {key}")
    }
}

fn list(unknown: &[UnknownKey]) -> String {
    let lines: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl Settings {
    /// Reads a file; the default one may be missing. Relative paths in it start at its folder.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], [`Error::Settings`].
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or_else(|| Path::new(DEFAULT_PATH));
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::configuration(path)(error)),
        };
        let mut settings = Self::parse(&text).map_err(|source| Error::Settings {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        for path in settings.paths() {
            *path = folder.join(&*path);
        }
        Ok(settings)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let malformed = |error: toml::de::Error| {
            SettingsError::Malformed(place(text, error.span(), error.message()))
        };
        let mut unknown = Vec::new();
        let settings = serde_ignored::deserialize(
            toml::Deserializer::parse(text).map_err(malformed)?,
            |path| unknown.push(path.to_string()),
        )
        .map_err(malformed)?;
        if unknown.is_empty() {
            return Ok(settings);
        }
        let table = DeTable::parse(text).map_err(malformed)?;
        let locate = |key: String| {
            let (line, column) = position(text, find(table.get_ref(), &key).unwrap_or(0));
            UnknownKey { line, column, key }
        };
        let mut unknown: Vec<UnknownKey> = unknown.into_iter().map(locate).collect();
        unknown.sort_by_key(|key| (key.line, key.column));
        Err(SettingsError::Unknown(unknown))
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [
            &mut self.vehicle,
            &mut self.root,
            &mut self.ca,
            &mut self.tcu_key,
            &mut self.state,
            &mut self.api.socket,
            &mut self.preconditions.dbc,
        ]
        .into_iter()
        .flatten()
        .chain(
            self.api
                .tls
                .iter_mut()
                .flat_map(|tls| [&mut tls.certificate, &mut tls.key, &mut tls.client_ca]),
        )
    }
}

/// The file's text. What is longer than any settings is not read to its end.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;

    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// A message with the place that it is about.
fn place(text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> String {
    let message = message.trim().replace('\n', ", ");
    match span {
        Some(span) => {
            let (line, column) = position(text, span.start);
            format!("line {line}, column {column}: {message}")
        }
        None => message,
    }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Where a key stands, by its path as `serde_ignored` names it: keys and indices with dots between.
fn find(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let (first, rest) = table.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.get_ref().as_ref())?;
        (rest.is_empty() || rest.starts_with('.')).then_some(((key, value), rest))
    })?;
    let start = first.0.span().start;
    let Some(mut rest) = rest.strip_prefix('.') else {
        return Some(start);
    };
    let mut value = first.1.get_ref();
    while let DeValue::Array(array) = value {
        let (index, after) = rest.split_once('.')?;
        value = array.get(index.parse::<usize>().ok()?)?.get_ref();
        rest = after;
    }
    match value {
        DeValue::Table(table) => find(table, rest),
        _ => Some(start),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIDS: &str = r#"
[[preconditions.did]]
name = "battery voltage"
ecu = "door"
did = 0xF40D
byte = 1
length = 2
scale = 0.01
unit = "V"
interval-ms = 500
min = 11.8
max = 15
"#;

    const FILE: &str = r#"
vehicle = "/etc/canopus/vehicle.json"
transport = "kernel"
parallel = 2

[repository]
url = "https://updates.example"
interval-s = 600

[log]
format = "json"
level = "debug"
"#;

    fn refused(text: &str) -> String {
        Settings::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_says_what_the_options_say() {
        let settings = Settings::parse(FILE).unwrap();
        assert_eq!(settings.transport, Some(Transport::Kernel));
        assert_eq!(settings.parallel.unwrap().get(), 2);
        assert_eq!(settings.repository.interval_s.unwrap().get(), 600);
        assert_eq!(settings.log.format, Some(LogFormat::Json));
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn data_identifiers_are_preconditions_of_ecus_that_the_vehicle_has() {
        let vehicle = include_str!("../tests/data/vehicle.json");
        let vehicle = campaign::vehicle::Vehicle::from_json(vehicle.as_bytes()).unwrap();
        let name = vehicle.ecus()[0].name.to_string();
        let machine = |text: &str| {
            let settings = Settings::parse(text).unwrap();
            settings.preconditions.machine(&vehicle)
        };
        let known = DIDS.replace("door", &name);
        let machine_of_it = machine(&known).unwrap().unwrap();
        let [condition] = machine_of_it.conditions() else {
            panic!("{machine_of_it:?}")
        };
        let crate::preconditions::Source::Did { did, stale, .. } = &condition.source else {
            panic!("{condition:?}")
        };
        assert_eq!((*did, stale.as_millis()), (0xF40D, 1500));
        let stranger = machine(&DIDS.replace("door", "window")).unwrap_err();
        assert!(stranger.to_string().contains("no ECU window"), "{stranger}");
        let typo = refused(&known.replace("byte =", "bite ="));
        assert!(typo.contains("missing field `byte`"), "{typo}");
        let extra = refused(&format!("{known}units = 3\n"));
        assert!(
            extra.contains("unknown key preconditions.did.0.units"),
            "{extra}"
        );
        assert!(refused(&known.replace("length = 2", "length = 9")).contains("from 1 to 8"));
    }

    #[test]
    fn tcp_needs_every_file_of_tls() {
        let whole = "[api.tls]\nlisten = \"[::]:8443\"\ncertificate = \"a\"\nkey = \"b\"\nclient-ca = \"c\"\n";
        let mut settings = Settings::parse(whole).unwrap();
        assert_eq!(settings.paths().count(), 3);
        for key in ["listen", "certificate", "key", "client-ca"] {
            let kept = whole
                .lines()
                .filter(|line| !line.starts_with(&format!("{key} =")));
            let text = kept.collect::<Vec<_>>().join("\n");
            let refused = refused(&text);
            assert!(
                refused.contains(&format!("missing field `{key}`")),
                "{refused}"
            );
        }
        let plain = refused("[api]\nlisten = \"[::]:8080\"\n");
        assert!(plain.contains("unknown key api.listen"), "{plain}");
    }

    #[test]
    fn every_unknown_key_is_named_with_its_place() {
        let text = "paralel = 2\n[repository]\nurl = \"x\"\n  uri = \"y\"\n[lgo]\nlevel = 1\n";
        assert_eq!(
            refused(text),
            "line 1, column 1: unknown key paralel; line 4, column 3: unknown key \
             repository.uri; line 5, column 2: unknown key lgo"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        for (text, message) in [
            ("parallel = 17", "line 1, column 12: 17 is not from 1 to 16"),
            (
                "\nparallel = -1",
                "line 2, column 12: -1 is not from 1 to 16",
            ),
            (
                "[repository]\ninterval-s = 0",
                "line 2, column 14: 0 is not",
            ),
            (
                "transport = \"canopen\"",
                "line 1, column 13: unknown variant",
            ),
            ("vehicle = 3", "line 1, column 11: invalid type"),
            ("vehicle = ", "line 1, column"),
        ] {
            let found = refused(text);
            assert!(found.starts_with(message), "{text}: {found}");
        }
    }

    #[test]
    fn paths_start_at_the_folder_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tcu.toml");
        std::fs::write(
            &path,
            "root = \"root.json\"\nstate = \"/var/lib/canopus\"\n",
        )
        .unwrap();
        let settings = Settings::load(Some(&path)).unwrap();
        assert_eq!(settings.root, Some(dir.path().join("root.json")));
        assert_eq!(settings.state, Some(PathBuf::from("/var/lib/canopus")));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let error = Settings::load(Some(Path::new("/no/tcu.toml"))).unwrap_err();
        assert!(error.to_string().starts_with("/no/tcu.toml: "), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}") {
            let _ = Settings::parse(&text);
        }

        #[test]
        fn an_unknown_key_is_found_wherever_it_stands(
            table in prop::sample::select(vec!["repository", "log"]),
            key in "[a-z]{1,3}x",
            above in 0usize..5,
        ) {
            let text = format!("{}[{table}]\n{key} = 1\n", "# nothing\n".repeat(above));
            let expected = format!("line {}, column 1: unknown key {table}.{key}", above + 2);
            prop_assert_eq!(refused(&text), expected);
        }
    }
}
