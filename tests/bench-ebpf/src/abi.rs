//! What the benchmark and its kernel programs agree on.

use bytemuck::{Pod, Zeroable};

/// Largest number of flows, and of entries of the forwarder's tables.
pub const FLOWS: u32 = 1 << 20;
/// Largest number of pairs of addresses.
pub const PAIRS: u32 = 1 << 16;
/// UDP port at which the sink counts.
pub const SINK_PORT: u16 = 5_001;
/// An interface index that no interface has: what is redirected there is freed at once.
pub const NOWHERE: u32 = 0x7fff_fffe;
/// Bytes of the headers before the inner frame.
pub const OVERHEAD: usize = 50;

/// One flow: what differs from frame to frame. Small, since the list of them passes through the caches that sessions lie in.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Flow {
    /// Number of its [`Ends`].
    pub ends: u32,
    /// Source and destination port, network order.
    pub ports: u32,
}

/// Who speaks to whom. Addresses as four words in network order; IPv4 uses the first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable, Default)]
pub struct Ends {
    /// Source of the inner packet.
    pub source: [u32; 4],
    /// Its destination.
    pub destination: [u32; 4],
    /// IPv4 header checksum, network order; else zero.
    pub checksum: u32,
}

/// Values of [`Frame::shape`].
pub mod shape {
    /// Inner IPv6, else IPv4.
    pub const V6: u32 = 1 << 0;
    /// Behind [`super::OVERHEAD`] bytes of outer headers.
    pub const TUNNELLED: u32 = 1 << 1;
}

/// The frame that is made anew for each packet.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Frame {
    /// How many flows are taken in turn.
    pub flows: u32,
    /// See [`shape`].
    pub shape: u32,
    /// Length of the frame, bytes.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
    /// The headers; the payload is left as it is.
    pub headers: [u64; HEADER_WORDS],
}

/// Words of [`Frame::headers`].
pub const HEADER_WORDS: usize = 14;

/// What the forwarder knows of a flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct NextHop {
    /// Destination and source MAC.
    pub macs: [u32; 3],
    /// Interface to send out of.
    pub ifindex: u32,
}

const _: () = assert!(
    size_of::<Flow>() == 8 && size_of::<Ends>() == 36 && size_of::<Frame>() == 128 && size_of::<NextHop>() == 16
);
