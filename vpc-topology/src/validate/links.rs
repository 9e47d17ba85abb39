//! References, resolved.

use super::{
    gateways::{self, Outside},
    groups::{self, ResolvedGroup},
    names::Names,
};
use crate::{
    compile::{endpoint_count, subnet_ids},
    diagnostics::Problem,
    model::{
        File, InternetGateway, NatGateway, NetworkAcl, Node, Peering, PolicyGroup, Port, RouteTable, SecurityGroup,
        Subnet, Target, Vpc,
    },
    topology::{At, Group, Hop, Links, NodeLinks, PortLinks, SubnetLinks, TableLinks, VpcLinks},
};

/// What could be resolved, parallel to the lists of the file.
pub(super) struct Resolved {
    pub(super) subnets: Vec<ResolvedSubnet>,
    pub(super) tables: Vec<ResolvedTable>,
    pub(super) peerings: Vec<Ends>,
    pub(super) ports: Vec<ResolvedPort>,
    pub(super) outside: Outside,
    pub(super) security_groups: Vec<ResolvedGroup>,
    pub(super) policy_groups: Vec<ResolvedGroup>,
    /// VPCs of the network ACLs.
    pub(super) network_acls: Vec<Option<At<Vpc>>>,
}

#[derive(Clone, Copy)]
pub(super) struct ResolvedSubnet {
    pub(super) vpc: Option<At<Vpc>>,
    /// `Some(None)`: the VPC's main table.
    pub(super) table: Option<Option<At<RouteTable>>>,
    /// `Some(None)`: none.
    pub(super) acl: Option<Option<At<NetworkAcl>>>,
}

pub(super) struct ResolvedTable {
    pub(super) vpc: Option<At<Vpc>>,
    pub(super) hops: Vec<Option<ResolvedHop>>,
}

#[derive(Clone)]
pub(super) enum ResolvedHop {
    Local,
    Port(At<Port>),
    Ports(Vec<Option<At<Port>>>),
    Blackhole,
    Peering(At<Peering>),
    Internet(At<InternetGateway>),
    Nat(At<NatGateway>),
}

/// The VPCs of a peering.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) requester: Option<At<Vpc>>,
    pub(super) accepter: Option<At<Vpc>>,
}

pub(super) struct ResolvedPort {
    pub(super) subnet: Option<At<Subnet>>,
    pub(super) node: Option<At<Node>>,
    /// The groups that it names.
    pub(super) groups: Box<[Option<Group>]>,
}

/// Resolves every reference; those to nothing are reported.
pub(super) fn resolve<'f>(file: &'f File, mut names: Names<'f>, problems: &mut Vec<Problem>) -> Resolved {
    let subnets = file.subnets.iter().map(|subnet| ResolvedSubnet {
        vpc: names.vpcs.resolve(&subnet.vpc, problems),
        table: match &subnet.route_table {
            Some(table) => names.route_tables.resolve(table, problems).map(Some),
            None => Some(None),
        },
        acl: match subnet.network_acl.get() {
            Some(acl) => names.network_acls.resolve(acl, problems).map(Some),
            None => Some(None),
        },
    });
    let subnets: Vec<ResolvedSubnet> = subnets.collect();
    let tables = file.route_tables.iter().map(|table| ResolvedTable {
        vpc: names.vpcs.resolve(&table.vpc, problems),
        hops: table
            .routes
            .iter()
            .map(|route| match route.targets().next()? {
                Target::Local => Some(ResolvedHop::Local),
                Target::Blackhole => Some(ResolvedHop::Blackhole),
                Target::Port(name) => names.ports.resolve(name, problems).map(ResolvedHop::Port),
                Target::Ports(ports) => {
                    Some(ResolvedHop::Ports(ports.iter().map(|name| names.ports.resolve(name, problems)).collect()))
                }
                Target::Peering(name) => names.peerings.resolve(name, problems).map(ResolvedHop::Peering),
                Target::InternetGateway(name) => {
                    names.internet_gateways.resolve(name, problems).map(ResolvedHop::Internet)
                }
                Target::NatGateway(name) => names.nat_gateways.resolve(name, problems).map(ResolvedHop::Nat),
            })
            .collect(),
    });
    let tables = tables.collect();
    let peerings = file.peerings.iter();
    let peerings = peerings
        .map(|p| Ends {
            requester: names.vpcs.resolve(&p.requester, problems),
            accepter: names.vpcs.resolve(&p.accepter, problems),
        })
        .collect();
    let ports = file.ports.iter().map(|port| {
        let subnet = names.subnets.resolve(&port.subnet, problems);
        let vpc = subnet.and_then(|subnet| subnets[subnet.index()].vpc);
        ResolvedPort {
            subnet,
            node: names.nodes.resolve(&port.node, problems),
            groups: groups::resolve_security(&port.security_groups, vpc, &mut names, problems).into(),
        }
    });
    let ports = ports.collect();
    let definitions = file.security_groups.iter().map(SecurityGroup::definition);
    let security_groups = groups::resolve_all(definitions, &mut names, problems);
    let definitions = file.policy_groups.iter().map(PolicyGroup::definition);
    let policy_groups = groups::resolve_all(definitions, &mut names, problems);
    let network_acls = file.network_acls.iter().map(|acl| names.vpcs.resolve(&acl.vpc, problems)).collect();
    let outside = gateways::resolve(file, &mut names, problems);
    Resolved { outside, subnets, tables, peerings, ports, security_groups, policy_groups, network_acls }
}

