//! Several instances as one next hop.

use anyhow::{Context, Result, ensure};
use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};
use vpc_lab::{
    Fabric,
    agent::vpcctl_json,
    tcp::{Conversation, EchoServer, connect},
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, drops, fabric, reaches,
    topology::{Node, port, topology},
};

/// Between the subnets of a1 and b1 stand two firewalls that let in what they saw open, and nothing else.
///
/// ```text
///   a1, fw-1   hv1 ──── hv2   b1, fw-2
/// ```
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
subnets:
  - {name: a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64'], route_table: rt-a}
  - {name: b, vpc: red, cidr_blocks: [10.0.2.0/24, 'fd00:1:0:2::/64'], route_table: rt-b}
  - {name: inspection, vpc: red, cidr_blocks: [10.0.9.0/24, 'fd00:1:0:9::/64']}
route_tables:
  - {name: rt-a, vpc: red, routes: [{destination: 10.0.2.0/24, ports: [fw-1, fw-2]}, {destination: 'fd00:1:0:2::/64', ports: [fw-1, fw-2]}]}
  - {name: rt-b, vpc: red, routes: [{destination: 10.0.1.0/24, ports: [fw-2, fw-1]}, {destination: 'fd00:1:0:1::/64', ports: [fw-2, fw-1]}]}
security_groups:
  - {name: default, vpc: red, ingress: [{protocol: all, cidr_blocks: [0.0.0.0/0, '::/0']}]}
";
    let ports = [
        port("a1", "a", "hv1", &["10.0.1.10", "fd00:1:0:1::10"]),
        port("b1", "b", "hv2", &["10.0.2.10", "fd00:1:0:2::10"]),
        port("fw-1", "inspection", "hv1", &["10.0.9.11", "fd00:1:0:9::11"]).with("source_dest_check: false"),
        port("fw-2", "inspection", "hv2", &["10.0.9.12", "fd00:1:0:9::12"]).with("source_dest_check: false"),
    ];
    topology(&[Node::Hypervisor, Node::Hypervisor], networks, &ports)
});

const LIMIT: Duration = Duration::from_secs(3);

/// A stateful firewall that counts the connections it saw open. What it did not see open is dropped.
const RULES: [&str; 7] = [
    "add table inet fw",
    "add counter inet fw opened",
    "add chain inet fw forward { type filter hook forward priority 0; policy drop; }",
    "add rule inet fw forward ct state established,related accept",
    "add rule inet fw forward meta l4proto icmp accept",
    "add rule inet fw forward meta l4proto ipv6-icmp accept",
    "add rule inet fw forward tcp flags & (fin | syn | rst | ack) == syn ct state new counter name opened accept",
];

fn firewalls(fabric: &Fabric) -> Result<()> {
    for name in ["fw-1", "fw-2"] {
        let netns = fabric.guest(name)?.netns();
        for rule in RULES {
            netns.run(&format!("nft {rule}")).context("set the firewall up")?;
        }
        netns.sysctl(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // What comes in goes out of the same interface.
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/eth0/send_redirects", "0"),
            // An answer whose opening went elsewhere is no connection.
            ("net/netfilter/nf_conntrack_tcp_loose", "0"),
        ])?;
    }
    Ok(())
}

/// How many connections a firewall saw open.
fn opened(fabric: &Fabric, name: &str) -> Result<u64> {
    let text = fabric.guest(name)?.netns().run("nft list counter inet fw opened")?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    words.next().and_then(|word| word.parse().ok()).with_context(|| format!("no count in {text}"))
}

/// Connects to b1 so many times, over both families.
fn connections(fabric: &Fabric, count: u32) -> Result<()> {
    let client = fabric.guest("a1")?.netns();
    for address in ["10.0.2.10", "fd00:1:0:2::10"] {
        let to = SocketAddr::new(address.parse::<IpAddr>()?, 80);
        for number in 0..count {
            connect(client, to, LIMIT).with_context(|| format!("{number} to {to}{}", drops(fabric)))?;
        }
    }
    Ok(())
}

