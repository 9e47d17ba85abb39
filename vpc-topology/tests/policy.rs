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

const TIERS: &str = r#"
policy_groups:
  - name: web
    vpc: prod
    selector: {labels: {tier: web}}
    ingress: [{protocol: tcp, ports: [443], cidr_blocks: [0.0.0.0/0]}]
    egress: [{protocol: tcp, ports: [8080], policy_groups: [app]}]
  - {name: app, vpc: prod, selector: {labels: {tier: app}}, ingress: [{protocol: tcp, ports: [8080], policy_groups: [web]}]}
  - {name: pci, vpc: prod, selector: {labels: {tier: app, zone: pci}}, ingress: [{protocol: tcp, ports: [9000], policy_groups: [pci, shared]}]}
  - {name: shared, vpc: other, selector: {labels: {role: audit}}, ingress: []}
"#;

#[test]
fn labels_make_groups() {
    let network = network(
        TIERS,
        &[
            ("web-1", "10.0.1.10", ", labels: {tier: web}"),
            ("web-2", "10.0.1.11", ", labels: {tier: web, zone: dmz}"),
            ("app-1", "10.0.1.12", ", labels: {tier: app}"),
            ("app-2", "10.0.1.13", ", labels: {zone: pci, tier: app}"),
            ("plain", "10.0.1.14", ", labels: {tier: batch}"),
            ("audit", "10.1.1.10", ", labels: {role: audit}"),
        ],
    );
    let (web_out, app_in) = (Some("policy_group web egress 1"), Some("policy_group app ingress 1"));
    assert_eq!(network.ask("web-1", "app-1", tcp(8_080)), (web_out, app_in));
    assert_eq!(network.ask("web-2", "app-2", tcp(8_080)), (web_out, app_in), "more labels than the selector names");
    assert_eq!(network.ask("web-1", "web-2", tcp(22)), (None, None), "a selected port is not in the default group");
    assert_eq!(
        network.ask("app-1", "web-1", tcp(443)),
        (Some("policy_group app egress 1"), Some("policy_group web ingress 1"))
    );
    assert_eq!(network.ask("app-1", "app-2", tcp(9_000)).1, None, "one of two labels");
    assert_eq!(network.ask("audit", "app-2", tcp(9_000)).1, Some("policy_group pci ingress 1"), "a group of a peer");
    assert_eq!(network.ask("plain", "app-1", tcp(8_080)), (Some("security_group prod/default egress 1"), None));
    assert_eq!(network.identity("web-1"), network.identity("web-2"), "identities are sets of groups, not of labels");
    assert_ne!(network.identity("app-1"), network.identity("app-2"));
}

#[test]
fn security_groups_and_policy_groups_are_united() {
    let groups = format!(
        "{TIERS}security_groups:\n  - {{name: ssh, vpc: prod, ingress: [{{protocol: tcp, ports: [22], \
                          policy_groups: [web]}}], egress: []}}\n"
    );
    let network = network(
        &groups,
        &[
            ("app-1", "10.0.1.12", ", labels: {tier: app}, security_groups: [ssh]"),
            ("web-1", "10.0.1.10", ", labels: {tier: web}"),
        ],
    );
    assert_eq!(network.ask("web-1", "app-1", tcp(22)).1, Some("security_group ssh ingress 1"));
    assert_eq!(network.ask("web-1", "app-1", tcp(8_080)).1, Some("policy_group app ingress 1"));
    assert_eq!(
        network.ask("app-1", "web-1", tcp(443)).0,
        Some("policy_group app egress 1"),
        "all egress of one is all"
    );
}

/// The network with an ACL on its subnet.
fn with_acl(acl: &str) -> Network {
    let text = format!(
        "version: 1\nnodes: [{{name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1}}]\nvpcs: [{{name: prod, vni: 5001, \
         cidr_blocks: [10.0.0.0/16]}}]\nsubnets: [{{name: a, vpc: prod, cidr_blocks: [10.0.1.0/24], network_acl: edge}}]\n\
         ports: [{{name: p, subnet: a, node: hv1, device: tap, mac: \"02:00:00:00:00:01\", private_ips: [10.0.1.10]}}]\n\
         network_acls:\n  - name: edge\n    vpc: prod\n{acl}"
    );
    Network::new(&text, "hv1")
}

