//! Flows of one guest with random peers and ports, and the frames that they are made of.

use crate::abi::{Ends, Frame, HEADER_WORDS, NextHop, OVERHEAD, shape};
use bytemuck::bytes_of;
use std::collections::BTreeSet;
use vpc_common::{
    Be16, Be32, Ip, Mac, Vni,
    limits::VXLAN_PORT,
    wire::{Ethernet, Ipv4, Ipv6, OuterV4, Udp, Vxlan, ether_type, protocol},
};

const TTL: u8 = 64;

/// The address family of the inner packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// How long frames are: with IPv4 and their checksum on a wire so many bytes, with IPv6 20 more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// The shortest.
    B64 = 64,
    /// Between the shortest and the longest.
    B512 = 512,
}

impl Size {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::B64 => "64-byte frames",
            Self::B512 => "512-byte frames",
        }
    }
    /// UDP payload, bytes.
    const fn payload(self) -> usize {
        const CHECKSUM: usize = 4;
        self as usize - CHECKSUM - size_of::<Ethernet>() - size_of::<Ipv4>() - size_of::<Udp>()
    }
}

/// One flow as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Conversation {
    /// The peer.
    pub remote: Ip,
    /// The guest's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// One flow as its sender sees it; the protocol is UDP.
#[derive(Clone, Copy, Debug)]
pub struct FiveTuple {
    /// The addresses.
    pub ends: Ends,
    /// Source and destination port, network order.
    pub ports: u32,
}

/// The two Ethernet addresses of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Macs {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
}

/// Outer headers of frames from the underlay.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// Whose frames they are.
    pub source: Ip,
    /// This node's VTEP.
    pub destination: Ip,
    /// The network.
    pub vni: Vni,
}

/// A source of numbers that are random enough and the same in every run (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// That many different flows with those peers.
pub fn conversations(remotes: &[Ip], count: usize) -> Vec<Conversation> {
    let mut random = Random(1);
    let mut seen = BTreeSet::new();
    let mut conversations = Vec::with_capacity(count);
    while conversations.len() < count {
        let bits = random.next();
        let conversation = Conversation {
            remote: remotes[(bits >> 32) as usize % remotes.len()],
            // Clear of ports that mean something.
            local_port: bits as u16 | 0x8000,
            remote_port: (bits >> 16) as u16 | 0x8000,
        };
        if seen.insert(conversation) {
            conversations.push(conversation);
        }
    }
    conversations
}

/// The same ones in another order.
pub fn shuffled(conversations: &[Conversation]) -> Vec<Conversation> {
    let (mut random, mut shuffled) = (Random(2), conversations.to_vec());
    for end in (1..shuffled.len()).rev() {
        shuffled.swap(end, random.next() as usize % (end + 1));
    }
    shuffled
}

/// What the guest sends.
pub fn from_guest(family: Family, size: Size, local: Ip, flows: &[Conversation]) -> Vec<FiveTuple> {
    flows.iter().map(|flow| entry(family, size, local, flow.remote, flow.local_port, flow.remote_port)).collect()
}

/// What the guest is sent.
pub fn to_guest(family: Family, size: Size, local: Ip, flows: &[Conversation]) -> Vec<FiveTuple> {
    flows.iter().map(|flow| entry(family, size, flow.remote, local, flow.remote_port, flow.local_port)).collect()
}

/// The template of frames without outer headers.
pub fn plain(family: Family, size: Size, macs: Macs, flows: usize) -> Frame {
    let bytes = inner(family, size, macs);
    frame(&bytes, bytes.len() + size.payload(), if family == Family::V6 { shape::V6 } else { 0 }, flows)
}

/// The template of frames from the underlay.
pub fn tunnelled(family: Family, size: Size, macs: Macs, tunnel: Tunnel, flows: usize) -> Frame {
    let inner = inner(family, size, macs);
    let length = inner.len() + size.payload();
    let underlay = Macs { destination: Mac::new([2, 0, 0, 0, 0, 1]), source: Mac::new([2, 0, 0, 0, 0, 2]) };
    let mut bytes = ethernet(underlay, Family::V4);
    let mut ip = v4(tunnel.source.low(), tunnel.destination.low(), length + OVERHEAD - size_of::<Ethernet>());
    ip.checksum = checksum(&ip);
    let udp = Udp {
        source: Be16::new(0xc000),
        destination: Be16::new(VXLAN_PORT),
        length: Be16::new((length + size_of::<Udp>() + size_of::<Vxlan>()) as u16),
        checksum: Be16::default(),
    };
    let vxlan = Vxlan { flags: Vxlan::I, reserved: [0; 3], vni: tunnel.vni.wire() };
    bytes.extend_from_slice(bytes_of(&OuterV4 { ip, udp, vxlan }));
    bytes.extend_from_slice(&inner);
    let shape = shape::TUNNELLED | if family == Family::V6 { shape::V6 } else { 0 };
    frame(&bytes, length + OVERHEAD, shape, flows)
}

/// Entries of the forwarder's table for IPv4.
pub fn forward_v4(flows: &[FiveTuple], next_hop: NextHop) -> Vec<([u32; 4], NextHop)> {
    let udp = u32::from(protocol::UDP);
    flows.iter().map(|flow| ([flow.ends.source[0], flow.ends.destination[0], flow.ports, udp], next_hop)).collect()
}

