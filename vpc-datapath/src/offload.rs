//! What workloads leave to their interface, and no program can do for them: cutting the segments of a GSO frame, and
//! finishing a checksum of which only the pseudo header's part is there.
//!
//! Before such a packet is cut, the kernel must do it. So the packet is sent, as it is, into the node's offload device: a
//! veth without offloads, before which the kernel does all that itself. What comes out at its other end takes the way of
//! its sender's packets once more, and is cut like any other.

use crate::{
    Packet, Part, Scratch, Stage, Tables, Verdict, checksum,
    family::Family,
    respond::Trouble,
    route,
    scratch::{Flow, Outer, flow_flags},
    session,
};
use vpc_common::{
    Be16, DropReason,
    offload::Mark,
    port::{Port, UNDERLAY_SLOT},
    session::{Session, Way, decided},
    wire::{Ethernet, protocol},
};

/// Whether an IPv4 packet that must be cut has to go this way first.
#[inline(always)]
pub fn is_needed<P: Packet>(packet: &P, scratch: &Scratch) -> bool {
    !packet.is_finished() && (packet.gso_size() != 0 || is_begun(packet, scratch))
}

#[inline(never)]
fn is_begun<P: Packet>(packet: &P, scratch: &Scratch) -> bool {
    scratch.flow.flags & flow_flags::FRAGMENT == 0 && checksum_is_begun(packet, &scratch.flow)
}

/// Sends a packet there that must be cut, and unless it is TCP from then on all of its flow, so that they stay in order
/// (always `Err`). Where there is no such device its sender is told to make smaller ones, although it did not ask to be.
#[inline(never)]
pub fn send<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    let device = tables.node().ok_or(DropReason::NoUnderlay)?.offload;
    let slot = scratch.flow.slot;
    if device == 0 {
        return packet.part::<F, T>(tables, scratch, Part::Trouble(Trouble::TooBig));
    }
    if slot != UNDERLAY_SLOT {
        let (length, hop) = (packet.length(), scratch.hop);
        // TCP puts itself in order, and what it sends in segments need not come here: see `route::size`.
        let also = if scratch.flow.protocol == protocol::TCP { Way::default() } else { Way::OFFLOAD };
        sender::<F, T>(tables, scratch, length, |session| session.way = session.way.with(also));
        if hop.way.is_local() && scratch.flow.vouched_epoch == 0 {
            // The neighbour's session has seen it too.
            session::key_of_receiver::<F>(scratch, hop.target);
            tables.session(F::key(&scratch.keys), |session| {
                session.received_packets = session.received_packets.wrapping_sub(1);
                session.received_bytes = session.received_bytes.wrapping_sub(length as u64);
            });
        }
    }
    Err(enter(packet, device, slot))
}

/// Sends a packet after others of its flow that have gone there.
#[inline(never)]
pub fn follow<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Verdict {
    let device = tables.node().map_or(0, |node| node.offload);
    let (length, slot) = (packet.length(), scratch.flow.slot);
    if device == 0 {
        sender::<F, T>(tables, scratch, length, |session| session.decided &= !decided::EGRESS);
        return DropReason::NoOffload.into();
    }
    sender::<F, T>(tables, scratch, length, |_| ());
    enter(packet, device, slot)
}

/// Which VTEP a packet comes from that was sent to the router: its outer headers are forgotten on the way. The node that has
/// its source, since it was let in by that (`decide::plain_vtep_speaks_for`), and is asked about it once more.
#[inline(never)]
pub fn recall_vtep<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Stage {
    let source = scratch.flow.source;
    let node = route::endpoint(tables, scratch, port.vpc, source).ok_or(DropReason::SourceAddress)?.node;
    let vtep = tables.vtep(node).ok_or(DropReason::NoUnderlay)?;
    scratch.outer = Outer { source: vtep.address, vni: port.l2_vni, ..Outer::default() };
    Ok(())
}

#[inline(always)]
fn enter<P: Packet>(packet: &mut P, device: u32, slot: u16) -> Verdict {
    packet.mark(Mark::of(slot));
    Verdict::offload(device)
}

/// Takes back what the packet at hand has added to the counters of its sender's session, since it will come once more, and
/// changes that session. What the packet did to its state it does again without harm, as a retransmission would.
#[inline(always)]
fn sender<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, length: u32, change: impl FnOnce(&mut Session)) {
    session::key_of_sender::<F>(scratch, scratch.flow.slot);
    tables.session(F::key(&scratch.keys), |session| {
        session.sent_packets = session.sent_packets.wrapping_sub(1);
        session.sent_bytes = session.sent_bytes.wrapping_sub(length as u64);
        change(session);
    });
}

/// Whether the checksum of TCP or UDP is only that of the pseudo header, of what is no fragment. One in 65,536 that are whole
/// looks so too, and loses nothing by the way round.
#[inline(always)]
pub fn checksum_is_begun<P: Packet>(packet: &P, flow: &Flow) -> bool {
    let field = match flow.protocol {
        protocol::UDP => 6,
        protocol::TCP => 16,
        _ => return false,
    };
    let length = (flow.l3_length as u32 + size_of::<Ethernet>() as u32).wrapping_sub(flow.l4 as u32) as u16;
    let mut pseudo = (flow.protocol as u16).to_be() as u64 + length.to_be() as u64;
    let mut i = 0;
    while i < 4 {
        // Of IPv4 the words before the address are 0 and 0xffff, which is 0 in such a sum.
        pseudo += flow.source.0[i] as u64 + flow.destination.0[i] as u64;
        i += 1;
    }
    let checksum = packet.get_at::<Be16>(flow.l4 as usize + field);
    checksum.is_some_and(|checksum| checksum.raw() == checksum::fold(pseudo))
}
