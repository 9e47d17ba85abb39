//! A packet's way from a port: the whole pipeline.

use crate::{
    Packet, Part, Scratch, Stage, Tables, Verdict,
    conntrack::Side,
    datagram, decide, deliver, encap,
    encap::Envelope,
    external,
    family::{Family, FamilyV4, FamilyV6},
    neighbour, offload, parse, respond, rewrite, route,
    scratch::flow_flags,
    session, source_guard,
};
use vpc_common::{
    DropReason,
    datagram::Share,
    port::{Port, flags},
    wire::ether_type,
};

/// What becomes of a frame that the workload in `slot` sends.
#[inline(always)]
pub fn egress<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    slot: u16,
    port: &Port,
) -> Verdict {
    session::begin(scratch, slot, port);
    match frame(packet, tables, scratch, port) {
        Ok(verdict) | Err(verdict) if verdict == Verdict::answer() && port.flags & flags::ROUTER != 0 => {
            encap::answer(packet, tables, scratch, port).unwrap_or_else(|end| end)
        }
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn frame<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> Stage<Verdict> {
    source_guard::mac(port, parse::ethernet(packet, scratch)?)?;
    match scratch.flow.ethernet.ether_type {
        ether_type::IPV4 => ip::<FamilyV4, P, T>(packet, tables, scratch, port),
        ether_type::IPV6 => ip::<FamilyV6, P, T>(packet, tables, scratch, port),
        ether_type::ARP => respond::arp::request(packet, tables, scratch, port),
        ether_type::VLAN | ether_type::QINQ => Err(DropReason::Vlan.into()),
        _ => decide::other(packet, tables, scratch, port),
    }
}

#[inline(always)]
fn ip<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Stage<Verdict> {
    parse::datagram::<F, P>(packet, scratch)?;
    if port.flags & flags::ROUTER != 0 {
        if packet.is_finished() {
            offload::recall_vtep(tables, scratch, port)?;
        }
        decide::plain_vtep_speaks_for(tables, scratch, port)?;
    }
    if scratch.flow.flags & flow_flags::FRAGMENT != 0 {
        datagram::follow(tables, scratch, Share::of_port(scratch.flow.slot), Side::Guest)?;
    }
    session::key_of_sender::<F>(scratch, scratch.flow.slot);
    if !session::established::<F, P, T>(packet, tables, scratch, port) {
        packet.part::<F, T>(tables, scratch, Part::DecideEgress)?;
    }
    route::time_to_live::<F, P, T>(packet, tables, scratch)?;
    if packet.is_finished() {
        scratch.hop.way = scratch.hop.way.behind_offload();
    }
    let target = scratch.hop.target;
    if scratch.hop.way.is_tunnel() {
        let vtep = tables.vtep(target).ok_or(DropReason::NoUnderlay)?;
        route::size::<F, P, T>(packet, tables, scratch, vtep.mtu as u32)?;
        rewrite::forward::<F, P>(packet, scratch)?;
        encap::tunnel(packet, vtep, Envelope::of(scratch), &scratch.leaving)
    } else if scratch.hop.way.is_external() {
        if scratch.hop.way.is_hairpin() {
            packet.part::<F, T>(tables, scratch, Part::Hairpin).and(Err(DropReason::NoMapping.into()))
        } else {
            external::leave::<F, P, T>(packet, tables, scratch)
        }
    } else if scratch.hop.way.is_offload() {
        Err(offload::follow::<F, P, T>(packet, tables, scratch))
    } else {
        let receiver = deliver::port(tables, target)?;
        if !neighbour::is_vouched_for(&scratch.flow, receiver) {
            neighbour::admit::<F, P, T>(packet, tables, scratch, target, receiver)?;
        }
        route::size::<F, P, T>(packet, tables, scratch, receiver.mtu)?;
        rewrite::forward::<F, P>(packet, scratch)?;
        deliver::local(packet, target, &scratch.leaving)
    }
}
