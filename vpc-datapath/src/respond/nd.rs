//! Neighbour discovery (RFC 4861) from a port: checked like ARP, and answered for known endpoints.

use super::icmp::{allowance, pseudo_sum};
use crate::{
    Packet, Scratch, Stage, Tables, Verdict, checksum, external,
    family::{Family, FamilyV6, L3},
    global, parse, route,
    scratch::flow_flags,
    source_guard,
};
use bytemuck::{Pod, Zeroable};
use vpc_common::{
    Be16, Be32, DropReason, Ip, Mac,
    endpoint::{Endpoint, flags as endpoint_flags},
    node::Node,
    port::{Port, flags},
    wire::{Ethernet, Icmp, Ipv6, ether_type, protocol},
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// ICMPv6 type of a neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Options that are looked at; a message with more is refused.
const OPTIONS: u32 = 8;
/// Longest message: the target and some options, bytes.
const LONGEST: u32 = 256;
const SOURCE_LINK_LAYER: u8 = 1;
/// Kind of the option that tells the MAC of an advertisement's target.
pub const TARGET_LINK_LAYER: u8 = 2;
/// The flag of an advertisement that takes the place of what a neighbour cache holds.
pub const OVERRIDE: u32 = 1 << 29;

/// A solicitation or advertisement up to its options.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Neighbour {
    /// Its header, with the flags of an advertisement in the last four bytes.
    pub icmp: Icmp,
    /// The address that it is about.
    pub target: [u8; 16],
}

/// The link-layer address option of Ethernet.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct LinkLayerOption {
    /// Whose MAC it tells.
    pub kind: u8,
    /// In units of 8 bytes.
    pub length: u8,
    /// The MAC.
    pub mac: Mac,
}

/// An advertisement that the router makes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Advertisement {
    /// What it says.
    pub neighbour: Neighbour,
    /// The target's MAC.
    pub option: LinkLayerOption,
}

/// Whether an ICMPv6 type belongs to neighbour discovery.
#[inline(always)]
pub const fn is_nd(kind: u8) -> bool {
    kind >= ROUTER_SOLICITATION && kind <= REDIRECT
}

/// Neighbour discovery from a port: answered, refused, or (`Ok`) left to go where its MAC says.
#[inline(never)]
pub fn from_port<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> Stage {
    let kind = scratch.flow.icmp_type;
    if kind == ROUTER_ADVERTISEMENT || kind == REDIRECT {
        return Err(DropReason::RaGuard.into());
    }
    well_formed(packet, scratch)?;
    link_layer_option(packet, scratch)?;
    says_own_mac(port, scratch)?;
    if kind == ROUTER_SOLICITATION {
        return Ok(());
    }
    let neighbour = packet.get_at::<Neighbour>(scratch.flow.l4 as usize).ok_or(DropReason::NdMalformed)?;
    let target = Ip::from_bytes(neighbour.target);
    if is_multicast(target) {
        return Err(DropReason::NdMalformed.into());
    }
    if kind == ADVERTISEMENT {
        return advertises_own(tables, scratch, port, target);
    }
    if scratch.flow.source.is_unspecified()
        && (scratch.link_layer != Mac::default() || !is_solicited_node(scratch.flow.destination))
    {
        return Err(DropReason::NdMalformed.into());
    }
    if target == Mac::ROUTER.link_local() {
        scratch.endpoint.address = target;
        scratch.leaving.source = Mac::ROUTER;
        return advertise(packet, tables, scratch);
    }
    match route::endpoint(tables, scratch, port.vpc, target) {
        Some(owner) if owner.subnet == port.subnet && speaks_for(port, owner) => {
            scratch.leaving.source = owner.mac;
            advertise(packet, tables, scratch)
        }
        // Its own (duplicate address detection), or an address that wanders between instances: all hear it.
        _ => Ok(()),
    }
}

/// What a frame of IPv6 from outside asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// No neighbour solicitation.
    Nothing,
    /// Who has an address for which this gateway does not speak.
    Others,
    /// Who has an address for which it does.
    Fabric,
}

