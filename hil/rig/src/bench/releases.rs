//! What the OEM of the bench packs and releases, and what somebody with its keys forges.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use virtual_ecu::app::{AppConfig, Behaviour};

use super::{Bench, NewApp, spec_of};
use crate::backend::{Backend, Firmware};
use crate::vehicle;

impl Bench {
    /// Packs `app` for every hardware type.
    ///
    /// # Errors
    /// When packing fails.
    pub fn pack(&self, app: &NewApp) -> Result<Vec<PathBuf>> {
        self.pack_by(&self.backend, app, |_| Behaviour::Good)
    }

    /// Releases `app` to all ECUs.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn release(&mut self, campaign: &str, app: &NewApp) -> Result<()> {
        let images = self.pack(app)?;
        self.release_images(campaign, &images)
    }

    /// Releases `app` to all ECUs; that of `victim`'s hardware type behaves as `behaviour`.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn release_with(
        &mut self,
        campaign: &str,
        app: &NewApp,
        victim: &str,
        behaviour: Behaviour,
    ) -> Result<()> {
        let hardware = spec_of(victim)?.hardware_id;
        let images = self.pack_by(&self.backend, app, |id| {
            if id == hardware {
                behaviour
            } else {
                Behaviour::Good
            }
        })?;
        self.release_images(campaign, &images)
    }

    /// Releases packed images as a campaign.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn release_images(&mut self, campaign: &str, images: &[PathBuf]) -> Result<()> {
        self.say(&format!("the OEM releases the campaign {campaign}"));
        self.backend.release(campaign, images)
    }

    /// The OEM repository's folder, for attackers that hold keys of it.
    #[must_use]
    pub fn repo(&self) -> &Path {
        self.backend.repo()
    }

    /// Gives a role of the repository a new key.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn rotate(&mut self, role: &str) -> Result<()> {
        self.say(&format!("the OEM rotates the key of {role}"));
        self.backend.rotate(role)
    }

    /// The OEM gives images a new key and revokes the one before; of `algorithm`, or else as before.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn replace_image_key(&mut self, algorithm: Option<&str>) -> Result<()> {
        let by = algorithm.map_or_else(String::new, |name| format!(" by one of {name}"));
        self.say(&format!(
            "two holders of ECU roots sign a key set that replaces the image key{by}"
        ));
        self.backend.replace_image_key(algorithm)
    }

    /// Releases images whose security counter is below the one released before.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn release_downgrade(&mut self, campaign: &str, app: &NewApp) -> Result<()> {
        let images = self.pack(app)?;
        self.say(&format!(
            "somebody with the repository's keys releases the downgrade {campaign}"
        ));
        crate::forge::release_without_exception(self.backend.repo(), campaign, &images)
    }

    /// Releases `app` after `change` was made to the image of the last hardware type, with metadata
    /// that agree with it.
    ///
    /// # Errors
    /// When packing or forging fails.
    pub fn release_changed(
        &mut self,
        campaign: &str,
        app: &NewApp,
        change: fn(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let images = self.pack(app)?;
        self.say(&format!(
            "somebody with the repository's keys releases the forged {campaign}"
        ));
        crate::forge::release_changed(self.backend.repo(), campaign, &images, change)
    }

    pub(super) fn pack_one(
        &self,
        backend: &Backend,
        version: &str,
        counter: u32,
        hardware_id: &str,
    ) -> Result<PathBuf> {
        let app = AppConfig::new(version, Behaviour::Good).map_err(|error| anyhow!("{error}"))?;
        let program = self.write_app(&app, hardware_id, 0)?;
        backend.pack(&Firmware {
            program: &program,
            hardware_id,
            version,
            counter,
            limp_home: true,
        })
    }

    pub(super) fn pack_by(
        &self,
        backend: &Backend,
        app: &NewApp,
        behaviour: impl Fn(&str) -> Behaviour,
    ) -> Result<Vec<PathBuf>> {
        let size = self.options.app_size.unwrap_or(app.size);
        let mut images = Vec::new();
        for hardware_id in vehicle::hardware_ids() {
            let config = AppConfig::new(app.version, behaviour(hardware_id))
                .map_err(|error| anyhow!("{error}"))?;
            let program = self.write_app(&config, hardware_id, size)?;
            let (version, counter) = (app.version, app.counter);
            let firmware = Firmware {
                program: &program,
                hardware_id,
                version,
                counter,
                limp_home: false,
            };
            images.push(backend.pack(&firmware)?);
        }
        Ok(images)
    }

    fn write_app(&self, config: &AppConfig, hardware_id: &str, size: usize) -> Result<PathBuf> {
        let elf = self.programs.app()?;
        let program = virtual_ecu::app::patch(&elf, config, size)
            .map_err(|error| anyhow!("the ECU application: {error}"))?;
        let path = self
            .work
            .path()
            .join(format!("{hardware_id}-{}.elf", config.version()));
        std::fs::write(&path, program)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
