//! What the network between the hypervisors does to the fabric.

use anyhow::{Context, Result, ensure};
use std::{
    net::{IpAddr, UdpSocket},
    thread::sleep,
    time::Duration,
};
use vpc_lab::{
    Fabric,
    agent::vpcctl_json,
    capture::Capture,
    foreign::{Effect, ForeignProgram, Place},
    ping::{BackgroundPing, Fragmentation, PingOptions},
    underlay::LinkState,
    wait::eventually,
};
use vpc_netns_tests::{
    TOPOLOGY, addresses, all_answered, does_not_reach, drops, fabric, learnt_mtu, reaches, soon_reaches,
};

/// Each node has two ways into the underlay.
pub fn two_uplinks() -> String {
    TOPOLOGY.replace("uplink: eth1", "uplinks: [eth1, eth2]")
}

/// The underlay is IPv6.
pub fn ipv6() -> String {
    TOPOLOGY.replace("192.0.2.11", "'2001:db8::11'").replace("192.0.2.12", "'2001:db8::12'")
}

/// How long a next hop may take to be given up or used again: a few questions, a second apart.
const RECOVERY: Duration = Duration::from_secs(12);

/// Tunnel packets of 64 new flows on each of the two uplinks of hv1.
fn flows_by_uplink(fabric: &Fabric) -> Result<[usize; 2]> {
    let wire = |uplink| {
        let (router, link) = fabric.underlay().far_end("hv1", uplink)?;
        Capture::incoming(router, link, "udp port 4789", fabric.directory())
    };
    let (first, second) = (wire("eth1")?, wire("eth2")?);
    many_flows(fabric, "a1", fabric.guest("b1")?.ipv4()?);
    Ok([first.stop()?.len(), second.stop()?.len()])
}

fn both_are_used(fabric: &Fabric) -> Result<()> {
    let flows = flows_by_uplink(fabric)?;
    ensure!(flows.iter().all(|count| *count >= 8), "packets by uplink: {flows:?}");
    Ok(())
}

/// 64 flows of one datagram each.
fn many_flows(fabric: &Fabric, from: &str, to: IpAddr) {
    let netns = fabric.guest(from).expect("a guest").netns();
    netns
        .enter(|| {
            for _ in 0..64 {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                socket.send_to(b"flow", (to, 9)).expect("sent");
            }
        })
        .expect("in the guest");
}

#[test]
fn flows_use_both_uplinks_and_leave_one_that_goes_down() {
    let fabric = fabric(&two_uplinks()).unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    both_are_used(&fabric).unwrap();

    // Each of them goes down in turn, so that whichever the flow uses is one of them.
    for uplink in ["eth1", "eth2"] {
        let running =
            BackgroundPing::start(a1.netns(), b1.ipv4().unwrap(), 0.01, a1.logs().join(format!("{uplink}.ping")))
                .unwrap();
        sleep(Duration::from_millis(300));
        fabric.underlay().set_link("hv1", uplink, LinkState::Down).unwrap();
        sleep(Duration::from_millis(1_500));
        let pings = running.stop().unwrap();
        assert!(pings.lost() < 100, "{uplink}: silent for {} ms", pings.lost() * 10);
        reaches(&fabric, "a1", "b1").unwrap();
        fabric.underlay().set_link("hv1", uplink, LinkState::Up).unwrap();
        eventually(RECOVERY, || both_are_used(&fabric)).unwrap();
        reaches(&fabric, "a1", "b1").unwrap();
    }
}

#[test]
fn without_a_way_to_a_node_nobody_is_told_that_a_packet_is_too_large() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    fabric.underlay().set_link("hv1", "eth1", LinkState::Down).unwrap();
    eventually(RECOVERY, || {
        let vtep = &vpcctl_json(fabric.node("hv1")?, "status")?["vteps"][0];
        ensure!(vtep["mtu"].is_null() && vtep["next_hops"][0]["state"] != "used", "{vtep}");
        Ok(())
    })
    .unwrap();
    does_not_reach(&fabric, "a1", "b1").unwrap();
    assert!(drops(&fabric).contains("no_underlay"), "{}", drops(&fabric));
    fabric.underlay().set_link("hv1", "eth1", LinkState::Up).unwrap();
    soon_reaches(&fabric, "a1", "b1").unwrap();
    for to in addresses(b1) {
        assert_eq!(learnt_mtu(a1, *to).unwrap(), None, "{to}");
    }
}

#[test]
fn flows_leave_a_next_hop_that_falls_silent_and_return_once_it_answers() {
    let fabric = fabric(&two_uplinks()).unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    both_are_used(&fabric).unwrap();
    let state = |uplink: &str| -> Result<String> {
        let status = vpcctl_json(fabric.node("hv1")?, "status")?;
        let hops = status["vteps"][0]["next_hops"].as_array().cloned().unwrap_or_default();
        let hop = hops.iter().find(|hop| hop["uplink"] == uplink).and_then(|hop| hop["state"].as_str());
        hop.map(str::to_owned).context("no such next hop")
    };
    let becomes = |uplink: &str, wanted: &str| {
        eventually(RECOVERY, || {
            let state = state(uplink)?;
            ensure!(state == wanted, "{uplink} is {state}");
            Ok(())
        })
        .unwrap();
    };
    for (number, uplink) in ["eth1", "eth2"].into_iter().enumerate() {
        // The link stays up, but the router hears nothing of what the node sends. What the router sends arrives, for as long
        // as this lasts: it does not ask for the node's MAC, which would end that after some seconds.
        let (router, link) = fabric.underlay().far_end("hv1", uplink).unwrap();
        fabric.underlay().know(fabric.node("hv1").unwrap(), uplink).unwrap();
        let silence = ForeignProgram::attach(router, link, Place::First, Effect::Drop).unwrap();
        becomes(uplink, "unresolved");
        let flows = flows_by_uplink(&fabric).unwrap();
        assert_eq!(flows[number], 0, "to a router that is silent: {flows:?}");
        reaches(&fabric, "a1", "b1").unwrap();
        drop(silence);
        becomes(uplink, "used");
        both_are_used(&fabric).unwrap();
        reaches(&fabric, "a1", "b1").unwrap();
    }
}

#[test]
fn an_ipv6_underlay_carries_both_families() {
    let fabric = fabric(&ipv6()).unwrap();
    for to in ["a2", "b1", "b2"] {
        reaches(&fabric, "a1", to).unwrap();
    }
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    for to in addresses(b1) {
        let headers = if to.is_ipv4() { 28 } else { 48 };
        let options =
            PingOptions { payload: 1_430 - headers, fragmentation: Fragmentation::Forbidden, ..PingOptions::default() };
        all_answered(a1.ping(*to, options).unwrap()).unwrap();
        let tcp = a1.iperf(b1, *to, vpc_lab::iperf::Load::Tcp { streams: 1 }, 1).unwrap();
        assert!(tcp.gigabits() > 0.2, "{to}: {tcp:?}");
    }
}
