//! IPv6 to the outside and from there: by the guest's own global address, so that nothing is translated. The outside has a
//! route table of its own, [`RouteKey::OUTSIDE`]: the blocks that are reached from there, each with its VPC.

use crate::{
    Packet, Scratch, Stage, Tables, Verdict,
    conntrack::Side,
    datagram, deliver, encap,
    encap::Envelope,
    external,
    family::{Family, FamilyV6, L3},
    parse, policy,
    respond::nd,
    rewrite, route,
    scratch::{Flow, Inward, flow_flags},
    session::{Known, Origin},
};
use vpc_common::{
    DropReason, Ip, Mac, Vni,
    datagram::Share,
    endpoint::{Endpoint, MacKey},
    gateway::Outlet,
    node::Node,
    policy::action,
    port::Port,
    route::{Route, RouteKey, kind},
    session::{Hop, Way, decided},
    wire::{Ethernet, protocol},
};

/// Whether an address may be seen outside: neither link-local or site-local (RFC 4291, RFC 3879) nor unique local
/// (RFC 4193), nor IPv4's.
#[inline(always)]
const fn is_global(ip: Ip) -> bool {
    let first = ip.0[0].to_be();
    first >> 25 != 0xfc00_0000 >> 25 && first >> 23 != 0xfe80_0000 >> 23 && !ip.is_v4()
}

/// The subnet's block outside that an address lies in. Leaves in `scratch.route` by whose address to find who has it, if that
/// is none of its own: the one of the port that may use it.
#[inline(always)]
fn network<'t, T: Tables>(tables: &'t T, scratch: &mut Scratch, address: Ip) -> Option<&'t Route> {
    scratch.route = RouteKey { prefix_len: 32 + 128, table: RouteKey::OUTSIDE, destination: address };
    let route = tables.route(&scratch.route)?;
    if route.kind != kind::PORT {
        return Some(route);
    }
    scratch.route.destination = route.next_hop;
    tables.route(&scratch.route)
}

/// Who has an address of the block that [`network`] has just found, in that block's VPC.
#[inline(always)]
fn owner<'t, T: Tables>(tables: &'t T, scratch: &mut Scratch, vpc: Vni, address: Ip) -> Option<&'t Endpoint> {
    let owner = match route::endpoint(tables, scratch, vpc, address) {
        Some(owner) => owner,
        None => {
            scratch.endpoint.address = scratch.route.destination;
            tables.endpoint(&scratch.endpoint)?
        }
    };
    (owner.flags == 0).then_some(owner)
}

/// Whether the outside has a block with that address.
#[inline(always)]
pub fn is_served<T: Tables>(tables: &T, scratch: &mut Scratch, address: Ip) -> bool {
    network(tables, scratch, address).is_some()
}

/// Whose an address outside is: `scratch.inward`, and the port's MAC in `scratch.mac`. False: nobody's.
#[inline(never)]
pub fn resolve<T: Tables>(tables: &T, scratch: &mut Scratch, address: Ip) -> bool {
    let Some(network) = network(tables, scratch, address) else { return false };
    let vpc = network.vpc;
    let Some(owner) = owner(tables, scratch, vpc, address) else { return false };
    scratch.inward = Inward { vpc, node: owner.node, ..Inward::default() };
    scratch.mac = MacKey { l2_vni: owner.l2_vni, mac: owner.mac, reserved: [0; 2] };
    true
}

/// The packet up to its ports, those of a fragment too: see [`crate::external`].
#[inline(always)]
fn understand<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    parse::datagram::<FamilyV6, P>(packet, scratch)?;
    let Flow { source, destination, .. } = scratch.flow;
    if FamilyV6::is_martian_source(source) || FamilyV6::is_martian_destination(destination) {
        return Err(DropReason::Martian.into());
    }
    if !is_global(source) || !is_global(destination) {
        return Err(DropReason::NotGlobal.into());
    }
    if is_of_link(&scratch.flow) {
        return Err(DropReason::NdMalformed.into());
    }
    if scratch.flow.flags & flow_flags::FRAGMENT != 0 {
        let of = match network(tables, scratch, destination) {
            Some(network) => network.next_hop.low().get(),
            None => network(tables, scratch, source).ok_or(DropReason::ExternalSource)?.next_hop.low().get(),
        };
        datagram::follow(tables, scratch, Share::of_vpc(of), Side::Peer)?;
    }
    Ok(())
}

