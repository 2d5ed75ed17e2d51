//! The flash chip and the one-time-programmable counter, as the machine and its bootloader share
//! them: the bootloader reads, the machine performs the operations and lets their time pass.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ecu_bootloader::counter::{CounterError, MonotonicCounter};
use ecu_bootloader::flash::{FlashError, FlashOp, FlashRead};
use ecu_image::SecurityCounter;
use nor::Nor;
use uds::time::Instant;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks; a poisoned chip is a chip nevertheless.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading side of a chip.
#[derive(Debug, Clone)]
pub struct SharedFlash(Arc<Mutex<Nor>>);

impl FlashRead for SharedFlash {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        lock(&self.0).read(address, buffer).map_err(|_| FlashError)
    }
}

/// An erase of several sectors goes sector by sector, as a driver does it.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// The sectors that are still to be erased.
    next: u32,
    end: u32,
    until: Instant,
    result: Result<(), FlashError>,
}

/// A chip that is busy for as long as its data sheet says.
#[derive(Debug)]
pub struct Chip {
    nor: Arc<Mutex<Nor>>,
    running: Option<Running>,
}

impl Chip {
    /// The chip `nor`, idle.
    #[must_use]
    pub fn new(nor: Nor) -> Self {
        Self {
            nor: Arc::new(Mutex::new(nor)),
            running: None,
        }
    }

    /// Its reading side.
    #[must_use]
    pub fn shared(&self) -> SharedFlash {
        SharedFlash(Arc::clone(&self.nor))
    }

    /// Looks at or changes the model itself.
    pub fn with<T>(&self, f: impl FnOnce(&mut Nor) -> T) -> T {
        f(&mut lock(&self.nor))
    }

    /// Starts an operation; the bootloader gives one at a time.
    pub fn start(&mut self, now: Instant, op: &FlashOp<'_>) {
        let mut running = Running {
            next: 0,
            end: 0,
            until: now,
            result: Ok(()),
        };
        match *op {
            FlashOp::Erase { address, len } => {
                running.next = address;
                running.end = address.saturating_add(len);
                self.erase_next(&mut running);
            }
            FlashOp::Program { address, bytes } => match lock(&self.nor).program(address, bytes) {
                Ok(time) => running.until = now + time,
                Err(_) => running.result = Err(FlashError),
            },
        }
        self.running = Some(running);
    }

    fn erase_next(&self, running: &mut Running) {
        let mut nor = lock(&self.nor);
        let size = nor.geometry().sector_of(running.next).map(|s| s.size);
        match nor.erase(running.next) {
            Ok(time) => {
                running.next = running.next.saturating_add(size.unwrap_or(u32::MAX));
                running.until = running.until + time;
            }
            Err(_) => running.result = Err(FlashError),
        }
    }

    /// The end of the operation, once its time has passed.
    pub fn poll(&mut self, now: Instant) -> Option<Result<(), FlashError>> {
        let mut running = self.running.take()?;
        while running.result.is_ok() && now >= running.until && running.next < running.end {
            self.erase_next(&mut running);
        }
        if now < running.until && running.result.is_ok() {
            self.running = Some(running);
            return None;
        }
        Some(running.result)
    }

    /// When [`Chip::poll`] has something to say.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.running.map(|running| running.until)
    }

    /// Whether the chip has lost power in a cut.
    #[must_use]
    pub fn lost_power(&self) -> bool {
        !lock(&self.nor).is_powered()
    }

    /// A reset of the processor: the operation under way is done, nobody waits for it.
    pub fn forget(&mut self) {
        self.running = None;
    }
}

/// A counter in one-time-programmable memory, which no flash operation reaches.
#[derive(Debug, Clone)]
pub struct Otp(Arc<Mutex<OtpStore>>);

#[derive(Debug)]
struct OtpStore {
    value: u32,
    path: Option<PathBuf>,
}

impl Otp {
    /// A counter in memory, at zero.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(OtpStore {
            value: 0,
            path: None,
        })))
    }

    /// The counter in the file at `path`; zero where there is none yet.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` where it does not hold a counter.
    pub fn open(path: &Path) -> io::Result<Self> {
        let value = match std::fs::read(path) {
            Ok(bytes) => u32::from_le_bytes(bytes.try_into().map_err(|_| {
                let what = format!("{}: not a counter of 4 bytes", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self(Arc::new(Mutex::new(OtpStore {
            value,
            path: Some(path.to_owned()),
        }))))
    }
}

impl MonotonicCounter for Otp {
    fn read(&mut self) -> SecurityCounter {
        SecurityCounter(lock(&self.0).value)
    }

    fn raise_to(&mut self, to: SecurityCounter) -> Result<(), CounterError> {
        let mut store = lock(&self.0);
        if to.0 <= store.value {
            return Ok(());
        }
        if let Some(path) = &store.path {
            // Under another name first: a file that exists is whole.
            let mut new = path.as_os_str().to_owned();
            new.push(".new");
            std::fs::write(&new, to.0.to_le_bytes())
                .and_then(|()| std::fs::rename(&new, path))
                .map_err(|_| CounterError)?;
        }
        store.value = to.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nor::Geometry;
    use std::time::Duration;

    fn chip() -> Chip {
        Chip::new(Nor::in_memory(
            Geometry::uniform_4k(65_536).with_timing(1000, 100),
        ))
    }

    #[test]
    fn an_erase_takes_the_time_of_all_its_sectors() {
        let mut chip = chip();
        let op = FlashOp::Erase {
            address: 4096,
            len: 3 * 4096,
        };
        chip.start(Instant::ZERO, &op);
        let mut now = Instant::ZERO;
        let mut waits = 0;
        while chip.poll(now).is_none() {
            now = chip.poll_timeout().unwrap();
            waits += 1;
        }
        assert_eq!(now, Instant::ZERO + Duration::from_millis(3));
        assert_eq!((waits, chip.with(|nor| nor.operations())), (3, 3));
    }

    #[test]
    fn a_refused_operation_ends_at_once_as_failed() {
        let mut chip = chip();
        let op = FlashOp::Program {
            address: 65_536,
            bytes: &[0; 4],
        };
        chip.start(Instant::ZERO, &op);
        assert_eq!(chip.poll(Instant::ZERO), Some(Err(FlashError)));
    }

    #[test]
    fn a_counter_in_a_file_only_rises() {
        let dir = std::env::temp_dir().join(format!("otp-{}", std::process::id()));
        let mut otp = Otp::open(&dir).unwrap();
        otp.raise_to(SecurityCounter(7)).unwrap();
        otp.raise_to(SecurityCounter(3)).unwrap();
        assert_eq!(Otp::open(&dir).unwrap().read(), SecurityCounter(7));
        std::fs::remove_file(&dir).unwrap();
    }
}
