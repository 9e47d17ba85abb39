//! To the outside and from there: the pipelines of gateways, and of the nodes whose ports talk to the outside.

use crate::{
    Packet, Part, Scratch, Stage, Tables, Verdict,
    conntrack::Side,
    datagram, deliver, encap,
    encap::Envelope,
    family::{Family, FamilyV4, FamilyV6, L3},
    global, ingress, moved,
    nat::{self, End},
    parse,
    respond::{
        Trouble, arp,
        nd::{self, Asked},
    },
    rewrite, route,
    scratch::flow_flags,
    session::{self, Known, Origin},
};
use vpc_common::{
    Be16, Be32, DropReason, Ip, Mac,
    datagram::Share,
    gateway::{Gateways, Outlet},
    limits::VXLAN_PORT,
    nat::{External, ExternalPort, kind},
    node::Node,
    port::{Port, UNDERLAY_SLOT},
    session::{Hop, V4, Way},
    wire::{Ethernet, Ipv4, Ipv6, Udp, ether_type, protocol},
};

/// What becomes of a frame that arrives at a gateway's external interface.
#[inline(always)]
pub fn external<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Verdict {
    scratch.flow.slot = UNDERLAY_SLOT;
    let end = match arrived(packet, tables, scratch) {
        Ok(end) | Err(end) => end,
    };
    if end == Verdict::answer() { in_own_name(packet, tables).unwrap_or_else(|end| end) } else { end }
}

#[inline(always)]
fn arrived<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    if packet.has_vlan_tag() {
        return Ok(Verdict::punt());
    }
    parse::ethernet(packet, scratch)?;
    let node = tables.node().ok_or(DropReason::NoUnderlay)?;
    let outlet = tables.outlet().ok_or(DropReason::NoGateway)?;
    match scratch.flow.ethernet.ether_type {
        ether_type::ARP => Ok(arp::asked_from_outside(packet, tables, scratch, node, outlet.own)),
        ether_type::IPV4 if is_for_us(packet, tables) => from_outside(packet, tables, scratch, node),
        ether_type::IPV6 => match nd::asked_from_outside(packet, tables, scratch, node) {
            Asked::Fabric => nd::answer_outside(packet, tables, scratch, outlet.own),
            Asked::Nothing if is_for_fabric(packet, tables, scratch) => {
                global::from_outside(packet, tables, scratch, node)?;
                global::settle(packet, tables, scratch)?;
                take::<FamilyV6, P, T>(packet, tables, scratch, Origin::OutsideHere)
            }
            _ => guard(packet),
        },
        _ => guard(packet),
    }
}

/// Whether the destination is an external address of the fabric.
#[inline(always)]
fn is_for_us<P: Packet, T: Tables>(packet: &P, tables: &T) -> bool {
    packet.get::<Ipv4>(L3).is_some_and(|ip| tables.external(&[ip.destination.raw()]).is_some())
}

/// The same over IPv6.
#[inline(always)]
fn is_for_fabric<P: Packet, T: Tables>(packet: &P, tables: &T, scratch: &mut Scratch) -> bool {
    let Some(ip) = packet.get::<Ipv6>(L3) else { return false };
    let destination = Ip::from_bytes(ip.destination);
    global::is_served(tables, scratch, destination)
}

/// The rest is the host's, except for what its tunnel socket would decapsulate: no tunnel begins outside.
#[inline(always)]
fn guard<P: Packet>(packet: &P) -> Stage<Verdict> {
    let Some(ethernet) = packet.get::<Ethernet>(0) else { return Ok(Verdict::punt()) };
    let udp = match ethernet.ether_type {
        ether_type::IPV4 => {
            let Some(ip) = packet.get::<Ipv4>(L3) else { return Ok(Verdict::punt()) };
            if ip.protocol != protocol::UDP || ip.fragment.get() & Ipv4::OFFSET != 0 {
                return Ok(Verdict::punt());
            }
            if ip.version_ihl != 0x45 {
                return Err(DropReason::OuterHeader.into());
            }
            packet.get::<Udp>(L3 + size_of::<Ipv4>())
        }
        ether_type::IPV6 => match packet.get::<Ipv6>(L3).map(|ip| ip.next_header) {
            Some(protocol::UDP) => packet.get::<Udp>(L3 + size_of::<Ipv6>()),
            Some(protocol::FRAGMENT | protocol::DESTINATION_OPTIONS | protocol::ROUTING) => {
                return Err(DropReason::OuterHeader.into());
            }
            _ => return Ok(Verdict::punt()),
        },
        _ => return Ok(Verdict::punt()),
    };
    match udp {
        Some(udp) if udp.destination == Be16::new(VXLAN_PORT) => Err(DropReason::UnknownVtep.into()),
        _ => Ok(Verdict::punt()),
    }
}

