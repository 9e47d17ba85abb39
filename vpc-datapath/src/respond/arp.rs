//! ARP (RFC 826): the gateway and every known endpoint are answered for, across nodes too.

use crate::{Packet, Scratch, Stage, Tables, Verdict, decide, external, family::L3, route, source_guard};
use vpc_common::{
    Be16, Be32, DropReason, Ip, Mac,
    endpoint::{Endpoint, flags as endpoint_flags},
    node::Node,
    port::{Port, flags},
    session::V4,
    wire::{Arp, Ethernet, ether_type},
};

const REQUEST: Be16 = Be16::new(1);
const REPLY: Be16 = Be16::new(2);

/// ARP from a port.
#[inline(never)]
pub fn request<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> Stage<Verdict> {
    parse(packet, scratch)?;
    sender_is_own(tables, scratch, port)?;
    if scratch.arp.operation == REPLY {
        return decide::bridge(packet, tables, scratch, port);
    }
    match known(tables, scratch, port) {
        Some(owner) if owner.mac != scratch.arp.sender_mac && scratch.arp.target != scratch.arp.sender => {
            write_reply(packet, scratch, &owner.mac)?;
            Ok(Verdict::answer())
        }
        // A probe or an announcement of its own (RFC 5227), or an address that wanders between instances: all hear it.
        _ => decide::bridge(packet, tables, scratch, port),
    }
}

/// ARP that a plain VTEP replicated to this node: the gateway answers, other questions are the workloads' own.
#[inline(always)]
pub fn asks_for_gateway<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
    parse(packet, scratch).is_ok()
        && scratch.arp.operation == REQUEST
        && known(tables, scratch, port).is_some_and(|owner| owner.flags & endpoint_flags::GATEWAY != 0)
}

/// Turns a request for the gateway into its reply, whoever asks.
#[inline(always)]
pub fn answer_for_gateway<P: Packet>(packet: &mut P, scratch: &Scratch) -> Stage {
    write_reply(packet, scratch, &Mac::ROUTER)
}

/// Turns a request for an external address of the fabric into its reply, if it is this gateway that speaks for it; the
/// rest is the host's. An announcement (RFC 5227 §3) asks nothing.
#[inline(always)]
pub fn asked_from_outside<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    node: &Node,
    own: Mac,
) -> Verdict {
    let asked = parse(packet, scratch).is_ok()
        && scratch.arp.operation == REQUEST
        && scratch.arp.sender != scratch.arp.target
        && is_own_to_answer(tables, &[scratch.arp.target.raw()], node);
    if asked && write_reply(packet, scratch, &own).is_ok() { Verdict::answer() } else { Verdict::punt() }
}

#[inline(never)]
fn is_own_to_answer<T: Tables>(tables: &T, address: &V4, node: &Node) -> bool {
    let (Some(external), Some(segment)) = (tables.external(address), tables.segment()) else { return false };
    external::speaker(segment, address, external) as u32 == node.id
}

#[inline(always)]
fn parse<P: Packet>(packet: &P, scratch: &mut Scratch) -> Stage {
    scratch.arp = *packet.get::<Arp>(L3).ok_or(DropReason::Truncated)?;
    let arp = &scratch.arp;
    let form = arp.hardware == Be16::new(1)
        && arp.protocol == ether_type::IPV4
        && arp.hardware_length == 6
        && arp.protocol_length == 4;
    if form && (arp.operation == REQUEST || arp.operation == REPLY) {
        Ok(())
    } else {
        Err(DropReason::ArpMalformed.into())
    }
}

#[inline(always)]
fn sender_is_own<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Stage {
    if port.flags & flags::ROUTER != 0 {
        return Ok(());
    }
    let (slot, sender) = (scratch.flow.slot, scratch.arp.sender);
    let probe = sender == Be32::default() && scratch.arp.operation == REQUEST;
    let own =
        scratch.arp.sender_mac == port.mac && (probe || source_guard::owns(tables, scratch, slot, Ip::v4(sender)));
    if own && !route::is_gateway(tables, scratch, port.vpc, Ip::v4(sender)) {
        Ok(())
    } else {
        Err(DropReason::ArpSpoof.into())
    }
}

/// Who has the target address in the port's own subnet.
#[inline(always)]
fn known<'t, T: Tables>(tables: &'t T, scratch: &mut Scratch, port: &Port) -> Option<&'t Endpoint> {
    let endpoint = route::endpoint(tables, scratch, port.vpc, Ip::v4(scratch.arp.target))?;
    (endpoint.subnet == port.subnet && endpoint.flags & endpoint_flags::BROADCAST == 0).then_some(endpoint)
}

/// Turns the request into its reply.
#[inline(always)]
fn write_reply<P: Packet>(packet: &mut P, scratch: &Scratch, mac: &Mac) -> Stage {
    let request = &scratch.arp;
    let arp = packet.get_mut::<Arp>(L3).ok_or(DropReason::Truncated)?;
    arp.operation = REPLY;
    arp.sender_mac = *mac;
    arp.sender = request.target;
    arp.target_mac = request.sender_mac;
    arp.target = request.sender;
    let ethernet = packet.get_mut::<Ethernet>(0).ok_or(DropReason::Truncated)?;
    ethernet.destination = request.sender_mac;
    ethernet.source = *mac;
    Ok(())
}
