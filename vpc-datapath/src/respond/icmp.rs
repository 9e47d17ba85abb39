//! ICMP (RFC 792, RFC 1812 §4.3, RFC 4443): the router's echo, and errors about what it cannot forward.

use super::Trouble;
use crate::{
    Packet, Scratch, Stage, Tables, Verdict, checksum, decide,
    family::{Family, FamilyV4, FamilyV6, L3, OWN_TTL},
    scratch::flow_flags,
    token::{self, Token},
};
use vpc_common::{
    Be16, Be32, DropReason, Ip, Mac,
    limits::ICMP_RATE,
    port::Port,
    wire::{Ethernet, Icmp, Ipv4, Ipv6, ether_type, protocol},
};

/// Original bytes in an error: 576 in all over IPv4 (RFC 1812 §4.3.2.3), 1280 over IPv6 (RFC 4443 §3.1).
const QUOTE_V4: u16 = 576 - 28;
const QUOTE_V6: u16 = 1280 - 48;
/// Internetwork control (RFC 1812 §4.3.2.5).
const ERROR_TOS: u8 = 0xc0;

/// A packet to an address of the router: an echo request is answered, UDP is refused, the rest is dropped (always `Err`).
#[inline(never)]
pub fn to_router<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Stage {
    let flow = &scratch.flow;
    if flow.protocol == protocol::UDP && flow.flags & flow_flags::FRAGMENT == 0 {
        return error::<F, P, T>(packet, tables, scratch, port, Trouble::PortUnreachable);
    }
    let echo = flow.protocol == F::ICMP && flow.flags & flow_flags::FRAGMENT == 0 && flow.icmp_type == F::ECHO.0;
    if !echo {
        return Err(DropReason::RouterService.into());
    }
    allowance(tables, flow.slot)?;
    F::turn_round(packet.get_mut(L3).ok_or(DropReason::Truncated)?);
    let icmp = packet.get_at_mut::<Icmp>(flow.l4 as usize).ok_or(DropReason::Truncated)?;
    let old = u16::from_ne_bytes([icmp.kind, icmp.code]);
    icmp.kind = F::ECHO.1;
    icmp.checksum = checksum::update(icmp.checksum, old, u16::from_ne_bytes([icmp.kind, icmp.code]));
    turn::<P>(packet, scratch, scratch.flow.ethernet.ether_type)?;
    Err(Verdict::answer())
}

/// Turns the packet into an ICMP error about itself, or drops it where none may be sent (always `Err`).
#[inline(always)]
pub fn error<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    trouble: Trouble,
) -> Stage {
    let reason = decide::trouble_reason(trouble);
    if !may_be_answered::<F>(scratch) {
        return Err(reason.into());
    }
    allowance(tables, scratch.flow.slot)?;
    if F::ICMP == FamilyV4::ICMP {
        error_v4(packet, scratch, port, trouble)
    } else {
        error_v6(packet, scratch, port, trouble)
    }
}

/// RFC 1812 §4.3.2.7 and RFC 4443 §2.4: no error about an error, a group address, or a fragment that is not the first.
#[inline(always)]
fn may_be_answered<F: Family>(scratch: &Scratch) -> bool {
    let flow = &scratch.flow;
    let is_error = flow.protocol == F::ICMP
        && flow.flags & flow_flags::UNTRACKED != 0
        && if F::ICMP == protocol::ICMPV6 { flow.icmp_type < 128 } else { !is_v4_query(flow.icmp_type) };
    !is_error
        && flow.flags & flow_flags::LATER_FRAGMENT == 0
        && !flow.ethernet.destination.is_group()
        && !flow.source.is_unspecified()
        && !F::is_martian_source(flow.source)
}

/// ICMP queries other than echo: timestamp, and the obsolete ones.
const fn is_v4_query(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 13 | 14 | 15 | 16 | 17 | 18)
}

/// One token of the port's ICMP rate.
#[inline(always)]
pub fn allowance<T: Tables>(tables: &T, slot: u16) -> Stage {
    let now = tables.now_coarse();
    let taken = tables.buckets(slot, |buckets| token::take(&mut buckets.icmp, ICMP_RATE, now));
    if taken == Some(Token::Taken) { Ok(()) } else { Err(DropReason::IcmpRate.into()) }
}

#[inline(always)]
fn turn<P: Packet>(packet: &mut P, scratch: &Scratch, ether_type: Be16) -> Stage {
    let ethernet = packet.get_mut::<Ethernet>(0).ok_or(DropReason::NoRoom)?;
    ethernet.destination = scratch.flow.ethernet.source;
    ethernet.source = Mac::ROUTER;
    ethernet.ether_type = ether_type;
    Ok(())
}

