//! The emulated board under QEMU, in turns with the host; see [`board_shell::shell`].

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use board_shell::shell::frame;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use tempfile::TempDir;
use uds::can::{Format, Frame};

use crate::flash;

/// Under `-icount shift=6` an instruction takes 64 ns of the board's time.
const SHIFT: u32 = 6;
/// How long the board may be silent, in milliseconds of the host's time.
const PATIENCE_MS: u16 = 60_000;
/// Where the linker script has the provisioned block.
const PROVISION: u32 = 0x21E0_0000;

/// What QEMU emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// A Cortex-M4F: `mps2-an386`.
    CortexM4,
    /// A Cortex-R5F: the second cluster of `xlnx-zcu102`, which the first one turns on.
    CortexR5,
}

impl Processor {
    /// Its target in Rust.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::CortexM4 => "thumbv7em-none-eabihf",
            Self::CortexR5 => "armv7r-none-eabihf",
        }
    }

    /// How long a tick of the board's timer is, in ns: 25 MHz, or each 64th cycle of 1 GHz.
    const fn tick_ns(self) -> u64 {
        match self {
            Self::CortexM4 => 40,
            Self::CortexR5 => 64,
        }
    }

    /// QEMU with this machine, which runs the ELF file `program`, in `folder`.
    fn command(self, program: &Path, folder: &Path) -> Result<Command> {
        Ok(match self {
            Self::CortexM4 => {
                let mut command = Command::new("qemu-system-arm");
                command
                    .args(["-machine", "mps2-an386", "-kernel"])
                    .arg(program);
                command
            }
            Self::CortexR5 => {
                let mut command = Command::new("qemu-system-aarch64");
                command.args(["-machine", "xlnx-zcu102", "-smp", "5", "-m", "1G"]);
                // Its display port would look for a sound card.
                command.env("QEMU_AUDIO_DRV", "none");
                let words = TURNS_ON.into_iter().flat_map(u32::to_le_bytes);
                std::fs::write(folder.join("turns-on"), words.collect::<Vec<_>>())?;
                // Behind everything else in memory.
                let loader = "loader,file=turns-on,addr=0x30000000,cpu-num=0,force-raw=on";
                command.args(["-device", loader, "-device"]);
                command.arg(format!("loader,file={}", program.display()));
                command
            }
        })
    }
}

/// A64 code for the first processor of `xlnx-zcu102`: CPU_ON of PSCI (Arm DEN 0022, 5.6) starts the fifth
/// at address 0. QEMU 7.2 has no option that lets that one start by itself.
const TURNS_ON: [u32; 8] = [
    0xD280_0060, // movz x0, #3
    0xF2B8_8000, // movk x0, #0xC400, lsl #16: CPU_ON
    0xD280_0081, // movz x1, #4: target_cpu
    0xD280_0002, // movz x2, #0: entry_point_address
    0xD280_0003, // movz x3, #0: context_id
    0xD400_0003, // smc #0
    0xD503_207F, // wfi
    0x17FF_FFFF, // b .-4
];

/// A bare-metal program, and what runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The processor.
    pub processor: Processor,
    /// The ELF file.
    pub elf: PathBuf,
}

impl FromStr for Program {
    type Err = anyhow::Error;

    /// From `TARGET=FILE`.
    fn from_str(text: &str) -> Result<Self> {
        let (target, elf) = text.split_once('=').context("not TARGET=FILE")?;
        let all = [Processor::CortexM4, Processor::CortexR5];
        let processor = all.into_iter().find(|it| it.target() == target);
        let processor = processor.with_context(|| format!("nothing emulates {target}"))?;
        let elf = std::path::absolute(elf)?;
        Ok(Self { processor, elf })
    }
}

/// What the board did in its turn.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Frames that it sent.
    pub frames: Vec<Frame>,
    /// Words of [`board_shell::report`].
    pub events: Vec<u32>,
    /// Messages for the application.
    pub mail: Vec<Vec<u8>>,
    /// Bytes of the flash that were asked for.
    pub dump: Vec<u8>,
    /// The board's time in µs.
    pub now: u64,
    /// Its next deadline in µs.
    pub deadline: Option<u64>,
    /// Instructions in the bootloader, without the flash driver and the shell.
    pub instructions: u64,
    /// How often the flash was asked for what it cannot do.
    pub misused: u32,
    /// Bytes of the stack that this start has not used.
    pub free_stack: u32,
}

/// A running board.
#[derive(Debug)]
pub struct Board {
    processor: Processor,
    qemu: Child,
    to: File,
    from: File,
    _folder: TempDir,
}

