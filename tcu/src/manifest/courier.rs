//! Brings manifests to the backend when they are due.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::{Asked, Backend, Schedule, Sent, TcuKey, Verdict, sign, silent};
use crate::error::Error;
use crate::install::Context;
use crate::output::{Line, Output};
use crate::state::State;

/// The longest that a manifest may take: whatever waits for it goes on then.
const LONGEST: Duration = Duration::from_secs(120);

/// Brings manifests to the backend when they are due, and never fails: what came of it is logged, and
/// what was not delivered stays owed.
#[derive(Debug)]
pub struct Courier {
    way: Option<(Backend, TcuKey)>,
    schedule: Schedule,
    epoch: Instant,
}

impl Courier {
    /// With the key in the file of `context`, if there is one, to the backend of `repository`, if that
    /// is an https URL; one manifest at once, later ones after `interval`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Configuration`], [`Error::Fetch`]: key or authorities cannot be used.
    pub fn new(context: &Context, repository: &str, interval: Duration) -> Result<Self, Error> {
        let ca = context.ca.as_deref();
        let backend = Backend::new(repository, context.vehicle.vin(), ca)?;
        let key = context.tcu_key.as_ref().map(|path| TcuKey::load(path));
        Ok(Self {
            way: backend.zip(key.transpose()?),
            schedule: Schedule::new(interval),
            epoch: Instant::now(),
        })
    }

    /// What the ECUs run may have changed.
    pub fn owe(&mut self) {
        self.schedule.owe();
    }

    /// When a manifest is due; `None` where none can be sent.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.way.as_ref()?;
        self.epoch.checked_add(self.schedule.due())
    }

    /// Asks the ECUs and tells the backend, if it is time to.
    /// What a campaign under way has changed is no state of the vehicle yet: it waits for its end.
    pub async fn deliver(&mut self, context: &Context, state: &State, output: &mut Output) {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        if !context.is_at_rest(state).unwrap_or(false) {
            return self.schedule.on_sent(self.epoch.elapsed(), Sent::Failed);
        }
        let Some((backend, key)) = &self.way else {
            return;
        };
        let mut control = context.control.clone();
        let work = tokio::time::timeout(LONGEST, tell(context, backend, key));
        let result = tokio::select! {
            result = work => result.unwrap_or(Err(Error::Overdue)),
            _ = control.wait_for(|control| control.stop) => Err(Error::Stopped),
        };
        let sent = match result {
            Ok(None) => Sent::NotWanted,
            Ok(Some((verdict, asked))) => said(verdict, &asked, output),
            Err(error) => {
                tracing::warn!(%error, "the manifest is not delivered, and stays owed");
                Sent::Failed
            }
        };
        self.schedule.on_sent(self.epoch.elapsed(), sent);
    }
}

/// Says what became of a manifest.
fn said(verdict: Verdict, asked: &[Asked], output: &mut Output) -> Sent {
    let silent: Vec<String> = silent(asked).map(|ecu| ecu.name.to_string()).collect();
    for ecu in asked {
        if let Err(why) = &ecu.said {
            tracing::warn!(ecu = %ecu.name, why, "no report of this ECU");
        }
    }
    let accepted = verdict == Verdict::Accepted;
    if !accepted {
        tracing::error!("the backend does not believe the manifest (`oem manifest show` says why)");
    }
    output.line(&Line::Manifest { accepted, silent });
    match verdict {
        Verdict::Accepted => Sent::Accepted,
        Verdict::Disbelieved => Sent::Disbelieved,
    }
}

/// One manifest, from the nonce to the verdict; `None` where the backend takes none.
///
/// # Errors
///
/// [`Error::Fetch`], [`Error::Link`], [`Error::Stopped`].
pub async fn tell(
    context: &Context,
    backend: &Backend,
    key: &TcuKey,
) -> Result<Option<(Verdict, Vec<Asked>)>, Error> {
    let Some(nonce) = backend.nonce().await? else {
        return Ok(None);
    };
    let asked = context.reports(&nonce).await?;
    let manifest = sign(key, context.vehicle.vin(), &nonce, &asked);
    let manifest = manifest.map_err(|error| Error::Usage(error.to_string()))?;
    Ok(Some((backend.send(manifest).await?, asked)))
}

/// Where the key is, unless it is said: beside `vehicle.json`, where `oem vehicle add` puts it.
#[must_use]
pub fn beside(vehicle: &std::path::Path) -> Option<PathBuf> {
    let key = vehicle.with_file_name("tcu.pem");
    key.exists().then_some(key)
}
