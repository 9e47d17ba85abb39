//! What a node knows of itself.

use crate::Ip;
use bytemuck::{Pod, Zeroable};

/// Bits of [`Node::flags`].
pub mod flags {
    /// DSCP uniform model (RFC 2983 §4.1): copied out on encapsulation and back in on decapsulation. Without it, pipe.
    pub const DSCP_UNIFORM: u32 = 1 << 0;
}

/// The one element of the `NODE` array.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Node {
    /// Own VTEP address: only packets to it are tunnel traffic.
    pub vtep: Ip,
    /// See [`flags`].
    pub flags: u32,
    /// Own node id.
    pub id: u32,
    /// Index of the offload device: see [`crate::offload`]; 0 where there is none.
    pub offload: u32,
    /// Zero.
    pub reserved: [u32; 9],
}

const _: () = assert!(size_of::<Node>() == 64);
