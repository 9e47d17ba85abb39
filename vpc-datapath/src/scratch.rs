//! Per-CPU scratch: what a packet's way through the pipeline needs beyond the 512 bytes of an eBPF stack.

use bytemuck::{Pod, Zeroable};

/// Scratch of one CPU. Valid for one packet.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Scratch {
    /// Zero.
    pub reserved: [u64; 32],
}
