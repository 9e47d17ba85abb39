//! Sessions: the decisions taken for a flow, keyed by the guest's own view.

use crate::{Be16, Be32, Mac, Vni};
use bytemuck::{Pod, Zeroable};

/// An IPv4 address as one word, network order as the CPU loads it.
pub type V4 = [u32; 1];
/// An IPv6 address as four words, network order as the CPU loads them.
pub type V6 = [u32; 4];

/// Key of `SESSIONS_V4` and `SESSIONS_V6`. Local is the guest. Ports are zero for protocols without
/// them; for ICMP echo the one who asks has the identifier, the other one zero: who asks may be answered, not asked.
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

/// Slot, protocol and ports of a [`SessionKey`] in a register.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Head(u64);

impl<A: AsRef<[u32]>> SessionKey<A> {
    /// Makes it another flow's. Slot, protocol and ports are one word, which goes to memory and
    /// into the hash: a load that spans several stores waits until these have reached the cache.
    #[inline(always)]
    pub fn set(&mut self, slot: u16, protocol: u8, local: (A, Be16), remote: (A, Be16)) -> Head {
        let ports = local.1.raw() as u64 | (remote.1.raw() as u64) << 16;
        let head = Head(slot as u64 | (protocol as u64) << 16 | ports << 32);
        // SAFETY: repr(C) and align(4): slot, protocol, the zero and the ports are the first eight bytes, the
        // lowest first.
        unsafe { core::ptr::from_mut(self).cast::<u64>().write_unaligned(head.0) };
        (self.local, self.remote) = (local.0, remote.0);
        head
    }

    /// What [`Self::set`] returned.
    #[inline(always)]
    fn head(&self) -> Head {
        // SAFETY: as above.
        Head(unsafe { core::ptr::from_ref(self).cast::<u64>().read_unaligned() })
    }

    /// [`Session::seal`] of this flow under an epoch: another one under any other epoch, and of any other flow except one in
    /// 2^32. The high half of a multilinear hash of the key's words (Carter and Wegman 1979) with the epoch.
    #[inline(always)]
    pub fn seal(&self, epoch: u32) -> u32 {
        self.seal_by(self.head(), epoch)
    }

    /// The same with what [`Self::set`] returned.
    #[inline(always)]
    pub fn seal_by(&self, head: Head, epoch: u32) -> u32 {
        const FACTORS: [[u64; 2]; 4] = [
            [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb],
            [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53],
            [0x8764_21b1_9f3f_0d2b, 0xd6e8_feb8_6659_fd93],
            [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db],
        ];
        let (ends, ports) = (head.0 as u32 as u64, head.0 >> 32);
        let mut sum = ends.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(ports.wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
        for ((local, remote), factors) in self.local.as_ref().iter().zip(self.remote.as_ref()).zip(FACTORS) {
            sum = sum.wrapping_add((*local as u64).wrapping_mul(factors[0]));
            sum = sum.wrapping_add((*remote as u64).wrapping_mul(factors[1]));
        }
        (sum >> 32) as u32 ^ epoch
    }
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
    /// [`super::Session::hop`] is decided.
    pub const EGRESS: u8 = 1 << 0;
    /// Delivery to the guest from [`super::Session::ingress_vtep`] is allowed.
    pub const INGRESS: u8 = 1 << 1;
    /// The workload opened the flow; otherwise its peer did.
    pub const OPENED_HERE: u8 = 1 << 2;
    /// The group that allowed the flow lets it live when the rule goes.
    pub const KEEP: u8 = 1 << 3;
    /// The guest has sent FIN.
    pub const GUEST_FIN: u8 = 1 << 4;
    /// Its peer has.
    pub const PEER_FIN: u8 = 1 << 5;
    /// An external address stands for the guest's: see [`super::Session::external`].
    pub const EXTERNAL: u8 = 1 << 6;
}

/// Values of [`Session::state`]. TCP goes from left to right; the rest knows two.
pub mod state {
    /// TCP: a SYN of the side that opens (RFC 9293 §3.3.2: SYN-SENT).
    pub const OPENING: u8 = 1;
    /// TCP: the other side has answered with SYN and ACK.
    pub const ANSWERED: u8 = 2;
    /// TCP: both sides have spoken.
    pub const ESTABLISHED: u8 = 3;
    /// TCP: one side has sent FIN.
    pub const CLOSING: u8 = 4;
    /// TCP: both sides have, or an RST was believed. A SYN opens the flow anew.
    pub const CLOSED: u8 = 5;
    /// Everything else: one side has spoken.
    pub const ONE_WAY: u8 = 8;
    /// Everything else: both have.
    pub const TWO_WAY: u8 = 9;
}

/// Where a packet goes that leaves the guest, in one word: what to do, with which flags, and the VNI.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Way(pub u32);

impl Way {
    /// Encapsulate to the VTEP [`Hop::target`].
    pub const TUNNEL: Self = Self(1 << 24);
    /// Hand to the local port [`Hop::target`].
    pub const LOCAL: Self = Self(2 << 24);
    /// Out of this node's external interface, or with [`Way::HAIRPIN`] to a port of this node by its external address.
    pub const EXTERNAL: Self = Self(3 << 24);
    /// First through the offload device, as packets of the flow before: with one of the others, which it hides.
    pub const OFFLOAD: Self = Self(8 << 24);
    /// An external address takes the place of the guest's: [`Session::external`].
    pub const TRANSLATED: Self = Self(1 << 29);
    /// To an external address of the fabric: its owner counts the TTL down.
    pub const HAIRPIN: Self = Self(1 << 30);
    /// The router forwards: TTL less one, the router's MAC as source.
    pub const ROUTED: Self = Self(1 << 31);
    const ACTION: u32 = 0x0f << 24;