/// A packet to an external address of the fabric: to its owner, here or on another node.
#[inline(always)]
fn from_outside<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    node: &Node,
) -> Stage<Verdict> {
    understand(packet, tables, scratch)?;
    if FamilyV4::is_martian_source(scratch.flow.source) || scratch.flow.ethernet.destination.is_group() {
        return Err(DropReason::Martian.into());
    }
    if tables.external(&[scratch.flow.source.0[3]]).is_some() {
        // What the fabric sends to itself does not leave it.
        return Err(DropReason::ExternalSource.into());
    }
    nat::outside(packet, scratch, End::Destination)?;
    nat::resolve(tables, scratch)?;
    let (target, vpc) = (scratch.inward.node, scratch.inward.vpc);
    // The owner counts the TTL down.
    let way = Way::TUNNEL.with(Way::ROUTED).with(Way::HAIRPIN).in_network(vpc);
    scratch.hop = Hop { destination: Mac::ROUTER, target, way };
    route::time_to_live::<FamilyV4, P, T>(packet, tables, scratch)?;
    if target as u32 == node.id {
        settle(packet, tables, scratch)?;
        return take::<FamilyV4, P, T>(packet, tables, scratch, Origin::OutsideHere);
    }
    let vtep = tables.vtep(target).ok_or(DropReason::NoUnderlay)?;
    scratch.flow.outer_port = encap::outer_port(scratch);
    route::size::<FamilyV4, P, T>(packet, tables, scratch, vtep.mtu as u32)?;
    rewrite::forward::<FamilyV4, P>(packet, scratch)?;
    encap::tunnel(packet, vtep, Envelope::of(scratch), &scratch.leaving)
}

/// An answer to the outside comes from the external interface, not from the VPC router.
#[inline(always)]
fn in_own_name<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Stage<Verdict> {
    let own = tables.outlet().ok_or(DropReason::NoGateway)?.own;
    packet.get_mut::<Ethernet>(0).ok_or(DropReason::NoRoom)?.source = own;
    Ok(Verdict::answer())
}

/// An inner frame from router to router: from outside to a port of this node, or to the outside by this gateway.
#[inline(always)]
pub fn tunnel<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    if scratch.flow.ethernet.ether_type == ether_type::IPV6 {
        global::from_router(packet, tables, scratch)?;
        global::settle(packet, tables, scratch)?;
        let origin = global::origin(scratch);
        return take::<FamilyV6, P, T>(packet, tables, scratch, origin);
    }
    from_router(packet, tables, scratch)?;
    settle(packet, tables, scratch)?;
    take::<FamilyV4, P, T>(packet, tables, scratch, Origin::Outside)
}

/// Finds out to whom such a frame goes: `scratch.inward`, or the end of its way where that is the outside.
#[inline(never)]
fn from_router<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    if scratch.flow.ethernet.ether_type != ether_type::IPV4 {
        return Err(DropReason::EtherType.into());
    }
    understand(packet, tables, scratch)?;
    if tables.external(&[scratch.flow.destination.0[3]]).is_none() {
        return Err(outbound(packet, tables, scratch).unwrap_or_else(|end| end));
    }
    nat::outside(packet, scratch, End::Destination)?;
    nat::resolve(tables, scratch)?;
    if scratch.inward.vpc != scratch.outer.vni {
        return Err(DropReason::NoMapping.into());
    }
    let own = tables.node().ok_or(DropReason::NoUnderlay)?.id;
    if scratch.inward.node as u32 != own && !moved::brought_along(tables, scratch) {
        return Err(follow(packet, tables, scratch).unwrap_or_else(|end| end));
    }
    Ok(())
}

