//! The vocabulary of packet descriptions: a packet is a list of layers, each a map with the header's fields.
//!
//! What is left out is right: lengths, checksums, the next protocol. What is given is written as given.

use serde::Deserialize;

/// One layer of a packet.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// Ethernet II.
    Eth(Eth),
    /// A VLAN tag; `type` of the tag's own EtherType is 0x8100 unless given.
    Vlan(Vlan),
    /// ARP for Ethernet and IPv4.
    Arp(Arp),
    /// IPv4.
    Ipv4(Ipv4),
    /// IPv6.
    Ipv6(Ipv6),
    /// An IPv6 extension header.
    Extension(Extension),
    /// The IPv6 fragment header.
    Fragment(Fragment),
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP.
    Icmp(Icmp),
    /// ICMPv6.
    Icmpv6(Icmp),
    /// Neighbour discovery: the ICMPv6 message with its options.
    Nd(Nd),
    /// VXLAN.
    Vxlan(Vxlan),
    /// Outer Ethernet, IP, UDP and VXLAN between two nodes of the topology.
    Tunnel(Tunnel),
    /// A BFD control packet.
    Bfd(Bfd),
    /// So many bytes: 0, 1, 2, …
    Payload(usize),
    /// Bytes in hexadecimal; spaces do not count.
    Hex(String),
    /// A part of other layers: what an ICMP error quotes, or a fragment's share of a datagram.
    Cut(Cut),
    /// Zero bytes behind the packet that no length counts: Ethernet's padding.
    Padding(usize),
}

/// Ethernet II. Addresses may be names of ports, `router`, `broadcast`, an uplink, or `next_hop/NODE`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eth {
    /// Source.
    pub src: String,
    /// Destination.
    pub dst: String,
    /// EtherType, if it is not that of the next layer.
    #[serde(rename = "type")]
    pub ether_type: Option<u16>,
}

/// 802.1Q or 802.1ad.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// VLAN identifier.
    pub id: u16,
    /// The tag's own EtherType.
    #[serde(default = "Vlan::tag")]
    pub tag: u16,
}

impl Vlan {
    fn tag() -> u16 {
        0x8100
    }
}

/// ARP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender's MAC.
    pub sender_mac: String,
    /// Sender's address.
    pub sender: String,
    /// Target's MAC; zero unless given.
    pub target_mac: Option<String>,
    /// Target's address.
    pub target: String,
    /// Hardware type.
    #[serde(default = "Arp::ethernet")]
    pub hardware: u16,
    /// Protocol type.
    #[serde(default = "Arp::ipv4")]
    pub protocol: u16,
    /// Length of a hardware address.
    #[serde(default = "Arp::six")]
    pub hardware_length: u8,
    /// Length of a protocol address.
    #[serde(default = "Arp::four")]
    pub protocol_length: u8,
}

impl Arp {
    fn ethernet() -> u16 {
        1
    }
    fn ipv4() -> u16 {
        0x0800
    }
    fn six() -> u8 {
        6
    }
    fn four() -> u8 {
        4
    }
}

fn default_ttl() -> u8 {
    64
}

/// IPv4. Addresses may be names of ports and nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv4 {
    /// Source.
    pub src: String,
    /// Destination.
    pub dst: String,
    /// Time to live.
    #[serde(default = "default_ttl")]
    pub ttl: u8,
    /// DSCP and ECN.
    #[serde(default)]
    pub tos: u8,
    /// Identification.
    #[serde(default)]
    pub id: u16,
    /// Don't fragment.
    #[serde(default)]
    pub df: bool,
    /// More fragments.
    #[serde(default)]
    pub mf: bool,
    /// Fragment offset, bytes.
    #[serde(default)]
    pub offset: u16,
    /// Protocol, if it is not that of the next layer.
    pub protocol: Option<u8>,
    /// Total length, if it is not right.
    pub length: Option<u16>,
    /// Checksum, if it is not right.
    pub checksum: Option<u16>,
    /// Version, if it is not 4.
    pub version: Option<u8>,
    /// Header length in words, if it is not right.
    pub ihl: Option<u8>,
    /// Options, in hexadecimal, a multiple of four bytes.
    pub options: Option<String>,
}

/// IPv6.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv6 {
    /// Source.
    pub src: String,
    /// Destination.
    pub dst: String,
    /// Hop limit.
    #[serde(default = "default_ttl")]
    pub hop_limit: u8,
    /// Traffic class.
    #[serde(default)]
    pub tos: u8,
    /// Flow label.
    #[serde(default)]
    pub flow: u32,
    /// Next header, if it is not that of the next layer.
    pub next_header: Option<u8>,
    /// Payload length, if it is not right.
    pub length: Option<u16>,
    /// Version, if it is not 6.
    pub version: Option<u8>,
}

/// An IPv6 extension header.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Its number as a next header: 0 hop-by-hop, 43 routing, 51 authentication, 60 destination options.
    pub kind: u8,
    /// What follows its two first bytes, in hexadecimal; six zero bytes unless given.
    pub body: Option<String>,
    /// Length byte, if it is not right.
    pub length: Option<u8>,
    /// Next header, if it is not that of the next layer.
    pub next_header: Option<u8>,
}

