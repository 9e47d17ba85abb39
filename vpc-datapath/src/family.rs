//! What differs between IPv4 and IPv6, so that everything else is written once.

use crate::{
    Scratch, checksum,
    conntrack::Side,
    packet::Packet,
    scratch::{SessionKeys, flow_flags},
    verdict::Stage,
};
use bytemuck::{Pod, Zeroable};
use vpc_common::{
    Be16, DropReason, Ip,
    session::{SessionKey, V4, V6},
    wire::{Ethernet, Icmp, Ipv4, Ipv6, L4Ports, protocol},
};

/// Offset of the IP header in a frame.
pub const L3: usize = size_of::<Ethernet>();

/// The address of a session's key.
pub trait Address: Copy + Default + PartialEq + Zeroable + AsRef<[u32]> + 'static {
    /// The family.
    type Family: Family<Address = Self>;
}

impl Address for V4 {
    type Family = FamilyV4;
}
impl Address for V6 {
    type Family = FamilyV6;
}

/// IPv4 or IPv6.
pub trait Family: Copy {
    /// The words of an address.
    type Address: Address;
    /// The fixed header.
    type Header: Pod;
    /// Bits of a prefix that the family's own addresses have in common in the form of [`Ip`].
    const MAPPED_BITS: u32;
    /// Offset of the layer-4 header where nothing stands between.
    const L4: usize;
    /// The protocol of its ICMP.
    const ICMP: u8;
    /// ICMP types of echo request and reply.
    const ECHO: (u8, u8);

    /// Checks the header and what follows until the layer-4 header; fills in `flow` up to the addresses.
    fn parse<P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage;
    /// The place for the packet's session key.
    fn key_mut(keys: &mut SessionKeys) -> &mut SessionKey<Self::Address>;
    /// The same, to look at.
    fn key(keys: &SessionKeys) -> &SessionKey<Self::Address>;
    /// An address in the form of the slow path's tables.
    fn ip(address: Self::Address) -> Ip;
    /// The address words at the end of that form.
    fn address(ip: Ip) -> Self::Address;
    /// TTL or hop limit less one.
    fn decrement_ttl(header: &mut Self::Header);
    /// TOS or traffic class.
    fn tos(header: &Self::Header) -> u8;
    /// Sets it.
    fn set_tos(header: &mut Self::Header, tos: u8);
    /// Swaps source and destination and sets a fresh TTL: the way of an answer.
    fn turn_round(header: &mut Self::Header);
    /// Whether an ICMP message of that type is an error, which quotes the packet that it is about.
    fn is_error(icmp_type: u8) -> bool;
    /// Writes the session key of the packet that an ICMP error quotes at `at`; the error was sent by `side`. False: it
    /// belongs to no flow.
    fn quoted<P: Packet>(packet: &P, at: usize, scratch: &mut Scratch, side: Side) -> bool;
    /// Whether such a source may be on a wire at all (RFC 1812 §5.3.7, RFC 4291 §2.5).
    fn is_martian_source(ip: Ip) -> bool;
    /// Whether the router may forward to it.
    fn is_martian_destination(ip: Ip) -> bool;
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct FamilyV4;
/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct FamilyV6;

/// TTL of the packets that the router makes.
pub const OWN_TTL: u8 = 64;

impl Family for FamilyV4 {
    type Address = V4;
    type Header = Ipv4;
    const MAPPED_BITS: u32 = Ip::MAPPED_BITS;
    const L4: usize = L3 + size_of::<Ipv4>();
    const ICMP: u8 = protocol::ICMP;
    const ECHO: (u8, u8) = (8, 0);

