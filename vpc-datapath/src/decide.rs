//! The slow path: the first packet of a flow is judged, and the outcome recorded.

use crate::{
    Packet, Part, Scratch, Stage, Tables, Verdict,
    conntrack::Side,
    deliver, encap,
    encap::Envelope,
    external,
    family::Family,
    flood, global, nat, parse, policy,
    respond::{Trouble, icmp, nd},
    route::{self, NoRoute},
    scratch::flow_flags,
    session::{self, Decision, Known, Origin},
    source_guard,
};
use vpc_common::{
    Be16, DropReason, Mac, Vni,
    endpoint::{MacKey, flags as endpoint_flags},
    port::{Port, flags},
    session::{Hop, Way},
    wire::{Ethernet, ether_type, protocol},
};

/// Decides over a packet that the workload sent: `scratch.hop`, or the end of its way.
#[inline(always)]
pub fn egress<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Stage {
    source::<F, T>(tables, scratch, port)?;
    guest_may_say::<F, P, T>(packet, tables, scratch, port)?;
    let known = session::known::<F, T>(tables, scratch, port)?;
    policy::admit::<F, P, T>(packet, tables, scratch, port, Side::Guest, known)?;
    let destination = scratch.flow.ethernet.destination;
    if destination.is_group() {
        return Err(flood::from_port::<F, P, T>(packet, tables, scratch, port));
    }
    if F::is_martian_destination(scratch.flow.destination) && !is_link_local_neighbour::<F>(scratch) {
        return Err(DropReason::Martian.into());
    }
    if destination == Mac::ROUTER {
        routed::<F, P, T>(packet, tables, scratch, port, known)
    } else {
        hop_by_mac(tables, scratch, port)
    }?;
    scratch.flow.outer_port = encap::outer_port(scratch);
    if scratch.flow.flags & flow_flags::UNTRACKED == 0 {
        packet.part::<F, T>(tables, scratch, Part::Record(Decision::EGRESS, known))?;
    }
    Ok(())
}

/// Decides over a packet to the workload in the flow's slot.
#[inline(always)]
pub fn ingress<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    origin: Origin,
) -> Stage {
    let node = match origin {
        Origin::Tunnel | Origin::Outside => tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?,
        Origin::Node | Origin::OutsideHere => session::THIS_NODE,
    };
    if origin == Origin::Outside && !external::may_send::<F, T>(tables, scratch, node) {
        return Err(DropReason::ExternalSource.into());
    }
    if F::is_martian_source(scratch.flow.source) {
        return Err(DropReason::Martian.into());
    }
    if !source_guard::admits(tables, scratch, scratch.flow.slot, port, scratch.flow.destination) {
        return Err(DropReason::DestinationAddress.into());
    }
    let known = session::known::<F, T>(tables, scratch, port)?;
    if known.stands()
        && !known.is_by_same_external()
        && (known.is_confirmed() || nat::is_bound::<F, T>(tables, scratch, port))
    {
        return Err(DropReason::NoMapping.into());
    }
    policy::admit::<F, P, T>(packet, tables, scratch, port, Side::Peer, known)?;
    if matches!(origin, Origin::Outside | Origin::OutsideHere) {
        if route::is_local(tables, scratch, port, scratch.flow.source) {
            // Groups must not take an outsider for a member.
            return Err(DropReason::ExternalSource.into());
        }
        if F::ICMP == protocol::ICMPV6 {
            global::may_enter(tables, scratch, known)?;
        }
    }
    if was_routed(scratch, origin) {
        policy::acl(tables, scratch, port.ingress_acl, scratch.flow.source)?;
    }
    if scratch.flow.flags & flow_flags::UNTRACKED == 0 {
        packet.part::<F, T>(tables, scratch, Part::Record(Decision::ingress(node), known))?;
    }
    Ok(())
}