    /// Both.
    #[inline(always)]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// In that network.
    #[inline(always)]
    pub const fn in_network(self, vni: Vni) -> Self {
        Self(self.0 | vni.0)
    }
    /// The network to send in.
    #[inline(always)]
    pub const fn vni(self) -> Vni {
        Vni(self.0 & Vni::MAX)
    }
    /// Whether the packet leaves by the tunnel.
    #[inline(always)]
    pub const fn is_tunnel(self) -> bool {
        self.0 & Self::ACTION == Self::TUNNEL.0
    }
    /// Whether it stays on the node.
    #[inline(always)]
    pub const fn is_local(self) -> bool {
        self.0 & Self::ACTION == Self::LOCAL.0
    }
    /// Whether it leaves by [`Way::EXTERNAL`].
    #[inline(always)]
    pub const fn is_external(self) -> bool {
        self.0 & Self::ACTION == Self::EXTERNAL.0
    }
    /// See [`Way::OFFLOAD`].
    #[inline(always)]
    pub const fn is_offload(self) -> bool {
        self.0 & Self::OFFLOAD.0 != 0
    }
    /// The way behind the offload device.
    #[inline(always)]
    pub const fn behind_offload(self) -> Self {
        Self(self.0 & !Self::OFFLOAD.0)
    }
    /// See [`Way::TRANSLATED`].
    #[inline(always)]
    pub const fn is_translated(self) -> bool {
        self.0 & Self::TRANSLATED.0 != 0
    }
    /// See [`Way::HAIRPIN`].
    #[inline(always)]
    pub const fn is_hairpin(self) -> bool {
        self.0 & Self::HAIRPIN.0 != 0
    }
    /// Whether the router forwards it.
    #[inline(always)]
    pub const fn is_routed(self) -> bool {
        self.0 & Self::ROUTED.0 != 0
    }
}

/// What happens to a packet that leaves the guest.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Hop {
    /// Destination MAC of the frame that leaves.
    pub destination: Mac,
    /// VTEP index or local slot.
    pub target: u16,
    /// What is done.
    pub way: Way,
}

/// One flow of one port: a cache line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Session {
    /// [`SessionKey::seal`] with the [`crate::port::Port::epoch`] under which it was decided. A kernel hash gives the element
    /// of a session that is removed to the next one at once, also under the eyes of a program that has found it a moment
    /// before: the seal says whose it is.
    pub seal: u32,
    /// When it last saw a packet, in ticks: see [`TICK_SHIFT`]. It wraps after 39 hours, so no timer is longer than half.
    pub last_seen: u16,
    /// See [`decided`].
    pub decided: u8,
    /// See [`state`].
    pub state: u8,
    /// What happens to what the guest sends.
    pub way: Way,
    /// The destination MAC of what the guest sends, or where [`decided::EXTERNAL`] is set the external address and port that
    /// stand for the guest's: what they stand for goes to the router's MAC. See [`Session::hop`] and [`Session::external`].
    pub end: Mac,
    /// VTEP index or local slot of what the guest sends.
    pub target: u16,
    /// Node id of the VTEP that the flow's packets come from.
    pub ingress_vtep: u16,
    /// Outer UDP source port, by the hash of the flow. A flow that stays on the node has none: instead the tick of
    /// `vouched_epoch`.
    pub source_port: Be16,
    /// TCP: the sequence number that the guest expects next, by its last ACK; host order.
    pub guest_expects: u32,
    /// TCP: the same of its peer.
    pub peer_expects: u32,
    /// Frames that the guest sent; one of GSO counts once. Wraps.
    pub sent_packets: u32,
    /// Frames that the guest was sent; one of GRO counts once. Wraps.
    pub received_packets: u32,
    /// Bytes of inner frames that the guest sent.
    pub sent_bytes: u64,
    /// Bytes of inner frames that the guest was sent.
    pub received_bytes: u64,
    /// Rule that allowed the flow: see [`crate::policy::RuleVerdict::rule`].
    pub rule: u32,
    /// Tick in which the flow was opened.
    pub opened: u16,
    /// Of a flow that stays on the node: the low half of the other port's epoch under which its session has let data pass.
    /// Half is enough, since it counts within a tick.
    pub vouched_epoch: u16,
}

