//! A validated topology: the records of the file with every name resolved.

use crate::{
    Limits, Source,
    diagnostics::Problem,
    document::{Broken, Reader},
    model::{
        ElasticIp, File, GroupDefinition, InternetGateway, NatGateway, NetworkAcl, Node, PolicyGroup, Port, RouteTable,
        SecurityGroup, Subnet, Vpc,
    },
    parts, validate,
};
use std::{fmt, hash, marker::PhantomData, num::NonZero};
use vpc_common::Vni;

/// Position of a record in its list of the file, counted from 1: so `Option` takes no more.
pub(crate) struct At<T>(NonZero<u32>, PhantomData<fn() -> T>);

impl<T> At<T> {
    pub(crate) fn new(index: usize) -> Self {
        Self(NonZero::<u32>::MIN.saturating_add(index as u32), PhantomData)
    }

    pub(crate) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl<T> Clone for At<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for At<T> {}
impl<T> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for At<T> {}
impl<T> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for At<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> hash::Hash for At<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> fmt::Debug for At<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.index())
    }
}

/// Where a route leads, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hop {
    Local,
    Port(At<Port>),
    /// One of them, by the flow.
    Ports(Vec<At<Port>>),
    Blackhole,
    Peer(At<Vpc>),
    Internet(At<InternetGateway>),
    Nat(At<NatGateway>),
}

/// What an elastic IP is linked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElasticLinks {
    pub(crate) port: Option<At<Port>>,
}

/// What a NAT gateway is linked to.
#[derive(Clone, Debug)]
pub(crate) struct NatLinks {
    pub(crate) vpc: At<Vpc>,
    /// Id, unique in the fabric.
    pub(crate) id: u32,
    pub(crate) elastic_ips: Vec<At<ElasticIp>>,
    /// The ports that its port forwards lead to, in the order of the file.
    pub(crate) forwards: Vec<At<Port>>,
}

/// A group that ports are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub(crate) enum Group {
    /// The default group of a VPC, whether the file says what its rules are or not.
    Default(At<Vpc>),
    Security(At<SecurityGroup>),
    Policy(At<PolicyGroup>),
}

impl Group {
    /// What the file says of it; nothing of a default group that it does not redefine.
    pub(crate) fn definition<'t>(
        self,
        file: &'t File,
        links: &'t Links,
    ) -> Option<(GroupDefinition<'t>, &'t GroupLinks)> {
        let named = match self {
            Self::Default(vpc) => vpc.links(links).default_group?,
            Self::Security(group) => group,
            Self::Policy(group) => return Some((group.of(file).definition(), group.links(links))),
        };
        Some((named.of(file).definition(), named.links(links)))
    }
}

/// A set of groups that at least one port is in.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Id, unique in the fabric.
    pub(crate) id: u32,
    /// Sorted.
    pub(crate) groups: Vec<Group>,
}

/// What a security group or a policy group is linked to: the groups that each rule names, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct GroupLinks {
    pub(crate) ingress: Vec<Vec<Group>>,
    pub(crate) egress: Vec<Vec<Group>>,
}

/// What a node is linked to.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeLinks {
    pub(crate) ports: Vec<At<Port>>,
}

/// What a VPC is linked to.
#[derive(Clone, Debug, Default)]
pub(crate) struct VpcLinks {
    pub(crate) subnets: Vec<At<Subnet>>,
    /// Addresses of its ports, gateways and broadcasts together.
    pub(crate) endpoints: usize,
    pub(crate) macs: usize,
    /// What the file says its default group is.
    pub(crate) default_group: Option<At<SecurityGroup>>,
    pub(crate) identities: Vec<At<Identity>>,
}

/// What a subnet is linked to.
#[derive(Clone, Debug)]
pub(crate) struct SubnetLinks {
    pub(crate) vpc: At<Vpc>,
    pub(crate) route_table: Option<At<RouteTable>>,
    pub(crate) network_acl: Option<At<NetworkAcl>>,
    /// Effective VNI.
    pub(crate) vni: Vni,
    /// Id, unique in the fabric.
    pub(crate) id: u32,
    pub(crate) ports: Vec<At<Port>>,
    /// The nodes that hold a port of it, by ascending id.
    pub(crate) nodes: Vec<At<Node>>,
    /// Whether one of them is a plain VTEP.
    pub(crate) on_plain_vtep: bool,
}