/// Whether a packet to a workload has passed the VPC router: on this node by the decision just made, on another by the
/// source MAC, which no workload can have.
#[inline(always)]
fn was_routed(scratch: &Scratch, origin: Origin) -> bool {
    match origin {
        Origin::Node => scratch.hop.way.is_routed(),
        Origin::Tunnel => scratch.flow.ethernet.source == Mac::ROUTER,
        Origin::Outside | Origin::OutsideHere => true,
    }
}

/// A frame that is neither IP nor ARP: inside the subnet, if the port may.
#[inline(never)]
pub fn other<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> Stage<Verdict> {
    if port.flags & flags::NON_IP == 0 {
        return Err(DropReason::EtherType.into());
    }
    bridge(packet, tables, scratch, port)
}

/// Sends a frame to its MAC inside the port's subnet, as it is.
#[inline(always)]
pub fn bridge<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> Stage<Verdict> {
    if scratch.flow.ethernet.destination.is_group() {
        return Ok(flood::other_from_port(packet, tables, scratch, port));
    }
    hop_by_mac(tables, scratch, port)?;
    let target = scratch.hop.target;
    if scratch.hop.way.is_local() {
        let neighbour = deliver::port(tables, target)?;
        if scratch.flow.ethernet.ether_type != ether_type::ARP && neighbour.flags & flags::NON_IP == 0 {
            return Err(DropReason::EtherType.into());
        }
        return Ok(Verdict::deliver(target));
    }
    let vtep = tables.vtep(target).ok_or(DropReason::NoUnderlay)?;
    if packet.length() > vtep.mtu as u32 + size_of::<Ethernet>() as u32 {
        return Err(DropReason::TooBig.into());
    }
    let envelope = Envelope { vni: scratch.hop.way.vni(), source_port: encap::NOT_IP, tos: 0 };
    encap::tunnel(packet, vtep, envelope, &scratch.flow.ethernet)
}

/// The source address: the port's own, whatever may be on a wire, and from nobody else's.
#[inline(always)]
fn source<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Stage {
    let flow = &scratch.flow;
    if flow.source.is_unspecified() {
        // Before it has an address a guest asks for one: DHCP (RFC 2131 §4.1), or ND and MLD (RFC 4862 §5.4.2).
        let dhcp = flow.protocol == protocol::UDP && flow.destination_port == Be16::new(67);
        let asks = dhcp || flow.protocol == protocol::ICMPV6;
        return if asks && flow.ethernet.destination.is_group() { Ok(()) } else { Err(DropReason::Martian.into()) };
    }
    if F::is_martian_source(flow.source) {
        return Err(DropReason::Martian.into());
    }
    if port.flags & flags::ROUTER != 0 {
        // Judged for every packet, see `plain_vtep_speaks_for`.
        return Ok(());
    }
    let (slot, source) = (flow.slot, flow.source);
    if source_guard::admits(tables, scratch, slot, port, source) {
        Ok(())
    } else {
        Err(DropReason::SourceAddress.into())
    }
}

/// A plain VTEP may only send to the router what its own ports may say. Asked for every packet: the session of a router
/// says who the flow's sender is, not that this packet comes from there.
#[inline(never)]
pub fn plain_vtep_speaks_for<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Stage {
    let node = tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    match route::endpoint(tables, scratch, port.vpc, scratch.flow.source) {
        Some(e) if e.node == node && e.mac == scratch.flow.ethernet.source && e.l2_vni == port.l2_vni => Ok(()),
        _ => Err(DropReason::SourceAddress.into()),
    }
}

/// What no guest may say, whatever its addresses: DHCP as a server, and neighbour discovery beyond its own name.
#[inline(always)]
fn guest_may_say<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Stage {
    let flow = &scratch.flow;
    if flow.protocol == protocol::UDP && parse::is_dhcp_server(flow.source_port) {
        return Err(DropReason::DhcpServer.into());
    }
    if flow.protocol == protocol::ICMPV6 && F::ICMP == protocol::ICMPV6 && nd::is_nd(flow.icmp_type) {
        return nd::from_port(packet, tables, scratch, port);
    }
    Ok(())
}