/// ICMPv6 that no router forwards: neighbour discovery and multicast listeners.
#[inline(always)]
fn is_of_link(flow: &Flow) -> bool {
    flow.protocol == protocol::ICMPV6
        && flow.flags & flow_flags::LATER_FRAGMENT == 0
        && (nd::is_nd(flow.icmp_type) || policy::is_listener_report(flow.icmp_type))
}

/// A packet from outside to an address of the fabric: to its owner on another node (`Err`), or `scratch.inward` is one of
/// this node. [`settle`] is next.
#[inline(never)]
pub fn from_outside<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, node: &Node) -> Stage {
    understand(packet, tables, scratch)?;
    let Flow { source, destination, .. } = scratch.flow;
    if scratch.flow.ethernet.destination.is_group() {
        return Err(DropReason::Martian.into());
    }
    if is_served(tables, scratch, source) {
        // What the fabric sends to itself does not leave it.
        return Err(DropReason::ExternalSource.into());
    }
    if !resolve(tables, scratch, destination) {
        return Err(DropReason::NoMapping.into());
    }
    // The owner counts the hop limit down.
    let (target, vpc) = (scratch.inward.node, scratch.inward.vpc);
    let way = Way::TUNNEL.with(Way::ROUTED).with(Way::HAIRPIN).in_network(vpc);
    scratch.hop = Hop { destination: Mac::ROUTER, target, way };
    route::time_to_live::<FamilyV6, P, T>(packet, tables, scratch)?;
    if target as u32 == node.id {
        return Ok(());
    }
    let vtep = tables.vtep(target).ok_or(DropReason::NoUnderlay)?;
    scratch.flow.outer_port = encap::outer_port(scratch);
    route::size::<FamilyV6, P, T>(packet, tables, scratch, vtep.mtu as u32)?;
    rewrite::forward::<FamilyV6, P>(packet, scratch)?;
    let envelope = Envelope::of(scratch);
    Err(encap::tunnel(packet, vtep, envelope, &scratch.leaving).unwrap_or_else(|end| end))
}

/// An inner packet from router to router: to the outside by this gateway, or by this gateway to another address of the
/// fabric (`Err`), or `scratch.inward` is one of this node. [`settle`] is next.
#[inline(never)]
pub fn from_router<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    understand(packet, tables, scratch)?;
    let destination = scratch.flow.destination;
    let Some(network) = network(tables, scratch, destination) else {
        return Err(outbound(packet, tables, scratch).unwrap_or_else(|end| end));
    };
    // Into its VPC a gateway has sent it, out of another one a node whose port it is from.
    let is_out = network.vpc != scratch.outer.vni;
    if is_out {
        let outlet = tables.outlet().ok_or(DropReason::NoGateway)?;
        sender_is_owner(tables, scratch, outlet)?;
    }
    if !resolve(tables, scratch, destination) {
        return Err(DropReason::NoMapping.into());
    }
    let own = tables.node().ok_or(DropReason::NoUnderlay)?.id;
    if scratch.inward.node as u32 == own {
        return Ok(());
    }
    if !is_out {
        return Err(DropReason::NoMapping.into());
    }
    let vtep = tables.vtep(scratch.inward.node).ok_or(DropReason::NoUnderlay)?;
    let mtu = vtep.mtu as u32;
    if packet.length() > mtu + size_of::<Ethernet>() as u32 && route::too_big(packet, scratch, mtu) {
        return Err(DropReason::TooBig.into());
    }
    let envelope = Envelope { vni: scratch.inward.vpc, source_port: encap::outer_port(scratch), tos: scratch.flow.tos };
    Err(encap::tunnel(packet, vtep, envelope, &scratch.flow.ethernet).unwrap_or_else(|end| end))
}

/// Where such a packet comes from, for the port that is to have it.
#[inline(always)]
pub fn origin(scratch: &Scratch) -> Origin {
    if scratch.inward.vpc == scratch.outer.vni { Origin::Outside } else { Origin::OutsideHere }
}

/// Whether the node that sent a packet to this gateway has the port whose address it comes from.
#[inline(never)]
fn sender_is_owner<T: Tables>(tables: &T, scratch: &mut Scratch, outlet: &Outlet) -> Stage {
    let sender = tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    if outlet.ifindex == 0 {
        return Err(DropReason::UnknownVni.into());
    }
    let source = scratch.flow.source;
    let own =
        resolve(tables, scratch, source) && scratch.inward.vpc == scratch.outer.vni && scratch.inward.node == sender;
    if own { Ok(()) } else { Err(DropReason::ExternalSource.into()) }
}