    #[inline(always)]
    fn parse<P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
        let l3_available = packet.length() - L3 as u32;
        let h = packet.get::<Ipv4>(L3).ok_or(DropReason::Truncated)?;
        if h.version_ihl != 0x45 {
            let options = h.version_ihl >> 4 == 4 && h.version_ihl & 0x0f > 5;
            return Err(if options { DropReason::IpOptions } else { DropReason::IpHeader }.into());
        }
        let total = h.total_length.get();
        if (total as u32) < size_of::<Ipv4>() as u32 || total as u32 > l3_available {
            return Err(DropReason::IpHeader.into());
        }
        if checksum::ipv4_sum(h) != 0xffff {
            return Err(DropReason::IpChecksum.into());
        }
        if h.ttl == 0 {
            return Err(DropReason::TtlExpired.into());
        }
        let fragment = h.fragment.get();
        let flow = &mut scratch.flow;
        flow.flags = 0;
        if fragment & (Ipv4::MF | Ipv4::OFFSET) != 0 {
            flow.flags = flow_flags::FRAGMENT;
            if fragment & Ipv4::OFFSET == 1 && h.protocol == protocol::TCP {
                return Err(DropReason::BadFragment.into());
            }
            if fragment & Ipv4::OFFSET != 0 {
                flow.flags |= flow_flags::LATER_FRAGMENT;
            }
            flow.fragment_id = h.id.get() as u32;
            flow.fragment_offset = fragment << 3;
            flow.fragment_end = total - size_of::<Ipv4>() as u16;
        }
        if fragment & Ipv4::DF != 0 {
            flow.flags |= flow_flags::DONT_FRAGMENT;
        }
        flow.l4 = Self::L4 as u16;
        flow.protocol = h.protocol;
        flow.ttl = h.ttl;
        flow.tos = h.tos;
        flow.l3_length = total;
        flow.source = Ip::v4(h.source);
        flow.destination = Ip::v4(h.destination);
        Ok(())
    }
    #[inline(always)]
    fn key_mut(keys: &mut SessionKeys) -> &mut SessionKey<V4> {
        &mut keys.v4
    }
    #[inline(always)]
    fn key(keys: &SessionKeys) -> &SessionKey<V4> {
        &keys.v4
    }
    #[inline(always)]
    fn ip(address: V4) -> Ip {
        Ip([0, 0, Ip::MAPPED, address[0]])
    }
    #[inline(always)]
    fn address(ip: Ip) -> V4 {
        [ip.0[3]]
    }
    #[inline(always)]
    fn decrement_ttl(h: &mut Ipv4) {
        let old = u16::from_ne_bytes([h.ttl, h.protocol]);
        h.ttl = h.ttl.wrapping_sub(1);
        h.checksum = checksum::update(h.checksum, old, u16::from_ne_bytes([h.ttl, h.protocol]));
    }
    #[inline(always)]
    fn tos(h: &Ipv4) -> u8 {
        h.tos
    }
    #[inline(always)]
    fn set_tos(h: &mut Ipv4, tos: u8) {
        let old = u16::from_ne_bytes([h.version_ihl, h.tos]);
        h.tos = tos;
        h.checksum = checksum::update(h.checksum, old, u16::from_ne_bytes([h.version_ihl, tos]));
    }
    #[inline(always)]
    fn turn_round(h: &mut Ipv4) {
        (h.source, h.destination) = (h.destination, h.source);
        let old = u16::from_ne_bytes([h.ttl, h.protocol]);
        h.ttl = OWN_TTL;
        h.checksum = checksum::update(h.checksum, old, u16::from_ne_bytes([h.ttl, h.protocol]));
    }
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 3 | 4 | 11 | 12)
    }
    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize, scratch: &mut Scratch, side: Side) -> bool {
        let Some(h) = packet.get_at::<Ipv4>(at) else { return false };
        if h.version_ihl != 0x45 || h.fragment.get() & Ipv4::OFFSET != 0 {
            return false;
        }
        let (protocol, source, destination) = (h.protocol, [h.source.raw()], [h.destination.raw()]);
        let Some(ports) = quoted_ports::<Self, P>(packet, at + size_of::<Ipv4>(), protocol) else { return false };
        *Self::key_mut(&mut scratch.keys) = quoted_key(scratch.flow.slot, protocol, source, destination, ports, side);
        true
    }
    #[inline(always)]
    fn is_martian_source(ip: Ip) -> bool {
        let first = ip.low().0[0];
        first == 0 || first == 127 || first >= 224
    }
    #[inline(always)]
    fn is_martian_destination(ip: Ip) -> bool {
        let [first, second, ..] = ip.low().0;
        first == 0 || first == 127 || first >= 224 || (first == 169 && second == 254)
    }
}