/// IPv6 link-local traffic between neighbours: not for the router, but not martian either.
#[inline(always)]
fn is_link_local_neighbour<F: Family>(scratch: &Scratch) -> bool {
    F::ICMP == protocol::ICMPV6
        && scratch.flow.destination.bytes()[0] == 0xfe
        && (scratch.flow.ethernet.destination != Mac::ROUTER || scratch.flow.destination == Mac::ROUTER.link_local())
}

/// Through the VPC router.
#[inline(always)]
fn routed<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    known: Known,
) -> Stage {
    if F::ICMP == protocol::ICMPV6 && scratch.flow.destination == Mac::ROUTER.link_local() {
        return icmp::to_router::<F, P, T>(packet, tables, scratch, port);
    }
    let endpoint = match route::lookup::<F, T>(tables, scratch, port, scratch.flow.destination) {
        Ok(endpoint) => endpoint,
        // Nobody keeps the flows of a plain VTEP's workload, so no answer from outside could be told from an attack.
        Err(NoRoute::Outside(_)) if port.flags & flags::ROUTER != 0 => {
            return packet.part::<F, T>(tables, scratch, Part::Trouble(Trouble::NetUnreachable));
        }
        Err(NoRoute::Outside(gateway)) => {
            policy::acl(tables, scratch, port.egress_acl, scratch.flow.destination)?;
            policy::egress_allowed(tables, scratch, known)?;
            return if F::ICMP == protocol::ICMPV6 {
                global::outwards(tables, scratch, port, known)
            } else {
                external::outwards(packet, tables, scratch, port, gateway, known)
            };
        }
        Err(NoRoute::Silent(reason)) => return Err(reason.into()),
        Err(NoRoute::Unreachable(trouble)) => return packet.part::<F, T>(tables, scratch, Part::Trouble(trouble)),
    };
    if endpoint.flags & endpoint_flags::GATEWAY != 0 {
        return icmp::to_router::<F, P, T>(packet, tables, scratch, port);
    }
    if endpoint.flags & endpoint_flags::BROADCAST != 0 {
        return Err(DropReason::DirectedBroadcast.into());
    }
    let (node, vni, mac) = (endpoint.node, endpoint.l2_vni, endpoint.mac);
    policy::acl(tables, scratch, port.egress_acl, scratch.flow.destination)?;
    hop_at(tables, scratch, node, vni, mac, Way::ROUTED)
}

#[inline(always)]
fn hop_by_mac<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Stage {
    let mac = scratch.flow.ethernet.destination;
    scratch.mac = MacKey { l2_vni: port.l2_vni, mac, reserved: [0; 2] };
    match tables.mac(&scratch.mac) {
        Some(entry) if entry.subnet == port.subnet => {
            hop_at(tables, scratch, entry.node, port.l2_vni, mac, Way::default())
        }
        _ => Err(DropReason::UnknownMac.into()),
    }
}

/// The hop to a MAC on a node.
#[inline(always)]
fn hop_at<T: Tables>(tables: &T, scratch: &mut Scratch, node: u16, vni: Vni, mac: Mac, how: Way) -> Stage {
    let own = tables.node().ok_or(DropReason::NoUnderlay)?.id;
    let (action, target) = if node as u32 == own {
        (Way::LOCAL, deliver::locate_endpoint(tables, vni, mac)?)
    } else {
        (Way::TUNNEL, node)
    };
    scratch.hop = Hop { destination: mac, target, way: action.with(how).in_network(vni) };
    Ok(())
}

/// What the router says to trouble of its own making.
pub const fn trouble_reason(trouble: Trouble) -> DropReason {
    match trouble {
        Trouble::TtlExceeded => DropReason::TtlExpired,
        Trouble::TooBig => DropReason::TooBig,
        Trouble::NetUnreachable | Trouble::HostUnreachable => DropReason::Unreachable,
        Trouble::PortUnreachable => DropReason::RouterService,
        Trouble::NatExhausted => DropReason::NatExhausted,
    }
}
