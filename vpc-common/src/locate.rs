//! Where the datapath finds its port: one table from (VNI, MAC) and from interface index to slot.
//!
//! It is an array of buckets that userspace fills, so that a look-up costs an array read and no kernel hash. A key
//! lives in one of two buckets. An entry is written in two steps, `slot` last (as zero, then as its value), and
//! erased the same way round, so that a reader never takes a half-written entry for a whole one.

use crate::{Mac, Vni};
use bytemuck::{Pod, Zeroable};

/// Entries of one bucket: one cache line.
pub const WAYS: usize = 4;
/// Buckets; a power of two. At most an eighth full with [`crate::limits::LOCAL_PORTS`] ports of three keys each.
pub const BUCKETS: u32 = 8_192;

/// What is looked up; in registers only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct LocateKey {
    /// A VNI, [`LocateKey::INTERFACE`] or [`LocateKey::DISCRIMINATOR`].
    pub domain: u32,
    /// 48 bits: [`Mac::to_u64`] in the domain of a VNI, otherwise the interface's index, or the discriminator.
    pub mac: u64,
}

impl LocateKey {
    /// The domain of interface indices; no VNI has it.
    pub const INTERFACE: u32 = 0xff00_0000;
    /// The domain of discriminators: see [`crate::bfd::of_port`].
    pub const DISCRIMINATOR: u32 = 0xff00_0001;

    /// The key of an endpoint of this node.
    #[inline(always)]
    pub const fn endpoint(vni: Vni, mac: Mac) -> Self {
        Self { domain: vni.0, mac: mac.to_u64() }
    }
    /// The key of an interface of this node.
    #[inline(always)]
    pub const fn interface(index: u32) -> Self {
        Self { domain: Self::INTERFACE, mac: index as u64 }
    }
    /// The key of a port of this node that is asked for by that discriminator.
    #[inline(always)]
    pub const fn discriminator(number: u32) -> Self {
        Self { domain: Self::DISCRIMINATOR, mac: number as u64 }
    }
    /// The two buckets that may hold the key.
    #[inline(always)]
    pub const fn buckets(self) -> [u32; 2] {
        let h = (self.mac ^ ((self.domain as u64) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.domain as u64;
        let h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
        [(h >> 48) as u32 & (BUCKETS - 1), (h >> 32) as u32 & (BUCKETS - 1)]
    }
}

/// One way of a bucket. Zero where empty.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct LocateEntry {
    /// See [`LocateKey::domain`].
    pub domain: u32,
    /// Slot of the port, host order; 0 where the entry is empty.
    pub slot: u16,
    /// Upper 16 of the key's 48 bits.
    pub mac_high: u16,
    /// Lower 32 of the key's 48 bits.
    pub mac_low: u32,
    /// Zero.
    pub reserved: u32,
}

impl LocateEntry {
    /// Whether this entry is for that key.
    #[inline(always)]
    pub const fn matches(&self, key: LocateKey) -> bool {
        self.domain == key.domain && (self.mac_low as u64 | (self.mac_high as u64) << 32) == key.mac && self.slot != 0
    }
    /// The entry for a key.
    pub const fn new(key: LocateKey, slot: u16) -> Self {
        Self { domain: key.domain, slot, mac_high: (key.mac >> 32) as u16, mac_low: key.mac as u32, reserved: 0 }
    }
}

/// One element of the `LOCATE` array.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct LocateBucket(pub [LocateEntry; WAYS]);

const _: () = assert!(size_of::<LocateEntry>() == 16 && size_of::<LocateBucket>() == 64);
