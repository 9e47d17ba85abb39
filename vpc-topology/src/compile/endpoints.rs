//! Endpoints: who has which address, and which MAC is where.

use super::Scope;
use crate::{
    Topology,
    model::{File, Node, Port, Subnet},
    topology::At,
};
use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr};
use vpc_common::{
    Ip, Mac, Vni,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey, flags},
    policy::NOBODY,
};

/// How many addresses a subnet has: an upper bound, which link-local addresses that collide do not reach.
pub(crate) fn count(file: &File, subnet: At<Subnet>, ports: &[At<Port>]) -> usize {
    let blocks = &subnet.of(file).cidr_blocks;
    let broadcasts = blocks.iter().filter(|block| block.is_v4() && !block.is_point_to_point()).count() * 2;
    let of_port = |port: &At<Port>| {
        let port = port.of(file);
        port.private_ips.len() + usize::from(has_link_local(port))
    };
    blocks.len() + broadcasts + ports.iter().map(of_port).sum::<usize>()
}

/// Whether a port has a link-local address: every IPv6 interface does (RFC 4291 §2.1).
pub(super) fn has_link_local(port: &Port) -> bool {
    port.private_ips.iter().any(|address| address.is_ipv6())
}

/// Every address of the VPCs that are reached.
pub(super) fn endpoints(scope: &Scope<'_>) -> Vec<(EndpointKey, Endpoint)> {
    let count = scope.reached.iter().map(|vpc| vpc.links(scope.links).endpoints).sum();
    let mut entries = Vec::with_capacity(count);
    // Each VPC's are sorted alone, where the caches hold them: keys begin with its VNI.
    for vpc in sorted(&scope.reached, |vpc| scope.vni(vpc)) {
        let first = entries.len();
        for subnet in &vpc.links(scope.links).subnets {
            of_subnet(scope, scope.vni(vpc), *subnet, &mut entries);
        }
        entries[first..].sort_unstable_by_key(|(key, _)| *key);
    }
    let of_vpcs = entries.len();
    entries.extend(beyond(scope));
    if entries.len() > of_vpcs {
        entries.sort_unstable_by_key(|(key, _)| *key);
    }
    debug_assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0), "an address is there once");
    // Where the file says something of a link-local address, that counts.
    let mut derived = link_locals(scope);
    derived.retain(|(key, _)| entries.binary_search_by_key(key, |(key, _)| *key).is_err());
    if !derived.is_empty() {
        entries.extend(derived);
        entries.sort_unstable_by_key(|(key, _)| *key);
    }
    entries
}

