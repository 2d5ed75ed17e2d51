//! The whole ECU as one machine: power, resets, bootloader, flash and application.
//!
//! ```text
//!         power_on              decided: boots
//!   Off ───────────► Resetting ◄──────────────┐ reset, crash, watchdog
//!    ▲                  │ reset time          │
//!    │ power_cut,       ▼      boots          │
//!    └─────────────  Running: bootloader ───► bootloader + application
//!      flash cut               stays ↺
//! ```

use std::collections::VecDeque;

use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::mailbox::Handover;
use ecu_bootloader::{BootTarget, Bootloader, Event as BootEvent};
use uds::can::{Format, Frame};
use uds::time::{Duration, Instant, earliest};

use crate::application::{Application, Launcher};
use crate::board::VirtualBoard;
use crate::chip::{Chip, Otp};
use crate::event::Event;
use crate::hardware::{BadLayout, Hardware};
use crate::link::Message;

/// From a reset to the bootloader's first instruction.
const RESET_TIME: Duration = Duration::from_millis(5);
/// Frames of the application that wait for the bus; it waits when there are more.
const OUTBOX: usize = 64;

/// How an ECU behaves in time.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// An application that does not kick for this long is reset.
    pub watchdog: Duration,
    /// What a slice of the bootloader's computation costs: a page of digest and decryption, or two
    /// Montgomery multiplications. Zero where the clock runs by itself.
    pub compute_slice: Duration,
}

impl Default for Options {
    /// A watchdog of 1 s; 100 µs a slice, as a microcontroller of some 300 MHz needs.
    fn default() -> Self {
        Self {
            watchdog: Duration::from_secs(1),
            compute_slice: Duration::from_micros(100),
        }
    }
}

/// Power, as the diagram has it.
enum Power<A> {
    Off,
    Resetting {
        until: Instant,
        cause: ResetCause,
        handover: Option<Handover>,
    },
    On(Box<Running<A>>),
}

struct Running<A> {
    bootloader: Bootloader<VirtualBoard>,
    /// When the next slice of computation is due, while there is one.
    compute_at: Option<Instant>,
    /// Why it stays, should it stay; taken once that is known or something boots.
    undecided: Option<BootReason>,
    application: Option<A>,
    watchdog_at: Option<Instant>,
}

/// A virtual ECU.
///
/// Call order, in a loop: [`handle_frame`](Self::handle_frame), or
/// [`handle_timeout`](Self::handle_timeout) when the deadline of `poll_timeout` has passed or an
/// application with a clock of its own has something to say; then
/// [`poll_transmit`](Self::poll_transmit) until `None`, then [`poll_event`](Self::poll_event) until
/// `None`, since what is done by then may be done by the first; then
/// [`poll_timeout`](Self::poll_timeout).
pub struct Machine<L: Launcher> {
    hardware: Hardware,
    chip: Chip,
    counter: Otp,
    launcher: L,
    options: Options,
    standstill: bool,
    power: Power<L::Application>,
    boots: u64,
    /// Starts of the bootloader.
    starts: u64,
    outbox: VecDeque<Frame>,
    events: VecDeque<Event>,
}

impl<L: Launcher> Machine<L> {
    /// An ECU without power.
    ///
    /// # Errors
    /// [`BadLayout`].
    pub fn new(
        hardware: Hardware,
        chip: Chip,
        counter: Otp,
        launcher: L,
        options: Options,
    ) -> Result<Self, BadLayout> {
        hardware.layout()?;
        Ok(Self {
            hardware,
            chip,
            counter,
            launcher,
            options,
            standstill: true,
            power: Power::Off,
            boots: 0,
            starts: 0,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// What it is made of.
    #[must_use]
    pub const fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Its flash chip, to arm a cut or to look at it.
    #[must_use]
    pub const fn chip(&self) -> &Chip {
        &self.chip
    }

    /// Whether it has power.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !matches!(self.power, Power::Off)
    }

    /// The running application.
    #[must_use]
    pub fn application(&self) -> Option<&L::Application> {
        match &self.power {
            Power::On(running) => running.application.as_ref(),
            Power::Off | Power::Resetting { .. } => None,
        }
    }

    /// The bootloader, while it runs or serves the application.
    #[must_use]
    pub fn bootloader(&self) -> Option<&Bootloader<VirtualBoard>> {
        match &self.power {
            Power::On(running) => Some(&running.bootloader),
            Power::Off | Power::Resetting { .. } => None,
        }
    }

    /// How many applications have been started; tells one from the next.
    #[must_use]
    pub const fn boots(&self) -> u64 {
        self.boots
    }

    /// Power on. Without effect on an ECU that has power.
    pub fn power_on(&mut self, now: Instant) {
        if self.is_on() {
            return;
        }
        self.chip.with(nor::Nor::power_on);
        self.power = Power::Resetting {
            until: now + RESET_TIME,
            cause: ResetCause::PowerOn,
            handover: None,
        };
    }

    /// Power off at once: RAM and whatever runs are gone, the flash stays as it is.
    pub fn power_cut(&mut self) {
        self.power = Power::Off;
        self.chip.forget();
        self.outbox.clear();
    }

    /// A reset from outside, as by a debugger or the reset line.
    pub fn reset(&mut self, now: Instant, cause: ResetCause) {
        if self.is_on() {
            self.restart(now, cause, None);
        }
    }

    /// Whether the vehicle stands still, as its signals say; it does at first.
    pub fn set_standstill(&mut self, now: Instant, still: bool) {
        self.standstill = still;
        if let Power::On(running) = &mut self.power {
            running.bootloader.platform_mut().standstill = still;
            if let Some(application) = &mut running.application {
                application.handle_message(now, &Message::Standstill(still));
            }
        }
    }

    /// A frame arrived.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        if let Power::On(running) = &mut self.power {
            match &mut running.application {
                Some(application) => application.handle_message(now, &Message::Frame(*frame)),
                None => running.bootloader.handle_frame(now, frame),
            }
        }
        self.work(now);
    }

