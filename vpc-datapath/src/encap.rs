//! Into the tunnel: the outer headers (RFC 7348 §5), from the VTEP's ready-made ones.

use crate::{Packet, Scratch, Stage, Tables, Verdict, checksum};
use bytemuck::from_bytes;
use vpc_common::{
    Be16, Be32, DropReason, Vni,
    limits::{OVERHEAD_V4, OVERHEAD_V6},
    port::Port,
    vtep::{NextHop, Vtep},
    wire::{Ethernet, OuterV4, OuterV6, Udp, Vxlan, ether_type},
};

const ETHERNET: u16 = size_of::<Ethernet>() as u16;
const UDP_VXLAN: u16 = (size_of::<Udp>() + size_of::<Vxlan>()) as u16;

/// What the tunnel needs to know besides the VTEP.
#[derive(Clone, Copy)]
pub struct Envelope {
    /// VNI to send in.
    pub vni: Vni,
    /// Outer UDP source port.
    pub source_port: Be16,
    /// TOS or traffic class of the inner packet.
    pub tos: u8,
}

impl Envelope {
    /// For the packet at hand, by its decision.
    #[inline(always)]
    pub fn of(scratch: &Scratch) -> Self {
        Self { vni: scratch.hop.way.vni(), source_port: scratch.flow.outer_port, tos: scratch.flow.tos }
    }
}

/// Puts the frame, whose Ethernet header becomes `inner`, into a packet to `vtep`, and says where to send it.
#[inline(always)]
pub fn tunnel<P: Packet>(packet: &mut P, vtep: &Vtep, envelope: Envelope, inner: &Ethernet) -> Stage<Verdict> {
    let frame = packet.length();
    packet.encapsulate(vtep.overhead as u32).map_err(|_| DropReason::NoRoom)?;
    headers(packet, vtep, envelope, inner, frame)
}

/// The same for a packet that is resized afterwards. It must be of IP and have no segments to come: the kernel does not
/// learn that it is encapsulated, since it refuses to resize one that is (`bpf_skb_change_tail`: ENOTSUPP, Linux 6.18).
#[inline(always)]
pub fn resizable<P: Packet>(packet: &mut P, vtep: &Vtep, envelope: Envelope, inner: &Ethernet) -> Stage<Verdict> {
    let frame = packet.length();
    packet.insert_l3(vtep.overhead as u32).map_err(|_| DropReason::NoRoom)?;
    headers(packet, vtep, envelope, inner, frame)
}

#[inline(always)]
fn headers<P: Packet>(packet: &mut P, vtep: &Vtep, envelope: Envelope, inner: &Ethernet, frame: u32) -> Stage<Verdict> {
    if vtep.overhead as u32 == OVERHEAD_V4 {
        *packet.get_mut(OVERHEAD_V4 as usize).ok_or(DropReason::NoRoom)? = *inner;
    } else {
        *packet.get_mut(OVERHEAD_V6 as usize).ok_or(DropReason::NoRoom)? = *inner;
    }
    outer(packet, vtep, envelope, frame)
}

/// The same packet to another VTEP of the same family.
#[inline(always)]
pub fn again<P: Packet>(packet: &mut P, vtep: &Vtep, envelope: Envelope) -> Stage<Verdict> {
    let frame = packet.length() - vtep.overhead as u32;
    outer(packet, vtep, envelope, frame)
}

/// Writes the outer headers of an inner frame of `frame` bytes. The length of a GSO frame may wrap round: its segments
/// get their own.
#[inline(always)]
fn outer<P: Packet>(packet: &mut P, vtep: &Vtep, envelope: Envelope, frame: u32) -> Stage<Verdict> {
    let next_hop = next_hop(vtep, envelope.source_port)?;
    let frame = frame as u16;
    let tos = envelope.tos & vtep.tos_mask as u8;
    if vtep.overhead as u32 == OVERHEAD_V4 {
        ethernet(packet, next_hop, ether_type::IPV4)?;
        let outer = packet.get_mut::<OuterV4>(ETHERNET as usize).ok_or(DropReason::NoRoom)?;
        *outer = *from_bytes(&vtep.header[..size_of::<OuterV4>()]);
        let length = frame.wrapping_add(OVERHEAD_V4 as u16 - ETHERNET);
        let tos_word = u16::from_ne_bytes([0, tos]) as u64;
        let sum = !outer.ip.checksum.raw() as u64 + length.to_be() as u64 + tos_word;
        outer.ip.tos = tos;
        outer.ip.checksum = Be16::from_raw(!checksum::fold(sum));
        outer.ip.total_length = Be16::new(length);
        udp_vxlan(&mut outer.udp, &mut outer.vxlan, envelope, frame);
    } else {
        ethernet(packet, next_hop, ether_type::IPV6)?;
        let outer = packet.get_mut::<OuterV6>(ETHERNET as usize).ok_or(DropReason::NoRoom)?;
        *outer = *from_bytes(&vtep.header[..size_of::<OuterV6>()]);
        outer.ip.version_class_flow = Be32::new(6 << 28 | (tos as u32) << 20);
        outer.ip.payload_length = Be16::new(frame.wrapping_add(UDP_VXLAN));
        udp_vxlan(&mut outer.udp, &mut outer.vxlan, envelope, frame);
    }
    Ok(Verdict::transmit(next_hop.ifindex))
}

