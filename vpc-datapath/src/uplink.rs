//! What arrives from the underlay: is it tunnel traffic, is it sound, and where does it go on.

use crate::{
    Packet, Stage, Tables, Verdict,
    deliver::locate,
    rewrite::{DscpModel, decapsulated_tos},
    scratch::Outer,
};
use vpc_common::{
    Be16, DropReason, Ip, Mac, Vni, bfd,
    limits::{OVERHEAD_V4, OVERHEAD_V6, VXLAN_PORT},
    locate::LocateKey,
    node::{Node, flags as node_flags},
    port::{Port, flags as port_flags},
    wire::{Ethernet, Ipv4, Ipv6, Udp, Vxlan, ether_type, protocol},
};

const ETHERNET: usize = size_of::<Ethernet>();

/// Where a sound tunnel packet goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way<'t> {
    /// Through the pipeline, here: to that port, in that slot.
    Here(u16, &'t Port),
    /// Through the tunnel device, whose receive offload merges TCP, and where a packet can be copied.
    TunnelDevice,
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Tunnel traffic whose outer headers are sound.
    Tunnel,
    /// It is the host's.
    Host,
    /// It asks whether this node is alive: for [`crate::reflector`].
    Probe,
}

/// Checks the outer headers and takes them into `outer`.
#[inline(always)]
pub fn outer<P: Packet>(packet: &P, node: &Node, outer: &mut Outer) -> Stage<Kind> {
    let Some(ethernet) = packet.get::<Ethernet>(0) else { return Ok(Kind::Host) };
    match ethernet.ether_type {
        ether_type::IPV4 => outer_v4(packet, node, outer),
        ether_type::IPV6 => outer_v6(packet, node, outer),
        _ => Ok(Kind::Host),
    }
}

#[inline(always)]
fn outer_v4<P: Packet>(packet: &P, node: &Node, outer: &mut Outer) -> Stage<Kind> {
    let Some(ip) = packet.get::<Ipv4>(ETHERNET) else { return Ok(Kind::Host) };
    if ip.protocol != protocol::UDP || Ip::v4(ip.destination) != node.vtep {
        return Ok(Kind::Host);
    }
    // With options, the UDP header is not where it is looked for: the kernel's tunnel socket must not see it unchecked.
    if ip.version_ihl != 0x45 {
        return Err(DropReason::OuterHeader.into());
    }
    let fragment = ip.fragment.get();
    if fragment & Ipv4::OFFSET != 0 {
        return Err(DropReason::OuterFragment.into());
    }
    outer.source = Ip::v4(ip.source);
    outer.tos = ip.tos;
    outer.overhead = OVERHEAD_V4;
    let kind = vxlan::<P>(packet, ETHERNET + size_of::<Ipv4>(), outer)?;
    if kind != Kind::Host && fragment & Ipv4::MF != 0 {
        return Err(DropReason::OuterFragment.into());
    }
    Ok(kind)
}

#[inline(always)]
fn outer_v6<P: Packet>(packet: &P, node: &Node, outer: &mut Outer) -> Stage<Kind> {
    let Some(ip) = packet.get::<Ipv6>(ETHERNET) else { return Ok(Kind::Host) };
    if Ip::from_bytes(ip.destination) != node.vtep {
        return Ok(Kind::Host);
    }
    match ip.next_header {
        protocol::UDP => {}
        protocol::FRAGMENT => return Err(DropReason::OuterFragment.into()),
        protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS | protocol::ROUTING => {
            return Err(DropReason::OuterHeader.into());
        }
        _ => return Ok(Kind::Host),
    }
    outer.source = Ip::from_bytes(ip.source);
    outer.tos = (ip.version_class_flow.get() >> 20) as u8;
    outer.overhead = OVERHEAD_V6;
    vxlan::<P>(packet, ETHERNET + size_of::<Ipv6>(), outer)
}

/// The VXLAN header behind a UDP header to its port. A probe is told by its port, which only other packets are asked for.
#[inline(always)]
fn vxlan<P: Packet>(packet: &P, udp_at: usize, outer: &mut Outer) -> Stage<Kind> {
    let udp = packet.get::<Udp>(udp_at).ok_or(DropReason::OuterHeader)?;
    if udp.destination != Be16::new(VXLAN_PORT) {
        return Ok(if udp.destination == Be16::new(bfd::PORT) { Kind::Probe } else { Kind::Host });
    }
    let vxlan = packet.get::<Vxlan>(udp_at + size_of::<Udp>()).ok_or(DropReason::OuterHeader)?;
    if vxlan.flags & Vxlan::I == 0 {
        return Err(DropReason::VxlanFlags.into());
    }
    outer.vni = Vni::from_wire(vxlan.vni);
    Ok(Kind::Tunnel)
}