/// Extension headers that are walked before the chain counts as hostile.
const CHAIN: u32 = 6;

impl Family for FamilyV6 {
    type Address = V6;
    type Header = Ipv6;
    const MAPPED_BITS: u32 = 0;
    const L4: usize = L3 + size_of::<Ipv6>();
    const ICMP: u8 = protocol::ICMPV6;
    const ECHO: (u8, u8) = (128, 129);

    #[inline(always)]
    fn parse<P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
        let l3_available = packet.length() - L3 as u32;
        let h = packet.get::<Ipv6>(L3).ok_or(DropReason::Truncated)?;
        let first = h.version_class_flow.get();
        if first >> 28 != 6 {
            return Err(DropReason::IpHeader.into());
        }
        let length = h.payload_length.get() as u32 + size_of::<Ipv6>() as u32;
        if length > l3_available || length > u16::MAX as u32 {
            return Err(DropReason::IpHeader.into());
        }
        if h.hop_limit == 0 {
            return Err(DropReason::TtlExpired.into());
        }
        let flow = &mut scratch.flow;
        flow.flags = flow_flags::DONT_FRAGMENT;
        flow.l4 = Self::L4 as u16;
        flow.protocol = h.next_header;
        flow.ttl = h.hop_limit;
        flow.tos = (first >> 20) as u8;
        flow.l3_length = length as u16;
        flow.source = Ip::from_bytes(h.source);
        flow.destination = Ip::from_bytes(h.destination);
        match h.next_header {
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => Ok(()),
            _ => walk_chain(packet, scratch),
        }
    }
    #[inline(always)]
    fn key_mut(keys: &mut SessionKeys) -> &mut SessionKey<V6> {
        &mut keys.v6
    }
    #[inline(always)]
    fn key(keys: &SessionKeys) -> &SessionKey<V6> {
        &keys.v6
    }
    #[inline(always)]
    fn ip(address: V6) -> Ip {
        Ip(address)
    }
    #[inline(always)]
    fn address(ip: Ip) -> V6 {
        ip.0
    }
    #[inline(always)]
    fn decrement_ttl(h: &mut Ipv6) {
        h.hop_limit = h.hop_limit.wrapping_sub(1);
    }
    #[inline(always)]
    fn tos(h: &Ipv6) -> u8 {
        (h.version_class_flow.get() >> 20) as u8
    }
    #[inline(always)]
    fn set_tos(h: &mut Ipv6, tos: u8) {
        let word = h.version_class_flow.get() & !0x0ff0_0000 | (tos as u32) << 20;
        h.version_class_flow = vpc_common::Be32::new(word);
    }
    #[inline(always)]
    fn turn_round(h: &mut Ipv6) {
        (h.source, h.destination) = (h.destination, h.source);
        h.hop_limit = OWN_TTL;
    }
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 1..=4)
    }
    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize, scratch: &mut Scratch, side: Side) -> bool {
        let Some(h) = packet.get_at::<Ipv6>(at) else { return false };
        let protocol = h.next_header;
        let (source, destination) = (Ip::from_bytes(h.source).0, Ip::from_bytes(h.destination).0);
        let Some(ports) = quoted_ports::<Self, P>(packet, at + size_of::<Ipv6>(), protocol) else { return false };
        *Self::key_mut(&mut scratch.keys) = quoted_key(scratch.flow.slot, protocol, source, destination, ports, side);
        true
    }
    #[inline(always)]
    fn is_martian_source(ip: Ip) -> bool {
        let low = ip.0[3].to_be();
        let zero = ip.0[0] == 0 && ip.0[1] == 0;
        (zero && ip.0[2] == 0 && low <= 1) || (zero && ip.0[2] == Ip::MAPPED) || ip.bytes()[0] == 0xff
    }
    #[inline(always)]
    fn is_martian_destination(ip: Ip) -> bool {
        let link_local = ip.0[0].to_be() >> 22 == 0xfe80 >> 6;
        Self::is_martian_source(ip) || link_local
    }
}

