//! The forwarder that the product is compared with: parse, one hash look-up, rewrite. The least that a router can do.

use crate::abi::{FLOWS, NextHop};
use aya_ebpf::{btf_maps::HashMap, macros::btf_map};

#[btf_map]
static FORWARD_V4: HashMap<[u32; 4], NextHop, { FLOWS as usize }> = HashMap::new();
#[btf_map]
static FORWARD_V6: HashMap<[u32; 10], NextHop, { FLOWS as usize }> = HashMap::new();

const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const UDP: u8 = 17;

/// Ethernet.
#[repr(C, packed)]
struct Ethernet {
    macs: [u32; 3],
    ether_type: u16,
}

/// IPv4 without options, and the ports.
#[repr(C, packed)]
struct V4 {
    ethernet: Ethernet,
    version_ihl: u8,
    tos: u8,
    length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
    ports: [u16; 2],
}

/// IPv6, and the ports.
#[repr(C, packed)]
struct V6 {
    ethernet: Ethernet,
    version: u32,
    length: u16,
    next: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
    ports: [u16; 2],
}

#[inline(always)]
fn header<'a, T>(data: usize, end: usize) -> Option<&'a mut T> {
    // SAFETY: the bounds are checked; packed headers have alignment 1.
    if data + size_of::<T>() > end { None } else { Some(unsafe { &mut *(data as *mut T) }) }
}

/// Where the frame goes; MACs and TTL are changed accordingly.
#[inline(always)]
pub fn next_hop(data: usize, end: usize) -> Option<&'static NextHop> {
    let ethernet = header::<Ethernet>(data, end)?;
    match ethernet.ether_type {
        IPV4 => v4(header(data, end)?),
        IPV6 => v6(header(data, end)?),
        _ => None,
    }
}

#[inline(always)]
fn v4(h: &mut V4) -> Option<&'static NextHop> {
    if h.version_ihl != 0x45 || h.protocol != UDP || h.ttl <= 1 {
        return None;
    }
    let ports = u32::from(h.ports[0]) | u32::from(h.ports[1]) << 16;
    let key = [h.source, h.destination, ports, u32::from(h.protocol)];
    // SAFETY: entries are never removed while the programs run.
    let next_hop = unsafe { FORWARD_V4.get(&key) }?;
    h.ttl -= 1;
    // RFC 1624: the word of the TTL went down by 0x0100.
    let sum = u32::from(u16::from_be(h.checksum)) + 0x0100;
    h.checksum = ((sum + (sum >> 16)) as u16).to_be();
    h.ethernet.macs = next_hop.macs;
    Some(next_hop)
}

#[inline(always)]
fn v6(h: &mut V6) -> Option<&'static NextHop> {
    if h.next != UDP || h.hop_limit <= 1 {
        return None;
    }
    let ports = u32::from(h.ports[0]) | u32::from(h.ports[1]) << 16;
    let (s, d) = (h.source, h.destination);
    let key = [s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], ports, u32::from(h.next)];
    // SAFETY: as above.
    let next_hop = unsafe { FORWARD_V6.get(&key) }?;
    h.hop_limit -= 1;
    h.ethernet.macs = next_hop.macs;
    Some(next_hop)
}

/// Whether the frame is UDP to that port.
#[inline(always)]
pub fn is_to_port(data: usize, end: usize, port: u16) -> bool {
    let Some(ethernet) = header::<Ethernet>(data, end) else { return false };
    match ethernet.ether_type {
        IPV4 => header::<V4>(data, end).is_some_and(|h| h.protocol == UDP && h.ports[1] == port.to_be()),
        IPV6 => header::<V6>(data, end).is_some_and(|h| h.next == UDP && h.ports[1] == port.to_be()),
        _ => false,
    }
}

/// Gives an IPv4 packet back to its sender. Its checksums stay right.
#[inline(always)]
pub fn turn(data: usize, end: usize) {
    let Some(h) = header::<V4>(data, end) else { return };
    let [a, b, c] = h.ethernet.macs;
    h.ethernet.macs = [b >> 16 | c << 16, c >> 16 | a << 16, a >> 16 | b << 16];
    (h.source, h.destination) = (h.destination, h.source);
    h.ports = [h.ports[1], h.ports[0]];
}