/// Whether a frame from outside asks for an address of the fabric for which this gateway speaks. The host's own packets
/// must not be disturbed, so nothing else is looked at.
#[inline(always)]
pub fn asked_from_outside<P: Packet, T: Tables>(packet: &P, tables: &T, scratch: &mut Scratch, node: &Node) -> Asked {
    let Some(ip) = packet.get::<Ipv6>(L3) else { return Asked::Nothing };
    if ip.next_header != protocol::ICMPV6 {
        return Asked::Nothing;
    }
    let Some(neighbour) = packet.get::<Neighbour>(FamilyV6::L4) else { return Asked::Nothing };
    if neighbour.icmp.kind != SOLICITATION {
        return Asked::Nothing;
    }
    let target = Ip::from_bytes(neighbour.target);
    if !global::resolve(tables, scratch, target) {
        return Asked::Others;
    }
    let owner = scratch.inward.node;
    let speaker = tables.segment().map(|segment| external::speaker_at(segment, target.low(), owner));
    if speaker.is_some_and(|speaker| speaker as u32 == node.id) { Asked::Fabric } else { Asked::Others }
}

/// Answers such a solicitation with the MAC of the external interface.
#[inline(never)]
pub fn answer_outside<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    own: Mac,
) -> Stage<Verdict> {
    parse::datagram::<FamilyV6, P>(packet, scratch)?;
    well_formed(packet, scratch)?;
    let neighbour = packet.get::<Neighbour>(FamilyV6::L4).ok_or(DropReason::NdMalformed)?;
    scratch.endpoint.address = Ip::from_bytes(neighbour.target);
    scratch.leaving.source = own;
    Ok(advertise(packet, tables, scratch).err().unwrap_or(Verdict::answer()))
}

/// Whether the router answers for `owner`: to a workload for all others, to plain VTEPs for itself only.
#[inline(always)]
fn speaks_for(port: &Port, owner: &Endpoint) -> bool {
    if port.flags & flags::ROUTER != 0 { owner.flags & endpoint_flags::GATEWAY != 0 } else { owner.mac != port.mac }
}

/// RFC 4861 §7.1: hop limit 255, code 0, checksum, length; RFC 6980: no fragment header, not even of a whole packet.
#[inline(never)]
fn well_formed<P: Packet>(packet: &mut P, scratch: &Scratch) -> Stage {
    let flow = &scratch.flow;
    let length = (flow.l3_length as u32 + L3 as u32).wrapping_sub(flow.l4 as u32);
    let shortest = if flow.icmp_type == ROUTER_SOLICITATION { 8 } else { size_of::<Neighbour>() as u32 };
    if flow.ttl != 255 || flow.flags & flow_flags::FRAGMENT_HEADER != 0 || length < shortest || length > LONGEST {
        return Err(DropReason::NdMalformed.into());
    }
    packet.pull(crate::packet::REACH as u32 + 1);
    let icmp = packet.get_at::<Icmp>(flow.l4 as usize).ok_or(DropReason::NdMalformed)?;
    if icmp.code != 0 {
        return Err(DropReason::NdMalformed.into());
    }
    let sum = packet.sum(flow.l4 as u32, length).map_err(|_| DropReason::NdMalformed)?;
    if checksum::fold(sum + pseudo_sum(flow.source, flow.destination, length)) != 0xffff {
        return Err(DropReason::NdMalformed.into());
    }
    Ok(())
}

/// Takes the link-layer address that the message carries into `scratch.link_layer`. Every option is walked.
#[inline(never)]
fn link_layer_option<P: Packet>(packet: &P, scratch: &mut Scratch) -> Stage {
    scratch.link_layer = Mac::default();
    let flow = &scratch.flow;
    let wanted = if flow.icmp_type == ADVERTISEMENT { TARGET_LINK_LAYER } else { SOURCE_LINK_LAYER };
    let fixed = if flow.icmp_type == ROUTER_SOLICITATION { size_of::<Icmp>() } else { size_of::<Neighbour>() };
    let end = L3 + flow.l3_length as usize;
    let mut at = flow.l4 as usize + fixed;
    let mut round = 0;
    while round < OPTIONS {
        round += 1;
        if at >= end {
            return if at == end { Ok(()) } else { Err(DropReason::NdMalformed.into()) };
        }
        let option = packet.get_at::<LinkLayerOption>(at).ok_or(DropReason::NdMalformed)?;
        if option.length == 0 {
            return Err(DropReason::NdMalformed.into());
        }
        if option.kind == wanted {
            if option.length != 1 {
                return Err(DropReason::NdMalformed.into());
            }
            scratch.link_layer = option.mac;
        }
        at += option.length as usize * 8;
    }
    Err(DropReason::NdMalformed.into())
}

