//! A local port: a workload's interface, or the router where traffic of plain VTEPs comes in.

use crate::{Be32, Ip, Mac, Vni};
use bytemuck::{Pod, Zeroable};

/// Slot 0 belongs to no port: what cannot be attributed is counted there.
pub const UNDERLAY_SLOT: u16 = 0;

/// Bits of [`Port::flags`].
pub mod flags {
    /// Frames that are neither IP nor ARP may pass inside the subnet.
    pub const NON_IP: u32 = 1 << 0;
    /// `source_dest_check: false`: any address may be a source and a destination.
    pub const ROUTES_FOR_OTHERS: u32 = 1 << 1;
    /// XDP may redirect into this interface without loss.
    pub const XDP_DELIVERY: u32 = 1 << 2;
    /// The interface is a veth whose peer `bpf_redirect_peer` can reach.
    pub const PEER_DELIVERY: u32 = 1 << 3;
    /// No workload: the VPC router, for what plain VTEPs send to the router's MAC in this VNI.
    pub const ROUTER: u32 = 1 << 4;
    /// No route leads an address of the VPC elsewhere than to its endpoint: who has an endpoint needs no route.
    pub const ENDPOINTS_FIRST: u32 = 1 << 5;
    /// With [`ROUTES_FOR_OTHERS`]: its interface is down, or nobody is at the other end.
    pub const NO_CARRIER: u32 = 1 << 6;
}

/// One element of the `PORTS` array, by slot. Three cache lines; the first one is all that an established flow reads.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Port {
    /// Epoch of the configuration, never 0 in a used slot. A session of another epoch is decided again.
    pub epoch: u32,
    /// Index of the interface on the host's side; 0 while there is none.
    pub ifindex: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Largest layer-3 packet that the interface takes, bytes.
    pub mtu: u32,
    /// L3 VNI of the VPC.
    pub vpc: Vni,
    /// Effective VNI of the subnet.
    pub l2_vni: Vni,
    /// Id of the subnet, unique in the fabric.
    pub subnet: u32,
    /// Id of the route table.
    pub route_table: u32,
    /// Hash of the port's name: tells which port holds the slot when the agent starts again.
    pub uid: u64,
    /// The workload's address.
    pub mac: Mac,
    /// How long sessions live.
    pub timeouts: Timeouts,
    /// Zero.
    pub reserved: [u16; 3],
    /// Gateway address of the subnet's IPv6 block; unspecified where there is none.
    pub gateway_v6: Ip,
    /// Gateway address of the subnet's first IPv4 block, network order; zero where there is none.
    pub gateway_v4: Be32,
    /// Sessions that the port may have; half-open ones at most a quarter of it.
    pub session_quota: u32,
    /// Sessions that the ports of the VPC may have on this node together.
    pub vpc_quota: u32,
    /// Index of the VPC among those of the node, for what its ports share.
    pub vpc_index: u32,
    /// Id of the rule set for flows that the workload opens.
    pub egress_rules: u32,
    /// Id of the rule set for flows that others open.
    pub ingress_rules: u32,
    /// Id of the network ACL's rule set for what leaves the subnet; [`Port::NO_ACL`] where there is none.
    pub egress_acl: u32,
    /// Id of the network ACL's rule set for what comes into the subnet.
    pub ingress_acl: u32,
    /// Id of the set of groups that the port is in.
    pub identity: u32,
    /// The workload's first IPv4 address, network order; zero where it has none. Spares a look-up.
    pub private_v4: Be32,
    /// Zero.
    pub reserved2: [u32; 2],
    /// The workload's first IPv6 address; unspecified where it has none. Spares a look-up.
    pub private_v6: Ip,
    /// Zero.
    pub reserved3: [u32; 12],
}

impl Port {
    /// No rule set has this id: everything passes.
    pub const NO_ACL: u32 = 0;
}

/// How long a session lives without a packet, in ticks of [`crate::session::TICK_SHIFT`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Timeouts {
    /// TCP until both sides have spoken.
    pub tcp_half_open: u16,
    /// TCP.
    pub tcp_established: u16,
    /// TCP after a FIN or a believed RST.
    pub tcp_closing: u16,
    /// Everything without states until both sides have spoken.
    pub one_way: u16,
    /// The same afterwards.
    pub two_way: u16,
    /// ICMP queries.
    pub icmp: u16,
}

const _: () = assert!(size_of::<Port>() == 192 && size_of::<Timeouts>() == 12);

/// Key of the `SOURCES` trie: which addresses a port may send from, and be sent to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct SourceKey {
    /// 32 for the slot, plus the prefix of the address in its 128-bit form.
    pub prefix_len: u32,
    /// Slot, in network order so that it is a prefix.
    pub slot: Be32,
    /// The prefix.
    pub address: Ip,
}

const _: () = assert!(size_of::<SourceKey>() == 24);

/// Key of the `FLOOD` hash: member number `index`, counted from 0, of the subnet's flood list.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct FloodKey {
    /// Id of the subnet, see [`Port::subnet`].
    pub subnet: u32,
    /// Position in the list.
    pub index: u32,
}

/// One member of a flood list. Local ports stand before remote nodes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct FloodMember {
    /// VTEP index (node id) if `local` is 0, else slot.
    pub target: u16,
    /// 1: `target` is a local slot.
    pub local: u16,
    /// Effective VNI of the subnet.
    pub l2_vni: Vni,
}

/// Bounds that a port's own traffic uses up: one element of `BUCKETS`, by slot.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct PortBuckets {
    /// Generated ICMP messages.
    pub icmp: TokenBucket,
    /// Broadcast and multicast frames.
    pub flood: TokenBucket,
    /// Long searches for an external port.
    pub nat: TokenBucket,
    /// Zero.
    pub reserved: [u64; 2],
}

/// A token bucket that holds one second's worth.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct TokenBucket {
    /// When it was filled last, nanoseconds of the monotonic clock.
    pub filled_ns: u64,
    /// Tokens left.
    pub tokens: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<PortBuckets>() == 64);

/// What a port, or the ports of a VPC together, have of what is bounded: one element of `PORT_USAGE` by slot, and of
/// `VPC_USAGE` by [`Port::vpc_index`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Usage {
    /// Sessions.
    pub sessions: u32,
    /// Those of TCP to which both sides have not spoken yet.
    pub half_open: u32,
}

const _: () = assert!(size_of::<Usage>() == 8);