impl Resolved {
    /// The VPC of a port.
    pub(super) fn vpc_of(&self, port: &ResolvedPort) -> Option<At<Vpc>> {
        port.subnet.and_then(|subnet| self.subnets[subnet.index()].vpc)
    }

    /// All links, if every one of them was resolved.
    pub(super) fn complete(&self, file: &File) -> Option<Links> {
        let mut links = Links {
            nodes: vec![NodeLinks::default(); file.nodes.len()],
            vpcs: vec![VpcLinks::default(); file.vpcs.len()],
            ..Links::default()
        };
        let ids = subnet_ids(file);
        for (index, (subnet, resolved)) in file.subnets.iter().zip(&self.subnets).enumerate() {
            let vpc = resolved.vpc?;
            links.vpcs[vpc.index()].subnets.push(At::new(index));
            links.subnets.push(SubnetLinks {
                vpc,
                route_table: resolved.table?,
                network_acl: resolved.acl?,
                vni: subnet.vni.unwrap_or(vpc.of(file).vni).value.0,
                id: ids[index],
                ports: Vec::new(),
                nodes: Vec::new(),
                on_plain_vtep: false,
            });
        }
        self.outside.link(file, &mut links)?;
        groups::link(file, self, &mut links)?;
        let identities = groups::identities(file, self, &mut links)?;
        for ((index, port), identity) in self.ports.iter().enumerate().zip(identities) {
            let (subnet, node) = (port.subnet?, port.node?);
            links.nodes[node.index()].ports.push(At::new(index));
            links.subnets[subnet.index()].ports.push(At::new(index));
            links.subnets[subnet.index()].nodes.push(node);
            links.ports.push(PortLinks { subnet, node, identity });
        }
        for (index, table) in self.tables.iter().enumerate() {
            let vpc = table.vpc?;
            let hops = table.hops.iter().map(|hop| self.hop(vpc, hop.as_ref()?));
            debug_assert_eq!(links.route_tables.len(), index);
            links.route_tables.push(TableLinks { hops: hops.collect::<Option<_>>()? });
        }
        for (index, subnet) in links.subnets.iter_mut().enumerate() {
            subnet.nodes.sort_unstable_by_key(|node| node.of(file).id.value);
            subnet.nodes.dedup();
            subnet.on_plain_vtep = subnet.nodes.iter().any(|node| !node.of(file).runs_agent());
            let vpc = &mut links.vpcs[subnet.vpc.index()];
            vpc.endpoints += endpoint_count(file, At::new(index), &subnet.ports);
            vpc.macs += subnet.ports.len();
        }
        Some(links)
    }

    fn hop(&self, vpc: At<Vpc>, hop: &ResolvedHop) -> Option<Hop> {
        Some(match hop {
            ResolvedHop::Local => Hop::Local,
            ResolvedHop::Blackhole => Hop::Blackhole,
            ResolvedHop::Port(port) => Hop::Port(*port),
            ResolvedHop::Ports(ports) => Hop::Ports(ports.iter().copied().collect::<Option<_>>()?),
            ResolvedHop::Peering(peering) => Hop::Peer(self.peer(*peering, vpc)?),
            ResolvedHop::Internet(gateway) => Hop::Internet(*gateway),
            ResolvedHop::Nat(gateway) => Hop::Nat(*gateway),
        })
    }

    /// The other end of a peering.
    pub(super) fn peer(&self, peering: At<Peering>, vpc: At<Vpc>) -> Option<At<Vpc>> {
        let Ends { requester, accepter } = self.peerings[peering.index()];
        match Some(vpc) {
            vpc if vpc == requester => accepter,
            vpc if vpc == accepter => requester,
            _ => None,
        }
    }
}
