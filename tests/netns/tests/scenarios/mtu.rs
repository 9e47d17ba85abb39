//! Packets larger than the tunnel, and tunnels larger than usual.

use std::{net::IpAddr, time::Duration};
use vpc_lab::{
    UnderlayOptions,
    iperf::Load,
    ping::{Fragmentation, PingOptions},
    wait::eventually,
};
use vpc_netns_tests::{TOPOLOGY, addresses, all_answered, drops, fabric, fabric_with, learnt_mtu};

/// Bytes of the IP and ICMP headers in front of a ping's payload.
fn headers(address: IpAddr) -> u32 {
    if address.is_ipv4() { 28 } else { 48 }
}

fn sized(address: IpAddr, mtu: u32, fragmentation: Fragmentation) -> PingOptions {
    PingOptions { payload: mtu - headers(address), fragmentation, ..PingOptions::default() }
}

#[test]
fn a_guest_with_a_larger_mtu_learns_the_tunnels_and_tcp_has_no_black_hole() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    a1.set_mtu(1_500).unwrap();
    b1.set_mtu(1_500).unwrap();
    for to in addresses(b1) {
        let exact = a1.ping(*to, sized(*to, 1_450, Fragmentation::Forbidden)).unwrap();
        all_answered(exact).unwrap();
        assert_eq!(learnt_mtu(a1, *to).unwrap(), None);
        let larger = a1.ping(*to, sized(*to, 1_451, Fragmentation::Forbidden)).unwrap();
        assert_eq!(larger.received, 0);
        assert_eq!(learnt_mtu(a1, *to).unwrap(), Some(1_450), "{to}");
    }
    for netns in [a1.netns(), b1.netns()] {
        netns.ip("route flush cache").unwrap();
        netns.ip("-6 route flush cache").unwrap();
    }
    for to in addresses(b1) {
        let tcp = a1.iperf(b1, *to, Load::Tcp { streams: 1 }, 1).unwrap();
        assert!(tcp.gigabits() > 0.2, "{to}: {tcp:?}");
    }
}

#[test]
fn without_df_a_large_packet_is_fragmented_and_arrives() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    let to = b1.ipv4().unwrap();
    // The guest's kernel sends it in one piece of 4,000 bytes, the router makes three.
    a1.set_mtu(9_000).unwrap();
    let pings = a1.ping(to, sized(to, 4_000, Fragmentation::Allowed)).unwrap();
    assert_eq!(pings.lost(), 0, "{}", drops(&fabric));
    assert_eq!(learnt_mtu(a1, to).unwrap(), None);
}

#[test]
fn tcp_without_df_has_no_black_hole() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    for guest in [a1, b1] {
        guest.set_mtu(1_500).unwrap();
        guest.netns().sysctl(&[("net/ipv4/ip_no_pmtu_disc", "1")]).unwrap();
    }
    let tcp = a1.iperf(b1, b1.ipv4().unwrap(), Load::Tcp { streams: 1 }, 1).unwrap();
    assert!(tcp.gigabits() > 0.05, "{tcp:?}{}", drops(&fabric));
}

#[test]
fn a_jumbo_underlay_carries_jumbo_frames() {
    let fabric = fabric_with(TOPOLOGY, UnderlayOptions { mtu: 9_000, ..UnderlayOptions::default() }).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    for name in ["a2", "b1"] {
        let guest = fabric.guest(name).unwrap();
        for to in addresses(guest) {
            all_answered(a1.ping(*to, sized(*to, 8_950, Fragmentation::Forbidden)).unwrap()).unwrap();
            let tcp = a1.iperf(guest, *to, Load::Tcp { streams: 1 }, 1).unwrap();
            assert!(tcp.gigabits() > 0.2, "{to}: {tcp:?}");
        }
    }
}

#[test]
fn a_changed_mtu_of_the_underlay_is_followed() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    let to = b1.ipv4().unwrap();
    all_answered(a1.ping(to, sized(to, 1_450, Fragmentation::Forbidden)).unwrap()).unwrap();
    fabric.underlay().set_mtu(fabric.node("hv1").unwrap(), "eth1", 1_400).unwrap();
    let (_, took) = eventually(Duration::from_secs(2), || {
        a1.ping(to, PingOptions { count: 1, ..sized(to, 1_450, Fragmentation::Forbidden) })?;
        let learnt = learnt_mtu(a1, to)?;
        anyhow::ensure!(learnt == Some(1_350), "learnt {learnt:?}");
        Ok(())
    })
    .unwrap();
    // The ping itself waits a second for a reply that does not come.
    assert!(took < Duration::from_millis(2_100), "{took:?}");
    all_answered(a1.ping(to, sized(to, 1_350, Fragmentation::Forbidden)).unwrap()).unwrap();
}
