//! Datagrams that come in fragments: what the first fragment says is valid for all of them.

use crate::{
    Be16, Ip,
    limits::{DATAGRAMS, VPC_DATAGRAMS, VPCS},
};
use bytemuck::{Pod, Zeroable};
use core::ops::Range;

/// One element of the `DATAGRAMS` array: [`VPC_DATAGRAMS`] elements for the external addresses of each VPC, then
/// [`DATAGRAMS`] for each slot, found by a hash of what identifies the datagram. Another datagram of the same hash takes
/// its place, so nobody is given elements of two tenants.
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

/// Whose elements a datagram is followed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    first: u32,
    count: u32,
}

impl Share {
    /// Those of a port.
    #[inline(always)]
    pub const fn of_port(slot: u16) -> Self {
        Self { first: VPCS * VPC_DATAGRAMS + slot as u32 * DATAGRAMS, count: DATAGRAMS }
    }
    /// Those of the external addresses of a VPC: see [`crate::nat::External::vpc_number`].
    #[inline(always)]
    pub const fn of_vpc(number: u32) -> Self {
        Self { first: number % VPCS * VPC_DATAGRAMS, count: VPC_DATAGRAMS }
    }
    /// All of them.
    pub const fn elements(self) -> Range<u32> {
        self.first..self.first + self.count
    }
    /// The element of a datagram.
    #[inline(always)]
    pub const fn index(self, hash: u32) -> u32 {
        self.first + hash % self.count
    }
}

/// Elements of the array on a node with so many slots.
pub const fn elements(slots: u32) -> u32 {
    VPCS * VPC_DATAGRAMS + slots * DATAGRAMS
}

const _: () = assert!(size_of::<Datagram>() == 64 && DATAGRAMS.is_power_of_two() && VPC_DATAGRAMS.is_power_of_two());