/// Where the packet goes on, after the checks that need the inner frame. A port is reached from here if it has the flags
/// `reach`.
#[inline(always)]
pub fn way<'t, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &'t T,
    node: &Node,
    outer: &Outer,
    reach: u32,
) -> Stage<Way<'t>> {
    if outer.overhead == OVERHEAD_V4 {
        way_at::<P, T, { OVERHEAD_V4 as usize }>(packet, tables, node, outer, reach)
    } else {
        way_at::<P, T, { OVERHEAD_V6 as usize }>(packet, tables, node, outer, reach)
    }
}

#[inline(always)]
fn way_at<'t, P: Packet, T: Tables, const INNER: usize>(
    packet: &mut P,
    tables: &'t T,
    node: &Node,
    outer: &Outer,
    reach: u32,
) -> Stage<Way<'t>> {
    packet.pull((INNER + ETHERNET + size_of::<Ipv6>()) as u32);
    let inner = packet.get::<Ethernet>(INNER).ok_or(DropReason::Truncated)?;
    if inner.destination.is_group() {
        return Ok(Way::TunnelDevice);
    }
    let (tos, is_tcp) = match inner.ether_type {
        ether_type::IPV4 => {
            let ip = packet.get::<Ipv4>(INNER + ETHERNET).ok_or(DropReason::Truncated)?;
            (ip.tos, ip.protocol == protocol::TCP)
        }
        ether_type::IPV6 => {
            let ip = packet.get::<Ipv6>(INNER + ETHERNET).ok_or(DropReason::Truncated)?;
            ((ip.version_class_flow.get() >> 20) as u8, ip.next_header == protocol::TCP)
        }
        _ => return Ok(Way::TunnelDevice),
    };
    decapsulated_tos(tos, outer.tos, model(node)).ok_or(DropReason::EcnMark)?;
    if is_tcp || inner.destination == Mac::ROUTER && inner.source == Mac::ROUTER {
        return Ok(Way::TunnelDevice);
    }
    let slot = locate(tables, LocateKey::endpoint(outer.vni, inner.destination)).ok_or(DropReason::UnknownVni)?;
    let port = tables.port(slot).ok_or(DropReason::UnknownVni)?;
    let here = port.flags & (reach | port_flags::ROUTER) == reach;
    Ok(if here { Way::Here(slot, port) } else { Way::TunnelDevice })
}

/// Makes the outer headers ones that the kernel's tunnel socket takes: it refuses reserved bits that RFC 7348 §5 says to
/// ignore, and verifies a checksum that need not be.
#[inline(always)]
pub fn normalise<P: Packet>(packet: &mut P, outer: &Outer) -> Stage<Verdict> {
    // A GSO frame, in which a bit must be cleared, the kernel takes out by itself.
    if packet.gso_size() == 0 {
        packet.unshare();
    }
    if outer.overhead == OVERHEAD_V4 {
        normalise_at::<P, { OVERHEAD_V4 as usize }>(packet, outer)
    } else {
        normalise_at::<P, { OVERHEAD_V6 as usize }>(packet, outer)
    }
}

#[inline(always)]
fn normalise_at<P: Packet, const INNER: usize>(packet: &mut P, outer: &Outer) -> Stage<Verdict> {
    let udp = packet.get_mut::<Udp>(INNER - size_of::<Vxlan>() - size_of::<Udp>()).ok_or(DropReason::OuterHeader)?;
    if udp.checksum != Be16::default() {
        udp.checksum = Be16::default();
    }
    let vxlan = packet.get_mut::<Vxlan>(INNER - size_of::<Vxlan>()).ok_or(DropReason::OuterHeader)?;
    let plain = Vxlan { flags: Vxlan::I, reserved: [0; 3], vni: outer.vni.wire() };
    if *vxlan != plain {
        *vxlan = plain;
    }
    Ok(Verdict::punt())
}

/// The node's DSCP model.
#[inline(always)]
pub fn model(node: &Node) -> DscpModel {
    if node.flags & node_flags::DSCP_UNIFORM != 0 { DscpModel::Uniform } else { DscpModel::Pipe }
}
