//! BFD control packets (RFC 5880 §4.1), as S-BFD uses them (RFC 7880): one side asks, the other one's reflector answers.

use crate::Be32;
use bytemuck::{Pod, Zeroable};

/// The port of S-BFD reflectors (RFC 7881 §3).
pub const PORT: u16 = 7784;
/// TTL or hop limit of what either side sends (RFC 7881 §4).
pub const TTL: u8 = 255;
/// How often a reflector lets itself be asked by one node at most, µs.
pub const MIN_INTERVAL: u32 = 10_000;

/// The discriminator by which a port is asked for, by its [`crate::port::Port::uid`]. Those of nodes are their ids, and smaller.
#[inline(always)]
pub const fn of_port(uid: u64) -> u32 {
    1 << 31 | uid as u32
}

/// A control packet without authentication.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Control {
    /// Version in the upper three bits, diagnostic in the others.
    pub version_diagnostic: u8,
    /// State in the upper two bits, then [`flags`].
    pub state_flags: u8,
    /// After how many silent intervals the other side counts as gone.
    pub detect_multiplier: u8,
    /// Bytes of the packet.
    pub length: u8,
    /// The sender's.
    pub my_discriminator: Be32,
    /// The receiver's.
    pub your_discriminator: Be32,
    /// Interval in which the sender wants to send, µs.
    pub desired_min_tx: Be32,
    /// Least interval in which it wants to receive, µs.
    pub required_min_rx: Be32,
    /// The same of echo packets, µs; 0: it takes none.
    pub required_min_echo_rx: Be32,
}

/// Bits of [`Control::state_flags`].
pub mod flags {
    /// The sender wants an answer with [`FINAL`].
    pub const POLL: u8 = 1 << 5;
    /// This is that answer.
    pub const FINAL: u8 = 1 << 4;
    /// There is an authentication section.
    pub const AUTHENTICATION: u8 = 1 << 2;
    /// Demand mode: in S-BFD the mark of the side that asks.
    pub const DEMAND: u8 = 1 << 1;
    /// Reserved for multipoint.
    pub const MULTIPOINT: u8 = 1 << 0;
}

/// The state of a session, as its sender says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Out of service for now, by the sender's own will.
    AdminDown = 0,
    /// No answer came.
    Down = 1,
    /// Half-way; S-BFD does not know it.
    Init = 2,
    /// In service.
    Up = 3,
}

impl State {
    /// In the upper two bits of [`Control::state_flags`].
    #[inline(always)]
    pub const fn bits(self) -> u8 {
        (self as u8) << 6
    }
}

impl Control {
    /// Version 1 and no diagnostic: [`Control::version_diagnostic`].
    pub const VERSION_1: u8 = 1 << 5;
    /// [`Control::length`] without authentication.
    pub const LENGTH: u8 = size_of::<Self>() as u8;

    /// Whether the packet breaks no rule of RFC 5880 §6.8.6 that needs no session to be judged by.
    #[inline(always)]
    pub const fn is_sound(&self) -> bool {
        self.version_diagnostic >> 5 == 1
            && self.length == Self::LENGTH
            && self.detect_multiplier != 0
            && self.state_flags & (flags::AUTHENTICATION | flags::MULTIPOINT) == 0
            && self.my_discriminator.raw() != 0
    }

    /// What the sender says of itself.
    #[inline(always)]
    pub const fn state(&self) -> State {
        match self.state_flags >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }
}

const _: () = assert!(size_of::<Control>() == 24);
