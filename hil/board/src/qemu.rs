//! The emulated board under QEMU, in turns with the host; see [`board_shell::shell`].

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use board_shell::shell::frame;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use tempfile::TempDir;
use uds::can::{Format, Frame};

use crate::flash;

/// QEMU's name for the machine.
const MACHINE: &str = "mps2-an386";
/// Under `-icount shift=6` an instruction takes 64 ns of the board's time, and a tick of its timer
/// is 40 ns.
const SHIFT: u32 = 6;
const TICK_NS: u64 = 40;
/// How long the board may be silent, in milliseconds of the host's time.
const PATIENCE_MS: u16 = 60_000;
/// Where the linker script has the provisioned block.
const PROVISION: u32 = 0x21E0_0000;

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
    qemu: Child,
    to: File,
    from: File,
    _folder: TempDir,
}

impl Board {
    /// Starts the ELF file `program` with this flash and provisioned block; its first turn.
    ///
    /// # Errors
    /// QEMU is not installed, or the board does not start.
    pub fn start(program: &Path, flash: &[u8], provision: &[u8]) -> Result<(Self, Turn)> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("flash"), flash)?;
        std::fs::write(folder.path().join("provision"), provision)?;
        let mut command = Command::new("qemu-system-arm");
        command.args(["-machine", MACHINE, "-display", "none", "-monitor", "none"]);
        command.args([
            "-serial",
            "null",
            "-semihosting-config",
            "enable=on,target=native",
        ]);
        command.args(["-icount", &format!("shift={SHIFT}")]);
        command.arg("-kernel").arg(std::path::absolute(program)?);
        for (file, address) in [("flash", flash::BASE), ("provision", PROVISION)] {
            let loader = format!("loader,file={file},addr={address:#x},force-raw=on");
            command.args(["-device", &loader]);
        }
        let [to, from] = ["to-board", "from-board"].map(|name| folder.path().join(name));
        for fifo in [&to, &from] {
            nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        // Open for both ways: so nobody waits for the other to open, nor sees an end in a restart.
        let both = |path| OpenOptions::new().read(true).write(true).open(path);
        let mut board = Self {
            to: both(&to)?,
            from: both(&from)?,
            qemu: command
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .spawn()
                .context("qemu-system-arm cannot be started")?,
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
                    turn.instructions = (u64::from(word(body, 16)?) * TICK_NS) >> SHIFT;
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
