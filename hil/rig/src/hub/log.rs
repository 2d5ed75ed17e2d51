//! The record of every frame, in the format of `candump -L`.

use anyhow::{Context, Result};
use simbus::Delivery;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// Lines such as `(0000000012.345678) bus 7E0#0210`: seconds of model time when the frame was over.
#[derive(Debug)]
pub(super) struct FrameLog(Option<BufWriter<File>>);

impl FrameLog {
    pub(super) fn create(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(Some(BufWriter::with_capacity(64 << 10, file))))
    }

    pub(super) fn write(&mut self, delivery: &Delivery) -> Result<()> {
        let Some(file) = &mut self.0 else {
            return Ok(());
        };
        let micros = delivery.at.as_micros();
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        writeln!(file, "({seconds:010}.{rest:06}) bus {:?}", delivery.frame).context("frame log")
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.0
            .as_mut()
            .map_or(Ok(()), |file| file.flush().context("frame log"))
    }
}
