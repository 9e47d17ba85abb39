//! Broadcast and multicast: head-end replication to the nodes and ports of one subnet (RFC 7348 §4.2), never back.

use crate::{
    Packet, Part, Scratch, Stage, Tables, Verdict, encap,
    encap::Envelope,
    family::{Family, FamilyV4},
    packet::{CopyTarget, Repeat, Step},
    policy,
    token::{self, Token},
};
use vpc_common::{
    DropReason,
    limits::{FLOOD_FANOUT, FLOOD_RATE},
    port::{FloodKey, Port, flags},
    wire::{Ethernet, ether_type},
};

/// Which ports hear a flooded frame. A type, since each is a loop of its own for the verifier.
pub trait Audience {
    /// Whether `port` does.
    fn hears<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> bool;
}

/// The ports whose groups let the packet in.
struct Admitting<F>(core::marker::PhantomData<F>);

impl<F: Family> Audience for Admitting<F> {
    #[inline(always)]
    fn hears<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
        policy::hears::<F, P, T>(packet, tables, scratch, port)
    }
}

/// Of ARP all ports, of other protocols those that may speak them.
struct Speaking;

impl Audience for Speaking {
    #[inline(always)]
    fn hears<P: Packet, T: Tables>(_packet: &mut P, _tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
        scratch.flow.ethernet.ether_type == ether_type::ARP || port.flags & flags::NON_IP != 0
    }
}

/// Replicates a packet of a port to the rest of its subnet.
#[inline(never)]
pub fn from_port<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Verdict {
    replicate::<Admitting<F>, P, T>(packet, tables, scratch, port)
}

/// The same of a frame that is not of IP.
#[inline(never)]
pub fn other_from_port<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Verdict {
    replicate::<Speaking, P, T>(packet, tables, scratch, port)
}

#[inline(always)]
fn replicate<A: Audience, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> Verdict {
    let now = tables.now_coarse();
    let slot = scratch.flow.slot;
    if tables.buckets(slot, |b| token::take(&mut b.flood, FLOOD_RATE, now)) != Some(Token::Taken) {
        return Verdict::drop(DropReason::FloodRate);
    }
    let mut locals = Locals::<A, P, T>::new(packet, tables, scratch, port.subnet, slot);
    P::repeat(FLOOD_FANOUT, &mut locals);
    let (first, sent) = (locals.members as u32, locals.sent);
    scratch.flow.outer_port = encap::outer_port(scratch);
    // The family does not matter: this part knows of none.
    match packet.part::<FamilyV4, T>(tables, scratch, Part::FloodNodes(first)) {
        Err(end) if sent == 0 => end,
        _ => Verdict::replicated(),
    }
}

/// Replicates the packet to the nodes that hold members of the port's subnet, which follow behind `first` local ones.
///
/// # Errors
/// It was too large for all of them.
#[inline(always)]
pub fn to_nodes<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    first: u32,
) -> Stage {
    let envelope = Envelope { vni: port.l2_vni, source_port: scratch.flow.outer_port, tos: 0 };
    let inner = &scratch.flow.ethernet;
    let length = packet.length();
    let frame = if packet.gso_size() == 0 { length } else { 0 };
    let mut remotes =
        Remotes { packet, tables, subnet: port.subnet, first, envelope, inner, length, frame, too_big: 0 };
    P::repeat(FLOOD_FANOUT, &mut remotes);
    if remotes.too_big != 0 && remotes.opened() == 0 { Err(DropReason::TooBig.into()) } else { Ok(()) }
}

/// Replicates a packet from the tunnel to the local ports of its subnet, to no other node.
#[inline(never)]
pub fn from_tunnel<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    subnet: u32,
) -> Verdict {
    P::repeat(FLOOD_FANOUT, &mut Locals::<Admitting<F>, P, T>::new(packet, tables, scratch, subnet, 0));
    Verdict::replicated()
}

/// The same of a frame that is not of IP.
#[inline(never)]
pub fn other_from_tunnel<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    subnet: u32,
) -> Verdict {
    P::repeat(FLOOD_FANOUT, &mut Locals::<Speaking, P, T>::new(packet, tables, scratch, subnet, 0));
    Verdict::replicated()
}

/// Words of 8 bytes: zeroes of 4 bytes in a row are written as 8 where they are not aligned to it.
struct Locals<'a, A, P, T> {
    packet: &'a mut P,
    tables: &'a T,
    scratch: &'a mut Scratch,
    audience: core::marker::PhantomData<A>,
    subnet: u64,
    except: u64,
    sent: u64,
    members: u64,
}

impl<'a, A, P, T> Locals<'a, A, P, T> {
    #[inline(always)]
    fn new(packet: &'a mut P, tables: &'a T, scratch: &'a mut Scratch, subnet: u32, except: u16) -> Self {
        Self {
            packet,
            tables,
            scratch,
            audience: core::marker::PhantomData,
            subnet: subnet as u64,
            except: except as u64,
            sent: 0,
            members: 0,
        }
    }
}

impl<A: Audience, P: Packet, T: Tables> Step for Locals<'_, A, P, T> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> Repeat {
        let Some(member) = self.tables.flood(&FloodKey { subnet: self.subnet as u32, index }) else {
            return Repeat::Stop;
        };
        if member.local == 0 {
            return Repeat::Stop;
        }
        self.members = index as u64 + 1;
        let slot = member.target;
        if slot as u64 == self.except {
            return Repeat::Next;
        }
        if let Some(port) = self.tables.port(slot)
            && port.ifindex != 0
            && port.flags & flags::ROUTER == 0
            && A::hears(self.packet, self.tables, self.scratch, port)
        {
            self.sent = 1;
            self.packet.send_copy(CopyTarget::Interface(port.ifindex));
        }
        Repeat::Next
    }
}

struct Remotes<'a, P, T> {
    packet: &'a mut P,
    tables: &'a T,
    subnet: u32,
    first: u32,
    envelope: Envelope,
    inner: &'a Ethernet,
    /// Length of the packet before anything was put in front of it.
    length: u32,
    /// The same; 0 where its segments are what counts.
    frame: u32,
    /// Whether there was a node to which the frame was too large.
    too_big: u32,
}

impl<P: Packet, T> Remotes<'_, P, T> {
    /// Bytes of outer headers that are in front already. Asked of the packet, not kept from step to step: see [`Step`].
    #[inline(always)]
    fn opened(&self) -> u32 {
        self.packet.length() - self.length
    }
}

impl<P: Packet, T: Tables> Step for Remotes<'_, P, T> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> Repeat {
        let key = FloodKey { subnet: self.subnet, index: self.first + index };
        let Some(member) = self.tables.flood(&key) else { return Repeat::Stop };
        let Some(vtep) = self.tables.vtep(member.target) else { return Repeat::Next };
        // Room that was opened is not closed again: nothing may fail behind it.
        let opened = self.opened();
        if vtep.next_hop_count == 0 || (opened != 0 && opened != vtep.overhead as u32) {
            return Repeat::Next;
        }
        if self.frame > vtep.mtu as u32 + size_of::<Ethernet>() as u32 {
            self.too_big = 1;
            return Repeat::Next;
        }
        let written = if opened == 0 {
            encap::tunnel(self.packet, vtep, self.envelope, self.inner)
        } else {
            encap::again(self.packet, vtep, self.envelope)
        };
        let Ok(verdict) = written else { return Repeat::Stop };
        self.packet.send_copy(CopyTarget::Interface(verdict.argument()));
        Repeat::Next
    }
}
