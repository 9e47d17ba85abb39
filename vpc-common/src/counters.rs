//! Counters, per CPU and slot. Bytes are those of the inner frame; a GSO or GRO frame counts once.

use crate::drop::DROP_REASONS;
use bytemuck::{Pod, Zeroable};

/// One element of the per-CPU `COUNTERS` array. received = forwarded + dropped + answered + punted, for each direction.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Counters {
    /// What the workload sends (slot 0: what no port could be found for).
    pub egress: DirectionCounters,
    /// What the workload is sent (slot 0: tunnel packets that reached no port).
    pub ingress: DirectionCounters,
}

/// Counters of one direction: one cache line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct DirectionCounters {
    /// Frames that arrived.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames sent on. A flooded or fragmented frame counts once.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Frames that the router answered itself: ARP, ND, ICMP.
    pub answered: u64,
    /// Frames handed to the host: not tunnel traffic, or tunnel traffic that goes on through the tunnel device, where
    /// it is received again.
    pub punted: u64,
    /// Frames dropped, all reasons.
    pub dropped: u64,
    /// Zero.
    pub reserved: u64,
}

/// One element of the per-CPU `DROPS` array: by reason.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Drops(pub [u64; DROP_REASONS]);

const _: () = assert!(size_of::<Counters>() == 128 && size_of::<Drops>() == 512);