/// Where some addresses of ports are, of whatever VPC; those that nobody has are left out. Sorted.
pub fn whereabouts(topology: &Topology, addresses: &BTreeSet<EndpointKey>) -> Vec<(EndpointKey, Endpoint)> {
    let (file, links) = (topology.file(), topology.links());
    let mut entries = Vec::new();
    for (port, of_port) in file.ports.iter().zip(&links.ports) {
        let subnet = of_port.subnet.links(links);
        let vpc = subnet.vpc.of(file).vni.value.0;
        for address in &port.private_ips {
            let key = EndpointKey { vpc, address: address.value.0.into() };
            if addresses.contains(&key) {
                let (mac, node) = (port.mac.value.0, of_port.node.of(file).id.value.0);
                let (l2_vni, subnet, identity) = (subnet.vni, subnet.id, of_port.identity.links(links).id);
                entries.push((key, Endpoint { mac, node, l2_vni, subnet, flags: 0, identity }));
            }
        }
    }
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

/// The global addresses that only the gateway must know.
fn beyond<'s>(scope: &'s Scope<'_>) -> impl Iterator<Item = (EndpointKey, Endpoint)> + 's {
    scope.beyond().flat_map(move |subnet| {
        let links = subnet.links(scope.links);
        links.ports.iter().flat_map(move |port| {
            let record = port.of(scope.file);
            let endpoint = Endpoint {
                mac: record.mac.value.0,
                node: node_id(scope, port.links(scope.links).node),
                l2_vni: links.vni,
                subnet: links.id,
                flags: of_node(scope, *port),
                identity: NOBODY,
            };
            let of_v6 = record.private_ips.iter().filter(|address| address.is_ipv6());
            of_v6.map(move |address| {
                (EndpointKey { vpc: scope.vni(links.vpc), address: address.value.0.into() }, endpoint)
            })
        })
    })
}

/// How many these are at most.
pub(super) fn count_beyond(scope: &Scope<'_>) -> usize {
    scope
        .beyond()
        .flat_map(|subnet| &subnet.links(scope.links).ports)
        .map(|port| port.of(scope.file).private_ips.len())
        .sum()
}

fn of_subnet(scope: &Scope<'_>, vpc: Vni, subnet: At<Subnet>, entries: &mut Vec<(EndpointKey, Endpoint)>) {
    let (record, links) = (subnet.of(scope.file), subnet.links(scope.links));
    let mut add = |address: IpAddr, mac, node, flags, identity| {
        let key = EndpointKey { vpc, address: address.into() };
        entries.push((key, Endpoint { mac, node, l2_vni: links.vni, subnet: links.id, flags, identity }));
    };
    for (block, gateway) in record.gateways() {
        add(gateway, Mac::ROUTER, 0, flags::GATEWAY, NOBODY);
        if let IpNet::V4(net) = block.net()
            && !block.is_point_to_point()
        {
            add(net.network().into(), Mac::BROADCAST, 0, flags::BROADCAST, NOBODY);
            add(net.broadcast().into(), Mac::BROADCAST, 0, flags::BROADCAST, NOBODY);
        }
    }
    for port in &links.ports {
        let (record, node) = (port.of(scope.file), node_id(scope, port.links(scope.links).node));
        let identity = identity(scope, *port);
        for address in &record.private_ips {
            add(address.value.0, record.mac.value.0, node, of_node(scope, *port), identity);
        }
    }
}

/// What is said of all addresses of a port.
fn of_node(scope: &Scope<'_>, port: At<Port>) -> u32 {
    if port.links(scope.links).node.of(scope.file).runs_agent() { 0 } else { flags::PLAIN }
}

/// The link-local addresses of the ports that have IPv6.
fn link_locals(scope: &Scope<'_>) -> Vec<(EndpointKey, Endpoint)> {
    let mut entries = Vec::new();
    for vpc in &scope.reached {
        for subnet in &vpc.links(scope.links).subnets {
            let links = subnet.links(scope.links);
            for port in links.ports.iter().filter(|port| has_link_local(port.of(scope.file))) {
                let mac = port.of(scope.file).mac.value.0;
                let node = node_id(scope, port.links(scope.links).node);
                let key = EndpointKey { vpc: scope.vni(*vpc), address: mac.link_local() };
                let identity = identity(scope, *port);
                entries.push((key, Endpoint { mac, node, l2_vni: links.vni, subnet: links.id, flags: 0, identity }));
            }
        }
    }
    entries
}

/// The MACs of the VPCs that have a port here. A peer's are not needed: no frame stays inside its subnets.
pub(super) fn macs(scope: &Scope<'_>) -> Vec<(MacKey, MacEntry)> {
    let mut entries = Vec::with_capacity(scope.own.iter().map(|vpc| vpc.links(scope.links).macs).sum());
    let subnets: Vec<_> = scope.own.iter().flat_map(|vpc| &vpc.links(scope.links).subnets).copied().collect();
    let vni = |subnet: At<Subnet>| subnet.links(scope.links).vni;
    for network in sorted(&subnets, vni).chunk_by(|a, b| vni(*a) == vni(*b)) {
        let first = entries.len();
        for subnet in network {
            let links = subnet.links(scope.links);
            entries.extend(links.ports.iter().map(|port| {
                let key = MacKey { l2_vni: links.vni, mac: port.of(scope.file).mac.value.0, reserved: [0; 2] };
                let node = node_id(scope, port.links(scope.links).node);
                (key, MacEntry { node, reserved: 0, subnet: links.id })
            }));
        }
        entries[first..].sort_unstable_by_key(|(key, _)| *key);
    }
    debug_assert!(entries.is_sorted_by_key(|(key, _)| *key));
    entries
}

/// Records in the order of their VNIs.
fn sorted<'a, T: Copy + 'a>(records: impl IntoIterator<Item = &'a T>, vni: impl Fn(T) -> Vni) -> Vec<T> {
    let mut records: Vec<T> = records.into_iter().copied().collect();
    records.sort_by_key(|record| vni(*record));
    records
}

fn identity(scope: &Scope<'_>, port: At<Port>) -> u32 {
    port.links(scope.links).identity.links(scope.links).id
}

fn node_id(scope: &Scope<'_>, node: At<Node>) -> u16 {
    node.of(scope.file).id.value.0
}

/// The address where the datapath looks a gateway up.
pub(super) fn gateway(subnet: &Subnet, v6: Family) -> Option<IpAddr> {
    let of_family = |block: &crate::model::Cidr| match v6 {
        Family::V4 => block.is_v4(),
        Family::V6 => !block.is_v4(),
    };
    subnet.gateways().find(|(block, _)| of_family(block)).map(|(_, gateway)| gateway)
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

/// An address in the form of the tables, unspecified where there is none.
pub(super) fn or_unspecified(address: Option<IpAddr>) -> Ip {
    address.map_or(Ip::UNSPECIFIED, Ip::from)
}
