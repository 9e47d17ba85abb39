//! What the network between the hypervisors does to the fabric.

use std::{
    net::{IpAddr, UdpSocket},
    thread::sleep,
    time::Duration,
};
use vpc_lab::{
    Fabric,
    capture::Capture,
    ping::{BackgroundPing, Fragmentation, PingOptions},
    underlay::LinkState,
};
use vpc_netns_tests::{TOPOLOGY, addresses, all_answered, fabric, reaches};

/// Each node has two ways into the underlay.
pub fn two_uplinks() -> String {
    TOPOLOGY.replace("uplink: eth1", "uplinks: [eth1, eth2]")
}

/// The underlay is IPv6.
pub fn ipv6() -> String {
    TOPOLOGY.replace("192.0.2.11", "'2001:db8::11'").replace("192.0.2.12", "'2001:db8::12'")
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
    let wires = ["eth1", "eth2"].map(|uplink| {
        let (router, link) = fabric.underlay().far_end("hv1", uplink).unwrap();
        Capture::incoming(router, link, "udp port 4789", fabric.directory()).unwrap()
    });
    many_flows(&fabric, "a1", b1.ipv4().unwrap());
    for wire in wires {
        let packets = wire.stop().unwrap();
        assert!(packets.len() >= 8, "only {} packets on one uplink", packets.len());
    }

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
        sleep(Duration::from_millis(1_000));
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
