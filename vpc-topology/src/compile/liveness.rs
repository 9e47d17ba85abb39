//! Which nodes a node asks whether they are alive, for themselves or for ports of theirs, and which gateways stand in for
//! each other.

use super::{DesiredProbe, ProbeRole, Scope, port_uid, routes};
use crate::model::{Bfd, Node, NodeGateway};
use vpc_common::{
    bfd,
    gateway::Gateways,
    route::{Route, RouteKey, kind},
};

/// Nodes that a gateway asks besides the other gateways. Several, so that one that is switched off proves nothing.
const WITNESSES: usize = 3;

/// Ids of the gateways on the node's own segment outside, itself among them: those with a network in common.
pub(super) fn segment(scope: &Scope<'_>) -> Vec<u16> {
    let Some(own) = &scope.node.of(scope.file).gateway else { return Vec::new() };
    let shares = |gateway: &NodeGateway| {
        let networks =
            |gateway: &NodeGateway| gateway.addresses.iter().map(|address| address.value.0.trunc()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = (networks(own), networks(gateway));
        ours.iter().any(|our| theirs.iter().any(|their| our.contains(their) || their.contains(our)))
    };
    let mut ids: Vec<u16> = gateways(scope).filter(|(_, gateway)| shares(gateway)).map(|(node, _)| id(node)).collect();
    ids.sort_unstable();
    ids
}

/// Whom the node asks: the gateways, if it is one itself or something of it leads outside; and if it is one among
/// several on its segment, some other nodes, whose silence tells it that it is itself cut off. And for the ports of other
/// nodes that are next hops beside others, these nodes.
pub(super) fn probes(scope: &Scope<'_>, entries: &[(RouteKey, Route)], segment: &[u16]) -> Vec<DesiredProbe> {
    let own = id(scope.node.of(scope.file));
    let leads_outside = entries.iter().any(|(_, route)| matches!(route.kind, kind::INTERNET | kind::NAT));
    let mut probes = Vec::new();
    if leads_outside || !segment.is_empty() {
        let others = gateways(scope).filter(|(node, _)| id(node) != own);
        probes.extend(others.map(|(node, gateway)| probe(node, ProbeRole::Gateway, gateway.bfd.as_ref())));
    }
    if segment.len() > 1 {
        let plain = scope.file.nodes.iter().filter(|node| node.gateway.is_none() && node.runs_agent());
        let mut plain: Vec<&Node> = plain.collect();
        // Gateways ask different ones, so that no node is asked by all.
        plain.sort_by_key(|node| Gateways::bid(own.into(), id(node)));
        let timers = scope.node.of(scope.file).gateway.as_ref().and_then(|gateway| gateway.bfd.as_ref());
        probes.extend(plain.iter().take(WITNESSES).map(|node| probe(node, ProbeRole::Witness, timers)));
    }
    let elsewhere = routes::next_hops(scope).into_iter().filter_map(|port| {
        let node = port.links(scope.links).node;
        (node != scope.node && node.of(scope.file).runs_agent()).then_some((port, node.of(scope.file)))
    });
    probes.extend(elsewhere.map(|(port, node)| {
        let name = &port.of(scope.file).name.value;
        let discriminator = bfd::of_port(port_uid(name));
        DesiredProbe { name: name.to_string(), discriminator, ..probe(node, ProbeRole::Instance, None) }
    }));
    probes.sort_unstable_by_key(|probe| probe.discriminator);
    probes
}

fn gateways<'t>(scope: &Scope<'t>) -> impl Iterator<Item = (&'t Node, &'t NodeGateway)> {
    scope.file.nodes.iter().filter_map(|node| Some((node, node.gateway.as_ref()?)))
}

fn probe(node: &Node, role: ProbeRole, timers: Option<&Bfd>) -> DesiredProbe {
    DesiredProbe {
        node: id(node),
        name: node.name.to_string(),
        discriminator: id(node).into(),
        address: node.vtep.value.0.into(),
        role,
        interval: Bfd::interval(timers),
        multiplier: Bfd::multiplier(timers),
    }
}

fn id(node: &Node) -> u16 {
    node.id.value.0
}
