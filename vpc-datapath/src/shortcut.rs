//! From a port in packet-rate mode, at XDP: what an established flow sends into the tunnel goes there before the kernel has
//! made a socket buffer of it. Everything else goes on as it came, to [`crate::egress`] at TC; nothing is decided here, and
//! nothing dropped that would not be dropped there.

use crate::{
    Packet, Scratch, Stage, Tables, Verdict, encap,
    encap::Envelope,
    family::{Family, FamilyV4, FamilyV6},
    offload, parse, rewrite,
    scratch::{Flow, flow_flags},
    session, source_guard,
};
use vpc_common::{
    Be16, DropReason,
    port::Port,
    session::Session,
    wire::{Ethernet, ether_type},
};

const ETHERNET: u32 = size_of::<Ethernet>() as u32;

/// What becomes of a frame that the workload in `slot` sends; a punt, untouched and uncounted, if it takes the long way.
#[inline(always)]
pub fn shortcut<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    slot: u16,
    port: &Port,
) -> Verdict {
    session::begin(scratch, slot, port);
    match prepare(packet, scratch, port) {
        Ok(ether_type::IPV4) => into_tunnel::<FamilyV4, P, T>(packet, tables, scratch, port),
        Ok(ether_type::IPV6) => into_tunnel::<FamilyV6, P, T>(packet, tables, scratch, port),
        _ => Ok(Verdict::punt()),
    }
    .unwrap_or_else(|end| end)
}

#[inline(always)]
fn prepare<P: Packet>(packet: &P, scratch: &mut Scratch, port: &Port) -> Stage<Be16> {
    source_guard::mac(port, parse::ethernet(packet, scratch)?)?;
    Ok(scratch.flow.ethernet.ether_type)
}

#[inline(always)]
fn into_tunnel<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Stage<Verdict> {
    let understood = parse::datagram::<F, P>(packet, scratch).is_ok();
    let flow = &scratch.flow;
    // A checksum that the workload leaves to its interface: of what XDP sends on, nobody finishes it.
    if !understood
        || flow.flags & flow_flags::FRAGMENT != 0
        || flow.ttl <= 1
        || offload::checksum_is_begun(packet, flow)
    {
        return Ok(Verdict::punt());
    }
    session::key_of_sender::<F>(scratch, scratch.flow.slot);
    let length = packet.length();
    let by_tunnel = |session: &Session, _: &mut Flow, _: u16| {
        session.way.is_tunnel()
            && tables.vtep(session.target).is_some_and(|v| v.next_hop_count != 0 && length <= v.mtu as u32 + ETHERNET)
    };
    // The session is not touched unless the packet goes this way.
    if !session::established_by::<F, P, T>(packet, tables, scratch, port, by_tunnel) {
        return Ok(Verdict::punt());
    }
    let vtep = tables.vtep(scratch.hop.target).ok_or(DropReason::NoUnderlay)?;
    rewrite::forward::<F, P>(packet, scratch)?;
    encap::tunnel(packet, vtep, Envelope::of(scratch), &scratch.leaving)
}
