//! A packet's way from the underlay to a port: the whole pipeline.

use crate::{
    Packet, Part, Scratch, Stage, Tables, Verdict,
    conntrack::Side,
    datagram,
    deliver::{self, locate},
    egress, encap, external,
    family::{Family, FamilyV4, FamilyV6},
    flood, parse, reflector,
    respond::{arp, nd},
    rewrite::{decapsulated_tos, set_tos},
    scratch::flow_flags,
    session::{self, Origin},
    uplink::{self, Kind, Way},
};
use vpc_common::{
    DropReason, Mac,
    datagram::Share,
    endpoint::MacKey,
    locate::LocateKey,
    node::Node,
    port::{FloodKey, Port, flags},
    wire::{ether_type, protocol},
};

/// Bytes of Ethernet, IPv6 and the longest fixed layer-4 header, of TCP.
const HEADERS: u32 = 14 + 40 + 20;

/// What becomes of a frame on an uplink, where it can be handled before the host's stack sees it (XDP).
#[inline(always)]
pub fn uplink<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Verdict {
    from_underlay(packet, tables, scratch, flags::XDP_DELIVERY).unwrap_or_else(|end| end)
}

/// The same where XDP cannot be used (TC on an uplink). Every port is reached from there; what has segments goes on to the
/// tunnel device.
#[inline(always)]
pub fn uplink_tc<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Verdict {
    from_underlay(packet, tables, scratch, 0).unwrap_or_else(|end| end)
}

#[inline(always)]
fn from_underlay<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    reach: u32,
) -> Stage<Verdict> {
    scratch.flow.slot = vpc_common::port::UNDERLAY_SLOT;
    let node = tables.node().ok_or(DropReason::NoUnderlay)?;
    match uplink::outer(packet, node, &mut scratch.outer)? {
        Kind::Tunnel => {}
        Kind::Host => return Ok(Verdict::punt()),
        Kind::Probe => return reflector::reflect(packet, tables, &scratch.outer, node),
    }
    match uplink::way(packet, tables, node, &scratch.outer, reach)? {
        Way::Here(slot, port) if packet.gso_size() == 0 && packet.decapsulate(scratch.outer.overhead).is_ok() => {
            packet.pull(HEADERS);
            to_port(packet, tables, scratch, node, slot, deliver::reachable(port)?)
        }
        _ => uplink::normalise(packet, &scratch.outer),
    }
}

/// What becomes of an inner frame that the tunnel device received, with `scratch.outer` as the kernel tells it. ECN is
/// merged already (the kernel does).
#[inline(always)]
pub fn tunnel<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Verdict {
    merged(packet, tables, scratch).unwrap_or_else(|end| end)
}

#[inline(always)]
fn merged<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    scratch.flow.slot = vpc_common::port::UNDERLAY_SLOT;
    let node = tables.node().ok_or(DropReason::NoUnderlay)?;
    parse::ethernet(packet, scratch)?;
    let destination = scratch.flow.ethernet.destination;
    if destination.is_group() {
        return group(packet, tables, scratch);
    }
    if destination == Mac::ROUTER && scratch.flow.ethernet.source == Mac::ROUTER {
        return external::tunnel(packet, tables, scratch);
    }
    let slot = locate(tables, LocateKey::endpoint(scratch.outer.vni, destination)).ok_or(DropReason::UnknownVni)?;
    let port = tables.port(slot).ok_or(DropReason::UnknownVni)?;
    if port.flags & flags::ROUTER != 0 {
        return Ok(egress::egress(packet, tables, scratch, slot, port));
    }
    to_port(packet, tables, scratch, node, slot, deliver::reachable(port)?)
}

#[inline(always)]
fn to_port<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    node: &Node,
    slot: u16,
    port: &Port,
) -> Stage<Verdict> {
    session::begin(scratch, slot, port);
    parse::ethernet(packet, scratch)?;
    match scratch.flow.ethernet.ether_type {
        ether_type::IPV4 => ip::<FamilyV4, P, T>(packet, tables, scratch, node, port),
        ether_type::IPV6 => ip::<FamilyV6, P, T>(packet, tables, scratch, node, port),
        ether_type::ARP => from_known_vtep(tables, scratch, slot),
        ether_type::VLAN | ether_type::QINQ => Err(DropReason::Vlan.into()),
        _ if port.flags & flags::NON_IP != 0 => from_known_vtep(tables, scratch, slot),
        _ => Err(DropReason::EtherType.into()),
    }
}

