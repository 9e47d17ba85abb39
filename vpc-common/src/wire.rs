//! Headers as they stand on the wire. All have alignment 1.

use crate::{Be16, Be32, Mac};
use bytemuck::{Pod, Zeroable};

/// EtherTypes (IEEE 802 numbers).
pub mod ether_type {
    use crate::Be16;
    /// IPv4.
    pub const IPV4: Be16 = Be16::new(0x0800);
    /// ARP.
    pub const ARP: Be16 = Be16::new(0x0806);
    /// IPv6.
    pub const IPV6: Be16 = Be16::new(0x86dd);
    /// 802.1Q.
    pub const VLAN: Be16 = Be16::new(0x8100);
    /// 802.1ad.
    pub const QINQ: Be16 = Be16::new(0x88a8);
}

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 no next header.
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Ethernet II.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Ethernet {
    /// Destination.
    pub destination: Mac,
    /// Source.
    pub source: Mac,
    /// EtherType.
    pub ether_type: Be16,
}

/// IPv4 without options (RFC 791 §3.1).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Ipv4 {
    /// Version 4 and header length in words: 0x45.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Header and payload, bytes.
    pub total_length: Be16,
    /// Identification.
    pub id: Be16,
    /// DF, MF, offset in units of 8 bytes.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Be16,
    /// Source.
    pub source: Be32,
    /// Destination.
    pub destination: Be32,
}

impl Ipv4 {
    /// Don't fragment, in [`Ipv4::fragment`].
    pub const DF: u16 = 0x4000;
    /// More fragments.
    pub const MF: u16 = 0x2000;
    /// Offset, in units of 8 bytes.
    pub const OFFSET: u16 = 0x1fff;
}

/// The fixed IPv6 header (RFC 8200 §3).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    pub version_class_flow: Be32,
    /// Bytes after this header.
    pub payload_length: Be16,
    /// Next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub source: [u8; 16],
    /// Destination.
    pub destination: [u8; 16],
}

/// The first four bytes of TCP, UDP and SCTP.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct L4Ports {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
}

/// TCP without options (RFC 9293 §3.1).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Tcp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Sequence number.
    pub sequence: Be32,
    /// Acknowledgment number.
    pub acknowledgment: Be32,
    /// Header length in words, upper four bits.
    pub data_offset: u8,
    /// See [`tcp_flags`].
    pub flags: u8,
    /// Window.
    pub window: Be16,
    /// Checksum.
    pub checksum: Be16,
    /// Urgent pointer.
    pub urgent: Be16,
}

/// Bits of [`Tcp::flags`].
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1 << 0;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 1 << 1;
    /// Reset.
    pub const RST: u8 = 1 << 2;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 1 << 4;
}

/// UDP (RFC 768).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Udp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Header and payload, bytes.
    pub length: Be16,
    /// Checksum; 0: none.
    pub checksum: Be16,
}

/// ICMP and ICMPv6: the first eight bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: Be16,
    /// Identifier of an echo; unused and MTU of an error.
    pub id: Be16,
    /// Sequence number of an echo; next-hop MTU of an IPv4 error.
    pub sequence: Be16,
}

/// ARP for Ethernet and IPv4 (RFC 826).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Arp {
    /// Hardware type: 1.
    pub hardware: Be16,
    /// Protocol type: 0x0800.
    pub protocol: Be16,
    /// 6.
    pub hardware_length: u8,
    /// 4.
    pub protocol_length: u8,
    /// 1 request, 2 reply.
    pub operation: Be16,
    /// Sender's MAC.
    pub sender_mac: Mac,
    /// Sender's address.
    pub sender: Be32,
    /// Target's MAC.
    pub target_mac: Mac,
    /// Target's address.
    pub target: Be32,
}

/// VXLAN (RFC 7348 §5).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Vxlan {
    /// I flag and reserved bits.
    pub flags: u8,
    /// Reserved.
    pub reserved: [u8; 3],
    /// VNI in the upper 24 bits.
    pub vni: Be32,
}

impl Vxlan {
    /// The I flag: the VNI is valid.
    pub const I: u8 = 0x08;
}

/// What stands between the outer Ethernet header and the inner one over IPv4: the form of [`crate::vtep::Vtep::header`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct OuterV4 {
    /// IPv4.
    pub ip: Ipv4,
    /// UDP.
    pub udp: Udp,
    /// VXLAN.
    pub vxlan: Vxlan,
}

/// The same over IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct OuterV6 {
    /// IPv6.
    pub ip: Ipv6,
    /// UDP.
    pub udp: Udp,
    /// VXLAN.
    pub vxlan: Vxlan,
}

const _: () = {
    assert!(size_of::<OuterV4>() == 36 && size_of::<OuterV6>() == 56);
    assert!(size_of::<Ethernet>() == 14 && size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40);
    assert!(
        size_of::<Udp>() == 8
            && size_of::<Tcp>() == 20
            && size_of::<Icmp>() == 8
            && size_of::<Arp>() == 28
            && size_of::<Vxlan>() == 8
    );
};
