//! VTEPs: the nodes of the fabric as the underlay sees them, with ready-made outer headers.

use crate::{Ip, Mac, limits::UNDERLAY_NEXT_HOPS};
use bytemuck::{Pod, Zeroable};

/// One way to a VTEP.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct NextHop {
    /// Index of the uplink.
    pub ifindex: u32,
    /// MAC of the next hop in the underlay, then the uplink's: the first twelve bytes of the outer frame.
    pub destination: Mac,
    /// See `destination`.
    pub source: Mac,
}

/// One element of the `VTEPS` array, by node id. Three cache lines: what sending reads, the next hops, the address.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Vtep {
    /// Largest inner layer-3 packet, bytes: the underlay's MTU less the overhead. The largest number where there is no
    /// next hop: no sender is told a size then.
    pub mtu: u16,
    /// Bytes of outer headers: [`crate::limits::OVERHEAD_V4`] or [`crate::limits::OVERHEAD_V6`]; 0 where unused.
    pub overhead: u16,
    /// How many of `next_hops` can be used; 0: unreachable now.
    pub next_hop_count: u16,
    /// What is copied of the inner TOS: 0xff in the uniform model, 0x03 (ECN only) in the pipe model (RFC 2983).
    pub tos_mask: u16,
    /// Outer IP, UDP and VXLAN headers, 36 or 56 bytes: lengths zero, the IPv4 checksum over them as they stand, TOS
    /// zero, UDP source port zero, VNI zero.
    pub header: [u8; 56],
    /// The first `next_hop_count` are valid; a flow takes number (source port mod count). One that is to take more
    /// flows than another stands here more often.
    pub next_hops: [NextHop; UNDERLAY_NEXT_HOPS],
    /// The VTEP's address.
    pub address: Ip,
    /// Zero.
    pub reserved2: [u32; 12],
}

const _: () = assert!(size_of::<NextHop>() == 16 && size_of::<Vtep>() == 192);

/// Value of the `VTEP_IDS` hash, whose key is an [`Ip`]: the node that has a VTEP address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct VtepId {
    /// Id of the node.
    pub node: u32,
}
