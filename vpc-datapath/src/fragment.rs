//! Fragmentation (RFC 791 §3.2) of what is larger than the path and may be cut: whole fragments in order, never outer ones.

use crate::{
    Packet, Scratch, Stage, Tables, Verdict, checksum, deliver, encap,
    encap::Envelope,
    family::{FamilyV4, L3},
    packet::{BUFFER, CopyTarget, Repeat, Step},
    rewrite,
};
use vpc_common::{
    Be16, DropReason,
    limits::{OVERHEAD_V4, OVERHEAD_V6},
    wire::Ipv4,
};

/// More fragments than any packet that fits into the buffer needs, at the least MTU of 576.
const MOST: u32 = 32;
const HEADER: u32 = size_of::<Ipv4>() as u32;
const L4: u32 = L3 as u32 + HEADER;

/// Sends the packet in fragments of at most `scratch.path_mtu` bytes (always `Err`).
#[inline(always)]
pub fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    let mtu = scratch.path_mtu;
    let payload = scratch.flow.l3_length as u32 - HEADER;
    if payload > BUFFER || mtu < 68 || packet.gso_size() != 0 {
        return Err(DropReason::TooBig.into());
    }
    let original = packet.get::<Ipv4>(L3).ok_or(DropReason::Truncated)?.fragment.get();
    rewrite::forward::<FamilyV4, P>(packet, scratch)?;
    packet.take_aside(L4, payload).map_err(|_| DropReason::NoRoom)?;
    let target = scratch.hop.target;
    let (front, interface) = if scratch.hop.way.is_tunnel() {
        let vtep = tables.vtep(target).ok_or(DropReason::NoUnderlay)?;
        let verdict = encap::resizable(packet, vtep, Envelope::of(scratch), &scratch.leaving)?;
        (vtep.overhead as u32, verdict.argument())
    } else {
        let neighbour = deliver::port(tables, target)?;
        let _ = deliver::local(packet, target, &scratch.leaving)?;
        (0, neighbour.ifindex)
    };
    let chunk = (mtu - HEADER) & !7;
    let mut fragments = Fragments { packet, front, interface, payload, chunk, original, failed: 0 };
    P::repeat(MOST, &mut fragments);
    if fragments.failed != 0 { Err(DropReason::NoRoom.into()) } else { Err(Verdict::replicated()) }
}

struct Fragments<'a, P> {
    packet: &'a mut P,
    /// Bytes of outer headers.
    front: u32,
    interface: u32,
    payload: u32,
    chunk: u32,
    /// The fragment field of the packet that is cut.
    original: u16,
    failed: u32,
}

impl<P: Packet> Fragments<'_, P> {
    /// Makes the packet the fragment that starts `from` bytes into the payload.
    #[inline(always)]
    fn one(&mut self, from: u32, length: u32, rest: u32) -> Stage {
        let frame = L4 + length;
        self.packet.resize(self.front + frame).map_err(|_| DropReason::NoRoom)?;
        self.packet.put_back(from, self.front + L4, length).map_err(|_| DropReason::NoRoom)?;
        let more = if rest > length { Ipv4::MF } else { self.original & Ipv4::MF };
        let offset = (self.original & Ipv4::OFFSET) + (from >> 3) as u16;
        let header = match self.front {
            0 => self.packet.get_mut::<Ipv4>(L3),
            OVERHEAD_V4 => self.packet.get_mut(OVERHEAD_V4 as usize + L3),
            _ => self.packet.get_mut(OVERHEAD_V6 as usize + L3),
        };
        let header = header.ok_or(DropReason::NoRoom)?;
        header.total_length = Be16::new((HEADER + length) as u16);
        header.fragment = Be16::new(more | offset);
        header.checksum = Be16::default();
        header.checksum = Be16::from_raw(!checksum::ipv4_sum(header));
        encap::set_frame_length(self.packet, self.front, frame)
    }
}

impl<P: Packet> Step for Fragments<'_, P> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> Repeat {
        let from = index * self.chunk;
        if from >= self.payload {
            return Repeat::Stop;
        }
        let rest = self.payload - from;
        let length = if rest > self.chunk { self.chunk } else { rest };
        if self.one(from, length, rest).is_err() {
            self.failed = 1;
            return Repeat::Stop;
        }
        self.packet.send_copy(CopyTarget::Interface(self.interface));
        Repeat::Next
    }
}
