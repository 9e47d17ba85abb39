//! Topologies in short: what is the same in all of them is written here, so that a scenario's own says what is special
//! about it.

use std::fmt::Write as _;

/// What a node of a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// It has an agent, and receives by XDP as it would from a NIC.
    Hypervisor,
    /// It has one, and leads to the outside by `eth2`, over IPv4 and IPv6.
    Gateway,
    /// It has none.
    PlainVtep,
}

/// A port of a scenario. Its device is `tap-` and its name; its MAC is made from its place among the ports.
#[derive(Clone, Copy, Debug)]
pub struct Port<'t> {
    name: &'t str,
    subnet: &'t str,
    node: &'t str,
    addresses: &'t [&'t str],
    more: &'t str,
}

/// A port of that name in a subnet, on a node, with its addresses.
pub const fn port<'t>(name: &'t str, subnet: &'t str, node: &'t str, addresses: &'t [&'t str]) -> Port<'t> {
    Port { name, subnet, node, addresses, more: "" }
}

impl<'t> Port<'t> {
    /// More of its record, as the file has it.
    #[must_use]
    pub const fn with(self, more: &'t str) -> Self {
        Self { more, ..self }
    }
}

/// The text of a topology. The nodes are hv1, hv2 and so on, the first one in a zone of its own; `networks` is all
/// between nodes and ports, as the file has it.
pub fn topology(nodes: &[Node], networks: &str, ports: &[Port<'_>]) -> String {
    let mut text = "version: 1\nnodes:\n".to_owned();
    for (number, node) in (1..).zip(nodes) {
        let zone = if number == 1 { "az-a" } else { "az-b" };
        let more = match node {
            Node::Hypervisor => ", receive_mode: xdp".to_owned(),
            Node::Gateway => format!(
                ", receive_mode: xdp, gateway: {{external: eth2, addresses: [203.0.113.{number}/24, \
                 '2001:db8:f::{number}/64'], next_hop: [203.0.113.1, '2001:db8:f::1']}}"
            ),
            Node::PlainVtep => ", agent: false".to_owned(),
        };
        let own = format!("name: hv{number}, id: {number}, vtep: 192.0.2.1{number}, uplink: eth1, zone: {zone}");
        line(&mut text, &format!("{own}{more}"));
    }
    text += networks;
    text += "ports:\n";
    for (number, Port { name, subnet, node, addresses, more }) in (1..).zip(ports) {
        let own = format!("name: {name}, subnet: {subnet}, node: {node}, device: tap-{name}");
        let mac = format!("mac: '02:00:00:00:00:{number:02x}'");
        let separator = if more.is_empty() { "" } else { ", " };
        line(&mut text, &format!("{own}, {mac}, private_ips: ['{}']{separator}{more}", addresses.join("', '")));
    }
    text
}

fn line(text: &mut String, record: &str) {
    // A string takes everything.
    let _done = writeln!(text, "  - {{{record}}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_has_its_nodes_networks_and_ports() {
        let networks = "vpcs:\n  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}\nsubnets:\n  - \
                        {name: a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}\n";
        let ports = [
            port("a1", "a", "hv1", &["10.0.1.10", "fd00:1:0:1::10"]).with("source_dest_check: false"),
            port("a2", "a", "hv3", &["10.0.1.11"]),
        ];
        let text = topology(&[Node::Hypervisor, Node::Gateway, Node::PlainVtep], networks, &ports);
        let expected = "\
version: 1
nodes:
  - {name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1, zone: az-a, receive_mode: xdp}
  - {name: hv2, id: 2, vtep: 192.0.2.12, uplink: eth1, zone: az-b, receive_mode: xdp, gateway: {external: eth2, addresses: [203.0.113.2/24, '2001:db8:f::2/64'], next_hop: [203.0.113.1, '2001:db8:f::1']}}
  - {name: hv3, id: 3, vtep: 192.0.2.13, uplink: eth1, zone: az-b, agent: false}
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
subnets:
  - {name: a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}
ports:
  - {name: a1, subnet: a, node: hv1, device: tap-a1, mac: '02:00:00:00:00:01', private_ips: ['10.0.1.10', 'fd00:1:0:1::10'], source_dest_check: false}
  - {name: a2, subnet: a, node: hv3, device: tap-a2, mac: '02:00:00:00:00:02', private_ips: ['10.0.1.11']}
";
        assert_eq!(text, expected);
    }
}