/// The IPv6 fragment header.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Offset, bytes.
    #[serde(default)]
    pub offset: u16,
    /// More fragments.
    #[serde(default)]
    pub more: bool,
    /// Identification.
    #[serde(default)]
    pub id: u32,
    /// Next header, if it is not that of the next layer.
    pub next_header: Option<u8>,
}

/// A port number.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// That one.
    Number(u16),
    /// By the flow's hash: any of 49152..65535, the same in every runner.
    Hashed(Flow),
}

/// The word `flow`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// See [`Port::Hashed`].
    Flow,
}

/// TCP without options.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    #[serde(default)]
    pub seq: u32,
    /// Acknowledgement number.
    #[serde(default)]
    pub ack: u32,
    /// Flags; a SYN where none are given, which opens a flow.
    #[serde(default = "Tcp::syn")]
    pub flags: u8,
    /// Checksum, if it is not right.
    pub checksum: Option<u16>,
}

impl Tcp {
    fn syn() -> u8 {
        0x02
    }
}

/// UDP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Udp {
    /// Source port.
    pub src: Port,
    /// Destination port.
    pub dst: u16,
    /// Length, if it is not right.
    pub length: Option<u16>,
    /// Checksum, if it is not right.
    pub checksum: Option<u16>,
}

/// ICMP or ICMPv6.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Icmp {
    /// Type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Code.
    #[serde(default)]
    pub code: u8,
    /// Identifier of an echo; upper half of the fifth to eighth byte.
    #[serde(default)]
    pub id: u16,
    /// Sequence number of an echo; lower half: an error's MTU.
    #[serde(default)]
    pub seq: u16,
    /// Checksum, if it is not right.
    pub checksum: Option<u16>,
}

/// Neighbour discovery.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nd {
    /// 133 router solicitation, 134 router advertisement, 135 solicitation, 136 advertisement, 137 redirect.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Code.
    #[serde(default)]
    pub code: u8,
    /// The target; left out for router solicitations and advertisements.
    pub target: Option<String>,
    /// The flags' byte: 0x80 router, 0x40 solicited, 0x20 override.
    #[serde(default)]
    pub flags: u8,
    /// Source link-layer address option.
    pub source_mac: Option<String>,
    /// Target link-layer address option.
    pub target_mac: Option<String>,
    /// Further options, in hexadecimal.
    pub options: Option<String>,
    /// Checksum, if it is not right.
    pub checksum: Option<u16>,
}

/// VXLAN.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// Flags: the I flag unless given.
    #[serde(default = "Vxlan::i_flag")]
    pub flags: u8,
    /// The three bytes behind the flags.
    #[serde(default)]
    pub reserved: u32,
    /// The last byte.
    #[serde(default)]
    pub reserved2: u8,
}

impl Vxlan {
    fn i_flag() -> u8 {
        8
    }
}

/// A BFD control packet (RFC 5880 §4.1).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bfd {
    /// Version.
    #[serde(default = "Bfd::one")]
    pub version: u8,
    /// Diagnostic.
    #[serde(default)]
    pub diagnostic: u8,
    /// State: 0 admin down, 1 down, 2 init, 3 up.
    pub state: u8,
    /// The six bits behind it: 0x20 poll, 0x10 final, 0x04 authentication, 0x02 demand, 0x01 multipoint.
    #[serde(default)]
    pub flags: u8,
    /// Detection multiplier.
    #[serde(default = "Bfd::three")]
    pub multiplier: u8,
    /// Length, if it is not right.
    pub length: Option<u8>,
    /// The sender's discriminator.
    pub mine: u32,
    /// The receiver's.
    pub yours: u32,
    /// Desired minimal interval of sending, µs.
    #[serde(default)]
    pub tx: u32,
    /// Required minimal interval of receiving, µs.
    #[serde(default)]
    pub rx: u32,
    /// The same of echo packets, µs.
    #[serde(default)]
    pub echo: u32,
}

impl Bfd {
    fn one() -> u8 {
        1
    }
    fn three() -> u8 {
        3
    }
}

/// Outer headers. From this node they are what the agent prepares; from another one, what a VTEP sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Sending node; this one unless given.
    pub from: Option<String>,
    /// Receiving node; this one unless given.
    pub to: Option<String>,
    /// Network identifier.
    pub vni: u32,
    /// TOS or traffic class.
    #[serde(default)]
    pub tos: u8,
    /// UDP source port: by hash from this node, 50000 from others.
    pub source_port: Option<u16>,
    /// The uplink; the first one unless given.
    pub via: Option<String>,
}

/// A part of other layers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The layers; where they start behind IP, the enclosing header's addresses count for checksums.
    pub of: Vec<Layer>,
    /// First byte.
    #[serde(default)]
    pub from: usize,
    /// How many bytes; to the end unless given.
    pub length: Option<usize>,
    /// Makes the enclosing header's protocol that of the first layer; a quotation has none.
    #[serde(default)]
    pub protocol: Option<u8>,
}
