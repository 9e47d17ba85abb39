//! From bytes to what the tables are asked for.

use crate::{
    Packet, Scratch, Stage,
    family::{Family, L3},
    scratch::flow_flags,
};
use bytemuck::Pod;
use vpc_common::{
    Be16, DropReason,
    wire::{Ethernet, Icmp, L4Ports, Tcp, protocol},
};

/// The Ethernet header. The kernel takes VLAN tags out of a frame before TC sees it. What is asked of it at once should be
/// asked of what this returns: a copy is made in larger pieces than its fields, and to load one that spans two of them takes
/// until both have reached the cache.
#[inline(always)]
pub fn ethernet<'p, P: Packet>(packet: &'p P, scratch: &mut Scratch) -> Stage<&'p Ethernet> {
    if packet.has_vlan_tag() {
        return Err(DropReason::Vlan.into());
    }
    let header = packet.get::<Ethernet>(0).ok_or(DropReason::Truncated)?;
    scratch.flow.ethernet = *header;
    Ok(header)
}

/// The IP packet up to its ports.
#[inline(always)]
pub fn datagram<F: Family, P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
    F::parse(packet, scratch)?;
    let flow = &mut scratch.flow;
    flow.source_port = Be16::default();
    flow.destination_port = Be16::default();
    flow.icmp_type = 0;
    flow.icmp_code = 0;
    flow.tcp_flags = 0;
    if flow.flags & flow_flags::LATER_FRAGMENT != 0 {
        return Ok(());
    }
    match flow.protocol {
        protocol::TCP => {
            let tcp = *l4::<F, P, Tcp>(packet, scratch)?;
            let flow = &mut scratch.flow;
            flow.source_port = tcp.source;
            flow.destination_port = tcp.destination;
            flow.sequence = tcp.sequence.get();
            flow.acknowledgment = tcp.acknowledgment.get();
            flow.tcp_flags = tcp.flags;
        }
        protocol::UDP | protocol::SCTP => {
            let ports = *l4::<F, P, L4Ports>(packet, scratch)?;
            let flow = &mut scratch.flow;
            flow.source_port = ports.source;
            flow.destination_port = ports.destination;
        }
        p if p == F::ICMP => {
            let icmp = *l4::<F, P, Icmp>(packet, scratch)?;
            let flow = &mut scratch.flow;
            flow.icmp_type = icmp.kind;
            flow.icmp_code = icmp.code;
            // Who asks has the identifier: a reply finds the session of its request, a request never that of another.
            if icmp.kind == F::ECHO.0 {
                flow.source_port = icmp.id;
            } else if icmp.kind == F::ECHO.1 {
                flow.destination_port = icmp.id;
            } else {
                flow.flags |= flow_flags::UNTRACKED;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether UDP from that port comes from a DHCP or DHCPv6 server.
#[inline(always)]
pub fn is_dhcp_server(source: Be16) -> bool {
    source == Be16::new(67) || source == Be16::new(547)
}

/// The layer-4 header, which must lie within the IP packet: in its first fragment too (RFC 1858, RFC 7112).
#[inline(always)]
fn l4<'p, F: Family, P: Packet, H: Pod>(packet: &'p P, scratch: &Scratch) -> Stage<&'p H> {
    // Of UDP and SCTP more than the ports must be there.
    let minimum = if size_of::<H>() < 8 { 8 } else { size_of::<H>() };
    let at = scratch.flow.l4 as usize;
    if at + minimum > L3 + scratch.flow.l3_length as usize {
        let fragment = scratch.flow.flags & flow_flags::FRAGMENT != 0;
        return Err(if fragment { DropReason::BadFragment } else { DropReason::Truncated }.into());
    }
    let header = if at == F::L4 { packet.get::<H>(F::L4) } else { packet.get_at::<H>(at) };
    Ok(header.ok_or(DropReason::Truncated)?)
}
