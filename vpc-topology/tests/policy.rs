//! Compiled security groups, asked as the datapath asks them and compared with the rules as they are written.
#![expect(clippy::unwrap_used, reason = "a test")]

mod ask;

use ask::{Flow, Network, tcp};
use vpc_common::policy::action;

/// One VPC with ports by name; `{more}` are its groups, `{ports}` what each port adds.
fn network(groups: &str, ports: &[(&str, &str, &str)]) -> Network {
    let mut text = String::from(
        "version: 1\nnodes: [{name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1}]\nvpcs:\n  - {name: prod, vni: 5001, \
         cidr_blocks: [10.0.0.0/16, \"fd00:1::/56\"]}\n  - {name: other, vni: 5002, cidr_blocks: [10.1.0.0/16]}\n\
         peerings: [{name: p, requester: prod, accepter: other}]\nroute_tables:\n  - {name: a, vpc: prod, routes: \
         [{destination: 10.1.0.0/16, peering: p}]}\n  - {name: b, vpc: other, routes: [{destination: 10.0.0.0/16, \
         peering: p}]}\nsubnets:\n  - {name: prod-a, vpc: prod, cidr_blocks: [10.0.1.0/24, \"fd00:1:0:1::/64\"], \
         route_table: a}\n  - {name: other-a, vpc: other, cidr_blocks: [10.1.1.0/24], route_table: b}\n",
    );
    text.push_str(groups);
    text.push_str("\nports:\n");
    for (index, (name, address, more)) in ports.iter().enumerate() {
        let subnet = if address.starts_with("10.1.") { "other-a" } else { "prod-a" };
        text.push_str(&format!(
            "  - {{name: {name}, subnet: {subnet}, node: hv1, device: tap{index}, mac: \"02:00:00:00:00:{index:02x}\", \
             private_ips: [\"{address}\"]{more}}}\n"
        ));
    }
    Network::new(&text, "hv1")
}

#[test]
fn a_port_without_groups_hears_its_own_default_group_only() {
    let network = network("", &[("a", "10.0.1.10", ""), ("b", "10.0.1.11", ""), ("c", "10.1.1.10", "")]);
    assert_eq!(
        network.ask("a", "b", tcp(80)),
        (Some("security_group prod/default egress 1"), Some("security_group prod/default ingress 1"))
    );
    assert_eq!(
        network.ask("a", "c", tcp(80)),
        (Some("security_group prod/default egress 1"), None),
        "another VPC's default group is another group"
    );
    assert_eq!(network.ingress("a", "198.51.100.1", tcp(80)), None);
}

#[test]
fn rules_by_block_and_by_group() {
    let groups = r#"
security_groups:
  - name: web
    vpc: prod
    ingress:
      - {protocol: tcp, ports: [80, 443], cidr_blocks: [0.0.0.0/0]}
      - {protocol: tcp, ports: ["8000-8080"], security_groups: [web]}
      - {protocol: icmp, icmp_type: echo_request, cidr_blocks: [10.0.0.0/16]}
      - {protocol: tcp, ports: [22], security_groups: [tools]}
    egress: []
  - {name: tools, vpc: other}
"#;
    let network = network(
        groups,
        &[
            ("web-1", "10.0.1.10", ", security_groups: [web]"),
            ("web-2", "10.0.1.11", ", security_groups: [web]"),
            ("web-6", "fd00:1:0:1::10", ", security_groups: [web]"),
            ("plain", "10.0.1.12", ""),
            ("tool", "10.1.1.10", ", security_groups: [tools]"),
        ],
    );
    let web = |number: u32| Some(format!("security_group web ingress {number}"));
    let ingress = |peer: &str, flow: Flow| network.ingress("web-1", peer, flow).map(str::to_owned);
    assert_eq!(ingress("198.51.100.1", tcp(443)), web(1));
    assert_eq!(ingress("198.51.100.1", tcp(444)), None);
    assert_eq!(ingress("10.0.1.11", tcp(8_000)), web(2), "a member");
    assert_eq!(ingress("10.0.1.12", tcp(8_000)), None, "no member");
    assert_eq!(ingress("10.0.1.12", Flow { protocol: 1, port: 8 << 8 }), web(3));
    assert_eq!(ingress("10.0.1.12", Flow { protocol: 1, port: 0 }), None, "an echo reply");
    assert_eq!(ingress("10.1.1.10", tcp(22)), web(4), "a member in a peer");
    assert_eq!(ingress("fd00:1:0:1::12", tcp(80)), None, "0.0.0.0/0 is IPv4");
    assert_eq!(ingress("fd00:1:0:1::10", tcp(8_080)), web(2));
    assert_eq!(
        network.ask("web-1", "web-2", tcp(80)),
        (None, Some("security_group web ingress 1")),
        "no egress at all"
    );
    assert_eq!(
        network.ask("tool", "web-2", tcp(22)).0,
        Some("security_group tools egress 1"),
        "all egress where nothing is said"
    );
}

