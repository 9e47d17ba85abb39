//! The mark that a packet carries through the node's offload device: who sent it.

/// `skb->mark` of a packet on the offload device: a word of ours, then its sender's slot. Within a network namespace
/// a veth passes marks on, from another one it takes them away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u32);

impl Mark {
    /// The upper half.
    const MAGIC: u32 = 0x5650_0000;

    /// For a packet of the port in that slot; [`crate::port::UNDERLAY_SLOT`]: from outside.
    #[inline(always)]
    pub const fn of(slot: u16) -> Self {
        Self(Self::MAGIC | slot as u32)
    }
    /// As the kernel keeps it.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }
    /// The slot of a packet of that mark; none where nobody of ours has marked it.
    #[inline(always)]
    pub const fn slot(bits: u32) -> Option<u16> {
        if bits & 0xffff_0000 == Self::MAGIC { Some(bits as u16) } else { None }
    }
}