#[inline(always)]
fn ip<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    node: &Node,
    port: &Port,
) -> Stage<Verdict> {
    parse::datagram::<F, P>(packet, scratch)?;
    if scratch.flow.flags & flow_flags::FRAGMENT != 0 {
        datagram::follow(tables, scratch, Share::of_port(scratch.flow.slot), Side::Peer)?;
    }
    admit::<F, P, T>(packet, tables, scratch, port, Origin::Tunnel)?;
    let tos = decapsulated_tos(scratch.flow.tos, scratch.outer.tos, uplink::model(node)).ok_or(DropReason::EcnMark)?;
    set_tos::<F, P>(packet, tos)?;
    Ok(Verdict::deliver(scratch.flow.slot))
}

/// Whether the flow's slot takes the packet: by its session, or by a decision.
#[inline(always)]
pub(crate) fn admit<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    origin: Origin,
) -> Stage {
    session::key_of_receiver::<F>(scratch, scratch.flow.slot);
    if session::admitted::<F, P, T>(packet, tables, scratch, port, origin) {
        return Ok(());
    }
    packet.part::<F, T>(tables, scratch, Part::DecideIngress(origin))
}

#[inline(always)]
fn from_known_vtep<T: Tables>(tables: &T, scratch: &Scratch, slot: u16) -> Stage<Verdict> {
    tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    Ok(Verdict::deliver(slot))
}

/// Broadcast and multicast from another node: to the local ports of its sender's subnet.
#[inline(never)]
fn group<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    let node = tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    let vni = scratch.outer.vni;
    scratch.mac = MacKey { l2_vni: vni, mac: scratch.flow.ethernet.source, reserved: [0; 2] };
    let sender = tables.mac(&scratch.mac).ok_or(DropReason::UnknownMac)?;
    if sender.node != node {
        return Err(DropReason::SourceMac.into());
    }
    let subnet = sender.subnet;
    if let Some(slot) = locate(tables, LocateKey::endpoint(vni, Mac::ROUTER))
        && let Some(router) = tables.port(slot)
        && router.subnet == subnet
    {
        session::begin(scratch, slot, router);
        match asked(packet, tables, scratch, router) {
            Err(end) if end == Verdict::answer() => return encap::answer(packet, tables, scratch, router),
            Err(end) => return Err(end),
            Ok(()) => {}
        }
    }
    match scratch.flow.ethernet.ether_type {
        ether_type::IPV4 => flooded::<FamilyV4, P, T>(packet, tables, scratch, subnet),
        ether_type::IPV6 => flooded::<FamilyV6, P, T>(packet, tables, scratch, subnet),
        _ => Ok(flood::other_from_tunnel(packet, tables, scratch, subnet)),
    }
}

#[inline(always)]
fn flooded<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    subnet: u32,
) -> Stage<Verdict> {
    parse::datagram::<F, P>(packet, scratch)?;
    if scratch.flow.flags & flow_flags::FRAGMENT != 0 {
        // In the share of one of the subnet's own ports; without one nobody hears it.
        match tables.flood(&FloodKey { subnet, index: 0 }) {
            Some(member) if member.local != 0 => {
                datagram::follow(tables, scratch, Share::of_port(member.target), Side::Peer)?;
            }
            _ => return Ok(Verdict::replicated()),
        }
    }
    Ok(flood::from_tunnel::<F, P, T>(packet, tables, scratch, subnet))
}

/// Whether a plain VTEP's workload asks for the gateway, by ARP or neighbour discovery: `Err` is the end of the question.
#[inline(always)]
fn asked<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, router: &Port) -> Stage {
    let ether_type = scratch.flow.ethernet.ether_type;
    match ether_type {
        ether_type::ARP if arp::asks_for_gateway(packet, tables, scratch, router) => {
            arp::answer_for_gateway(packet, scratch)?;
            Err(Verdict::answer())
        }
        ether_type::IPV6 => {
            parse::datagram::<FamilyV6, P>(packet, scratch)?;
            let flow = &scratch.flow;
            if flow.protocol == protocol::ICMPV6 && flow.icmp_type == nd::SOLICITATION {
                nd::from_port(packet, tables, scratch, router)
            } else {
                Ok(())
            }
        }
        _ => Ok(()),
    }
}
