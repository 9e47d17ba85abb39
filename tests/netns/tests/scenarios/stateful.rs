//! Security groups, network ACLs and sessions, as clients and operators see them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric,
    agent::{vpcctl, vpcctl_json},
    tcp::{Conversation, EchoServer, connect},
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, addresses, fabric,
    topology::{Node, port, topology},
};

/// For members of a group.
const FOR_MEMBERS: u16 = 80;
/// For addresses of the second subnet.
const FOR_ADDRESSES: u16 = 81;
/// A connection is there in less, or refused.
const PATIENCE: Duration = Duration::from_millis(400);
/// Within this a removed rule has cut the flows that only it allowed.
const CUT: Duration = Duration::from_secs(1);

const MEMBERS_RULE: &str = "      - {protocol: tcp, ports: [80], security_groups: [member]}\n";
const CUT_FLOWS: &str = "established_flows: cut";

/// Everyone is asked for his group by `server`, which lets members and one subnet in.
///
/// ```text
///          hv1             hv2
///   a      server, near    far, stranger
///   b                      away
/// ```
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
subnets:
  - {name: a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}
  - {name: b, vpc: red, cidr_blocks: [10.0.2.0/24, 'fd00:1:0:2::/64']}
security_groups:
  - name: server
    vpc: red
    established_flows: cut
    ingress:
      - {protocol: tcp, ports: [80], security_groups: [member]}
      - {protocol: tcp, ports: [81], cidr_blocks: [10.0.2.0/24, 'fd00:1:0:2::/64']}
  - {name: member, vpc: red}
  - {name: open, vpc: red, ingress: [{protocol: all, cidr_blocks: [0.0.0.0/0, '::/0']}]}
";
    let ports = [
        port("server", "a", "hv1", &["10.0.1.10", "fd00:1:0:1::10"]).with("security_groups: [server]"),
        port("near", "a", "hv1", &["10.0.1.11", "fd00:1:0:1::11"]).with("security_groups: [member]"),
        port("far", "a", "hv2", &["10.0.1.12", "fd00:1:0:1::12"]).with("security_groups: [member]"),
        port("stranger", "a", "hv2", &["10.0.1.13", "fd00:1:0:1::13"]).with("security_groups: [open]"),
        port("away", "b", "hv2", &["10.0.2.10", "fd00:1:0:2::10"]).with("security_groups: [open]"),
    ];
    topology(&[Node::Hypervisor, Node::Hypervisor], networks, &ports)
});

/// Only the second subnet reaches the first one, on one port, and gets its answers.
pub fn with_acl() -> String {
    TOPOLOGY.replace("{name: a, vpc: red,", "{name: a, vpc: red, network_acl: edge,")
        + "network_acls:\n  - name: edge\n    vpc: red\n    ingress:\n"
        + "      - {rule_number: 100, protocol: tcp, ports: [81], cidr_block: 10.0.2.0/24, action: allow}\n"
        + "    egress:\n"
        + "      - {rule_number: 50, protocol: tcp, ports: [22], cidr_block: 10.0.2.0/24, action: deny}\n"
        + ANSWERS
}

const ANSWERS: &str =
    "      - {rule_number: 100, protocol: tcp, ports: [1024-65535], cidr_block: 10.0.2.0/24, action: allow}\n";

/// The rules that a node shows for `server`, as `ingress: security_group server ingress 1`.
fn rules(fabric: &Fabric, verb: &str) -> Vec<String> {
    let rows = vpcctl_json(fabric.node("hv1").expect("a node"), &format!("{verb} --port server")).expect("rules");
    let word = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| format!("{}: {}", word(row, "direction"), word(row, "rule"))).collect()
}

fn server(fabric: &Fabric, guest: &str, port: u16) -> EchoServer {
    EchoServer::start(fabric.guest(guest).expect("a guest").netns(), port).expect("it listens")
}

fn connects(fabric: &Fabric, from: &str, to: IpAddr, port: u16) -> bool {
    let from = fabric.guest(from).expect("a guest");
    connect(from.netns(), SocketAddr::new(to, port), PATIENCE).is_ok()
}

fn converse(fabric: &Fabric, from: &str, to: &str, port: u16) -> Conversation {
    let to = fabric.guest(to).and_then(vpc_lab::Guest::ipv4).expect("an address");
    let from = fabric.guest(from).expect("a guest");
    Conversation::start(from.netns(), SocketAddr::new(to, port)).expect("a conversation")
}

/// Frames that a node dropped, of that port and for that reason.
pub fn dropped(fabric: &Fabric, node: &str, port: &str, reason: &str) -> u64 {
    let rows = vpcctl_json(fabric.node(node).expect("a node"), "drops").expect("drops");
    let wanted = |row: &&Value| row["port"] == port && row["reason"] == reason;
    rows.as_array().expect("a list").iter().find(wanted).and_then(|row| row["packets"].as_u64()).unwrap_or(0)
}

