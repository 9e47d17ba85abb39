//! Datagrams that come in fragments: what the first fragment says is valid for all of them.

use crate::{Be16, Ip, limits::DATAGRAMS};
use bytemuck::{Pod, Zeroable};

/// One element of the `DATAGRAMS` array: [`DATAGRAMS`] elements for each slot, found by a hash of what identifies the
/// datagram. Another datagram of the same hash takes its place.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Datagram {
    /// Source address.
    pub source: Ip,
    /// Destination address.
    pub destination: Ip,
    /// Identification (RFC 791 §3.1, RFC 8200 §4.5).
    pub id: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Whether the workload of the slot sent it (1) or is sent it (2); 0 where the element is empty.
    pub direction: u8,
    /// Bytes of payload in the first fragment.
    pub first_end: u16,
    /// Source port of the first fragment, or what stands for it.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Zero.
    pub reserved: u32,
    /// When the first fragment came, ns of the monotonic clock.
    pub seen_ns: u64,
    /// Zero.
    pub reserved2: u64,
}

/// The element of a datagram.
#[inline(always)]
pub const fn index(slot: u16, hash: u32) -> u32 {
    slot as u32 * DATAGRAMS + hash % DATAGRAMS
}

const _: () = assert!(size_of::<Datagram>() == 64 && DATAGRAMS.is_power_of_two());