#[test]
fn stateful_instances_share_the_flows_and_see_both_directions() {
    let mut fabric = fabric(&TOPOLOGY).unwrap();
    firewalls(&fabric).unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    let _server = EchoServer::start(fabric.guest("b1").unwrap().netns(), 80).unwrap();
    connections(&fabric, 20).unwrap();
    let counts = ["fw-1", "fw-2"].map(|name| opened(&fabric, name).unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 40, "a SYN was sent again: {counts:?}");
    assert!(counts.iter().all(|count| *count >= 8), "unequal shares: {counts:?}");

    // Ten connections that stay, over both.
    let client = fabric.guest("a1").unwrap().netns();
    let to = SocketAddr::new("10.0.2.10".parse().unwrap(), 80);
    let before = opened(&fabric, "fw-1").unwrap();
    let talks: Vec<(bool, Conversation)> = (0..10)
        .scan(before, |seen, _| {
            let talk = Conversation::start(client, to).unwrap();
            let now = opened(&fabric, "fw-1").unwrap();
            let by_first = now > std::mem::replace(seen, now);
            Some((by_first, talk))
        })
        .collect();
    // The second one leaves the set. Connections through the first go on; new ones all find it.
    fabric.edit(&TOPOLOGY.replace("[fw-1, fw-2]", "[fw-1]").replace("[fw-2, fw-1]", "[fw-1]")).unwrap();
    eventually(SOON, || {
        let before = opened(&fabric, "fw-2")?;
        connections(&fabric, 3)?;
        ensure!(opened(&fabric, "fw-2")? == before, "fw-2 still gets flows");
        Ok(())
    })
    .unwrap();
    for (by_first, talk) in &talks {
        if *by_first {
            talk.wait_answer(LIMIT).unwrap();
        }
    }
    assert!(talks.iter().any(|(by_first, _)| *by_first), "chance let none take fw-1");
}

/// Waits until both nodes say that fw-2 is no next hop, or say so no longer.
fn is_known(fabric: &Fabric, gone: bool) -> Result<()> {
    let says = |node: &str| -> Result<bool> {
        let status = vpcctl_json(fabric.node(node)?, "status")?;
        Ok(status["problems"].to_string().contains("instance fw-2 is not used"))
    };
    let all_say = || {
        for node in ["hv1", "hv2"] {
            ensure!(says(node)? == gone, "{node} says otherwise");
        }
        Ok(())
    };
    eventually(2 * SOON, all_say).map(|_| ())
}

#[test]
fn an_instance_that_nobody_is_behind_leaves_its_flows_to_the_others_on_all_nodes_until_it_is_back() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    firewalls(&fabric).unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    let _server = EchoServer::start(fabric.guest("b1").unwrap().netns(), 80).unwrap();
    let node = fabric.node("hv2").unwrap().netns();
    let by_second = |count| {
        let before = opened(&fabric, "fw-2").unwrap();
        connections(&fabric, count).unwrap();
        opened(&fabric, "fw-2").unwrap() - before
    };
    assert!(by_second(10) > 0);
    // Its link goes down and comes back.
    node.ip("link set tap-fw-2 down").unwrap();
    is_known(&fabric, true).unwrap();
    assert_eq!(by_second(10), 0);
    node.ip("link set tap-fw-2 up").unwrap();
    is_known(&fabric, false).unwrap();
    assert!(by_second(10) > 0);
    // A connection through the first one is not touched when the second one's interface vanishes.
    let to = SocketAddr::new("10.0.2.10".parse().unwrap(), 80);
    let client = fabric.guest("a1").unwrap().netns();
    let talks = std::iter::repeat_with(|| {
        let before = opened(&fabric, "fw-1").unwrap();
        (Conversation::start(client, to).unwrap(), opened(&fabric, "fw-1").unwrap() > before)
    });
    let talks: Vec<_> = talks.take(8).filter(|(_, by_first)| *by_first).collect();
    assert!(!talks.is_empty(), "chance let none take fw-1");
    node.ip("link delete tap-fw-2").unwrap();
    is_known(&fabric, true).unwrap();
    connections(&fabric, 10).unwrap();
    for (talk, _) in &talks {
        talk.wait_answer(LIMIT).unwrap();
    }
}
