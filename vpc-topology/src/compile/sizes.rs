//! How much of each map a node needs.

use super::{
    Scope, endpoints, flood, global,
    policy::{self, Policies, PolicySizes},
    routes, sources,
};
use crate::{Limits, model::File, topology::Links};
use rustc_hash::FxHashSet;
use std::fmt;

/// What a node needs of its maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    local_ports: usize,
    endpoints: usize,
    macs: usize,
    routes: usize,
    sources: usize,
    flood_members: usize,
    flood_fanout: usize,
    policies: PolicySizes,
}

/// For each node a bound that its sizes do not exceed, from one pass over the file. What is not too large by its bound
/// needs no exact count, which costs the more the more VPCs a node takes part in.
pub(crate) fn upper_bounds(file: &File, links: &Links) -> Vec<Sizes> {
    let sum = |counts: &mut dyn Iterator<Item = usize>| counts.sum::<usize>();
    let plain = || links.subnets.iter().zip(&file.subnets).filter(|(links, _)| links.on_plain_vtep);
    let blocks = sum(&mut file.vpcs.iter().map(|vpc| vpc.cidr_blocks.len()));
    let every_block = file.vpcs.iter().map(|vpc| vpc.cidr_blocks.len()).max().unwrap_or_default();
    // A table is used in its own VPC only; one more for the guard of each.
    let tables = sum(&mut file
        .route_tables
        .iter()
        .map(|table| table.routes.iter().map(routes::entries).sum::<usize>() + every_block + 1));
    let acls = policy::acl_upper_bounds(file);
    let acls_of_routers: FxHashSet<_> = plain().filter_map(|(links, _)| links.network_acl).collect();
    let fabric = Sizes {
        local_ports: plain().count(),
        endpoints: sum(&mut links.vpcs.iter().map(|vpc| vpc.endpoints)),
        macs: file.ports.len(),
        // The outside's table has blocks of subnets, and what ports may use inside of them.
        routes: blocks
            + tables
            + sum(&mut file.subnets.iter().map(|subnet| subnet.cidr_blocks.len()))
            + sum(&mut file.ports.iter().map(global::upper_bound)),
        sources: sum(&mut plain().map(|(_, subnet)| subnet.cidr_blocks.len())),
        flood_members: 0,
        flood_fanout: links.subnets.iter().map(|subnet| subnet.nodes.len()).max().unwrap_or_default(),
        policies: acls_of_routers
            .iter()
            .fold(policy::ROUTER_SIZES.plus(policy::egress_upper_bounds(file)), |sum, acl| sum.plus(acls[acl.index()])),
    };
    let mut bounds = vec![fabric; file.nodes.len()];
    let identities = policy::upper_bounds(file, links);
    let (mut seen, mut seen_acls) = (FxHashSet::default(), FxHashSet::default());
    for (port, port_links) in file.ports.iter().zip(&links.ports) {
        let bound = &mut bounds[port_links.node.index()];
        bound.local_ports += 1;
        bound.sources += port.private_ips.len() + port.few().allowed_address_pairs.len() + 1;
        bound.flood_members += port_links.subnet.links(links).nodes.len() + 1;
        bound.flood_fanout += 1;
        if seen.insert((port_links.node, port_links.identity)) {
            bound.policies = bound.policies.plus(identities[port_links.identity.index()]);
        }
        if let Some(acl) = port_links.subnet.links(links).network_acl
            && seen_acls.insert((port_links.node, acl))
        {
            bound.policies = bound.policies.plus(acls[acl.index()]);
        }
    }
    bounds
}

/// A map that is too small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Excess {
    /// What it holds.
    pub what: &'static str,
    /// How many are needed.
    pub needed: usize,
    /// How many it can hold.
    pub limit: u32,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, the map holds {}", self.needed, self.what, self.limit)
    }
}

impl Scope<'_> {
    pub(crate) fn sizes(&self, policies: &Policies) -> Sizes {
        Sizes {
            local_ports: self.subnets.values().map(Vec::len).sum::<usize>() + self.routers.len(),
            endpoints: self.reached.iter().map(|vpc| vpc.links(self.links).endpoints).sum::<usize>()
                + endpoints::count_beyond(self),
            macs: self.own.iter().map(|vpc| vpc.links(self.links).macs).sum(),
            routes: routes::count(self),
            sources: sources::count(self),
            flood_members: flood::counts(self).sum(),
            flood_fanout: flood::counts(self).max().unwrap_or_default(),
            policies: policies.sizes(),
        }
    }
}

impl Sizes {
    /// What does not fit.
    pub(crate) fn excesses(self, limits: &Limits) -> impl Iterator<Item = Excess> {
        let all = [
            ("local ports", self.local_ports, limits.local_ports),
            ("endpoints", self.endpoints, limits.endpoints),
            ("MAC addresses", self.macs, limits.endpoints),
            ("routes", self.routes, limits.routes),
            ("source prefixes", self.sources, limits.sources),
            ("flood list members", self.flood_members, limits.flood_members),
            ("members of one flood list", self.flood_fanout, limits.flood_fanout),
            ("addresses that rules tell apart", self.policies.subjects, limits.subjects),
            ("sets of groups that rules tell apart", self.policies.identities, limits.identities),
            ("compiled rules", self.policies.rules, limits.rules),
        ];
        let over = all.into_iter().filter(|(_, needed, limit)| *needed > *limit as usize);
        over.map(|(what, needed, limit)| Excess { what, needed, limit })
    }
}