#[inline(always)]
fn says_own_mac(port: &Port, scratch: &Scratch) -> Stage {
    let said = scratch.link_layer;
    if said == Mac::default() || said == port.mac || port.flags & flags::ROUTER != 0 {
        Ok(())
    } else {
        Err(DropReason::NdSpoof.into())
    }
}

#[inline(always)]
fn advertises_own<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port, target: Ip) -> Stage {
    if port.flags & flags::ROUTER == 0
        && source_guard::owns(tables, scratch, scratch.flow.slot, target)
        && !route::is_gateway(tables, scratch, port.vpc, target)
    {
        Ok(())
    } else {
        Err(DropReason::NdSpoof.into())
    }
}

/// `ff02::1:ffXX:XXXX` (RFC 4291 §2.7.1).
#[inline(always)]
fn is_solicited_node(ip: Ip) -> bool {
    ip.0[0] == 0xff02_0000_u32.to_be() && ip.0[1] == 0 && ip.0[2] == 1_u32.to_be() && ip.bytes()[12] == 0xff
}

#[inline(always)]
fn is_multicast(ip: Ip) -> bool {
    ip.bytes()[0] == 0xff
}

/// Turns the solicitation for the address in `scratch.endpoint` into the advertisement of the MAC in `scratch.leaving`
/// (always `Err`).
#[inline(never)]
fn advertise<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    let (target, mac) = (scratch.endpoint.address, scratch.leaving.source);
    const ROUTER: u32 = 1 << 31;
    const SOLICITED: u32 = 1 << 30;
    const LENGTH: u32 = size_of::<Advertisement>() as u32;
    allowance(tables, scratch.flow.slot)?;
    let asker = scratch.flow.source;
    // No constants of the module: the compiler puts those into a section, and programs that use one are never the same as
    // those of an earlier agent, so that each start would replace them.
    let all_nodes = Ip([0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()]);
    let (destination, mac_destination, solicited) = if asker.is_unspecified() {
        (all_nodes, Mac::new([0x33, 0x33, 0, 0, 0, 1]), 0)
    } else {
        (asker, scratch.flow.ethernet.source, SOLICITED)
    };
    let router = if mac == Mac::ROUTER { ROUTER } else { 0 };
    packet.resize((FamilyV6::L4 as u32) + LENGTH).map_err(|_| DropReason::NoRoom)?;
    *packet.get_mut(0).ok_or(DropReason::NoRoom)? =
        Ethernet { destination: mac_destination, source: mac, ether_type: ether_type::IPV6 };
    *packet.get_mut(L3).ok_or(DropReason::NoRoom)? = Ipv6 {
        version_class_flow: Be32::new(6 << 28),
        payload_length: Be16::new(LENGTH as u16),
        next_header: protocol::ICMPV6,
        hop_limit: 255,
        source: target.bytes(),
        destination: destination.bytes(),
    };
    let flags = (router | solicited | OVERRIDE).to_be_bytes();
    let icmp = Icmp {
        kind: ADVERTISEMENT,
        id: Be16([flags[0], flags[1]]),
        sequence: Be16([flags[2], flags[3]]),
        ..Icmp::default()
    };
    *packet.get_mut(FamilyV6::L4).ok_or(DropReason::NoRoom)? = Advertisement {
        neighbour: Neighbour { icmp, target: target.bytes() },
        option: LinkLayerOption { kind: TARGET_LINK_LAYER, length: 1, mac },
    };
    let sum = packet.sum(FamilyV6::L4 as u32, LENGTH).map_err(|_| DropReason::NoRoom)?;
    let icmp = packet.get_mut::<Icmp>(FamilyV6::L4).ok_or(DropReason::NoRoom)?;
    icmp.checksum = Be16::from_raw(!checksum::fold(sum + pseudo_sum(target, destination, LENGTH)));
    Err(Verdict::answer())
}
