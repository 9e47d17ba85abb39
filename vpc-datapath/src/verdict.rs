//! How a packet's way ends.

use core::num::NonZeroU64;
use vpc_common::DropReason;

/// The end of a packet's way, in one register: what to do, and with what.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict(NonZeroU64);

/// What a stage returns: what the next stage needs, or the end.
pub type Stage<T = ()> = Result<T, Verdict>;

/// A verdict, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Drop and count.
    Drop(DropReason),
    /// Send out of the interface of that index.
    Transmit(u32),
    /// Hand to the workload in that slot.
    Deliver(u16),
    /// The packet has become its own answer: back to the port that it came from.
    Answer,
    /// Leave it to the host's stack.
    Punt,
    /// Copies were sent, nothing is left to do.
    Replicated,
    /// Send out of the offload device, whose index that is. The packet comes back and is counted then.
    Offload(u32),
}

impl Verdict {
    const DROP: u64 = 1;
    const TRANSMIT: u64 = 2;
    const DELIVER: u64 = 3;
    const ANSWER: u64 = 4;
    const PUNT: u64 = 5;
    const REPLICATED: u64 = 6;
    const OFFLOAD: u64 = 7;

    #[inline(always)]
    const fn new(kind: u64, argument: u32) -> Self {
        match NonZeroU64::new(kind | (argument as u64) << 32) {
            Some(v) => Self(v),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// See [`End::Drop`].
    #[inline(always)]
    pub const fn drop(reason: DropReason) -> Self {
        Self::new(Self::DROP, reason as u32)
    }
    /// See [`End::Transmit`].
    #[inline(always)]
    pub const fn transmit(ifindex: u32) -> Self {
        Self::new(Self::TRANSMIT, ifindex)
    }
    /// See [`End::Deliver`].
    #[inline(always)]
    pub const fn deliver(slot: u16) -> Self {
        Self::new(Self::DELIVER, slot as u32)
    }
    /// See [`End::Answer`].
    #[inline(always)]
    pub const fn answer() -> Self {
        Self::new(Self::ANSWER, 0)
    }
    /// See [`End::Punt`].
    #[inline(always)]
    pub const fn punt() -> Self {
        Self::new(Self::PUNT, 0)
    }
    /// See [`End::Replicated`].
    #[inline(always)]
    pub const fn replicated() -> Self {
        Self::new(Self::REPLICATED, 0)
    }
    /// See [`End::Offload`].
    #[inline(always)]
    pub const fn offload(ifindex: u32) -> Self {
        Self::new(Self::OFFLOAD, ifindex)
    }
    /// What to do.
    #[inline(always)]
    pub const fn kind(self) -> u32 {
        self.0.get() as u32
    }
    /// Reason, interface index or slot.
    #[inline(always)]
    pub const fn argument(self) -> u32 {
        (self.0.get() >> 32) as u32
    }
    /// The bits, to pass through a function of the kernel's calling convention; never 0.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0.get()
    }
    /// From [`Verdict::bits`]; 0 is no verdict.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// Taken apart.
    #[inline(always)]
    pub fn end(self) -> End {
        let argument = self.argument();
        match self.0.get() as u32 as u64 {
            Self::TRANSMIT => End::Transmit(argument),
            Self::DELIVER => End::Deliver(argument as u16),
            Self::ANSWER => End::Answer,
            Self::PUNT => End::Punt,
            Self::REPLICATED => End::Replicated,
            Self::OFFLOAD => End::Offload(argument),
            _ => End::Drop(DropReason::from_number(argument as u8).unwrap_or(DropReason::Truncated)),
        }
    }
}

impl From<DropReason> for Verdict {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        Self::drop(reason)
    }
}
