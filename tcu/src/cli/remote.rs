//! Commands that ask the service of this machine.

use std::sync::Arc;

use tokio::sync::watch;

use super::Command;
use super::options::Options;
use crate::api::{Client, GivesUp, Said, Told};
use crate::desk::{Desk, NotTaken, Reply};
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::policy::Rules;
use crate::state::{JOURNAL, State};
use crate::vehicle::Control;

/// Does what the service is to do; `None` for a command that is not for it.
pub(super) async fn run(
    command: &Command,
    options: &Options,
    json: bool,
) -> Result<Option<Exit>, Error> {
    let (path, said) = match command {
        Command::Status { watch: true } => return watch(options, json).await.map(Some),
        Command::GiveUp {
            ecu,
            reason,
            campaign,
        } => {
            let (campaign, ecu, reason) = (campaign.clone(), ecu.clone(), reason.clone());
            let gives_up = GivesUp {
                campaign,
                ecu,
                reason,
            };
            let reply = give_up(&gives_up, options).await?;
            Output::plain(json).value(&reply, &reply.done);
            return Ok(Some(Exit::Success));
        }
        Command::Consent { campaign, anytime } => {
            let (campaign, anytime) = (campaign.clone(), *anytime);
            let said = Said {
                campaign,
                anytime,
                ..Said::default()
            };
            ("/v1/consent", said)
        }
        Command::Cancel { campaign } => {
            let campaign = campaign.clone();
            (
                "/v1/cancel",
                Said {
                    campaign,
                    ..Said::default()
                },
            )
        }
        Command::Postpone { seconds, campaign } => {
            let (campaign, seconds) = (campaign.clone(), Some(*seconds));
            (
                "/v1/postpone",
                Said {
                    campaign,
                    seconds,
                    ..Said::default()
                },
            )
        }
        _ => return Ok(None),
    };
    let client = Client::new(&options.socket())?;
    let reply: Reply = client.post(path, &said).await?;
    Output::plain(json).value(&reply, &reply.done);
    Ok(Some(Exit::Success))
}

/// Where no service answers, the state folder itself is told.
async fn give_up(gives_up: &GivesUp, options: &Options) -> Result<Reply, Error> {
    let client = Client::new(&options.socket())?;
    match client.post("/v1/give-up", gives_up).await {
        Err(Error::Service { .. }) if options.state.join(JOURNAL).exists() => {}
        answer => return answer,
    }
    let state = State::open(&options.state)?;
    let who = format!("uid {} at the command line", state.user());
    let (control, _) = watch::channel(Control::default());
    let desk = Desk::new(
        &state,
        Rules::default(),
        who.clone(),
        control,
        Arc::default(),
    )?;
    desk.give_up(who, gives_up).map_err(|error| match error {
        NotTaken::NotStored(error) => error,
        refused => Error::Refused(refused.to_string()),
    })
}

/// Shows what the service is doing, live: with `--json` the events as they are.
async fn watch(options: &Options, json: bool) -> Result<Exit, Error> {
    let client = Client::new(&options.socket())?;
    let mut output = Output::plain(json);
    let mut show = |name: &str, data: &str| {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(data) else {
            return;
        };
        let text = match name {
            "status" => serde_json::from_value::<Told>(value.clone()).map(|told| said(&told)),
            _ => Ok(line(&value)),
        };
        if let Ok(text) = text {
            output.value(&value, &text);
        }
    };
    client.events(&mut show).await?;
    Ok(Exit::Success)
}

/// The status in a few lines.
fn said(told: &Told) -> String {
    let mut text = format!("-- {}", told.status.detail);
    if let Some(offer) = &told.offer
        && let Some(waits) = &offer.waits_for
    {
        text += &format!("\n   campaign {} waits for {waits}", offer.campaign);
    }
    for (name, ecu) in &told.status.ecus {
        text += &format!(
            "\n   {name}: {} {}, {} of {} bytes",
            ecu.job, ecu.step, ecu.done, ecu.total
        );
    }
    text
}

/// An event in a line.
fn line(value: &serde_json::Value) -> String {
    let members = value.as_object().into_iter().flatten();
    let words = members.map(|(name, value)| match (name.as_str(), value) {
        ("event", serde_json::Value::String(event)) => event.clone(),
        (_, serde_json::Value::String(text)) => text.clone(),
        (name, value) => format!("{name} {value}"),
    });
    words.collect::<Vec<_>>().join(", ")
}
