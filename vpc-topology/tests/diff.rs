//! Plans in words: a change of the file, and what an operator reads of it.
#![expect(clippy::unwrap_used, reason = "a test")]

use vpc_topology::{Limits, Slots, compile, compile::Desired, diff::Plan, load};

const BASE: &str = include_str!("../../examples/appliance.yaml");

fn state(text: &str, previous: &Slots) -> Desired {
    compile(&load(text, "test.yaml").unwrap(), "hv1", previous, &Limits::default()).unwrap()
}

/// What hv1 says of a replacement in the example, and the ports whose epoch moves.
fn check(from: &str, to: &str, expected: &[&str], moved: &[&str]) {
    check_in(BASE, from, to, expected, moved);
}

fn check_in(base: &str, from: &str, to: &str, expected: &[&str], moved: &[&str]) {
    assert!(base.contains(from), "{from}");
    let old = state(base, &Slots::new());
    let slots = old.ports.iter().map(|(slot, port)| (port.record.uid, *slot)).collect();
    let new = state(&base.replacen(from, to, 1), &slots);
    let plan = Plan::between(&old, &new);
    assert_eq!(plan.describe(&old, &new), expected);
    let epochs: Vec<_> = plan.epochs.iter().map(|slot| new.ports[slot].name.as_str()).collect();
    assert_eq!(epochs, moved);
    let back = Plan::between(&new, &old);
    let mut state = old.clone();
    plan.apply(&mut state);
    assert_eq!(state, new);
    back.apply(&mut state);
    assert_eq!(state, old);
}

#[test]
fn nothing() {
    check("name: db-1", "name: db-1", &[], &[]);
}

