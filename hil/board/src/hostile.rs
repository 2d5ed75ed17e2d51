//! What a bench suffers besides updates: images that fall back, and every seed of the fuzz targets as
//! frames and as requests.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use board_shell::machine::REQUEST;
use board_shell::report::BOOTS;
use uds::can::{CanId, Format, Frame};

use crate::images::Recipe;
use crate::keys::Keys;
use crate::tester::Bench;

/// The longest request that goes over the emulated bus for a seed.
const LONGEST: usize = 4095;

impl Bench {
    fn runs_an_image(&self) -> bool {
        self.event & 0xFFFF_0000 == BOOTS
    }

    /// An image on trial that crashes, one that is altered on its way, and one of another key.
    ///
    /// # Errors
    /// The board does something else than it should.
    pub fn fall_back(&mut self, keys: &Keys) -> Result<()> {
        let before = self.event;
        self.stage(&Recipe::new(3, 5000).make(keys, keys)?)?;
        self.routine(0x0210)?;
        self.ask(&[0x11, 1])?;
        ensure!(
            self.event & 0xFF != before & 0xFF,
            "the trial does not boot"
        );
        self.reset(3, &[])?;
        ensure!(
            self.event & 0xFF == before & 0xFF,
            "the crash does not end the trial"
        );
        let mut altered = Recipe::new(4, 5000).make(keys, keys)?;
        if let Some(byte) = altered.packed.last_mut() {
            *byte ^= 1;
        }
        ensure!(self.stage(&altered).is_err(), "an altered page is stored");
        self.reset(0, &[])?;
        let stranger = Keys::generate(u64::MAX, 3072)?;
        let forged = Recipe::new(5, 5000).make(keys, &stranger)?;
        ensure!(self.stage(&forged).is_err(), "a forged image is stored");
        self.reset(2, &[])
    }

    /// Every file below `corpora`: as frames, as a request to a locked ECU, and to an unlocked one.
    ///
    /// # Errors
    /// The board is gone, or misuses its flash.
    pub fn suffer(&mut self, corpora: &Path) -> Result<()> {
        let mut seeds = Vec::new();
        for folder in std::fs::read_dir(corpora)? {
            for file in std::fs::read_dir(folder?.path())? {
                seeds.push(std::fs::read(file?.path())?);
            }
        }
        ensure!(!seeds.is_empty(), "{}: no seeds", corpora.display());
        for seed in seeds {
            let seed = seed.get(..LONGEST).unwrap_or(&seed);
            if seed.is_empty() {
                continue;
            }
            self.listen(false)?;
            let id = CanId::standard(REQUEST).context("an identifier")?;
            for data in seed.chunks(8).take(64) {
                let frame = Frame::new(id, Format::Classical, data).context("a frame")?;
                self.raw(&frame)?;
            }
            self.pass(2_000_000)?;
            for unlocked in [false, true] {
                self.listen(unlocked)?;
                self.request(seed)?;
            }
        }
        Ok(())
    }

    /// Has the bootloader on the bus, in its programming session.
    fn listen(&mut self, unlocked: bool) -> Result<()> {
        if self.runs_an_image() {
            self.enter_programming()?;
        }
        if unlocked {
            self.request(&[0x10, 2])?;
            // Seeds of SecurityAccess may have used the attempts up.
            if self.unlock().is_err() {
                self.pass(11_000_000)?;
            }
        }
        Ok(())
    }
}
