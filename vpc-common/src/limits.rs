//! Default sizes of the maps and bounds of the datapath. The agent may set other map sizes; see `vpc-agent run --help`.

/// Local ports of one node, slot 0 excluded.
pub const LOCAL_PORTS: u32 = 1_024;
/// Endpoints that one node can know.
pub const ENDPOINTS: u32 = 1 << 20;
/// Routes over all route tables that one node uses.
pub const ROUTES: u32 = 1 << 18;
/// Nodes of a fabric: node ids are 1..=4095, so that a VTEP's index is its node's id.
pub const VTEPS: u32 = 4_096;
/// Sessions of each address family.
pub const SESSIONS: u32 = 1 << 20;
/// The same of a node of which little is asked: the tables grow with their use.
pub const SESSIONS_AT_START: u32 = 1 << 16;
/// Single addresses that rule sets tell apart, over all rule sets of one node, and as many blocks.
pub const SUBJECTS: u32 = 1 << 18;
/// Sets of groups that rule sets tell apart, over all rule sets of one node.
pub const IDENTITIES: u32 = 1 << 16;
/// Compiled rules over all rule sets of one node.
pub const RULES: u32 = 1 << 20;
/// VPCs of a topology.
pub const VPCS: u32 = 4_096;
/// Source prefixes over all local ports: own addresses and allowed address pairs.
pub const SOURCES: u32 = 1 << 16;
/// Members of flood lists over all subnets of one node.
pub const FLOOD_MEMBERS: u32 = 1 << 16;
/// Members of one subnet's flood list: nodes and local ports.
pub const FLOOD_FANOUT: u32 = 4_096 + 1_024;

/// External addresses of a fabric: elastic IPs and those of NAT gateways.
pub const EXTERNALS: u32 = 1 << 16;
/// NAT gateways of a fabric.
pub const NAT_GATEWAYS: u32 = 4_096;
/// Port forwards of a fabric.
pub const FORWARDS: u32 = 1 << 16;
/// NAT mappings of one node.
pub const NAT_MAPPINGS: u32 = 1 << 18;
/// Gateway nodes of a fabric.
pub const GATEWAYS: usize = 32;
/// The least external port (and identifier of ICMP queries) that NAT uses: those below are for well-known services.
pub const NAT_FIRST_PORT: u16 = 1_024;
/// External ports that are tried for a new NAT mapping; Linux tries as many (`nf_nat_core.c`, `NF_NAT_MAX_ATTEMPTS`).
pub const NAT_PROBES: u32 = 128;
/// So many of them always.
pub const NAT_FIRST_PROBES: u32 = 8;
/// More for so many flows a second and port: a slice of all ports there are lasts for 540 new mappings a second.
pub const NAT_SEARCH_RATE: u32 = 1_000;

/// Datagrams in fragments that are followed at a time, for each port.
pub const DATAGRAMS: u32 = 256;
/// The same for the external addresses of each VPC.
pub const VPC_DATAGRAMS: u32 = 64;
/// How long the rest of a datagram may take after its first fragment, ns.
pub const DATAGRAM_NS: u64 = 2_000_000_000;
/// Of a port's sessions, one in so many may be half-open.
pub const HALF_OPEN_SHARE: u32 = 4;

/// Generated ICMP messages a second and port.
pub const ICMP_RATE: u32 = 100;
/// Broadcast and multicast frames a second and port, before replication.
pub const FLOOD_RATE: u32 = 1_000;
/// Next hops of one VTEP in the underlay.
pub const UNDERLAY_NEXT_HOPS: usize = 4;
/// The VXLAN port (RFC 7348 §5).
pub const VXLAN_PORT: u16 = 4789;
/// Outer Ethernet, IPv4, UDP and VXLAN headers, bytes.
pub const OVERHEAD_V4: u32 = 50;
/// Outer Ethernet, IPv6, UDP and VXLAN headers, bytes.
pub const OVERHEAD_V6: u32 = 70;
/// A session that saw no packet for so many seconds is removed by the sweeper.
pub const SESSION_IDLE_SECONDS: u32 = 300;