/// Sends a packet after a guest that has left with its state: one to an external port of this node's slice, or one that the
/// guest sends by such a port to another external address. The node of the slice is asked, since all others compute it.
#[inline(never)]
fn follow<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    let sender = tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    let target = scratch.inward.node;
    if scratch.inward.left == 0 || !may_send::<FamilyV4, T>(tables, scratch, sender) {
        nat::outside(packet, scratch, End::Source)?;
        if !moved::has_left_for(tables, scratch, sender) {
            return Err(DropReason::NoMapping.into());
        }
    }
    pass_on(packet, tables, scratch, target)
}

/// Sends a frame from router to router on to another node, as it is.
#[inline(never)]
fn pass_on<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, node: u16) -> Stage<Verdict> {
    let vtep = tables.vtep(node).ok_or(DropReason::NoUnderlay)?;
    let mtu = vtep.mtu as u32;
    if packet.length() > mtu + size_of::<Ethernet>() as u32 && route::too_big(packet, scratch, mtu) {
        return Err(DropReason::TooBig.into());
    }
    let envelope = Envelope { vni: scratch.outer.vni, source_port: encap::outer_port(scratch), tos: scratch.flow.tos };
    encap::tunnel(packet, vtep, envelope, &scratch.flow.ethernet)
}

/// The packet up to its ports, those of a fragment too: it is followed in the share of the VPC whose external address it
/// comes from or goes to.
#[inline(always)]
fn understand<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    parse::datagram::<FamilyV4, P>(packet, scratch)?;
    if scratch.flow.flags & flow_flags::FRAGMENT != 0 {
        let flow = &scratch.flow;
        let of = |address: Ip| tables.external(&[address.0[3]]);
        let external = of(flow.destination).or_else(|| of(flow.source)).ok_or(DropReason::ExternalSource)?;
        datagram::follow(tables, scratch, Share::of_vpc(external.vpc_number), Side::Peer)?;
    }
    Ok(())
}

/// To the outside by this gateway, as it is: its owner has translated it and counted its TTL down.
#[inline(never)]
fn outbound<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    let sender = tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    let outlet = tables.outlet().ok_or(DropReason::NoGateway)?;
    nat::outside(packet, scratch, End::Source)?;
    let external = tables.external(&scratch.outside.address).filter(|external| external.vpc == scratch.outer.vni);
    let owner = external.map_or(0, |external| nat::owner(tables, &scratch.outside, external));
    let follows = owner != sender && external.is_some() && moved::has_left_for(tables, scratch, sender);
    if outlet.ifindex == 0 && !follows {
        return Err(DropReason::UnknownVni.into());
    }
    if owner != sender && !follows {
        return Err(DropReason::ExternalSource.into());
    }
    if FamilyV4::is_martian_destination(scratch.flow.destination) {
        return Err(DropReason::Martian.into());
    }
    if follows {
        // The port is this node's, and so gateways take it from this node only.
        let gateway = gateway_of(tables, scratch)?;
        if gateway as u32 != tables.node().ok_or(DropReason::NoUnderlay)?.id {
            return pass_on(packet, tables, scratch, gateway);
        }
    }
    if packet.length() > outlet.mtu + size_of::<Ethernet>() as u32 && route::too_big(packet, scratch, outlet.mtu) {
        return too_big::<FamilyV4, P, T>(packet, tables, scratch, outlet);
    }
    out(packet, outlet, outlet.next_hop)
}

/// Tells the sender of a packet to the outside that it is too large, by the tunnel that it came through.
#[inline(never)]
pub fn too_big<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    outlet: &Outlet,
) -> Stage<Verdict> {
    scratch.path_mtu = outlet.mtu;
    match packet.part::<F, T>(tables, scratch, Part::Trouble(Trouble::TooBig)) {
        Err(end) if end == Verdict::answer() => encap::back(packet, tables, scratch, scratch.outer.vni),
        Err(end) => Err(end),
        Ok(()) => Err(DropReason::TooBig.into()),
    }
}