/// What a port is linked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortLinks {
    pub(crate) subnet: At<Subnet>,
    pub(crate) node: At<Node>,
    pub(crate) identity: At<Identity>,
}

/// What a route table is linked to.
#[derive(Clone, Debug)]
pub(crate) struct TableLinks {
    /// In the order of the file.
    pub(crate) hops: Vec<Hop>,
}

/// Every link of a topology, parallel to the lists of its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) nodes: Vec<NodeLinks>,
    pub(crate) vpcs: Vec<VpcLinks>,
    pub(crate) subnets: Vec<SubnetLinks>,
    pub(crate) route_tables: Vec<TableLinks>,
    pub(crate) elastic_ips: Vec<ElasticLinks>,
    pub(crate) nat_gateways: Vec<NatLinks>,
    pub(crate) ports: Vec<PortLinks>,
    pub(crate) security_groups: Vec<GroupLinks>,
    pub(crate) policy_groups: Vec<GroupLinks>,
    /// Sorted by VPC and groups.
    pub(crate) identities: Vec<Identity>,
}

/// A validated topology. Everything that it says is consistent and fits into the maps.
#[derive(Clone)]
pub struct Topology {
    file: File,
    links: Links,
}

impl Topology {
    pub(crate) fn read(source: &dyn Source, limits: &Limits) -> Result<Self, Vec<Problem>> {
        let (file, problems, broken) = match parts::read(source) {
            Some(file) => (Some(file), Vec::new(), Broken::default()),
            None => Reader::new(source.text()).document::<File>(),
        };
        match file {
            Some(file) => Self::validated(file, problems, &broken, limits),
            None => Err(problems),
        }
    }

    /// A topology of records that were read, with the problems met on the way.
    pub(crate) fn validated(
        file: File,
        mut problems: Vec<Problem>,
        broken: &Broken,
        limits: &Limits,
    ) -> Result<Self, Vec<Problem>> {
        let links = validate::validate(&file, broken, limits, &mut problems);
        match links {
            Some(links) if problems.is_empty() => Ok(Self { file, links }),
            _ => Err(problems),
        }
    }

    /// Gives the records back.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// The records as the file has them.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.file.nodes.iter().find(|node| &*node.name.value == name)
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let File { nodes, vpcs, subnets, ports, .. } = &self.file;
        let (nodes, vpcs, subnets, ports) = (nodes.len(), vpcs.len(), subnets.len(), ports.len());
        write!(f, "Topology({nodes} nodes, {vpcs} VPCs, {subnets} subnets, {ports} ports)")
    }
}

/// Declares how a record is found by its position.
macro_rules! lookup {
    ($($Record:ty, $list:ident;)+) => {
        $(impl At<$Record> {
            pub(crate) fn of(self, file: &File) -> &$Record {
                &file.$list[self.index()]
            }
        })+
    };
}

lookup! {
    Node, nodes;
    Vpc, vpcs;
    Subnet, subnets;
    RouteTable, route_tables;
    ElasticIp, elastic_ips;
    InternetGateway, internet_gateways;
    NatGateway, nat_gateways;
    SecurityGroup, security_groups;
    PolicyGroup, policy_groups;
    NetworkAcl, network_acls;
    Port, ports;
}

/// Declares how a record's links are found by its position.
macro_rules! links {
    ($($Record:ty, $list:ident, $Links:ty;)+) => {
        $(impl At<$Record> {
            pub(crate) fn links(self, links: &Links) -> &$Links {
                &links.$list[self.index()]
            }
        })+
    };
}

links! {
    Node, nodes, NodeLinks;
    Vpc, vpcs, VpcLinks;
    Subnet, subnets, SubnetLinks;
    RouteTable, route_tables, TableLinks;
    NatGateway, nat_gateways, NatLinks;
    Port, ports, PortLinks;
    SecurityGroup, security_groups, GroupLinks;
    PolicyGroup, policy_groups, GroupLinks;
    Identity, identities, Identity;
}