/// To the outside by this gateway, as it is: its owner has counted its hop limit down.
#[inline(never)]
fn outbound<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    let outlet = tables.outlet().ok_or(DropReason::NoGateway)?;
    sender_is_owner(tables, scratch, outlet)?;
    if packet.length() > outlet.mtu + size_of::<Ethernet>() as u32 && route::too_big(packet, scratch, outlet.mtu) {
        return external::too_big::<FamilyV6, P, T>(packet, tables, scratch, outlet);
    }
    external::out(packet, outlet, outlet.next_hop_v6)
}

/// Finds the port of this node to which [`resolve`] has led, and counts the hop limit down.
#[inline(never)]
pub fn settle<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    scratch.inward.slot = deliver::locate_endpoint(tables, scratch.mac.l2_vni, scratch.mac.mac)?;
    if deliver::port(tables, scratch.inward.slot)?.vpc != scratch.inward.vpc {
        return Err(DropReason::NoMapping.into());
    }
    if scratch.flow.ttl <= 1 {
        return Err(DropReason::TtlExpired.into());
    }
    FamilyV6::decrement_ttl(packet.get_mut(L3).ok_or(DropReason::Truncated)?);
    Ok(())
}

/// Decides how a packet of a guest gets to the outside: `scratch.hop`.
#[inline(never)]
pub fn outwards<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port, known: Known) -> Stage {
    let Flow { source, destination, .. } = scratch.flow;
    if !is_global(source) || !is_global(destination) {
        return Err(DropReason::NotGlobal.into());
    }
    if is_of_link(&scratch.flow) {
        return Err(DropReason::NdMalformed.into());
    }
    let network = network(tables, scratch, source).ok_or(DropReason::ExternalSource)?;
    // Whoever routes for others does not speak for them outside: the answers would not find it.
    match owner(tables, scratch, port.vpc, source) {
        Some(owner) if owner.mac == port.mac && owner.l2_vni == port.l2_vni => {}
        _ => return Err(DropReason::SourceAddress.into()),
    }
    if network.kind == kind::REPLIES && known.stands() && known.opener() != decided::OPENED_HERE {
        return Err(DropReason::EgressOnly.into());
    }
    let own = tables.node().ok_or(DropReason::NoUnderlay)?.id;
    let mut target = external::gateway_of(tables, scratch)?;
    let mut way = Way::ROUTED;
    let mut vpc = port.vpc;
    if is_served(tables, scratch, destination) {
        way = way.with(Way::HAIRPIN);
        if target as u32 == own {
            // Gateways know all of these addresses.
            if !resolve(tables, scratch, destination) {
                return Err(DropReason::NoMapping.into());
            }
            (target, vpc) = (scratch.inward.node, scratch.inward.vpc);
        }
    }
    let action = if target as u32 == own { Way::EXTERNAL } else { Way::TUNNEL };
    scratch.hop = Hop { destination: Mac::ROUTER, target, way: action.with(way).in_network(vpc) };
    Ok(())
}

/// Prepares a packet from a port of this node to another one's address outside. [`external::take`] is next.
#[inline(never)]
pub fn turn<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    let destination = scratch.flow.destination;
    if !resolve(tables, scratch, destination) {
        return Err(DropReason::NoMapping.into());
    }
    // The owner's MTU is known when its port is.
    let slot = deliver::locate_endpoint(tables, scratch.mac.l2_vni, scratch.mac.mac)?;
    let mtu = deliver::port(tables, slot)?.mtu;
    external::fits::<FamilyV6, P, T>(packet, tables, scratch, mtu)?;
    settle(packet, tables, scratch)
}

/// Whether a packet from outside may go to a port: into what lets replies in only, if it answers a flow that the port
/// opened, or tells of one.
#[inline(always)]
pub fn may_enter<T: Tables>(tables: &T, scratch: &mut Scratch, known: Known) -> Stage {
    let destination = scratch.flow.destination;
    let network = network(tables, scratch, destination).ok_or(DropReason::NoMapping)?;
    let answers = if known.stands() {
        known.opener() == decided::OPENED_HERE
    } else {
        scratch.flow.allowed_by.action == action::RELATED
    };
    if network.kind == kind::REPLIES && !answers { Err(DropReason::EgressOnly.into()) } else { Ok(()) }
}
