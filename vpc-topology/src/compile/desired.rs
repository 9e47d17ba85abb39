//! The state that one node needs: the content of its maps, as far as the topology alone decides it.
//!
//! What the machine decides (interface indices, MTUs, next hops of the underlay, epochs) is added by the agent.

use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use vpc_common::{
    Be32, Ip, Vni,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    nat::{ElasticKey, External, ExternalPort, Forward, NatSlice},
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, SourceKey},
    route::{Route, RouteKey, kind},
    session::V4,
};

/// Slots in use, by the port's uid. Given to the compiler so that a port keeps its slot when others come and go.
pub type Slots = BTreeMap<u64, u16>;

/// Everything that one node needs. Tables are sorted by key and free of duplicates; the large ones are shared with
/// those who bring them into the maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// This node.
    pub node: DesiredNode,
    /// Local ports by slot; slot 0 is never used.
    pub ports: BTreeMap<u16, DesiredPort>,
    /// All other nodes of the fabric.
    pub vteps: Vec<DesiredVtep>,
    /// Addresses of the VPCs that this node takes part in and of their peers, as far as a route leads there.
    pub endpoints: Arc<Vec<(EndpointKey, Endpoint)>>,
    /// The ports of the VPCs that this node takes part in, by MAC.
    pub macs: Arc<Vec<(MacKey, MacEntry)>>,
    /// Routes of the tables that local ports use.
    pub routes: Vec<(RouteKey, Route)>,
    /// Source prefixes of local ports.
    pub sources: Vec<(SourceKey, u32)>,
    /// Flood lists of the subnets of local ports.
    pub flood: Arc<Vec<(FloodKey, FloodMember)>>,
    /// Single addresses that the rule sets of local ports tell apart.
    pub hosts: Vec<(HostKey, Subject)>,
    /// Blocks of addresses that they tell apart.
    pub subjects: Vec<(SubjectKey, Subject)>,
    /// Sets of groups that they tell apart.
    pub identities: Vec<(IdentityKey, Subject)>,
    /// What they say.
    pub rules: Vec<(RuleKey, RuleVerdict)>,
    /// The way to the outside.
    pub outside: Outside,
    /// The ports that are next hops beside others, by uid, with their names: on this node and elsewhere.
    pub next_hops: BTreeMap<u64, String>,
    /// Names of what the tables hold only numbers of, for people.
    pub names: Names,
}

impl Desired {
    /// The next hops of routes that have several, by the id of their table of instances.
    pub fn instances(&self) -> BTreeMap<u32, BTreeSet<Ip>> {
        let several = self.routes.iter().filter(|(_, route)| route.kind == kind::PORTS);
        let mut instances: BTreeMap<u32, BTreeSet<Ip>> =
            several.map(|(_, route)| (route.next_hop.low().get(), BTreeSet::new())).collect();
        if !instances.is_empty() {
            for (key, route) in &self.routes {
                if let Some(next_hops) = instances.get_mut(&key.table.get()) {
                    next_hops.insert(route.next_hop);
                }
            }
        }
        instances
    }
}

/// Names by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// VPCs by L3 VNI.
    pub vpcs: BTreeMap<Vni, String>,
    /// Subnets by id.
    pub subnets: BTreeMap<u32, String>,
    /// Rules by [`RuleVerdict::rule`]: `security_group web ingress 2`.
    pub rules: BTreeMap<u32, String>,
    /// What the same rules say: `tcp 80, 443 from 0.0.0.0/0`.
    pub rule_texts: BTreeMap<u32, String>,
    /// Sets of groups by [`Endpoint::identity`]: `security_group web, policy_group app`.
    pub identities: BTreeMap<u32, String>,
}

