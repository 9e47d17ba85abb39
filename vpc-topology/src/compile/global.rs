//! The outside's route table: which addresses of IPv6 are reached from there, and whose they are.

use super::Scope;
use crate::{
    model::{Cidr, Port, Subnet},
    topology::At,
};
use std::collections::{BTreeMap, btree_map::Entry};
use vpc_common::{
    Be32, Ip,
    route::{Route, RouteKey, kind},
};

/// Length and address of a prefix in its 128-bit form, with where it leads.
type Content = BTreeMap<(u32, Ip), Route>;

/// The global blocks of the subnets that have a route of IPv6 to an internet gateway and, inside of them, what their ports may
/// use besides their own addresses.
pub(super) fn routes(scope: &Scope<'_>) -> Vec<(RouteKey, Route)> {
    let mut content = Content::new();
    for (subnet, gateway) in &scope.exposed {
        let vpc = subnet.links(scope.links).vpc;
        let kind = if gateway.of(scope.file).is_egress_only() { kind::REPLIES } else { kind::LOCAL };
        let route = Route { kind, vpc: scope.vni(vpc), next_hop: Ip::v4(Be32::new(vpc.index() as u32)) };
        content.extend(blocks(scope, *subnet).map(|block| (key(block), route)));
        pairs(scope, *subnet, route, &mut content);
    }
    let entry = |((prefix_len, destination), route)| {
        (RouteKey { prefix_len: 32 + prefix_len, table: RouteKey::OUTSIDE, destination }, route)
    };
    content.into_iter().map(entry).collect()
}

/// The most that the pairs of a port add to this table.
pub(super) fn upper_bound(port: &Port) -> usize {
    match port.few().allowed_address_pairs.len() {
        0 => 0,
        pairs => pairs + 1,
    }
}

/// The allowed address pairs that lead to a port: the longest that contains an address says whose it is. Where two ports have
/// the same one, only they know who uses it, and nobody is told of it outside.
fn pairs(scope: &Scope<'_>, subnet: At<Subnet>, of_subnet: Route, content: &mut Content) {
    let mut owners: BTreeMap<(u32, Ip), Option<Ip>> = BTreeMap::new();
    for port in &subnet.links(scope.links).ports {
        let record = port.of(scope.file);
        let pairs = record.few().allowed_address_pairs.iter().map(|pair| pair.value.0);
        let inside = |pair: &Cidr| blocks(scope, subnet).any(|block| block.range().contains(pair.range()));
        let Some(own) = own_address(record).filter(|_| port.links(scope.links).node.of(scope.file).runs_agent()) else {
            continue;
        };
        for pair in pairs.filter(inside) {
            match owners.entry(key(pair)) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Some(own));
                }
                Entry::Occupied(mut other) if *other.get() != Some(own) => {
                    other.insert(None);
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    for (pair, owner) in owners {
        let Some(owner) = owner else {
            content.insert(pair, of_subnet);
            continue;
        };
        content.insert(pair, Route { kind: kind::PORT, vpc: of_subnet.vpc, next_hop: owner });
        // A pair may contain its port's own address, by which the port is found.
        content.insert((u128::BITS, owner), of_subnet);
    }
}

/// The first global address of a port.
fn own_address(port: &Port) -> Option<Ip> {
    let mut addresses = port.private_ips.iter().map(|address| address.value.0);
    addresses.find(|address| Cidr::host(*address).is_global()).map(Ip::from)
}

/// The global blocks of a subnet.
fn blocks<'s>(scope: &'s Scope<'_>, subnet: At<Subnet>) -> impl Iterator<Item = Cidr> + 's {
    let blocks = subnet.of(scope.file).cidr_blocks.iter().map(|block| block.value);
    blocks.filter(|block| block.is_global())
}

fn key(block: Cidr) -> (u32, Ip) {
    let (address, prefix_len) = block.mapped();
    (prefix_len, address)
}
