//! Per-CPU scratch: what a packet's way through the pipeline needs beyond the 512 bytes of an eBPF stack.

use crate::clock::Clock;
use bytemuck::{Pod, Zeroable};
use vpc_common::{
    Be16, Be32, Ip, Mac, Vni,
    datagram::Datagram,
    endpoint::{EndpointKey, MacKey},
    nat::{ElasticKey, ExternalPort, NatIn, NatOutKey},
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, SubjectKey},
    port::{Port, SourceKey},
    route::RouteKey,
    session::{Hop, Session, SessionKey, V4, V6},
    wire::{Arp, Ethernet},
};

/// Scratch of one CPU. Valid for one packet.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Scratch {
    /// A session to be put in.
    pub session: Session,
    /// A datagram in fragments.
    pub datagram: Datagram,
    /// Key of the packet's session.
    pub keys: SessionKeys,
    /// What was found out about the packet.
    pub flow: Flow,
    /// The decision.
    pub hop: Hop,
    /// The Ethernet header with which the inner frame leaves.
    pub leaving: Ethernet,
    /// The link-layer address that a neighbour discovery message carries; all zero where it carries none.
    pub link_layer: Mac,
    /// The ARP packet at hand.
    pub arp: Arp,
    /// The outer headers of a packet from the tunnel.
    pub outer: Outer,
    /// The MTU that an ICMP error tells, bytes.
    pub path_mtu: u32,
    /// Key for the endpoint table.
    pub endpoint: EndpointKey,
    /// Key for the MAC table.
    pub mac: MacKey,
    /// Key for the source trie.
    pub source: SourceKey,
    /// Key for the route trie.
    pub route: RouteKey,
    /// What a rule set is asked.
    pub question: Question,
    /// Key for the subjects of a rule set, by the blocks around an address.
    pub subject: SubjectKey,
    /// The same by identity.
    pub identity: IdentityKey,
    /// Key for its rules.
    pub rule: RuleKey,
    /// An external address and port: that of the packet's external end.
    pub outside: ExternalPort,
    /// The same of its other end.
    pub peer: ExternalPort,
    /// Who is to have a packet from outside.
    pub inward: Inward,
    /// Key for the elastic IPs.
    pub elastic: ElasticKey,
    /// Key for the NAT mappings of guests.
    pub nat_out: NatOutKey,
    /// A NAT mapping to be made.
    pub nat_in: NatIn,
    /// Rule set of what the NAT gateway at hand lets out.
    pub egress_rules: u32,
    /// Key for the subjects of a rule set, by single address.
    pub host: HostKey,
    /// The time. Not of one packet.
    pub clock: Clock,
}

/// What the groups of a port are asked: may this peer use this service?
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Question {
    /// The other end of the flow.
    pub peer: Ip,
    /// The rule set.
    pub rules: u32,
    /// See [`vpc_common::policy::service`].
    pub service: Be32,
    /// The port's VPC, in which the peer may be a member of groups.
    pub vpc: Vni,
    /// The port's route table, which may lead to those of a peer VPC.
    pub route_table: u32,
}

impl Question {
    /// A question to the groups of `port`.
    #[inline(always)]
    pub fn about(port: &Port, rules: u32, peer: Ip, service: Be32) -> Self {
        Self { peer, rules, service, vpc: port.vpc, route_table: port.route_table }
    }
}

/// Who is to have a packet from outside.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Inward {
    /// The private address; zero where only a NAT mapping of the node knows it.
    pub private: V4,
    /// L3 VNI of its VPC.
    pub vpc: Vni,
    /// Its node.
    pub node: u16,
    /// Its slot.
    pub slot: u16,
    /// The private port.
    pub port: Be16,
    /// 1: an external port of this node's slice, whose guest is on `node`.
    pub left: u16,
}

/// The session key of a packet, in the form of its family.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct SessionKeys {
    /// If it is IPv4.
    pub v4: SessionKey<V4>,
    /// If it is IPv6.
    pub v6: SessionKey<V6>,
}

/// The outer headers of a tunnel packet, in host terms.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Outer {
    /// Who sent it.
    pub source: Ip,
    /// In which network.
    pub vni: Vni,
    /// Bytes before the inner frame; 0 where the kernel has removed them.
    pub overhead: u32,
    /// TOS or traffic class.
    pub tos: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// What was found out about a packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Flow {
    /// Source.
    pub source: Ip,
    /// Destination.
    pub destination: Ip,
    /// [`vpc_common::port::Port::epoch`] as it was before anything else was asked.
    pub epoch: u32,
    /// Slot that the packet came from or goes to.
    pub slot: u16,
    /// Offset of the layer-4 header, bytes from the Ethernet header.
    pub l4: u16,
    /// Protocol at `l4`.
    pub protocol: u8,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// See [`flow_flags`].
    pub flags: u8,
    /// TOS or traffic class as received.
    pub tos: u8,
    /// Source port, or the identifier of an ICMP request; 0 where there is none.
    pub source_port: Be16,
    /// Destination port, or the identifier of an ICMP reply.
    pub destination_port: Be16,
    /// Outer UDP source port of the flow.
    pub outer_port: Be16,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// The frame's Ethernet header as received.
    pub ethernet: Ethernet,
    /// Length of the IP packet by its header, bytes.
    pub l3_length: u16,
    /// TCP sequence number, host order.
    pub sequence: u32,
    /// TCP acknowledgment number, host order.
    pub acknowledgment: u32,
    /// [`vpc_common::session::Session::seal`] of the packet's session, if that was decided under `epoch`.
    pub seal: u32,
    /// Identification of a fragment's datagram.
    pub fragment_id: u32,
    /// Where a fragment's payload begins in its datagram, bytes.
    pub fragment_offset: u16,
    /// Where it ends.
    pub fragment_end: u16,
    /// See [`vpc_common::wire::tcp_flags`]; 0 for other protocols.
    pub tcp_flags: u8,
    /// 1: the flow has no session, as was seen a moment ago.
    pub unseen: u8,
    /// To the session of the receiver, if that is a port of this node: see [`crate::neighbour::meaning`].
    pub neighbourly: u8,
    /// State of that session when the packet had passed it: see [`vpc_common::session::state`].
    pub receiver_state: u8,
    /// Who allowed the flow: see [`vpc_common::policy::RuleVerdict`].
    pub allowed_by: RuleVerdict,
    /// The external address that stands for the guest's; zero where none does.
    pub external: V4,
    /// The external port.
    pub external_port: Be16,
    /// Low half of the epoch under which that session has just let this flow's data pass: it need not see more of it. 0: it
    /// must.
    pub vouched_epoch: u16,
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// A fragment, first or not.
    pub const FRAGMENT: u8 = 1 << 0;
    /// A fragment that is not the first: no layer-4 header.
    pub const LATER_FRAGMENT: u8 = 1 << 1;
    /// DF is set, or IPv6.
    pub const DONT_FRAGMENT: u8 = 1 << 2;
    /// Must take the slow path every time: ICMP that is neither an echo request nor a reply.
    pub const UNTRACKED: u8 = 1 << 3;
    /// An IPv6 fragment header is there, also if the packet is whole (RFC 6946).
    pub const FRAGMENT_HEADER: u8 = 1 << 4;
}
