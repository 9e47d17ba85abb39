//! A flow's packets arrive in the order in which they were sent.

use anyhow::{Context, Result};
use std::thread::available_parallelism;
use vpc_lab::{Fabric, Lab, UnderlayOptions, iperf::Load, underlay::Wire};
use vpc_netns_tests::{TOPOLOGY, reaches};

/// Nodes that receive by TC, with a wire between them and no router.
pub fn topology() -> String {
    TOPOLOGY.replace("uplink: eth1, receive_mode: xdp", "uplink: [eth1, eth2], receive_mode: tc")
}

/// Wires the second uplinks of both nodes to each other, and leads tunnel traffic there. Frames are not cut on this wire, so
/// the receiver gets the sender's socket buffers as they are: a router would have copied what they share with the sender's.
fn wire_directly(fabric: &Fabric) -> Result<()> {
    let nodes = [fabric.node("hv1")?.netns(), fabric.node("hv2")?.netns()];
    for node in nodes {
        node.ip("link delete eth2")?;
    }
    nodes[0].ip(&format!("link add eth2 mtu 1500 type veth peer name eth2 mtu 1500 netns {}", nodes[1].name()))?;
    for (node, own, other) in [(nodes[0], 1, 2), (nodes[1], 2, 1)] {
        node.ip_batch(&[
            "link set eth2 up".to_owned(),
            format!("addr add 100.64.9.{own}/30 dev eth2"),
            format!("route add 192.0.2.1{other}/32 via 100.64.9.{other} dev eth2 src 192.0.2.1{own}"),
        ])?;
    }
    Ok(())
}

/// How often a guest saw, by acknowledgements, that segments which it had sent once arrived behind later ones.
fn reordered(fabric: &Fabric, guest: &str) -> Result<u64> {
    let counters = fabric.guest(guest)?.netns().run("nstat -asz TcpExtTCPSACKReorder")?;
    let value =
        counters.lines().find_map(|line| line.strip_prefix("TcpExtTCPSACKReorder")).context("no such counter")?;
    Ok(value.split_whitespace().next().context("no value")?.parse()?)
}

#[test]
fn a_short_segment_does_not_overtake_long_ones() {
    let options = UnderlayOptions { wire: Wire::Gso, ..UnderlayOptions::default() };
    let mut fabric = Fabric::build(Lab::new().unwrap(), &topology(), options).unwrap();
    wire_directly(&fabric).unwrap();
    fabric.start_agents().unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    // Each machine receives on one CPU: what is sent on several would overtake itself.
    let last = 1 << (available_parallelism().unwrap().get().min(64) - 1);
    for (guest, node, cpu) in [(a1, "hv1", 1), (b1, "hv2", last)] {
        guest.netns().receive_on(cpu).unwrap();
        fabric.node(node).unwrap().netns().receive_on(cpu).unwrap();
    }
    let throughput = a1.iperf(b1, b1.ipv4().unwrap(), Load::Tcp { streams: 4 }, 2).unwrap();
    assert_eq!(reordered(&fabric, "a1").unwrap(), 0, "{throughput:?}");
}