    /// Does what is due, and hears the application.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Power::On(running) = &mut self.power {
            running.bootloader.handle_timeout(now);
            if let Some(application) = &mut running.application {
                application.handle_timeout(now);
            }
        }
        self.work(now);
    }

    /// The next frame to send; `None` where nothing is to be sent before the next frame or deadline.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        loop {
            let moved = self.work(now);
            if let Some(frame) = self.outbox.pop_front() {
                return Some(frame);
            }
            if let Power::On(running) = &mut self.power
                && running.application.is_none()
                && let Some(frame) = running.bootloader.poll_transmit(now)
            {
                self.work(now);
                return Some(frame);
            }
            // Time may have passed since the last call: what became ready in this one is not left
            // until somebody calls again.
            if !moved && !self.work(now) {
                return None;
            }
        }
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.power {
            Power::Off => None,
            Power::Resetting { until, .. } => Some(*until),
            Power::On(running) => {
                let application = running.application.as_ref();
                [
                    running.bootloader.poll_timeout(),
                    running.compute_at,
                    running.watchdog_at,
                    application.and_then(Application::poll_timeout),
                    self.chip.poll_timeout(),
                ]
                .into_iter()
                .fold(None, earliest)
            }
        }
    }

    /// Carries everything from one part to the next until nothing moves at this time; whether
    /// anything did.
    fn work(&mut self, now: Instant) -> bool {
        let mut any = false;
        loop {
            let moved = self.come_up(now)
                | self.flash(now)
                | self.compute(now)
                | self.boot_services(now)
                | self.hear_application(now);
            self.supervise(now);
            if !moved {
                self.report_stay();
                return any;
            }
            any = true;
        }
    }

    /// The end of a reset.
    fn come_up(&mut self, now: Instant) -> bool {
        let Power::Resetting {
            until,
            cause,
            handover,
        } = self.power
        else {
            return false;
        };
        if now < until {
            return false;
        }
        let counter = self.counter.clone();
        let board = VirtualBoard::new(
            &self.hardware,
            &self.chip,
            counter,
            self.standstill,
            self.starts,
        );
        self.starts += 1;
        let Ok(board) = board else { return false };
        let mut bootloader = Bootloader::new(board);
        let retained = handover.map(|handover| handover.encode());
        let retained = retained.as_ref().map_or(&[][..], |bytes| bytes);
        bootloader.start(now, cause, retained);
        let programming = handover.is_some() && bootloader.state().is_some();
        self.power = Power::On(Box::new(Running {
            bootloader,
            compute_at: None,
            undecided: Some(if programming {
                BootReason::Programming
            } else {
                BootReason::Recovery
            }),
            application: None,
            watchdog_at: None,
        }));
        true
    }

    /// Ends and starts flash operations.
    fn flash(&mut self, now: Instant) -> bool {
        let Power::On(running) = &mut self.power else {
            return false;
        };
        let mut moved = false;
        if let Some(result) = self.chip.poll(now) {
            running.bootloader.on_flash_done(now, result);
            moved = true;
        }
        if let Some(op) = running.bootloader.poll_flash() {
            self.chip.start(now, &op);
            moved = true;
        }
        if self.chip.lost_power() {
            let operation = self.chip.with(|nor| nor.operations()).saturating_sub(1);
            self.events.push_back(Event::PowerCut { operation });
            self.power_cut();
        }
        moved
    }

    fn compute(&mut self, now: Instant) -> bool {
        let slice = self.options.compute_slice;
        let Power::On(running) = &mut self.power else {
            return false;
        };
        if running.compute_at.is_some_and(|at| now < at) {
            return false;
        }
        // On a clock of its own a few slices are a millisecond; frames wait no longer than that.
        let budget = if slice.is_zero() { 16 } else { 1 };
        let more = running.bootloader.poll(now, budget);
        let was_computing = running.compute_at.is_some();
        running.compute_at = more.then_some(now + slice);
        // What the last slice leads to is done now; the next slice has its own time.
        was_computing && !more
    }

    /// What the bootloader wants: events, and replies to the application.
    fn boot_services(&mut self, now: Instant) -> bool {
        let Power::On(running) = &mut self.power else {
            return false;
        };
        let mut moved = false;
        if let Some(reply) = running.bootloader.poll_mailbox()
            && let Some(application) = &mut running.application
        {
            application.handle_message(now, &Message::MailboxReply(reply));
            moved = true;
        }
        match running.bootloader.poll_event() {
            Some(BootEvent::Boot(target)) => {
                self.boot(now, &target);
                return true;
            }
            Some(BootEvent::Reset { handover }) => {
                self.restart(now, ResetCause::Software, handover);
                return true;
            }
            None => {}
        }
        moved
    }

    /// A bootloader with nothing left to do that has started nothing stays.
    fn report_stay(&mut self) {
        let Power::On(running) = &mut self.power else {
            return;
        };
        let idle = running.compute_at.is_none() && self.chip.poll_timeout().is_none();
        if idle && let Some(reason) = running.undecided.take() {
            self.events.push_back(Event::Boot { slot: None, reason });
        }
    }

    /// Starts exactly the bytes of the slot.
    fn boot(&mut self, now: Instant, target: &BootTarget) {
        let mut image = vec![0; target.payload_len as usize];
        // What was verified a moment ago can be read; should it not, it does not start.
        let read = self
            .chip
            .with(|nor| nor.read(target.payload_address(), &mut image));
        if read.is_err() {
            image.clear();
        }
        self.boots += 1;
        self.events.push_back(Event::Boot {
            slot: Some(target.slot),
            reason: target.reason,
        });
        let mut application = self.launcher.launch(now, &image);
        let info = self.hardware.boot_info(target.reason as u8);
        application.handle_message(now, &Message::BootInfo(info));
        if !self.standstill {
            application.handle_message(now, &Message::Standstill(false));
        }
        if let Power::On(running) = &mut self.power {
            running.undecided = None;
            running.application = Some(application);
            running.watchdog_at = Some(now + self.options.watchdog);
        }
    }

    /// Packets of the application.
    fn hear_application(&mut self, now: Instant) -> bool {
        let Power::On(running) = &mut self.power else {
            return false;
        };
        let Some(application) = &mut running.application else {
            return false;
        };
        let classical = self.hardware.connection().format == Format::Classical;
        let mut moved = false;
        while self.outbox.len() < OUTBOX
            && let Some(packet) = application.poll_packet(now)
        {
            moved = true;
            match Message::parse(packet) {
                Some(Message::Frame(frame)) if classical && frame.format() != Format::Classical => {
                    tracing::debug!("the application sent an FD frame to a classical bus");
                }
                Some(Message::Frame(frame)) => self.outbox.push_back(frame),
                Some(Message::MailboxRequest(request)) => {
                    running.bootloader.mailbox_request(now, request);
                    // One message at a time: its reply, or the reset that it asks for, comes first.
                    break;
                }
                Some(Message::Kick) => running.watchdog_at = Some(now + self.options.watchdog),
                _ => tracing::debug!("the application sent a packet that is no message"),
            }
        }
        moved
    }

    /// The end of the application, by itself or by the watchdog.
    fn supervise(&mut self, now: Instant) {
        let Power::On(running) = &mut self.power else {
            return;
        };
        let Some(application) = &mut running.application else {
            return;
        };
        if let Some(exit) = application.poll_exit() {
            self.events.push_back(Event::ApplicationEnded(exit));
            self.restart(now, ResetCause::Crash, None);
        } else if running.watchdog_at.is_some_and(|at| now >= at) {
            self.restart(now, ResetCause::Watchdog, None);
        }
    }

    /// A reset. Frames that were handed to the controller are still sent.
    fn restart(&mut self, now: Instant, cause: ResetCause, handover: Option<Handover>) {
        self.events.push_back(Event::Reset { cause });
        self.chip.forget();
        self.power = Power::Resetting {
            until: now + RESET_TIME,
            cause,
            handover,
        };
    }
}
