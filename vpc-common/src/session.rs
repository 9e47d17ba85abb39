//! Sessions: the decisions taken for a flow, keyed by the guest's own view.

use crate::{Be16, Mac, Vni};
use bytemuck::{Pod, Zeroable};

/// An IPv4 address as one word, network order as the CPU loads it.
pub type V4 = [u32; 1];
/// An IPv6 address as four words, network order as the CPU loads them.
pub type V6 = [u32; 4];

/// Key of `SESSIONS_V4` and `SESSIONS_V6`. Local is the guest. Ports are zero for fragments and for protocols without
/// them; for ICMP echo both are the identifier.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
pub struct SessionKey<A> {
    /// Slot of the port, host order.
    pub slot: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// The guest's port.
    pub local_port: Be16,
    /// The peer's port.
    pub remote_port: Be16,
    /// The guest's address.
    pub local: A,
    /// The peer's address.
    pub remote: A,
}

// SAFETY: repr(C) of plain words and bytes without padding for both address types: the sizes are asserted below.
unsafe impl Pod for SessionKey<V4> {}
// SAFETY: as above.
unsafe impl Pod for SessionKey<V6> {}
// SAFETY: all fields are plain numbers, for which zero is valid.
unsafe impl<A: Zeroable> Zeroable for SessionKey<A> {}

/// The monotonic clock in ns, shifted right by this, is the tick in which sessions tell time: 2.1 s.
pub const TICK_SHIFT: u32 = 31;

/// Bits of [`Session::decided`].
pub mod decided {
    /// [`super::Session::egress`] holds a decision.
    pub const EGRESS: u8 = 1 << 0;
    /// Delivery to the guest from [`super::Session::ingress_vtep`] is allowed.
    pub const INGRESS: u8 = 1 << 1;
}

/// Values of [`Hop::action`].
pub mod action {
    /// Encapsulate to the VTEP `target`.
    pub const TUNNEL: u8 = 1;
    /// Hand to the local port `target`.
    pub const LOCAL: u8 = 2;
}

/// Bits of [`Hop::flags`].
pub mod hop_flags {
    /// The router forwards: TTL less one, the router's MAC as source.
    pub const ROUTED: u8 = 1 << 0;
}

/// What happens to a packet that leaves the guest.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Hop {
    /// Destination MAC of the frame that leaves.
    pub destination: Mac,
    /// VTEP index or local slot.
    pub target: u16,
    /// VNI to send in.
    pub vni: Vni,
    /// See [`action`].
    pub action: u8,
    /// See [`hop_flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
}

/// Packets and bytes of one direction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct FlowCounter {
    /// Frames; one of GSO or GRO counts once.
    pub packets: u64,
    /// Bytes of inner frames.
    pub bytes: u64,
}

/// One flow of one port. One cache line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Session {
    /// [`crate::port::Port::epoch`] under which it was decided.
    pub epoch: u32,
    /// When it last saw a packet, in units of 2^30 ns of the monotonic clock.
    pub last_seen: u32,
    /// See [`decided`].
    pub decided: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Node id of the VTEP that the flow's packets come from.
    pub ingress_vtep: u16,
    /// Outer UDP source port, by the hash of the flow.
    pub source_port: Be16,
    /// What happens to what the guest sends.
    pub egress: Hop,
    /// What the guest sent.
    pub sent: FlowCounter,
    /// What the guest was sent.
    pub received: FlowCounter,
}

const _: () = {
    assert!(size_of::<SessionKey<V4>>() == 16 && size_of::<SessionKey<V6>>() == 40);
    assert!(size_of::<Hop>() == 16 && size_of::<Session>() == 64);
};
