//! A timer that keeps to 50 µs, where the runtime's own counts in milliseconds: at 100 Mbit/s a full packet leaves every 120 µs, and what comes in
//! heaps of a millisecond looks like another path to whoever measures rates by it.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::{Errno, read},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

/// One alarm at a time.
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// What it is set to, if it has not rung yet.
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(deprecated, reason = "the way that replaces it is `unsafe`, and an OwnedFd keeps what that asks for")]
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)?, set: None })
    }

    /// Waits until `at`, at once if that is past. Cancel safe.
    pub(super) async fn wait(&mut self, at: Instant) -> io::Result<()> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if self.set != Some(at) {
                let once = Timespec { tv_sec: 0, tv_nsec: 0 };
                let value = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
                timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &Itimerspec { it_interval: once, it_value: value })?;
                self.set = Some(at);
            }
            let mut ready = self.timer.readable().await?;
            match read(self.timer.get_ref(), &mut [0; 8]) {
                Ok(_) => self.set = None,
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
