//! Flood lists: where broadcast and multicast of a subnet go.

use super::{DesiredPort, Scope};
use crate::{model::Subnet, topology::At};
use std::collections::BTreeMap;
use vpc_common::port::{FloodKey, FloodMember};

/// The lists of the subnets of local ports: local ports by slot, then remote nodes by id.
pub(super) fn flood(scope: &Scope<'_>, ports: &BTreeMap<u16, DesiredPort>) -> Vec<(FloodKey, FloodMember)> {
    let mut local: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
    // A router has no interface to flood to.
    for (slot, port) in ports.iter().filter(|(_, port)| port.device.is_some()) {
        local.entry(port.record.subnet).or_default().push(*slot);
    }
    let mut entries = Vec::new();
    for subnet in scope.subnets.keys() {
        let links = subnet.links(scope.links);
        let remote = remote_nodes(scope, *subnet).map(|node| (node, 0));
        let slots = local.get(&links.id).into_iter().flatten().map(|slot| (*slot, 1));
        entries.extend(slots.chain(remote).zip(0..).map(|((target, local), index)| {
            (FloodKey { subnet: links.id, index }, FloodMember { target, local, l2_vni: links.vni })
        }));
    }
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

/// Lengths of the lists.
pub(super) fn counts(scope: &Scope<'_>) -> impl Iterator<Item = usize> {
    scope.subnets.iter().map(|(subnet, ports)| remote_nodes(scope, *subnet).count() + ports.len())
}

/// Ids of the other nodes that hold a port of the subnet, ascending.
fn remote_nodes(scope: &Scope<'_>, subnet: At<Subnet>) -> impl Iterator<Item = u16> {
    let nodes = &subnet.links(scope.links).nodes;
    nodes.iter().filter(|node| **node != scope.node).map(|node| node.of(scope.file).id.value.0)
}