/// Walks the extension headers to the layer-4 header (RFC 8200 §4).
#[inline(never)]
fn walk_chain<P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
    packet.pull(crate::packet::REACH as u32 + 1);
    let flow = &mut scratch.flow;
    let mut next = flow.protocol;
    let mut at = flow.l4 as usize;
    let end = L3 + flow.l3_length as usize;
    let mut round = 0;
    while round < CHAIN {
        round += 1;
        let options = match next {
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => true,
            protocol::FRAGMENT => false,
            protocol::ROUTING => return Err(DropReason::IpOptions.into()),
            protocol::AH => return Err(DropReason::IpHeader.into()),
            _ => {
                flow.protocol = next;
                flow.l4 = at as u16;
                return Ok(());
            }
        };
        if at + 8 > end || at > 0x180 {
            return Err(DropReason::IpHeader.into());
        }
        let h = packet.get_at::<[u8; 8]>(at).ok_or(DropReason::Truncated)?;
        let (following, length) = (h[0], h[1]);
        if options {
            at += (length as usize + 1) * 8;
        } else {
            let offset = Be16([h[2], h[3]]).get();
            at += 8;
            flow.fragment_id = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
            flow.fragment_offset = offset & 0xfff8;
            flow.fragment_end = end.wrapping_sub(at) as u16;
            if flow.flags & flow_flags::FRAGMENT_HEADER != 0 {
                return Err(DropReason::BadFragment.into());
            }
            flow.flags |= flow_flags::FRAGMENT_HEADER;
            if offset & 0xfff9 != 0 {
                flow.flags |= flow_flags::FRAGMENT;
            }
            if offset & 0xfff8 != 0 {
                if offset >> 3 == 1 && following == protocol::TCP {
                    return Err(DropReason::BadFragment.into());
                }
                // What follows is payload: the chain was in the first fragment (RFC 7112).
                flow.flags |= flow_flags::LATER_FRAGMENT;
                flow.protocol = following;
                flow.l4 = at as u16;
                return Ok(());
            }
        }
        next = following;
    }
    Err(DropReason::IpHeader.into())
}

/// Ports of a quoted packet, source first, as a session's key has them.
#[inline(always)]
pub fn quoted_ports<F: Family, P: Packet>(packet: &P, at: usize, protocol: u8) -> Option<L4Ports> {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => packet.get_at::<L4Ports>(at).copied(),
        p if p == F::ICMP => {
            let echo = packet.get_at::<Icmp>(at)?;
            if echo.kind == F::ECHO.0 {
                Some(L4Ports { source: echo.id, destination: Be16::default() })
            } else if echo.kind == F::ECHO.1 {
                Some(L4Ports { source: Be16::default(), destination: echo.id })
            } else {
                None
            }
        }
        _ => Some(L4Ports::default()),
    }
}

/// The key of a quoted packet. An error that the peer sends is about what the guest sent, and the other way round.
#[inline(always)]
fn quoted_key<A>(slot: u16, protocol: u8, source: A, destination: A, ports: L4Ports, side: Side) -> SessionKey<A> {
    let (local, remote, local_port, remote_port) = match side {
        Side::Peer => (source, destination, ports.source, ports.destination),
        Side::Guest => (destination, source, ports.destination, ports.source),
    };
    SessionKey { slot, protocol, reserved: 0, local_port, remote_port, local, remote }
}