/// Out of the external interface.
#[inline(always)]
pub fn out<P: Packet>(packet: &mut P, outlet: &Outlet, next_hop: Mac) -> Stage<Verdict> {
    if next_hop == Mac::default() {
        return Err(DropReason::NoGateway.into());
    }
    let ethernet = packet.get_mut::<Ethernet>(0).ok_or(DropReason::NoRoom)?;
    (ethernet.destination, ethernet.source) = (next_hop, outlet.own);
    Ok(Verdict::transmit(outlet.ifindex))
}

/// Finds the port of this node that `scratch.inward` leads to, and translates the packet for it.
#[inline(never)]
fn settle<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    if deliver::port(tables, scratch.inward.slot)?.vpc != scratch.inward.vpc {
        return Err(DropReason::NoMapping.into());
    }
    if scratch.flow.ttl <= 1 {
        return Err(DropReason::TtlExpired.into());
    }
    let (private, port) = (scratch.inward.private, scratch.inward.port);
    nat::replace(packet, scratch, End::Destination, private, port)?;
    FamilyV4::decrement_ttl(packet.get_mut(L3).ok_or(DropReason::Truncated)?);
    let flow = &mut scratch.flow;
    flow.destination = Ip::v4(Be32::from_raw(private[0]));
    if flow.destination_port != Be16::default() {
        flow.destination_port = port;
    }
    Ok(())
}

/// Asks whether the port takes the packet, by its own view of the flow, and hands it over.
#[inline(never)]
pub fn take<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    origin: Origin,
) -> Stage<Verdict> {
    hand_over::<F, P, T>(packet, tables, scratch, origin)
}

/// The same within its caller, for one that is deep in a chain of calls already.
#[inline(always)]
fn hand_over<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    origin: Origin,
) -> Stage<Verdict> {
    let slot = scratch.inward.slot;
    let port = deliver::port(tables, slot)?;
    session::begin(scratch, slot, port);
    if F::ICMP == FamilyV4::ICMP {
        scratch.flow.external = scratch.outside.address;
        scratch.flow.external_port = scratch.outside.port;
    }
    ingress::admit::<F, P, T>(packet, tables, scratch, port, origin)?;
    scratch.leaving = scratch.flow.ethernet;
    scratch.leaving.destination = port.mac;
    scratch.leaving.source = Mac::ROUTER;
    deliver::local(packet, slot, &scratch.leaving)
}

/// Decides how a packet of a guest gets to the outside: `scratch.hop` and `flow.external`.
#[inline(always)]
pub fn outwards<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    gateway: u32,
    known: Known,
) -> Stage {
    if nat::is_error(&scratch.flow) {
        nat::key_of_quoted(packet, scratch)?;
    }
    match nat::choose::<P, T>(tables, scratch, port, gateway, known) {
        Err(end) if end == Verdict::drop(DropReason::NatExhausted) => {
            let answered = packet.part::<FamilyV4, T>(tables, scratch, Part::Trouble(Trouble::NatExhausted));
            // Of many packets a few are answered: that is not what was wrong with the others.
            let limited = answered == Err(Verdict::drop(DropReason::IcmpRate));
            return if limited { Err(end) } else { answered };
        }
        chosen => chosen,
    }?;
    let own = tables.node().ok_or(DropReason::NoUnderlay)?.id;
    let mut how = Way::ROUTED.with(Way::TRANSLATED);
    let lender = moved::lender(tables, scratch);
    let target = if tables.external(&[scratch.flow.destination.0[3]]).is_some() {
        nat::outside(packet, scratch, End::Destination)?;
        nat::resolve(tables, scratch)?;
        how = how.with(Way::HAIRPIN).in_network(scratch.inward.vpc);
        scratch.inward.node
    } else {
        how = how.in_network(port.vpc);
        if lender == 0 { gateway_of(tables, scratch)? } else { lender }
    };
    // What the guest has brought along is known to the node of the slice, which everyone asks: see `follow`.
    let target = if lender == 0 { target } else { lender };
    let action = if target as u32 == own { Way::EXTERNAL } else { Way::TUNNEL };
    scratch.hop = Hop { destination: Mac::ROUTER, target, way: action.with(how) };
    Ok(())
}