/// The same for IPv6.
pub fn forward_v6(flows: &[FiveTuple], next_hop: NextHop) -> Vec<([u32; 10], NextHop)> {
    let key = |flow: &FiveTuple| {
        let (s, d) = (flow.ends.source, flow.ends.destination);
        [s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], flow.ports, u32::from(protocol::UDP)]
    };
    flows.iter().map(|flow| (key(flow), next_hop)).collect()
}

/// The bytes of the first frame, to run a program on once.
pub fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = bytemuck::cast_slice::<u64, u8>(&frame.headers).to_vec();
    bytes.resize(frame.length as usize, 0);
    bytes
}

fn entry(
    family: Family,
    size: Size,
    source: Ip,
    destination: Ip,
    source_port: u16,
    destination_port: u16,
) -> FiveTuple {
    let [a, b] = source_port.to_be_bytes();
    let [c, d] = destination_port.to_be_bytes();
    let ends = match family {
        Family::V4 => {
            let ip = v4(source.low(), destination.low(), size_of::<Ipv4>() + size_of::<Udp>() + size.payload());
            Ends {
                source: [source.0[3], 0, 0, 0],
                destination: [destination.0[3], 0, 0, 0],
                checksum: checksum(&ip).raw().into(),
            }
        }
        Family::V6 => Ends { source: source.0, destination: destination.0, checksum: 0 },
    };
    FiveTuple { ends, ports: u32::from_ne_bytes([a, b, c, d]) }
}

fn frame(headers: &[u8], length: usize, shape: u32, flows: usize) -> Frame {
    let mut words = [0; HEADER_WORDS];
    bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..headers.len()].copy_from_slice(headers);
    Frame { flows: flows as u32, shape, length: length as u32, reserved: 0, headers: words }
}

fn ethernet(macs: Macs, family: Family) -> Vec<u8> {
    let ether_type = if family == Family::V6 { ether_type::IPV6 } else { ether_type::IPV4 };
    bytes_of(&Ethernet { destination: macs.destination, source: macs.source, ether_type }).to_vec()
}

fn inner(family: Family, size: Size, macs: Macs) -> Vec<u8> {
    let mut bytes = ethernet(macs, family);
    let udp_length = size_of::<Udp>() + size.payload();
    match family {
        Family::V4 => {
            bytes.extend_from_slice(bytes_of(&v4(Be32::default(), Be32::default(), size_of::<Ipv4>() + udp_length)));
        }
        Family::V6 => bytes.extend_from_slice(bytes_of(&Ipv6 {
            version_class_flow: Be32::new(6 << 28),
            payload_length: Be16::new(udp_length as u16),
            next_header: protocol::UDP,
            hop_limit: TTL,
            ..Ipv6::default()
        })),
    }
    bytes.extend_from_slice(bytes_of(&Udp { length: Be16::new(udp_length as u16), ..Udp::default() }));
    bytes
}

fn v4(source: Be32, destination: Be32, length: usize) -> Ipv4 {
    Ipv4 {
        version_ihl: 0x45,
        total_length: Be16::new(length as u16),
        ttl: TTL,
        protocol: protocol::UDP,
        source,
        destination,
        ..Ipv4::default()
    }
}

/// RFC 1071, of a header whose checksum is zero.
fn checksum(header: &Ipv4) -> Be16 {
    let words = bytemuck::cast_slice::<u8, [u8; 2]>(bytes_of(header));
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Be16::new(!(sum as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_different_and_the_same_in_every_run() {
        let remotes: Vec<Ip> = (1..=20).map(|last| Ip::v4(Be32([10, 0, 2, last]))).collect();
        let flows = conversations(&remotes, 10_000);
        assert_eq!(flows.iter().collect::<BTreeSet<_>>().len(), 10_000);
        assert_eq!(flows, conversations(&remotes, 10_000));
    }

    #[test]
    fn checksum_of_the_example_in_rfc_1071s_spirit() {
        // 45 00 00 2e 00 00 00 00 40 11 .. .. 0a 00 01 0a 0a 00 02 01, summed by hand.
        let header = v4(Be32([10, 0, 1, 10]), Be32([10, 0, 2, 1]), 46);
        let sum = 0x4500_u32 + 0x2e + 0x4011 + 0x0a00 + 0x010a + 0x0a00 + 0x0201;
        assert_eq!(checksum(&header), Be16::new(!(sum as u16)));
    }

    #[test]
    fn frames_have_the_promised_lengths() {
        let macs = Macs { destination: Mac::ROUTER, source: Mac::BROADCAST };
        let ip = Ip::v4(Be32([192, 0, 2, 1]));
        let tunnel = Tunnel { source: ip, destination: ip, vni: Vni(5) };
        assert_eq!(plain(Family::V4, Size::B64, macs, 1).length, 60);
        assert_eq!(plain(Family::V4, Size::B512, macs, 1).length, 508);
        assert_eq!(plain(Family::V6, Size::B64, macs, 1).length, 80);
        assert_eq!(tunnelled(Family::V4, Size::B64, macs, tunnel, 1).length, 110);
        assert_eq!(bytes(&tunnelled(Family::V6, Size::B64, macs, tunnel, 1)).len(), 130);
    }
}