#[test]
fn ports_come_and_go() {
    let port = "\
ports:
  - {name: web-2, subnet: front, node: hv1, device: tap-web2, mac: \"02:00:00:00:01:11\", private_ips: [10.0.1.11]}";
    check("ports:", port, &["+ port web-2 in subnet front on hv1"], &["web-1", "web-2"]);
    let away = ["- VPC prod (VNI 5001) with 7 addresses", "- port web-1 in subnet front on hv1"];
    check("    node: hv1", "    node: hv2", &away, &[]);
}

#[test]
fn endpoints_move_and_change() {
    let moves = ["+ port db-1 in subnet front on hv1", "~ endpoint 10.0.1.20 of prod moves from hv2 to hv1"];
    check("    node: hv2\n    device: tap-db1", "    node: hv1\n    device: tap-db1", &moves, &["web-1", "db-1"]);
    let address = ["+ endpoint 10.0.1.21 of prod on hv2", "- endpoint 10.0.1.20 of prod on hv2"];
    check("[10.0.1.20]", "[10.0.1.21]", &address, &["web-1"]);
    let mac = ["~ endpoint 10.0.1.20 of prod: MAC 02:00:00:00:01:20 -> 02:00:00:00:01:21"];
    check("02:00:00:00:01:20", "02:00:00:00:01:21", &mac, &["web-1"]);
    let gateway = [
        "~ port web-1: IPv4 gateway 10.0.1.254 -> 10.0.1.253",
        "+ gateway 10.0.1.253 of prod in subnet front",
        "- gateway 10.0.1.254 of prod in subnet front",
    ];
    check("gateway_ips: [10.0.1.254]", "gateway_ips: [10.0.1.253]", &gateway, &["web-1"]);
}

#[test]
fn routes_and_sources_change() {
    let route =
        ["+ route 172.17.0.0/16 via 10.0.9.4 for subnet front", "- route 172.16.0.0/12 via 10.0.9.4 for subnet front"];
    check("172.16.0.0/12, port", "172.17.0.0/16, port", &route, &["web-1"]);
    let target = ["~ route 172.16.66.0/24 for subnet front: to nowhere (blackhole) -> via 10.0.9.4"];
    check("172.16.66.0/24, blackhole: true", "172.16.66.0/24, port: firewall-1", &target, &["web-1"]);
    let source = ["+ port web-1 may use 10.0.1.96/28"];
    let pairs = "device: tap-web1\n    allowed_address_pairs: [10.0.1.96/28]";
    check("device: tap-web1", pairs, &source, &["web-1"]);
}

#[test]
fn names_change() {
    let old = BASE.replace("vpc: prod", "vpc: main");
    let renamed = old.replacen("{name: prod,", "{name: main,", 1);
    let (old, new) = (state(BASE, &Slots::new()), state(&renamed, &Slots::new()));
    let plan = Plan::between(&old, &new);
    assert_eq!(plan.describe(&old, &new), ["~ VPC main (VNI 5001): name prod -> main"]);
    assert!(plan.epochs.is_empty());
}

#[test]
fn nodes_change() {
    let node = "\
nodes:
  - {name: hv3, id: 3, vtep: \"2001:db8::13\", uplinks: [eth1, eth2]}";
    check("nodes:", node, &["+ node hv3 (id 3, VTEP 2001:db8::13)"], &[]);
    check("2001:db8::12", "2001:db8::22", &["~ node hv2 (id 2): VTEP 2001:db8::12 -> 2001:db8::22"], &[]);
    let own = ["~ this node, hv1: uplinks eth1, eth2 -> eth1"];
    check("uplinks: [eth1, eth2]", "uplinks: [eth1]", &own, &[]);
}

const GROUPS: &str = include_str!("../../examples/security-groups.yaml");

#[test]
fn rules_change() {
    let check = |from, to, expected: &[&str], moved: &[&str]| check_in(GROUPS, from, to, expected, moved);
    check(
        "      - {protocol: tcp, ports: [80, 443], cidr_blocks: [0.0.0.0/0, \"::/0\"]}\n",
        "",
        &["- security group web: ingress rule 1 removed: tcp 80, 443 from 0.0.0.0/0, ::/0"],
        &["web-1"],
    );
    check(
        "ports: [23]",
        "ports: [23, 24]",
        &["~ network ACL edge: ingress rule 100: deny tcp 23 from 0.0.0.0/0 -> deny tcp 23, 24 from 0.0.0.0/0"],
        &["web-1"],
    );
    check(
        "[10.0.2.11], labels: {tier: app}}",
        "[10.0.2.11], labels: {tier: db}}",
        &["~ endpoint 10.0.2.11 of prod: groups policy group app -> policy group db"],
        &["web-1"],
    );
    check("udp_stream: 5m", "udp_stream: 6m", &["~ port web-1: session timeout udp_stream 300 s -> 360 s"], &["web-1"]);
    check(
        "quotas: {sessions: 50000}",
        "quotas: {sessions: 60000}",
        &["~ port web-1: session quota 50000 -> 60000"],
        &["web-1"],
    );
    check(
        "    vni: 5001\n",
        "    vni: 5001\n    quotas: {sessions: 70000}\n",
        &["~ port web-1: VPC session quota 1048576 -> 70000"],
        &["web-1"],
    );
    check(
        ", network_acl: edge",
        "",
        &["- network ACL edge with 2 ingress and 1 egress rules", "~ port web-1: network ACL edge -> none"],
        &["web-1"],
    );
}

const GATEWAY: &str = include_str!("../../examples/gateway.yaml");

/// A change of the way to the outside concerns every port.
const ALL: &[&str] = &["web-1", "app-1"];

#[test]
fn gateways_and_external_addresses_change() {
    let check = |from, to, expected: &[&str]| check_in(GATEWAY, from, to, expected, ALL);
    check(
        "{name: eip-nat, address: 203.0.113.10}\n",
        "{name: eip-nat, address: 203.0.113.10}\n  - {name: eip-app, address: 203.0.113.21, port: app-1}\n",
        &["+ elastic IP eip-app (203.0.113.21) for 10.0.2.10 of prod on hv1"],
    );
    check(
        "  - {name: eip-web, address: 203.0.113.20, port: web-1}      # one to one, both ways\n",
        "",
        &["- elastic IP eip-web (203.0.113.20) for 10.0.1.10 of prod on hv1"],
    );
    check(
        "203.0.113.20, port: web-1}",
        "203.0.113.20, port: db-1}",
        &["~ elastic IP eip-web (203.0.113.20): for 10.0.1.10 of prod -> 10.0.2.5 of prod, on hv1 -> hv2"],
    );
    check("eip-web", "eip-www", &["~ elastic IP eip-www (203.0.113.20): name eip-web -> eip-www"]);
    check("ports_per_node: 2048", "ports_per_node: 1024", &["~ NAT gateway ngw-1: ports for each node 2048 -> 1024"]);
    let forward = "port_forwards: [{protocol: tcp, external: \"203.0.113.10:222\", port: db-1, to: 22}]";
    check(forward, "port_forwards: []", &["- port forward tcp 203.0.113.10:222 to 10.0.2.5:22 on hv2"]);
    check(
        "port: db-1, to: 22",
        "port: app-1, to: 2222",
        &["~ port forward tcp 203.0.113.10:222: to 10.0.2.5:22 -> 10.0.2.10:2222, on hv2 -> hv1"],
    );
    check(
        "  - {name: hv2, id: 2, vtep: 192.0.2.12, uplink: eth1}",
        "  - {name: hv2, id: 2, vtep: 192.0.2.12, uplink: eth1, gateway: {external: eth2, addresses: [203.0.113.3/24], \
         next_hop: 203.0.113.1}}",
        &["+ gateway on hv2"],
    );
}

#[test]
fn nat_gateways_come_and_routes_lead_there() {
    let second = "nat_gateways:                                                # each node has 2,048 of its ports\n  \
                  - {name: ngw-2, vpc: prod, elastic_ips: [eip-2]}\n";
    let base = GATEWAY.replace("elastic_ips:\n", "elastic_ips:\n  - {name: eip-2, address: 203.0.113.30}\n");
    let line = "nat_gateways:                                                # each node has 2,048 of its ports\n";
    let comes = ["+ NAT gateway ngw-2 of prod by eip-2 (203.0.113.30) with 1024 ports for each node"];
    check_in(&base, line, second, &comes, ALL);
    let two = base.replace(line, second);
    let leads = [
        "- egress allow list of NAT gateway ngw-1 with 2 rules",
        "~ route 0.0.0.0/0 for subnet private: to NAT gateway ngw-1 by its egress allow list -> to NAT gateway ngw-2",
    ];
    check_in(&two, "nat_gateway: ngw-1", "nat_gateway: ngw-2", &leads, &["app-1"]);
    let internet = [
        "- egress allow list of NAT gateway ngw-1 with 2 rules",
        "~ route 0.0.0.0/0 for subnet private: to NAT gateway ngw-1 by its egress allow list -> to the internet gateway",
    ];
    check_in(GATEWAY, "nat_gateway: ngw-1", "internet_gateway: igw", &internet, &["app-1"]);
    let goes = ["- NAT gateway ngw-2 of prod"];
    check_in(&two, "  - {name: ngw-2, vpc: prod, elastic_ips: [eip-2]}\n", "", &goes, ALL);
    let more =
        ["~ NAT gateway ngw-1: elastic IPs eip-nat (203.0.113.10) -> eip-nat (203.0.113.10), eip-2 (203.0.113.30)"];
    check_in(&base, "elastic_ips: [eip-nat]", "elastic_ips: [eip-nat, eip-2]", &more, ALL);
}

#[test]
fn a_gateways_own_outlet_changes() {
    let old = state_of("gw1", GATEWAY);
    let new = state_of(
        "gw1",
        &GATEWAY.replace(
            "addresses: [203.0.113.2/24], next_hop: 203.0.113.1",
            "addresses: [203.0.113.4/24], next_hop: 203.0.113.3",
        ),
    );
    let plan = Plan::between(&old, &new);
    assert_eq!(
        plan.describe(&old, &new),
        ["~ gateway of this node: address 203.0.113.2 -> 203.0.113.4, next hop 203.0.113.1 -> 203.0.113.3"]
    );
}

fn state_of(node: &str, text: &str) -> Desired {
    compile(&load(text, "test.yaml").unwrap(), node, &Slots::new(), &Limits::default()).unwrap()
}

#[test]
fn an_egress_allow_list_changes_rule_by_rule() {
    let line = "{protocol: tcp, ports: [80, 443], cidr_blocks: [0.0.0.0/0]}, ";
    let list = "egress allow list of NAT gateway ngw-1: egress rule";
    let goes = [&*format!("- {list} 1 removed: tcp 80, 443 to 0.0.0.0/0")];
    check_in(GATEWAY, line, "", &goes, &["app-1"]);
}