/// The gateway of a flow.
#[inline(always)]
pub fn gateway_of<T: Tables>(tables: &T, scratch: &Scratch) -> Stage<u16> {
    let gateways = tables.gateways().ok_or(DropReason::NoGateway)?;
    match gateways.choose(encap::outer_port(scratch).get().into()) {
        0 => Err(DropReason::NoGateway.into()),
        gateway => Ok(gateway),
    }
}

/// The gateway that answers for an external address on a segment; 0 where none does.
#[inline(always)]
pub fn speaker(segment: &Gateways, address: &V4, external: &External) -> u16 {
    let owner = if external.kind == kind::ELASTIC { external.node } else { 0 };
    speaker_at(segment, Be32::from_raw(address[0]), owner)
}

/// The same by the last word of an address: the address's own node if it is one, which saves a tunnel.
#[inline(always)]
pub fn speaker_at(segment: &Gateways, last: Be32, owner: u16) -> u16 {
    if segment.lives(owner) { owner } else { segment.choose(last.get()) }
}

/// Sends a packet of a guest out of this node's external interface.
#[inline(never)]
pub fn leave<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    let outlet = tables.outlet().ok_or(DropReason::NoGateway)?;
    if outlet.ifindex == 0 {
        return Err(DropReason::NoGateway.into());
    }
    fits::<F, P, T>(packet, tables, scratch, outlet.mtu)?;
    rewrite::forward::<F, P>(packet, scratch)?;
    out(packet, outlet, if F::ICMP == FamilyV4::ICMP { outlet.next_hop } else { outlet.next_hop_v6 })
}

/// Hands a packet of a port of this node to one of this node, both by their external addresses. It stays the sender's: a
/// drop is counted there.
#[inline(always)]
pub fn hairpin<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage<Verdict> {
    if F::ICMP == FamilyV4::ICMP { turn(packet, tables, scratch) } else { global::turn(packet, tables, scratch) }?;
    let (sender, epoch) = (scratch.flow.slot, scratch.flow.epoch);
    let end = hand_over::<F, P, T>(packet, tables, scratch, Origin::OutsideHere);
    (scratch.flow.slot, scratch.flow.epoch) = (sender, epoch);
    end
}

/// Translates both ends of such a packet.
#[inline(never)]
fn turn<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    nat::outside(packet, scratch, End::Destination)?;
    nat::resolve(tables, scratch)?;
    if scratch.inward.left != 0 {
        return Err(DropReason::NoMapping.into());
    }
    let mtu = deliver::port(tables, scratch.inward.slot)?.mtu;
    fits::<FamilyV4, P, T>(packet, tables, scratch, mtu)?;
    let flow = &scratch.flow;
    let (address, external_port) = (flow.external, flow.external_port);
    nat::replace(packet, scratch, End::Source, address, external_port)?;
    let flow = &mut scratch.flow;
    flow.source = Ip::v4(Be32::from_raw(address[0]));
    if flow.source_port != Be16::default() {
        flow.source_port = external_port;
    }
    settle(packet, tables, scratch)
}

/// Whether the packet is small enough; its sender is told if not. What goes to the outside from here is not cut.
#[inline(always)]
pub fn fits<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, mtu: u32) -> Stage {
    if packet.length() > mtu + size_of::<Ethernet>() as u32 && route::too_big(packet, scratch, mtu) {
        scratch.path_mtu = mtu;
        return packet.part::<F, T>(tables, scratch, Part::Trouble(Trouble::TooBig));
    }
    Ok(())
}

/// Whether a node may send what comes from outside: a gateway, for its own external addresses their owner, and the node
/// from which the packet's receiver has brought its external port.
#[inline(never)]
pub fn may_send<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, node: u16) -> bool {
    if tables.gateways().is_some_and(|gateways| gateways.contains(node)) {
        return true;
    }
    if F::ICMP != FamilyV4::ICMP {
        // Over IPv6 the way to an address outside leads through a gateway.
        return false;
    }
    let flow = &scratch.flow;
    scratch.peer =
        ExternalPort { address: [flow.source.0[3]], protocol: flow.protocol, reserved: 0, port: flow.source_port };
    let owner = |key: &ExternalPort| tables.external(&key.address).map(|external| nat::owner(tables, key, external));
    owner(&scratch.peer) == Some(node) || owner(&scratch.outside) == Some(node)
}
