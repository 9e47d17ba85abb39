//! External addresses and who stands behind them: elastic IPs, NAT gateways, port forwards. The same on every node, but
//! for the node's own slices.

use super::{DesiredOutlet, Outside, Scope, ids::Ids};
use crate::{
    model::{ElasticIp, File, NodeGateway, Port, Protocol},
    topology::At,
};
use std::net::IpAddr;
use vpc_common::{
    Be16, Be32, Ip,
    limits::NAT_FIRST_PORT,
    nat::{ElasticKey, External, ExternalPort, Forward, NatSlice, kind},
    session::V4,
};

/// What the node needs for the way to the outside. Empty where the topology has none.
pub(super) fn outside(scope: &Scope<'_>) -> Outside {
    let (file, links) = (scope.file, scope.links);
    let own = scope.node.of(file);
    let mut outside = Outside::default();
    for (elastic, elastic_links) in file.elastic_ips.iter().zip(&links.elastic_ips) {
        let Some(port) = elastic_links.port else { continue };
        let (address, private) = (v4(elastic.address.value.0), private(file, port));
        let owner = port.links(links).subnet.links(links).vpc;
        let (vpc, vpc_number) = (scope.vni(owner), owner.index() as u32);
        let node = port.links(links).node.of(file).id.value.0;
        let external = External { kind: kind::ELASTIC, node, vpc, vpc_number, private, ..External::default() };
        outside.externals.push((address, external));
        outside.elastic_ips.push((ElasticKey { vpc, private }, address));
        outside.names.insert(address, elastic.name.to_string());
    }
    for (gateway, gateway_links) in file.nat_gateways.iter().zip(&links.nat_gateways) {
        let (vpc, slices, slice_ports) = (scope.vni(gateway_links.vpc), gateway.slices(), gateway.ports_per_node());
        outside.gateway_names.insert(gateway_links.id, gateway.name.to_string());
        let mut first_node = 1;
        for elastic in &gateway_links.elastic_ips {
            let address = address(file, *elastic);
            let sockets = gateway.port_forwards.iter().map(|forward| forward.external.value.0);
            let forwarded =
                sockets.filter(|socket| v4(IpAddr::V4(*socket.ip())) == address).map(|socket| socket.port());
            let forwarded: Vec<u16> = forwarded.collect();
            let external = External {
                kind: kind::NAT,
                node: first_node,
                vpc,
                private: [0],
                gateway: gateway_links.id,
                first_port: NAT_FIRST_PORT,
                slice_ports,
                slices,
                vpc_number: gateway_links.vpc.index() as u32,
                forwards: forwarded.len() as u32,
            };
            outside.externals.push((address, external));
            outside.names.insert(address, elastic.of(file).name.to_string());
            let place = own.id.value.0.checked_sub(first_node).filter(|place| u32::from(*place) < slices);
            if let Some(place) = place {
                let first_port = NAT_FIRST_PORT + place * slice_ports;
                let slice = first_port..first_port.saturating_add(slice_ports);
                let forwards = forwarded.iter().filter(|port| slice.contains(port)).count() as u32;
                let slice = NatSlice { external: address, first_port, ports: slice_ports, forwards };
                outside.slices.push((gateway_links.id, slice));
            }
            first_node = first_node.saturating_add(u16::try_from(slices).unwrap_or(u16::MAX));
        }
        for (forward, port) in gateway.port_forwards.iter().zip(&gateway_links.forwards) {
            let socket = forward.external.value.0;
            let key = ExternalPort {
                address: v4(IpAddr::V4(*socket.ip())),
                protocol: match forward.protocol.value {
                    Protocol::Number(number) => number,
                    Protocol::All => 0,
                },
                reserved: 0,
                port: Be16::new(socket.port()),
            };
            let node = port.links(links).node.of(file).id.value.0;
            let to = Forward { private: private(file, *port), node, port: Be16::new(forward.to.value.0) };
            outside.forwards.push((key, to));
        }
    }
    outside.externals.sort_unstable_by_key(|(key, _)| *key);
    outside.elastic_ips.sort_unstable_by_key(|(key, _)| *key);
    outside.slices.sort_unstable_by_key(|(key, _)| *key);
    outside.forwards.sort_unstable_by_key(|(key, _)| *key);
    outside.gateways = file.nodes.iter().filter(|node| node.gateway.is_some()).map(|node| node.id.value.0).collect();
    outside.gateways.sort_unstable();
    outside.outlet = own.gateway.as_ref().and_then(|gateway| {
        Some(DesiredOutlet {
            device: gateway.external.to_string(),
            networks: gateway.addresses.iter().map(|address| address.value.0.trunc()).collect(),
            address: own_address(gateway, true).and_then(|address| match address {
                IpAddr::V4(v4) => Some(Be32(v4.octets())),
                IpAddr::V6(_) => None,
            })?,
            next_hop: gateway.next_hop(true)?.value.0,
            address_v6: own_address(gateway, false).map_or(Ip::UNSPECIFIED, Ip::from),
            next_hop_v6: gateway.next_hop(false).map(|hop| hop.value.0),
        })
    });
    outside
}

/// The first address of a family that a gateway has outside.
fn own_address(gateway: &NodeGateway, v4: bool) -> Option<IpAddr> {
    gateway.addresses.iter().map(|own| own.value.0.addr()).find(|own| own.is_ipv4() == v4)
}

/// Ids of all NAT gateways, parallel to the file's list: hashes of their names. Collisions are resolved in the order of
/// names, over the whole topology, so that all nodes agree.
pub(crate) fn nat_gateway_ids(file: &File) -> Vec<u32> {
    let mut order: Vec<usize> = (0..file.nat_gateways.len()).collect();
    order.sort_by_key(|index| &*file.nat_gateways[*index].name.value);
    let mut taken = Ids::default();
    let mut ids = vec![0; file.nat_gateways.len()];
    for index in order {
        ids[index] = taken.take(file.nat_gateways[index].name.value.as_bytes());
    }
    ids
}

fn address(file: &File, elastic: At<ElasticIp>) -> V4 {
    v4(elastic.of(file).address.value.0)
}

/// The first IPv4 address of a port.
fn private(file: &File, port: At<Port>) -> V4 {
    let first = port.of(file).private_ips.iter().find(|address| address.is_ipv4());
    first.map_or([0], |address| v4(address.value.0))
}

fn v4(address: IpAddr) -> V4 {
    match address {
        IpAddr::V4(v4) => [Be32(v4.octets()).raw()],
        IpAddr::V6(_) => [0],
    }
}
