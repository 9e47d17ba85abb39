//! From bytes to what the tables are asked for.

use crate::{
    Packet, Scratch, Stage,
    family::{Family, L3},
    scratch::flow_flags,
};
use bytemuck::Pod;
use vpc_common::{
    Be16, DropReason,
    wire::{Ethernet, Icmp, L4Ports, protocol},
};

/// Bytes of TCP's header, which a first fragment must hold (RFC 1858 §3).
const TCP_HEADER: u32 = 20;

/// The Ethernet header. The kernel takes VLAN tags out of a frame before TC sees it.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &P, scratch: &mut Scratch) -> Stage {
    if packet.has_vlan_tag() {
        return Err(DropReason::Vlan.into());
    }
    scratch.flow.ethernet = *packet.get::<Ethernet>(0).ok_or(DropReason::Truncated)?;
    Ok(())
}

/// The IP packet up to its ports.
#[inline(always)]
pub fn datagram<F: Family, P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
    F::parse(packet, scratch)?;
    let flow = &mut scratch.flow;
    flow.source_port = Be16::default();
    flow.destination_port = Be16::default();
    flow.icmp_type = 0;
    if flow.flags & flow_flags::LATER_FRAGMENT != 0 {
        return Ok(());
    }
    match flow.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let ports = *l4::<F, P, L4Ports>(packet, scratch)?;
            let flow = &mut scratch.flow;
            if flow.flags & flow_flags::FRAGMENT == 0 {
                flow.source_port = ports.source;
                flow.destination_port = ports.destination;
            } else if flow.protocol == protocol::UDP && is_dhcp_server(ports.source) {
                // Fragments are one flow whatever their ports, so what a port may not say is refused here.
                return Err(DropReason::BadFragment.into());
            } else if flow.protocol == protocol::TCP && flow.l4 as u32 + TCP_HEADER > L3 as u32 + flow.l3_length as u32
            {
                return Err(DropReason::BadFragment.into());
            }
        }
        p if p == F::ICMP => {
            let icmp = *l4::<F, P, Icmp>(packet, scratch)?;
            let flow = &mut scratch.flow;
            flow.icmp_type = icmp.kind;
            if icmp.kind != F::ECHO.0 && icmp.kind != F::ECHO.1 {
                flow.flags |= flow_flags::UNTRACKED;
            } else if flow.flags & flow_flags::FRAGMENT == 0 {
                flow.source_port = icmp.id;
                flow.destination_port = icmp.id;
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
    const MINIMUM: usize = 8;
    let at = scratch.flow.l4 as usize;
    if at + MINIMUM > L3 + scratch.flow.l3_length as usize {
        let fragment = scratch.flow.flags & flow_flags::FRAGMENT != 0;
        return Err(if fragment { DropReason::BadFragment } else { DropReason::Truncated }.into());
    }
    let header = if at == F::L4 { packet.get::<H>(F::L4) } else { packet.get_at::<H>(at) };
    Ok(header.ok_or(DropReason::Truncated)?)
}