#[test]
fn the_lowest_number_decides() {
    let network = with_acl(
        "    ingress:
      - {rule_number: 200, protocol: all, cidr_block: 0.0.0.0/0, action: allow}
      - {rule_number: 100, protocol: tcp, ports: [23, \"1000-2000\"], cidr_block: 0.0.0.0/0, action: deny}
      - {rule_number: 90, protocol: tcp, ports: [1500], cidr_block: 10.9.0.0/16, action: allow}
      - {rule_number: 80, protocol: all, cidr_block: 10.9.9.0/24, action: deny}
",
    );
    let asked = |peer: &str, flow| network.acl("p", peer, flow);
    assert_eq!(asked("10.8.0.1", tcp(22)), Ok("network_acl edge ingress 200"));
    assert_eq!(asked("10.8.0.1", tcp(23)), Err(Some("network_acl edge ingress 100")));
    assert_eq!(asked("10.8.0.1", tcp(1_500)), Err(Some("network_acl edge ingress 100")));
    assert_eq!(asked("10.9.0.1", tcp(1_500)), Ok("network_acl edge ingress 90"));
    assert_eq!(asked("10.9.0.1", tcp(1_501)), Err(Some("network_acl edge ingress 100")));
    assert_eq!(asked("10.9.9.1", tcp(1_500)), Err(Some("network_acl edge ingress 80")));
    assert_eq!(asked("2001:db8::1", tcp(22)), Err(None), "no rule for IPv6");
}

#[test]
fn an_acl_that_says_nothing_denies_all() {
    let network = with_acl("");
    assert_ne!(network.port("p").record.ingress_acl, vpc_common::port::Port::NO_ACL);
    assert_eq!(network.acl("p", "10.8.0.1", tcp(22)), Err(None));
}

#[test]
fn timeouts_and_quotas() {
    let text = |vpc: &str, port: &str| {
        format!(
            "version: 1\nnodes: [{{name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1}}]\nvpcs: [{{name: prod, vni: 5001, \
             cidr_blocks: [10.0.0.0/16]{vpc}}}]\nsubnets: [{{name: a, vpc: prod, cidr_blocks: [10.0.1.0/24]}}]\nports:\n  - \
             {{name: p, subnet: a, node: hv1, device: tap, mac: \"02:00:00:00:00:01\", private_ips: [10.0.1.10]{port}}}\n"
        )
    };
    let record = |vpc: &str, port: &str| Network::new(&text(vpc, port), "hv1").port("p").record;
    let default = record("", "");
    let t = default.timeouts;
    let all = [t.tcp_half_open, t.tcp_established, t.tcp_closing, t.one_way, t.two_way, t.icmp];
    assert_eq!(all, [14, 3_465, 112, 14, 140, 28]);
    assert_eq!(default.session_quota, vpc_common::limits::SESSIONS);
    let timeouts = record(", session_timeouts: {tcp_established: 2h, udp_stream: 5s}", "").timeouts;
    assert_eq!((timeouts.tcp_established, timeouts.two_way, timeouts.icmp), (3_353, 3, 28));
    assert_eq!(record(", quotas: {sessions: 1000}", "").session_quota, 1_000);
    assert_eq!(record(", quotas: {sessions: 1000}", ", quotas: {sessions: 10}").session_quota, 10);
}

#[test]
fn shares_fit_into_the_table() {
    for count in [1, 2, 3, 5, 64, 65] {
        let addresses: Vec<(String, String)> =
            (0..count).map(|n| (format!("p{n}"), format!("10.0.1.{}", n + 10))).collect();
        let ports: Vec<_> = addresses.iter().map(|(name, address)| (name.as_str(), address.as_str(), "")).collect();
        let network = network("", &ports);
        let quotas = network.desired.ports.values().map(|port| u64::from(port.record.session_quota));
        let (sum, least) = (quotas.clone().sum::<u64>(), quotas.min().unwrap());
        assert!(sum <= u64::from(vpc_common::limits::SESSIONS) && least > 0, "{count} ports: {sum}, {least}");
    }
}

#[test]
fn a_changed_rule_is_another_rule_set_and_the_same_one_the_same() {
    let groups = |port| {
        format!(
            "security_groups: [{{name: web, vpc: prod, ingress: [{{protocol: tcp, ports: [{port}], cidr_blocks: [0.0.0.0/0]}}]}}]"
        )
    };
    let ports = [("a", "10.0.1.10", ", security_groups: [web]"), ("b", "10.0.1.11", "")];
    let record = |groups: &str, port| network(groups, &ports).port(port).record;
    let (old, same, new) = (groups(80), groups(80), groups(81));
    assert_eq!(record(&old, "a"), record(&same, "a"));
    assert_ne!(record(&old, "a").ingress_rules, record(&new, "a").ingress_rules);
    assert_eq!(record(&old, "a").egress_rules, record(&new, "a").egress_rules);
    assert_eq!(record(&old, "b"), record(&new, "b"), "not concerned");
}

/// Many rules, of different blocks and ports, some nested.
fn many_rules(count: usize) -> String {
    let rule = |n: usize| {
        let (a, b, c) = (n / 4_096, n / 16 % 256, n % 16);
        format!(
            "      - {{protocol: tcp, ports: [\"{}-{}\"], cidr_blocks: [10.{a}.{b}.{}/28]}}\n",
            n % 1_000 + 1,
            n % 1_000 + 1 + n % 7,
            c * 16
        )
    };
    format!(
        "security_groups:\n  - name: web\n    vpc: prod\n    ingress:\n{}",
        (0..count).map(rule).collect::<String>()
    )
}

#[test]
fn ten_thousand_rules_compile_quickly() {
    let groups = many_rules(10_000);
    let network = network(&groups, &[("a", "10.0.1.10", ", security_groups: [web]")]);
    assert_eq!(network.desired.subjects.len(), 10_000 + 1);
    let text = network.text.clone();
    let topology = vpc_topology::load(&text, "test.yaml").unwrap();
    let start = std::time::Instant::now();
    let limits = vpc_topology::Limits::default();
    let desired = vpc_topology::compile(&topology, "hv1", &vpc_topology::Slots::new(), &limits).unwrap();
    let elapsed = start.elapsed();
    println!("10,000 rules: {elapsed:?}, {} entries", desired.rules.len());
    assert!(elapsed.as_secs() < 5, "{elapsed:?}");
}
