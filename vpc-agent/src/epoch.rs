//! Epochs: a session that was decided under another epoch than its port's is decided again.

use std::time::Duration;

/// Gives out epochs that never repeat while this machine is up, over restarts of the agent as well.
#[derive(Debug)]
pub struct EpochClock {
    last: u32,
}

impl EpochClock {
    /// A clock that goes on after the highest epoch in use.
    pub fn after(last: u32) -> Self {
        Self { last }
    }

    /// The next epoch: the time since boot in sixteenths of a second, so that an epoch from before a restart is never
    /// given out again even if the port that had it is gone; or one more than the last where changes are faster.
    pub fn next(&mut self, since_boot: Duration) -> u32 {
        let time = u32::try_from(since_boot.as_millis() * 16 / 1_000).unwrap_or(u32::MAX);
        self.last = self.last.wrapping_add(1).max(time).max(1);
        self.last
    }
}

/// Time since boot, suspended time included. Steps of the wall clock do not move it.
pub fn since_boot() -> Duration {
    clock(nix::time::ClockId::CLOCK_BOOTTIME)
}

/// The monotonic clock, which the datapath reads too.
pub fn monotonic() -> Duration {
    clock(nix::time::ClockId::CLOCK_MONOTONIC)
}

fn clock(id: nix::time::ClockId) -> Duration {
    // These clocks exist in every kernel that loads our programs.
    nix::time::clock_gettime(id).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::EpochClock;
    use std::time::Duration;

    #[test]
    fn epochs_follow_the_clock_and_never_repeat() {
        let mut clock = EpochClock::after(0);
        assert_eq!(clock.next(Duration::from_millis(0)), 1);
        assert_eq!(clock.next(Duration::from_secs(1)), 16);
        assert_eq!(clock.next(Duration::from_secs(1)), 17);
        assert_eq!(EpochClock::after(100).next(Duration::from_secs(1)), 101);
    }

    #[test]
    fn zero_is_never_an_epoch() {
        assert_eq!(EpochClock::after(u32::MAX).next(Duration::ZERO), 1);
    }
}
