//! The scenarios of the demo: what each does to the vehicle and what state it must end in.

mod attack;
mod channel;
mod fault;
mod manifest;
mod trust;
mod update;

use anyhow::{Result, bail};

use crate::bench::{Bench, Options};
use crate::programs::Programs;
use crate::report::Report;

/// A scenario by name.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    play: fn(&mut Bench) -> Result<Expected>,
}

/// What a scenario demands of its end.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The campaign's state.
    pub campaign: &'static str,
    /// The state of every ECU that `except` does not name, and the version it runs.
    pub all: (&'static str, &'static str),
    /// Other states and versions: ECU, state, version.
    pub except: Vec<(&'static str, &'static str, &'static str)>,
}

impl Expected {
    fn all(campaign: &'static str, state: &'static str, version: &'static str) -> Self {
        Self {
            campaign,
            all: (state, version),
            except: Vec::new(),
        }
    }

    fn of(&self, ecu: &str) -> (&'static str, &'static str) {
        self.except
            .iter()
            .find(|(name, ..)| *name == ecu)
            .map_or(self.all, |(_, state, version)| (*state, *version))
    }

    /// Compares `report` with what is demanded and says in it what differs.
    fn judge(&self, report: &mut Report) {
        if report.campaign.state != self.campaign {
            report.failures.push(format!(
                "the campaign is {}, not {}",
                report.campaign.state, self.campaign
            ));
        }
        for ecu in &report.ecus {
            let (state, version) = self.of(&ecu.name);
            if ecu.state != state {
                report
                    .failures
                    .push(format!("{} is {}, not {state}", ecu.name, ecu.state));
            }
            if ecu.to != version {
                report
                    .failures
                    .push(format!("{} runs {}, not {version}", ecu.name, ecu.to));
            }
        }
        report.ok = report.failures.is_empty();
    }
}

/// All scenarios, in the order in which `--list` names them.
pub const ALL: [Scenario; 20] = [
    update::UPDATE,
    channel::CONTROL_CHANNEL,
    attack::TAMPERED_PAGE,
    attack::FORGED_SIGNATURE,
    attack::DOWNGRADE,
    attack::WRONG_HARDWARE,
    trust::REPLAYED_GRANT,
    trust::FROZEN_MIRROR,
    trust::CLOCK_SET_BACK,
    trust::MIX_AND_MATCH,
    trust::ROTATED_ROOT,
    trust::ROTATED_IMAGE_KEY,
    trust::SECOND_ALGORITHM,
    trust::STOLEN_ONLINE_KEYS,
    manifest::LYING_TCU,
    fault::TRIAL_CRASH,
    fault::TRIAL_HANG,
    fault::FACTORY_REVERT,
    fault::ECU_POWER_CUT,
    fault::TCU_KILL,
];

/// The scenario `name`.
///
/// # Errors
/// When there is none of that name; the message lists them.
pub fn find(name: &str) -> Result<Scenario> {
    let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name) else {
        let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario {name}; there are: {}", names.join(", "));
    };
    Ok(*scenario)
}

/// Plays `scenario` on a bench of its own and judges its end.
///
/// # Errors
/// When the bench itself fails; a vehicle in the wrong state is not an error but a report that is
/// not `ok`.
pub fn play(scenario: Scenario, programs: &Programs, options: Options) -> Result<Report> {
    let mut bench = Bench::start(programs, options)?;
    let expected = (scenario.play)(&mut bench)?;
    let mut report = bench.finish(scenario.name)?;
    expected.judge(&mut report);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Campaign, Ecu};

    fn report(state: &str, to: &str) -> Report {
        Report {
            scenario: "update".into(),
            ok: false,
            campaign: Campaign {
                id: "c".into(),
                state: "completed".into(),
            },
            ecus: vec![Ecu {
                name: "steering".into(),
                bus: "chassis".into(),
                from: "1.0.0".into(),
                to: to.into(),
                bytes: 0,
                seconds: 0.0,
                bus_share: None,
                state: state.into(),
            }],
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_report_is_ok_only_in_the_demanded_state_and_version() {
        let expected = Expected::all("completed", "sealed", "2.0.0");
        let judged = |state, to| {
            let mut report = report(state, to);
            expected.judge(&mut report);
            (report.ok, report.failures.len())
        };
        assert_eq!(judged("sealed", "2.0.0"), (true, 0));
        assert_eq!(judged("healthy", "2.0.0"), (false, 1));
        assert_eq!(judged("reverted", "1.0.0"), (false, 2));
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_answered_with_the_list() {
        for scenario in ALL {
            assert_eq!(
                ALL.iter()
                    .filter(|other| other.name == scenario.name)
                    .count(),
                1
            );
            assert_eq!(find(scenario.name).unwrap().about, scenario.about);
        }
        assert!(
            find("nonsense")
                .unwrap_err()
                .to_string()
                .contains("trial-crash")
        );
    }
}