#[inline(always)]
fn error_v4<P: Packet>(packet: &mut P, scratch: &mut Scratch, port: &Port, trouble: Trouble) -> Stage {
    if port.gateway_v4 == Be32::default() {
        return Err(decide::trouble_reason(trouble).into());
    }
    let (kind, code, mtu) = match trouble {
        Trouble::TtlExceeded => (11, 0, 0),
        Trouble::NetUnreachable => (3, 0, 0),
        Trouble::HostUnreachable => (3, 1, 0),
        Trouble::PortUnreachable => (3, 3, 0),
        Trouble::TooBig => (3, 4, scratch.path_mtu as u16),
        // Communication administratively prohibited (RFC 1812 §5.2.7.1).
        Trouble::NatExhausted => (3, 13, 0),
    };
    const HEADERS: u16 = (size_of::<Ipv4>() + size_of::<Icmp>()) as u16;
    let quote = if scratch.flow.l3_length < QUOTE_V4 { scratch.flow.l3_length } else { QUOTE_V4 };
    packet.resize(L3 as u32 + quote as u32).map_err(|_| DropReason::NoRoom)?;
    packet.insert_l3(HEADERS as u32).map_err(|_| DropReason::NoRoom)?;
    turn::<P>(packet, scratch, ether_type::IPV4)?;
    let ip = packet.get_mut::<Ipv4>(L3).ok_or(DropReason::NoRoom)?;
    *ip = Ipv4 {
        version_ihl: 0x45,
        tos: ERROR_TOS,
        total_length: Be16::new(HEADERS + quote),
        id: Be16::default(),
        fragment: Be16::default(),
        ttl: OWN_TTL,
        protocol: protocol::ICMP,
        checksum: Be16::default(),
        source: port.gateway_v4,
        destination: scratch.flow.source.low(),
    };
    ip.checksum = Be16::from_raw(!checksum::ipv4_sum(ip));
    let icmp = Icmp { kind, code, sequence: Be16::new(mtu), ..Icmp::default() };
    *packet.get_mut(FamilyV4::L4).ok_or(DropReason::NoRoom)? = icmp;
    let sum =
        packet.sum(FamilyV4::L4 as u32, size_of::<Icmp>() as u32 + quote as u32).map_err(|_| DropReason::NoRoom)?;
    let icmp = packet.get_mut::<Icmp>(FamilyV4::L4).ok_or(DropReason::NoRoom)?;
    icmp.checksum = Be16::from_raw(!checksum::fold(sum));
    Err(Verdict::answer())
}

#[inline(always)]
fn error_v6<P: Packet>(packet: &mut P, scratch: &mut Scratch, port: &Port, trouble: Trouble) -> Stage {
    if port.gateway_v6.is_unspecified() {
        return Err(decide::trouble_reason(trouble).into());
    }
    let (kind, code, mtu) = match trouble {
        Trouble::TtlExceeded => (3, 0, 0),
        Trouble::NetUnreachable => (1, 0, 0),
        Trouble::HostUnreachable => (1, 3, 0),
        Trouble::PortUnreachable => (1, 4, 0),
        Trouble::TooBig => (2, 0, scratch.path_mtu as u16),
        Trouble::NatExhausted => (1, 1, 0),
    };
    const HEADERS: u16 = (size_of::<Ipv6>() + size_of::<Icmp>()) as u16;
    let quote = if scratch.flow.l3_length < QUOTE_V6 { scratch.flow.l3_length } else { QUOTE_V6 };
    let length = size_of::<Icmp>() as u32 + quote as u32;
    packet.resize(L3 as u32 + quote as u32).map_err(|_| DropReason::NoRoom)?;
    packet.insert_l3(HEADERS as u32).map_err(|_| DropReason::NoRoom)?;
    turn::<P>(packet, scratch, ether_type::IPV6)?;
    *packet.get_mut(L3).ok_or(DropReason::NoRoom)? = Ipv6 {
        version_class_flow: Be32::new(6 << 28 | (ERROR_TOS as u32) << 20),
        payload_length: Be16::new(length as u16),
        next_header: protocol::ICMPV6,
        hop_limit: OWN_TTL,
        source: port.gateway_v6.bytes(),
        destination: scratch.flow.source.bytes(),
    };
    let icmp = Icmp { kind, code, sequence: Be16::new(mtu), ..Icmp::default() };
    *packet.get_mut(FamilyV6::L4).ok_or(DropReason::NoRoom)? = icmp;
    let sum = packet.sum(FamilyV6::L4 as u32, length).map_err(|_| DropReason::NoRoom)?;
    let sum = sum + pseudo_sum(port.gateway_v6, scratch.flow.source, length);
    let icmp = packet.get_mut::<Icmp>(FamilyV6::L4).ok_or(DropReason::NoRoom)?;
    icmp.checksum = Be16::from_raw(!checksum::fold(sum));
    Err(Verdict::answer())
}

/// The sum of ICMPv6's pseudo header (RFC 8200 §8.1).
#[inline(always)]
pub fn pseudo_sum(source: Ip, destination: Ip, length: u32) -> u64 {
    let mut sum = length.to_be() as u64 + (protocol::ICMPV6 as u32).to_be() as u64;
    let mut i = 0;
    while i < 4 {
        sum += source.0[i] as u64 + destination.0[i] as u64;
        i += 1;
    }
    sum
}