/// Corrects the outer lengths after the inner frame has become `frame` bytes long.
#[inline(always)]
pub fn set_frame_length<P: Packet>(packet: &mut P, overhead: u32, frame: u32) -> Stage {
    let frame = frame as u16;
    if overhead == OVERHEAD_V4 {
        let outer = packet.get_mut::<OuterV4>(ETHERNET as usize).ok_or(DropReason::NoRoom)?;
        let length = Be16::new(frame + OVERHEAD_V4 as u16 - ETHERNET);
        outer.ip.checksum = checksum::update(outer.ip.checksum, outer.ip.total_length.raw(), length.raw());
        outer.ip.total_length = length;
        outer.udp.length = Be16::new(frame + UDP_VXLAN);
    } else if overhead == OVERHEAD_V6 {
        let outer = packet.get_mut::<OuterV6>(ETHERNET as usize).ok_or(DropReason::NoRoom)?;
        outer.ip.payload_length = Be16::new(frame + UDP_VXLAN);
        outer.udp.length = Be16::new(frame + UDP_VXLAN);
    }
    Ok(())
}

/// Sends an answer back to the plain VTEP that the question came from: the router's own port has no wire of its own.
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> Stage<Verdict> {
    back(packet, tables, scratch, port.l2_vni)
}

/// Sends a frame that was made of one from the tunnel back to where that came from.
#[inline(never)]
pub fn back<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, vni: Vni) -> Stage<Verdict> {
    let node = tables.vtep_id(&scratch.outer.source).ok_or(DropReason::UnknownVtep)?;
    let vtep = tables.vtep(node).ok_or(DropReason::NoUnderlay)?;
    scratch.leaving = *packet.get::<Ethernet>(0).ok_or(DropReason::Truncated)?;
    let envelope = Envelope { vni, source_port: outer_port(scratch), tos: 0 };
    tunnel(packet, vtep, envelope, &scratch.leaving)
}

/// The next hop in the underlay, by the flow's hash.
#[inline(always)]
fn next_hop(vtep: &Vtep, source_port: Be16) -> Stage<&NextHop> {
    match vtep.next_hop_count {
        0 => Err(DropReason::NoUnderlay.into()),
        1 => Ok(&vtep.next_hops[0]),
        count => Ok(&vtep.next_hops[(source_port.get() % count) as usize & (vtep.next_hops.len() - 1)]),
    }
}

#[inline(always)]
fn ethernet<P: Packet>(packet: &mut P, next_hop: &NextHop, ether_type: Be16) -> Stage {
    let ethernet = packet.get_mut::<Ethernet>(0).ok_or(DropReason::NoRoom)?;
    ethernet.destination = next_hop.destination;
    ethernet.source = next_hop.source;
    ethernet.ether_type = ether_type;
    Ok(())
}

#[inline(always)]
fn udp_vxlan(udp: &mut Udp, vxlan: &mut Vxlan, envelope: Envelope, frame: u16) {
    udp.source = envelope.source_port;
    udp.length = Be16::new(frame.wrapping_add(UDP_VXLAN));
    vxlan.vni = envelope.vni.wire();
}

/// The outer UDP source port of frames that are not IP.
pub const NOT_IP: Be16 = Be16::new(0xc000);

/// The outer UDP source port of the packet's flow, in 49152..65535 (RFC 7348 §5).
#[inline(always)]
pub fn outer_port(scratch: &Scratch) -> Be16 {
    let flow = &scratch.flow;
    if flow.ethernet.ether_type != ether_type::IPV4 && flow.ethernet.ether_type != ether_type::IPV6 {
        // No addresses were read from it.
        return NOT_IP;
    }
    let ports = (flow.source_port.raw() as u64) << 16 | flow.destination_port.raw() as u64;
    let mut h = ports << 8 | flow.protocol as u64;
    let mut i = 0;
    while i < 4 {
        h = (h ^ (flow.source.0[i] as u64) << 32 ^ flow.destination.0[i] as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 29;
        i += 1;
    }
    Be16::new(0xc000 | (h >> 32) as u16 & 0x3fff)
}