impl Session {
    /// What happens to what the guest sends, and where it goes.
    #[inline(always)]
    pub const fn hop(&self) -> Hop {
        let destination = if self.decided & decided::EXTERNAL == 0 { self.end } else { Mac::ROUTER };
        Hop { destination, target: self.target, way: self.way }
    }
    /// Decides that. No external address stands for the guest's then.
    #[inline(always)]
    pub const fn set_hop(&mut self, hop: &Hop) {
        self.decided &= !decided::EXTERNAL;
        (self.end, self.target, self.way) = (hop.destination, hop.target, hop.way);
    }
    /// External address and port that stand for the guest's; zero where none does.
    #[inline(always)]
    pub const fn external(&self) -> (V4, Be16) {
        if self.decided & decided::EXTERNAL == 0 {
            return ([0], Be16::from_raw(0));
        }
        let (address, port) = self.end.words();
        ([address.raw()], port)
    }
    /// Lets an external address and port stand for the guest's; zero: none.
    #[inline(always)]
    pub const fn set_external(&mut self, address: V4, port: Be16) {
        if address[0] != 0 {
            self.decided |= decided::EXTERNAL;
            self.end = Mac::from_words(Be32::from_raw(address[0]), port);
        } else if self.decided & decided::EXTERNAL != 0 {
            self.decided &= !decided::EXTERNAL;
            self.end = Mac::ROUTER;
        }
    }
}

// A preallocated kernel hash puts 48 bytes before the key (Linux 6.18): with them a session of IPv4 takes two whole cache
// lines, of which the second one is its value.
const _: () = {
    // BPF is as its machine is; `Head` counts on the order of bytes.
    assert!(cfg!(target_endian = "little"));
    assert!(size_of::<SessionKey<V4>>() == 16 && size_of::<SessionKey<V6>>() == 40);
    assert!(size_of::<Hop>() == 12 && size_of::<Session>() == 64);
};

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_key_is_set_whole() {
        let (local_port, remote_port) = (Be16::new(0x0102), Be16::new(0x0304));
        let whole =
            SessionKey { slot: 0x0506, protocol: 17, reserved: 0, local_port, remote_port, local: [7], remote: [8] };
        let mut key = SessionKey { reserved: 9, ..SessionKey::<V4>::default() };
        let head = key.set(0x0506, 17, ([7], local_port), ([8], remote_port));
        assert_eq!(key, whole);
        assert_eq!(key.seal_by(head, 3), whole.seal(3));
    }

    #[test]
    fn a_seal_is_of_one_flow_and_one_epoch() {
        let mut seals = BTreeSet::new();
        let mut add = |key: &SessionKey<V6>| seals.insert(key.seal(7));
        let mut count = 0;
        for bit in 0..32 {
            let one = 1_u32 << bit;
            for word in 0..4 {
                for (local, remote) in [(one, 0), (0, one), (one, one)] {
                    let mut key = SessionKey::<V6>::default();
                    (key.local[word], key.remote[word]) = (local, remote);
                    count += usize::from(add(&key));
                }
            }
            let (slot, port) = (one as u16, Be16::from_raw(one as u16));
            if slot != 0 {
                count += usize::from(add(&SessionKey { slot, ..SessionKey::default() }));
                count += usize::from(add(&SessionKey { local_port: port, ..SessionKey::default() }));
                count += usize::from(add(&SessionKey { remote_port: port, ..SessionKey::default() }));
            }
        }
        for protocol in 0..=u8::MAX {
            count += usize::from(add(&SessionKey { protocol, ..SessionKey::default() }));
        }
        assert_eq!(count, 32 * 12 + 16 * 3 + 256, "all differ");
        let key = SessionKey::<V4> { slot: 1, protocol: 6, local: [1], remote: [2], ..SessionKey::default() };
        assert_ne!(key.seal(7), SessionKey { local: [2], remote: [1], ..key }.seal(7), "direction matters");
        assert_ne!(key.seal(7), key.seal(8));
    }
}
