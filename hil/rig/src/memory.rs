//! How much memory the TCU takes while it flashes a vehicle of many ECUs.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::bench::{Bench, NewApp, Options};
use crate::programs::Programs;

/// The goal: a telematics unit has other things to do, MiB.
const GOAL_MIB: f64 = 30.0;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// ECUs that were flashed.
    pub ecus: usize,
    /// Size of each new application, bytes.
    pub image_bytes: usize,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// From the start of the TCU to its end.
    pub seconds: f64,
    /// The most memory that the TCU had at once (`VmHWM`), KiB.
    pub peak_rss_kib: u64,
    /// Whether that is below the goal.
    pub ok: bool,
}

/// Flashes every ECU of a vehicle with `options.ecus` of them.
///
/// # Errors
/// When the bench fails or an ECU does not end on the new application.
pub fn measure(programs: &Programs, profile: &'static str, options: Options) -> Result<Memory> {
    let ecus = options.ecus;
    let app = NewApp::good("2.0.0", 2);
    let image_bytes = options.app_size.unwrap_or(app.size);
    let mut bench = Bench::start(programs, options)?;
    bench.release("memory", &app)?;
    let started = Instant::now();
    bench.install()?;
    let seconds = started.elapsed().as_secs_f64();
    let report = bench.finish("memory")?;
    let sealed = report.ecus.iter().filter(|ecu| ecu.state == "sealed");
    ensure!(
        sealed.count() == ecus,
        "not all are sealed\n{}",
        report.table()
    );
    let peak_rss_kib = bench.tcu_memory();
    ensure!(peak_rss_kib > 0, "the TCU was never looked at");
    #[expect(clippy::cast_precision_loss, reason = "less than 52 bits of KiB")]
    let ok = (peak_rss_kib as f64) < GOAL_MIB * 1024.0;
    Ok(Memory {
        ecus,
        image_bytes,
        profile,
        seconds,
        peak_rss_kib,
        ok,
    })
}
