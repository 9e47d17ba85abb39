//! The S-BFD reflector (RFC 7880 §7.2, RFC 7881): other nodes ask whether this one can serve as a gateway, or one of its
//! ports as a next hop, and are answered where the packet arrived, with or without an agent.
//!
//! It holds no state: everything of the answer is in the question and in the records of the node, its outlet and its ports.

use crate::{
    Packet, Stage, Tables, Verdict,
    checksum::{fold, ipv4_sum, update},
    deliver,
    scratch::Outer,
};
use vpc_common::{
    Be16, Be32, DropReason, Ip,
    bfd::{self, Control, State, flags},
    limits::OVERHEAD_V4,
    locate::LocateKey,
    node::Node,
    port::flags as port_flags,
    wire::{Ethernet, Ipv4, Ipv6, Udp, protocol},
};

const ETHERNET: usize = size_of::<Ethernet>();
const UDP_V4: usize = ETHERNET + size_of::<Ipv4>();
const UDP_V6: usize = ETHERNET + size_of::<Ipv6>();
/// Bytes of UDP header and control packet.
const LENGTH: u16 = (size_of::<Udp>() + size_of::<Control>()) as u16;

/// Turns a question into its answer. Who is no node of the fabric is not answered, nor is what is not exactly a question
/// to this node: an answer never is one, so reflectors cannot answer each other.
#[inline(never)]
pub fn reflect<P: Packet, T: Tables>(packet: &mut P, tables: &T, outer: &Outer, node: &Node) -> Stage<Verdict> {
    tables.vtep_id(&outer.source).ok_or(DropReason::UnknownVtep)?;
    packet.pull(UDP_V6 as u32 + LENGTH as u32);
    if outer.overhead == OVERHEAD_V4 {
        let ip = packet.get_mut::<Ipv4>(ETHERNET).ok_or(DropReason::OuterHeader)?;
        if ipv4_sum(ip) != 0xffff {
            return Err(DropReason::IpChecksum.into());
        }
        if ip.total_length != Be16::new(size_of::<Ipv4>() as u16 + LENGTH) {
            return Err(DropReason::LivenessProbe.into());
        }
        answer::<P, T, UDP_V4>(packet, tables, outer, node)?;
        return_v4(packet)?;
    } else {
        let ip = packet.get::<Ipv6>(ETHERNET).ok_or(DropReason::OuterHeader)?;
        if ip.payload_length != Be16::new(LENGTH) {
            return Err(DropReason::LivenessProbe.into());
        }
        answer::<P, T, UDP_V6>(packet, tables, outer, node)?;
        return_v6(packet)?;
    }
    let ethernet = packet.get_mut::<Ethernet>(0).ok_or(DropReason::NoRoom)?;
    (ethernet.destination, ethernet.source) = (ethernet.source, ethernet.destination);
    Ok(Verdict::answer())
}

/// What is asked for, as it is now: whether this node can send to the outside, whether somebody is behind a port of it.
/// Nothing is said of what is not here.
#[inline(always)]
fn state<T: Tables>(tables: &T, node: &Node, discriminator: u32) -> Option<State> {
    let is_up = if discriminator == node.id {
        tables.outlet().is_some_and(|outlet| outlet.is_usable())
    } else {
        let slot = deliver::locate(tables, LocateKey::discriminator(discriminator))?;
        deliver::port(tables, slot).is_ok_and(|port| port.flags & port_flags::NO_CARRIER == 0)
    };
    Some(if is_up { State::Up } else { State::AdminDown })
}

/// The control packet and the UDP header before it.
#[inline(always)]
fn answer<P: Packet, T: Tables, const UDP: usize>(packet: &mut P, tables: &T, outer: &Outer, node: &Node) -> Stage {
    let udp = packet.get::<Udp>(UDP).ok_or(DropReason::LivenessProbe)?;
    if udp.length != Be16::new(LENGTH) || udp.source == udp.destination {
        return Err(DropReason::LivenessProbe.into());
    }
    let control = packet.get_mut::<Control>(UDP + size_of::<Udp>()).ok_or(DropReason::LivenessProbe)?;
    if !control.is_sound() || control.state_flags & (flags::DEMAND | flags::FINAL) != flags::DEMAND {
        return Err(DropReason::LivenessProbe.into());
    }
    let state = state(tables, node, control.your_discriminator.get()).ok_or(DropReason::LivenessProbe)?;
    let said_final = if control.state_flags & flags::POLL != 0 { flags::FINAL } else { 0 };
    control.version_diagnostic = Control::VERSION_1;
    control.state_flags = state.bits() | said_final;
    (control.my_discriminator, control.your_discriminator) = (control.your_discriminator, control.my_discriminator);
    control.required_min_rx = Be32::new(bfd::MIN_INTERVAL);
    control.required_min_echo_rx = Be32::default();
    let sum = sum(control);
    let udp = packet.get_mut::<Udp>(UDP).ok_or(DropReason::NoRoom)?;
    (udp.source, udp.destination) = (udp.destination, udp.source);
    let ports = udp.source.raw() as u64 + udp.destination.raw() as u64;
    let lengths = 2 * udp.length.raw() as u64;
    let addresses = address_sum(&outer.source) + address_sum(&node.vtep);
    let kind = Be16::new(protocol::UDP as u16).raw() as u64;
    // The question's own checksum is not asked for, like that of VXLAN: the kernel of a virtual peer may not have made
    // it yet. What was damaged on its way no longer fits the session of who asked.
    let checksum = !fold(sum + ports + lengths + addresses + kind);
    udp.checksum = if checksum == 0 { Be16::new(0xffff) } else { Be16::from_raw(checksum) };
    Ok(())
}

/// The ones' complement sum of a control packet.
#[inline(always)]
fn sum(control: &Control) -> u64 {
    let word = |a: u8, b: u8| u16::from_ne_bytes([a, b]) as u64;
    word(control.version_diagnostic, control.state_flags)
        + word(control.detect_multiplier, control.length)
        + control.my_discriminator.raw() as u64
        + control.your_discriminator.raw() as u64
        + control.desired_min_tx.raw() as u64
        + control.required_min_rx.raw() as u64
        + control.required_min_echo_rx.raw() as u64
}

/// That of an address. What stands before an IPv4 address in its mapped form is 0xffff, which adds nothing.
#[inline(always)]
fn address_sum(address: &Ip) -> u64 {
    address.0[0] as u64 + address.0[1] as u64 + address.0[2] as u64 + address.0[3] as u64
}

#[inline(always)]
fn return_v4<P: Packet>(packet: &mut P) -> Stage {
    let ip = packet.get_mut::<Ipv4>(ETHERNET).ok_or(DropReason::NoRoom)?;
    (ip.source, ip.destination) = (ip.destination, ip.source);
    let word = |ttl: u8| u16::from_ne_bytes([ttl, protocol::UDP]);
    ip.checksum = update(ip.checksum, word(ip.ttl), word(bfd::TTL));
    ip.ttl = bfd::TTL;
    Ok(())
}

#[inline(always)]
fn return_v6<P: Packet>(packet: &mut P) -> Stage {
    let ip = packet.get_mut::<Ipv6>(ETHERNET).ok_or(DropReason::NoRoom)?;
    (ip.source, ip.destination) = (ip.destination, ip.source);
    ip.hop_limit = bfd::TTL;
    Ok(())
}