#[test]
fn all_of_ipv6_is_not_all_of_ipv4() {
    let groups = r#"
security_groups:
  - {name: six, vpc: prod, ingress: [{protocol: all, cidr_blocks: ["::/0"]}]}
  - {name: both, vpc: prod, ingress: [{protocol: all, cidr_blocks: ["::/0"]}, {protocol: tcp, cidr_blocks: [10.0.0.0/8]}]}
"#;
    let ports = [("a", "10.0.1.10", ", security_groups: [six]"), ("b", "10.0.1.11", ", security_groups: [both]")];
    let network = network(groups, &ports);
    assert_eq!(network.ingress("a", "2001:db8::1", tcp(1)), Some("security_group six ingress 1"));
    assert_eq!(network.ingress("a", "10.0.1.11", tcp(1)), None);
    assert_eq!(network.ingress("b", "10.0.1.10", tcp(1)), Some("security_group both ingress 2"));
    assert_eq!(network.ingress("b", "192.0.2.1", tcp(1)), None);
}

#[test]
fn groups_of_a_port_are_united() {
    let groups = r#"
security_groups:
  - {name: web, vpc: prod, ingress: [{protocol: tcp, ports: [80], cidr_blocks: [10.0.0.0/8]}], egress: []}
  - {name: ssh, vpc: prod, established_flows: keep, ingress: [{protocol: tcp, ports: ["20-80"], cidr_blocks: [10.0.0.0/16]}]}
"#;
    let network = network(groups, &[("a", "10.0.1.10", ", security_groups: [web, ssh]")]);
    assert_eq!(network.ingress("a", "10.9.0.1", tcp(80)), Some("security_group web ingress 1"));
    assert_eq!(network.ingress("a", "10.0.0.1", tcp(80)), Some("security_group ssh ingress 1"), "its flows outlive it");
    assert_eq!(network.verdict("a", "10.0.0.1", tcp(22)).unwrap().action, action::ALLOW_KEEP);
    assert_eq!(network.verdict("a", "10.9.0.1", tcp(80)).unwrap().action, action::ALLOW);
    assert_eq!(network.ask("a", "a", tcp(5)).0, Some("security_group ssh egress 1"));
}

#[test]
fn a_default_group_can_be_redefined_and_named() {
    let groups = r#"
security_groups:
  - {name: default, vpc: prod, ingress: [{protocol: udp, security_groups: [default]}], egress: []}
  - {name: default, vpc: other, ingress: [{protocol: tcp, security_groups: [default]}]}
"#;
    let network = network(
        groups,
        &[("a", "10.0.1.10", ""), ("b", "10.0.1.11", ", security_groups: [default]"), ("c", "10.1.1.10", "")],
    );
    let udp = Flow { protocol: 17, port: 53 };
    assert_eq!(network.ask("a", "b", udp), (None, Some("security_group prod/default ingress 1")));
    assert_eq!(network.ask("a", "b", tcp(53)).1, None);
    assert_eq!(network.ask("c", "c", tcp(53)).1, Some("security_group other/default ingress 1"));
    assert_eq!(network.ask("a", "c", tcp(53)).1, None);
    assert_eq!(network.identity("a"), network.identity("b"));
    assert_ne!(network.identity("a"), network.identity("c"));
}