fn sessions(fabric: &Fabric, node: &str, arguments: &str) -> Vec<Value> {
    let rows = vpcctl_json(fabric.node(node).expect("a node"), &format!("sessions {arguments}")).expect("sessions");
    rows.as_array().expect("a list").clone()
}

/// The session of the only flow to a port of `server`.
fn session(fabric: &Fabric, port: u16) -> Result<Value> {
    let of_port = |row: &Value| row["local"].as_str().is_some_and(|local| local.ends_with(&format!(":{port}")));
    let mut found = sessions(fabric, "hv1", "--port server");
    found.retain(of_port);
    ensure!(found.len() == 1, "{found:#?}");
    found.pop().context("a session")
}

#[test]
fn a_group_lets_in_whom_its_rules_name_and_nobody_else() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let _servers = [server(&fabric, "server", FOR_MEMBERS), server(&fabric, "server", FOR_ADDRESSES)];
    let _elsewhere = server(&fabric, "stranger", FOR_MEMBERS);
    let shown = rules(&fabric, "security-groups");
    let expected = ["ingress: security_group server ingress 1", "ingress: security_group server ingress 2"];
    assert_eq!(shown[..2], expected, "{shown:?}");
    assert!(rules(&fabric, "acl").is_empty());
    // On the same node the frame has not left the port of its sender.
    let refusals = || ["near", "server"].map(|port| dropped(&fabric, "hv1", port, "security_group"));
    let mut refused = [0, 0];
    for address in addresses(fabric.guest("server").unwrap()) {
        for (from, members, subnet) in
            [("near", true, false), ("far", true, false), ("away", false, true), ("stranger", false, false)]
        {
            for (port, allowed) in [(FOR_MEMBERS, members), (FOR_ADDRESSES, subnet)] {
                assert_eq!(connects(&fabric, from, *address, port), allowed, "{from} to {address} port {port}");
                refused[usize::from(from != "near")] += u64::from(!allowed);
            }
        }
    }
    // Each attempt is one SYN: the next one comes after a second.
    assert_eq!(refusals(), refused);
    assert_eq!(dropped(&fabric, "hv2", "stranger", "security_group"), 0);
    // What it opens itself is answered, though no rule lets the answers in.
    for address in addresses(fabric.guest("stranger").unwrap()) {
        assert!(connects(&fabric, "server", *address, FOR_MEMBERS), "{address}");
    }
    assert_eq!(refusals(), refused);
}

#[test]
fn a_removed_rule_cuts_what_only_it_allowed() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let _servers = [server(&fabric, "server", FOR_MEMBERS), server(&fabric, "server", FOR_ADDRESSES)];
    let cut = [converse(&fabric, "near", "server", FOR_MEMBERS), converse(&fabric, "far", "server", FOR_MEMBERS)];
    let other = converse(&fabric, "away", "server", FOR_ADDRESSES);
    let removed = Instant::now();
    fabric.write_topology(&TOPOLOGY.replace(MEMBERS_RULE, "")).unwrap();
    for conversation in &cut {
        let last = conversation.wait_silent(CUT / 2, SOON).unwrap();
        let took = last.saturating_duration_since(removed);
        assert!(took < CUT, "cut after {took:?}");
    }
    other.wait_answer(CUT).unwrap();
    let talk = other.stop().unwrap();
    assert!(talk.longest_pause < CUT && talk.retransmits == 0, "{talk:?}");
    let address = fabric.guest("server").unwrap().ipv4().unwrap();
    assert!(!connects(&fabric, "near", address, FOR_MEMBERS));
    fabric.write_topology(&TOPOLOGY).unwrap();
    let again = || {
        ensure!(connects(&fabric, "near", address, FOR_MEMBERS), "still refused");
        Ok(())
    };
    eventually(SOON, again).unwrap();
}

#[test]
fn a_group_may_let_established_flows_finish() {
    let keep = TOPOLOGY.replace(CUT_FLOWS, "established_flows: keep");
    let fabric = fabric(&keep).unwrap();
    let _server = server(&fabric, "server", FOR_MEMBERS);
    let address = fabric.guest("server").unwrap().ipv4().unwrap();
    let kept = [converse(&fabric, "near", "server", FOR_MEMBERS), converse(&fabric, "far", "server", FOR_MEMBERS)];
    fabric.write_topology(&keep.replace(MEMBERS_RULE, "")).unwrap();
    let refused = || {
        ensure!(!connects(&fabric, "near", address, FOR_MEMBERS), "still let in");
        Ok(())
    };
    eventually(SOON, refused).unwrap();
    assert!(!connects(&fabric, "far", address, FOR_MEMBERS));
    for conversation in kept {
        conversation.wait_answer(CUT).unwrap();
        let talk = conversation.stop().unwrap();
        assert!(talk.longest_pause < CUT && talk.retransmits == 0, "{talk:?}");
    }
}