impl Board {
    /// Starts `program` with this flash and provisioned block; its first turn.
    ///
    /// # Errors
    /// QEMU is not installed, or the board does not start.
    pub fn start(program: &Program, flash: &[u8], provision: &[u8]) -> Result<(Self, Turn)> {
        let folder = tempfile::tempdir()?;
        let mut command = machine(folder.path(), program, flash, provision)?;
        let [to, from] = ["to-board", "from-board"].map(|name| folder.path().join(name));
        for fifo in [&to, &from] {
            nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        // Open for both ways: so nobody waits for the other to open, nor sees an end in a restart.
        let both = |path| OpenOptions::new().read(true).write(true).open(path);
        let mut board = Self {
            processor: program.processor,
            to: both(&to)?,
            from: both(&from)?,
            qemu: command.spawn().context("QEMU cannot be started")?,
            _folder: folder,
        };
        let turn = board.turn()?;
        Ok((board, turn))
    }

    /// Gives the board a frame.
    ///
    /// # Errors
    /// The board is gone or silent.
    pub fn frame(&mut self, now: u64, frame: &Frame) -> Result<Turn> {
        let raw = frame.id().raw() | u32::from(frame.id().is_extended()) << 31;
        let format = match frame.format() {
            Format::Classical => 0,
            Format::Fd { brs } => 1 | u8::from(brs) << 1,
        };
        self.tell(b'F', now, &[&raw.to_le_bytes(), &[format], frame.data()])
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// As [`Board::frame`].
    pub fn time(&mut self, now: u64) -> Result<Turn> {
        self.tell(b'T', now, &[])
    }

    /// Gives the boot services a message of the application.
    ///
    /// # Errors
    /// As [`Board::frame`].
    pub fn mail(&mut self, now: u64, message: &[u8]) -> Result<Turn> {
        self.tell(b'M', now, &[message])
    }

    /// Resets: 0 power on, 1 software, 2 watchdog, 3 crash.
    ///
    /// # Errors
    /// As [`Board::frame`].
    pub fn reset(&mut self, now: u64, cause: u8, handover: &[u8]) -> Result<Turn> {
        self.tell(b'R', now, &[&[cause], handover])
    }

    /// The whole flash.
    ///
    /// # Errors
    /// As [`Board::frame`].
    pub fn dump(&mut self, now: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < board_shell::machine::FLASH_LEN {
            let address = flash::BASE + u32::try_from(bytes.len())?;
            let turn = self.tell(b'X', now, &[&address.to_le_bytes(), &256u16.to_le_bytes()])?;
            ensure!(
                !turn.dump.is_empty(),
                "the board shows no flash at {address:#x}"
            );
            bytes.extend(turn.dump);
        }
        bytes.truncate(board_shell::machine::FLASH_LEN);
        Ok(bytes)
    }

    /// Changes the flash against its rules.
    ///
    /// # Errors
    /// As [`Board::frame`].
    pub fn forge(&mut self, now: u64, address: u32, bytes: &[u8]) -> Result<Turn> {
        self.tell(b'W', now, &[&address.to_le_bytes(), bytes])
    }

    fn tell(&mut self, kind: u8, now: u64, parts: &[&[u8]]) -> Result<Turn> {
        let body = [&[kind], &now.to_le_bytes()[..], &parts.concat()].concat();
        let len = u16::try_from(body.len())?.to_le_bytes();
        self.to.write_all(&[&len[..], &body].concat())?;
        self.turn()
    }

    fn turn(&mut self) -> Result<Turn> {
        let mut turn = Turn::default();
        loop {
            let mut len = [0; 2];
            self.read(&mut len)?;
            let mut body = vec![0; u16::from_le_bytes(len).into()];
            self.read(&mut body)?;
            let (kind, body) = body.split_first().context("an empty message")?;
            match kind {
                b'f' => turn.frames.push(frame(body).context("no frame")?),
                b'e' => turn.events.push(word(body, 0)?),
                b'm' => turn.mail.push(body.to_vec()),
                b'x' => turn.dump = body.to_vec(),
                b'd' => {
                    turn.now = long(body, 0)?;
                    turn.deadline = Some(long(body, 8)?).filter(|at| *at != u64::MAX);
                    let ticks = u64::from(word(body, 16)?);
                    turn.instructions = (ticks * self.processor.tick_ns()) >> SHIFT;
                    turn.misused = word(body, 20)?;
                    turn.free_stack = word(body, 24)?;
                    return Ok(turn);
                }
                kind => bail!("the board says {kind:#x}"),
            }
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let mut waiting = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waiting, PollTimeout::from(PATIENCE_MS))? == 0 {
                bail!("the board is silent; QEMU: {:?}", self.qemu.try_wait()?);
            }
            at += self.from.read(&mut bytes[at..])?;
        }
        Ok(())
    }
}

/// Starts `program`, which boots an image that tells the emulator to end; its status.
///
/// # Errors
/// QEMU is not installed, or the image does not end in time.
pub fn run_to_end(program: &Program, flash: &[u8], provision: &[u8]) -> Result<ExitStatus> {
    let folder = tempfile::tempdir()?;
    let mut command = machine(folder.path(), program, flash, provision)?;
    let started = command.stdout(Stdio::piped()).spawn();
    let mut qemu = started.context("QEMU cannot be started")?;
    let output = qemu.stdout.take().context("no output")?;
    // It says nothing, so what is heard is the end of its output.
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    if poll(&mut waiting, PollTimeout::from(PATIENCE_MS))? == 0 {
        qemu.kill()?;
        qemu.wait()?;
        bail!("the image has not ended");
    }
    Ok(qemu.wait()?)
}

/// QEMU with the board's memory as files in `folder`.
fn machine(folder: &Path, program: &Program, flash: &[u8], provision: &[u8]) -> Result<Command> {
    std::fs::write(folder.join("flash"), flash)?;
    std::fs::write(folder.join("provision"), provision)?;
    let mut command = program.processor.command(&program.elf, folder)?;
    command.args(["-display", "none", "-monitor", "none"]);
    command.args([
        "-serial",
        "null",
        "-semihosting-config",
        "enable=on,target=native",
    ]);
    command.args(["-icount", &format!("shift={SHIFT}")]);
    for (file, address) in [("flash", flash::BASE), ("provision", PROVISION)] {
        let loader = format!("loader,file={file},addr={address:#x},force-raw=on");
        command.args(["-device", &loader]);
    }
    command.current_dir(folder).stdin(Stdio::null());
    Ok(command)
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let rest = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*rest.context("a short message")?))
}

fn long(bytes: &[u8], at: usize) -> Result<u64> {
    let rest = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u64::from_le_bytes(*rest.context("a short message")?))
}