/// The way to the outside: external addresses and who stands behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Who stands behind each external address.
    pub externals: Vec<(V4, External)>,
    /// Elastic IPs by private address.
    pub elastic_ips: Vec<(ElasticKey, V4)>,
    /// This node's slices of the NAT gateways' ports, by the gateway's id.
    pub slices: Vec<(u32, NatSlice)>,
    /// Port forwards.
    pub forwards: Vec<(ExternalPort, Forward)>,
    /// Ids of the gateway nodes.
    pub gateways: Vec<u16>,
    /// Those of them that share a network outside with this node, itself among them; empty if it is none.
    pub segment: Vec<u16>,
    /// The nodes that this one asks whether they are alive, by id.
    pub probes: Vec<DesiredProbe>,
    /// How this node reaches the outside, if it is a gateway.
    pub outlet: Option<DesiredOutlet>,
    /// Names of the elastic IPs by address.
    pub names: BTreeMap<V4, String>,
    /// Names of the NAT gateways by id.
    pub gateway_names: BTreeMap<u32, String>,
}

/// How a gateway node reaches the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredOutlet {
    /// The external interface.
    pub device: String,
    /// The node's own address there.
    pub address: Be32,
    /// The networks there.
    pub networks: Vec<IpNet>,
    /// The router beyond.
    pub next_hop: IpAddr,
    /// The node's own IPv6 address there; unspecified where it has none.
    pub address_v6: Ip,
    /// The router beyond for IPv6.
    pub next_hop_v6: Option<IpAddr>,
}

/// A node that is asked whether it is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredProbe {
    /// Its id.
    pub node: u16,
    /// The name of what is asked for.
    pub name: String,
    /// What is asked for there: the node by its id, or a port of it by [`vpc_common::bfd::of_port`].
    pub discriminator: u32,
    /// Its VTEP address.
    pub address: Ip,
    /// Why it is asked.
    pub role: ProbeRole,
    /// How often.
    pub interval: Duration,
    /// After how many questions without an answer it counts as gone.
    pub multiplier: u8,
}

/// Why a node is asked whether it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRole {
    /// It is a gateway.
    Gateway,
    /// It tells a gateway that the underlay is still there when all other gateways are silent.
    Witness,
    /// A port of it is a next hop beside others.
    Instance,
}

/// What the topology says of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredNode {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u16,
    /// Its VTEP address.
    pub vtep: Ip,
    /// [`vpc_common::node::flags`].
    pub flags: u32,
    /// Its uplinks.
    pub uplinks: Vec<String>,
    /// How tunnel packets are received.
    pub receive_mode: ReceiveMode,
}

/// How tunnel packets are received on the uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceiveMode {
    /// XDP where the driver has it natively, loses nothing by it and is faster so; TC otherwise, as on a veth.
    #[default]
    Auto,
    /// XDP; an error where the driver has none.
    Xdp,
    /// TC only: the uplink keeps its receive offloads.
    Tc,
}

impl std::fmt::Display for ReceiveMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        })
    }
}

/// A local port.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredPort {
    /// Its name; for the router of a VNI, `router/<subnet>`.
    pub name: String,
    /// Its interface on the host's side; none for the router.
    pub device: Option<String>,
    /// Whether established flows go by XDP.
    pub packet_rate: bool,
    /// The record, with `epoch`, `ifindex`, `mtu` and the delivery flags zero.
    pub record: Port,
    /// The VPCs whose endpoints and routes decide over its flows: its own and its peers. A change there moves its epoch.
    pub reach: BTreeSet<Vni>,
    /// The groups that it is in: `security_group web`.
    pub groups: Vec<String>,
    /// The network ACL of its subnet.
    pub network_acl: Option<String>,
    /// [`Port::timeouts`] in seconds.
    pub timeouts: TimeoutSeconds,
}

/// How long sessions live without a packet, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutSeconds {
    /// TCP until both sides have spoken.
    pub tcp_half_open: u32,
    /// TCP.
    pub tcp_established: u32,
    /// TCP after a FIN or an RST.
    pub tcp_closing: u32,
    /// Everything without states until both sides have spoken.
    pub udp_one_way: u32,
    /// The same afterwards.
    pub udp_stream: u32,
    /// ICMP queries.
    pub icmp: u32,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredVtep {
    /// Its id, which is its index.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its VTEP address.
    pub address: Ip,
}
