//! Changes of the way to the outside: gateway nodes, NAT gateways, elastic IPs, port forwards.

use super::{
    Changed, Changes,
    describe::{change, join, node, vpc},
};
use crate::compile::Desired;
use std::{collections::BTreeMap, net::Ipv4Addr};
use vpc_common::{
    Be32,
    nat::{External, ExternalPort, Forward, kind},
    session::V4,
    wire::protocol,
};

pub(super) fn describe(old: &Desired, new: &Desired, lines: &mut Vec<String>) {
    outlets(old, new, lines);
    gateway_nodes(old, new, lines);
    nat_gateways(old, new, lines);
    elastic_ips(old, new, lines);
    forwards(old, new, lines);
}

/// How this node itself reaches the outside.
fn outlets(old: &Desired, new: &Desired, lines: &mut Vec<String>) {
    if let (Some(from), Some(to)) = (&old.outside.outlet, &new.outside.outlet) {
        let changes = join([
            change("external interface", &from.device, &to.device),
            change("address", Ipv4Addr::from(from.address.0), Ipv4Addr::from(to.address.0)),
            change("next hop", from.next_hop, to.next_hop),
        ]);
        lines.extend((!changes.is_empty()).then(|| format!("~ gateway of this node: {changes}")));
    }
}

fn gateway_nodes(old: &Desired, new: &Desired, lines: &mut Vec<String>) {
    for (sign, of, other) in [('+', new, old), ('-', old, new)] {
        for id in of.outside.gateways.iter().filter(|id| !other.outside.gateways.contains(id)) {
            lines.push(format!("{sign} gateway on {}", node(of, *id)));
        }
    }
}

/// A NAT gateway, as its addresses have it.
#[derive(Clone, PartialEq)]
struct Nat {
    vpc: String,
    addresses: Vec<String>,
    ports_per_node: u16,
}

fn nat_gateways(old: &Desired, new: &Desired, lines: &mut Vec<String>) {
    let changes = Changes::between(&nats(old), &nats(new));
    for (name, nat) in &changes.added {
        let Nat { vpc, addresses, ports_per_node } = nat;
        let addresses = addresses.join(", ");
        lines.push(format!("+ NAT gateway {name} of {vpc} by {addresses} with {ports_per_node} ports for each node"));
    }
    for Changed { key: name, from, to } in &changes.changed {
        let changes = [
            change("VPC", &from.vpc, &to.vpc),
            change("elastic IPs", from.addresses.join(", "), to.addresses.join(", ")),
            change("ports for each node", from.ports_per_node, to.ports_per_node),
        ];
        lines.push(format!("~ NAT gateway {name}: {}", join(changes)));
    }
    lines.extend(changes.removed.iter().map(|(name, nat)| format!("- NAT gateway {name} of {}", nat.vpc)));
}

fn nats(of: &Desired) -> BTreeMap<String, Nat> {
    let mut nats: BTreeMap<String, Nat> = BTreeMap::new();
    for (address, external) in of.outside.externals.iter().filter(|(_, external)| external.kind == kind::NAT) {
        let unnamed = || format!("{:08x}", external.gateway);
        let name = of.outside.gateway_names.get(&external.gateway).cloned().unwrap_or_else(unnamed);
        let (vpc, ports_per_node) = (vpc(of, external.vpc), external.slice_ports);
        let nat = nats.entry(name).or_insert_with(|| Nat { vpc, addresses: Vec::new(), ports_per_node });
        nat.addresses.push(elastic_ip(of, *address));
    }
    nats
}

fn elastic_ips(old: &Desired, new: &Desired, lines: &mut Vec<String>) {
    fn elastic(of: &Desired) -> BTreeMap<V4, (Option<&String>, External)> {
        let elastic = of.outside.externals.iter().filter(|(_, external)| external.kind == kind::ELASTIC);
        elastic.map(|(address, external)| (*address, (of.outside.names.get(address), *external))).collect()
    }
    let guest = |of: &Desired, external: &External| format!("{} of {}", v4(external.private), vpc(of, external.vpc));
    let changes = Changes::between(&elastic(old), &elastic(new));
    for (sign, of, entries) in [('+', new, &changes.added), ('-', old, &changes.removed)] {
        for (address, (_, external)) in entries {
            let (guest, node) = (guest(of, external), node(of, external.node));
            lines.push(format!("{sign} elastic IP {} for {guest} on {node}", elastic_ip(of, *address)));
        }
    }
    for Changed { key: address, from: (old_name, from), to: (new_name, to) } in &changes.changed {
        let name = |name: &Option<&String>| name.cloned().unwrap_or_default();
        let words = join([
            change("name", name(old_name), name(new_name)),
            change("for", guest(old, from), guest(new, to)),
            change("on", node(old, from.node), node(new, to.node)),
        ]);
        lines.extend((!words.is_empty()).then(|| format!("~ elastic IP {}: {words}", elastic_ip(new, *address))));
    }
}

fn forwards(old: &Desired, new: &Desired, lines: &mut Vec<String>) {
    fn forwards(of: &Desired) -> BTreeMap<ExternalPort, Forward> {
        of.outside.forwards.iter().copied().collect()
    }
    let external = |key: &ExternalPort| {
        let protocol = if key.protocol == protocol::UDP { "udp" } else { "tcp" };
        format!("port forward {protocol} {}:{}", v4(key.address), key.port.get())
    };
    let to = |forward: &Forward| format!("{}:{}", v4(forward.private), forward.port.get());
    let changes = Changes::between(&forwards(old), &forwards(new));
    for (sign, of, entries) in [('+', new, &changes.added), ('-', old, &changes.removed)] {
        for (key, forward) in entries {
            lines.push(format!("{sign} {} to {} on {}", external(key), to(forward), node(of, forward.node)));
        }
    }
    for Changed { key, from, to: after } in &changes.changed {
        let words = [change("to", to(from), to(after)), change("on", node(old, from.node), node(new, after.node))];
        lines.push(format!("~ {}: {}", external(key), join(words)));
    }
}

/// An elastic IP by name and address.
fn elastic_ip(of: &Desired, address: V4) -> String {
    match of.outside.names.get(&address) {
        Some(name) => format!("{name} ({})", v4(address)),
        None => v4(address).to_string(),
    }
}

fn v4(address: V4) -> Ipv4Addr {
    Be32::from_raw(address[0]).0.into()
}