#[test]
fn a_network_acl_asks_each_packet_between_subnets() {
    let text = with_acl();
    let fabric = fabric(&text).unwrap();
    let _servers = [server(&fabric, "server", FOR_MEMBERS), server(&fabric, "server", FOR_ADDRESSES)];
    let _others = [server(&fabric, "away", 22), server(&fabric, "away", 2_222)];
    let here = fabric.guest("server").unwrap().ipv4().unwrap();
    let away = fabric.guest("away").unwrap().ipv4().unwrap();
    let expected = [
        "ingress: network_acl edge ingress 100",
        "egress: network_acl edge egress 50",
        "egress: network_acl edge egress 100",
    ];
    assert_eq!(rules(&fabric, "acl"), expected);
    assert!(connects(&fabric, "away", here, FOR_ADDRESSES));
    assert_eq!(dropped(&fabric, "hv1", "server", "network_acl"), 0);
    // IPv6 has no rule; the group would let it in.
    let here_six = fabric.guest("server").unwrap().ipv6().unwrap();
    assert!(!connects(&fabric, "away", here_six, FOR_ADDRESSES));
    assert_eq!(dropped(&fabric, "hv1", "server", "network_acl"), 1);
    // Outwards the lowest number decides; what it lets out is not answered, since no ingress rule lets the answers in.
    assert!(!connects(&fabric, "server", away, 22));
    assert_eq!(dropped(&fabric, "hv1", "server", "network_acl"), 2);
    assert!(!connects(&fabric, "server", away, 2_222));
    assert!(dropped(&fabric, "hv1", "server", "network_acl") > 2);
    // Inside the subnet it says nothing.
    assert!(connects(&fabric, "near", here, FOR_MEMBERS));
    // Without a rule for the answers, nothing is answered, whatever the session says.
    fabric.write_topology(&text.replace(ANSWERS, "")).unwrap();
    let refused = || {
        ensure!(!connects(&fabric, "away", here, FOR_ADDRESSES), "still answered");
        Ok(())
    };
    eventually(SOON, refused).unwrap();
    assert!(connects(&fabric, "near", here, FOR_MEMBERS));
}

#[test]
fn sessions_outlive_the_agent_and_keep_their_rules() {
    let mut fabric = fabric(&TOPOLOGY).unwrap();
    let _server = server(&fabric, "server", FOR_MEMBERS);
    let conversation = converse(&fabric, "far", "server", FOR_MEMBERS);
    let before = session(&fabric, FOR_MEMBERS).unwrap();
    assert_eq!(before["protocol"], "tcp");
    assert_eq!(before["vpc"], "red");
    assert_eq!(before["state"], "established");
    assert_eq!(before["opened_by"], "peer");
    assert_eq!(before["rule"], "security_group server ingress 1");
    let theirs = sessions(&fabric, "hv2", "--port far --address 10.0.1.10");
    assert_eq!((theirs.len(), &theirs[0]["opened_by"]), (1, &Value::from("guest")), "{theirs:#?}");

    fabric.agent_mut("hv1").unwrap().kill().unwrap();
    sleep(Duration::from_millis(500));
    fabric.restart_agent("hv1").unwrap();
    conversation.wait_answer(CUT).unwrap();
    let after = session(&fabric, FOR_MEMBERS).unwrap();
    for field in ["local", "remote", "state", "opened_by", "rule", "ingress"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(after["decision"], "current");
    assert!(after["received_packets"].as_u64() > before["received_packets"].as_u64(), "{after:#?}");
    // The rules of old still hold, and their flows can be cut.
    fabric.write_topology(&TOPOLOGY.replace(MEMBERS_RULE, "")).unwrap();
    conversation.wait_silent(CUT / 2, SOON).unwrap();
}

#[test]
fn flushed_sessions_are_decided_anew() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let _servers = [server(&fabric, "server", FOR_MEMBERS), server(&fabric, "server", FOR_ADDRESSES)];
    let flushed = converse(&fabric, "near", "server", FOR_MEMBERS);
    let other = converse(&fabric, "away", "server", FOR_ADDRESSES);
    let hv1 = fabric.node("hv1").unwrap();
    assert_eq!(sessions(&fabric, "hv1", "--vpc red").len(), 3);
    assert!(vpcctl(hv1, "sessions --vpc blue").is_err());
    assert!(vpcctl(hv1, "sessions flush --port nobody").is_err());
    let answer = vpcctl(hv1, "sessions flush --port server --address 10.0.1.11").unwrap();
    assert_eq!(answer.trim(), "2 sessions removed", "of both ports of a flow that stays on the node");
    flushed.wait_silent(CUT / 2, SOON).unwrap();
    assert!(dropped(&fabric, "hv1", "server", "no_session") > 0);
    other.wait_answer(CUT).unwrap();
    let answer = vpcctl_json(hv1, "sessions flush --vpc red").unwrap();
    assert_eq!(answer["sessions"], 1);
    other.wait_silent(CUT / 2, SOON).unwrap();
    // Echo requests may open a flow: nothing is lost.
    let address = fabric.guest("server").unwrap().ipv4().unwrap();
    assert!(connects(&fabric, "near", address, FOR_MEMBERS));
}
