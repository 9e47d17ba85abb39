//! What of the topology concerns a node.

use super::{Names, policy::group_names};
use crate::{
    model::{File, InternetGateway, NatGateway, Node, Port, RouteTable, Subnet, Vpc},
    topology::{At, Hop, Links},
};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::Vni;

/// The part of a topology that concerns one node.
pub(crate) struct Scope<'t> {
    pub(super) file: &'t File,
    pub(super) links: &'t Links,
    pub(super) node: At<Node>,
    /// VPCs with a port on the node.
    pub(super) own: BTreeSet<At<Vpc>>,
    /// Those, and their peers as far as a route leads there.
    pub(super) reached: BTreeSet<At<Vpc>>,
    /// Subnets with a port on the node, and those ports.
    pub(super) subnets: BTreeMap<At<Subnet>, Vec<At<Port>>>,
    /// The subnets whose global addresses are reached from outside, anywhere, and by which gateway.
    pub(super) exposed: Vec<(At<Subnet>, At<InternetGateway>)>,
    /// The routers that plain VTEPs send to, by effective VNI.
    pub(super) routers: BTreeMap<Vni, Router>,
    /// Ports that cannot be next hops now, by uid.
    pub(super) gone: BTreeSet<u64>,
}

/// The router of one VNI, as plain VTEPs see it.
pub(super) struct Router {
    /// The subnets whose traffic it takes; the first one gives it its name and its route table.
    pub(super) subnets: Vec<At<Subnet>>,
}

/// A route table as a subnet uses it. `None`: the VPC's main table.
pub(super) type TableOf = (At<Vpc>, Option<At<RouteTable>>);

/// The subnets that have a route of IPv6 to an internet gateway.
fn exposed(file: &File, links: &Links) -> Vec<(At<Subnet>, At<InternetGateway>)> {
    let gateway_of = |table: At<RouteTable>| {
        let mut routes = table.of(file).routes.iter().zip(&table.links(links).hops);
        routes.find_map(|(route, hop)| match hop {
            Hop::Internet(gateway) if !route.destination.is_v4() => Some(*gateway),
            _ => None,
        })
    };
    let subnets = (0..file.subnets.len()).map(At::<Subnet>::new);
    subnets.filter_map(|subnet| Some((subnet, gateway_of(subnet.links(links).route_table?)?))).collect()
}

impl<'t> Scope<'t> {
    pub(crate) fn new(file: &'t File, links: &'t Links, node: At<Node>) -> Self {
        let mut subnets: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for port in &node.links(links).ports {
            subnets.entry(port.links(links).subnet).or_default().push(*port);
        }
        let own: BTreeSet<_> = subnets.keys().map(|subnet| subnet.links(links).vpc).collect();
        let mut routers: BTreeMap<Vni, Router> = BTreeMap::new();
        for subnet in own.iter().flat_map(|vpc| &vpc.links(links).subnets) {
            let subnet_links = subnet.links(links);
            if subnet_links.on_plain_vtep {
                let router = routers.entry(subnet_links.vni).or_insert(Router { subnets: Vec::new() });
                router.subnets.push(*subnet);
            }
        }
        for router in routers.values_mut() {
            router.subnets.sort_by_key(|subnet| &*subnet.of(file).name.value);
        }
        let exposed = exposed(file, links);
        let mut scope =
            Self { file, links, node, reached: own.clone(), own, subnets, exposed, routers, gone: BTreeSet::new() };
        let tables: BTreeSet<_> = scope.tables().collect();
        for table in tables {
            let peers = scope.peers(table);
            scope.reached.extend(peers);
        }
        scope
    }

    /// The route table of a subnet.
    pub(super) fn table_of(&self, subnet: At<Subnet>) -> TableOf {
        let links = subnet.links(self.links);
        (links.vpc, links.route_table)
    }

    /// The route tables of all local ports and routers, with repetitions.
    pub(super) fn tables(&self) -> impl Iterator<Item = TableOf> + '_ {
        let routers = self.routers.values().filter_map(|router| router.subnets.first());
        self.subnets.keys().chain(routers).map(|subnet| self.table_of(*subnet))
    }

    /// The other VPCs that a table leads to.
    pub(super) fn peers(&self, (_, table): TableOf) -> Vec<At<Vpc>> {
        let hops = table.map(|table| table.links(self.links).hops.as_slice()).unwrap_or_default();
        hops.iter().filter_map(|hop| if let Hop::Peer(vpc) = hop { Some(*vpc) } else { None }).collect()
    }

    /// The NAT gateways with an egress allow list that those tables lead to.
    pub(super) fn nat_gateways(&self) -> BTreeSet<At<NatGateway>> {
        let tables = self.tables().filter_map(|(_, table)| table);
        let hops = tables.flat_map(|table| &table.links(self.links).hops);
        let gateways = hops.filter_map(|hop| if let Hop::Nat(gateway) = hop { Some(*gateway) } else { None });
        gateways.filter(|gateway| gateway.of(self.file).egress_allow.get().is_some()).collect()
    }

    /// The VPCs whose endpoints and routes decide over the flows of a subnet's ports.
    pub(super) fn reach(&self, subnet: At<Subnet>) -> BTreeSet<Vni> {
        let table = self.table_of(subnet);
        let peers = self.peers(table);
        // A gateway sends what is for another address outside straight to its owner.
        let others = if self.is_gateway() { self.exposed.as_slice() } else { &[] };
        let others = others.iter().map(|(subnet, _)| subnet.links(self.links).vpc);
        std::iter::once(table.0).chain(peers).chain(others).map(|vpc| self.vni(vpc)).collect()
    }

    /// Whether the node is a gateway to the outside.
    pub(super) fn is_gateway(&self) -> bool {
        self.node.of(self.file).gateway.is_some()
    }

    /// The subnets whose global addresses only a gateway must know: those of VPCs that are not reached otherwise.
    pub(super) fn beyond(&self) -> impl Iterator<Item = At<Subnet>> + '_ {
        let exposed = if self.is_gateway() { self.exposed.as_slice() } else { &[] };
        let subnets = exposed.iter().map(|(subnet, _)| *subnet);
        subnets.filter(|subnet| !self.reached.contains(&subnet.links(self.links).vpc))
    }

    /// The L3 VNI of a VPC.
    pub(super) fn vni(&self, vpc: At<Vpc>) -> Vni {
        vpc.of(self.file).vni.value.0
    }

    /// Names of what the tables hold only numbers of.
    pub(super) fn names(&self) -> Names {
        let vpcs = self.reached.iter().map(|vpc| (self.vni(*vpc), vpc.of(self.file).name.to_string()));
        let subnets = self.reached.iter().flat_map(|vpc| &vpc.links(self.links).subnets);
        let subnets = subnets.map(|subnet| (subnet.links(self.links).id, subnet.of(self.file).name.to_string()));
        let identities = self.reached.iter().flat_map(|vpc| &vpc.links(self.links).identities);
        let identities = identities.map(|at| (at.links(self.links).id, group_names(self, *at).join(", ")));
        Names { vpcs: vpcs.collect(), subnets: subnets.collect(), identities: identities.collect(), ..Names::default() }
    }
}
