//! Guests of one VPC reach each other, and at speed.

use vpc_lab::{Fabric, Lab, UnderlayOptions, iperf::Load, ping::PingOptions};
use vpc_netns_tests::{TOPOLOGY, addresses, all_answered, fabric, reaches};

/// From a1, on hv1: the same subnet and a routed one, on the other node and on the same.
const PATHS: [(&str, &str); 4] = [("a1", "a2"), ("a1", "b1"), ("a1", "a3"), ("a1", "b2")];

#[test]
fn guests_reach_each_other_bridged_and_routed_near_and_far() {
    let fabric = fabric(TOPOLOGY).unwrap();
    for (from, to) in PATHS {
        reaches(&fabric, from, to).unwrap();
        reaches(&fabric, to, from).unwrap();
    }
}

#[test]
fn tcp_and_udp_pass_at_speed_bridged_and_routed_near_and_far() {
    let fabric = fabric(TOPOLOGY).unwrap();
    for (from, to) in PATHS {
        let (from, to) = (fabric.guest(from).unwrap(), fabric.guest(to).unwrap());
        for address in addresses(to) {
            let tcp = from.iperf(to, *address, Load::Tcp { streams: 2 }, 1).unwrap();
            assert!(tcp.gigabits() > 0.2, "{} → {address}: {tcp:?}", from.plan().name);
            let udp = from.iperf(to, *address, Load::Udp { rate: 20_000_000, payload: 1_200 }, 1).unwrap();
            assert!(udp.packets > 1_000 && udp.lost * 100 < udp.packets, "{} → {address}: {udp:?}", from.plan().name);
        }
    }
}

/// Every packet of these arrives, whatever path it takes through the receiving node.
pub fn everything_arrives(fabric: &Fabric) {
    for (from, to) in PATHS {
        reaches(fabric, from, to).expect("reaches");
        let (from, to) = (fabric.guest(from).expect("a guest"), fabric.guest(to).expect("a guest"));
        let address = to.ipv4().expect("an address");
        let udp = from.iperf(to, address, Load::Udp { rate: 10_000_000, payload: 500 }, 1).expect("UDP");
        assert!(udp.packets > 1_000 && udp.lost == 0, "to {}: {udp:?}", to.plan().name);
        let tcp = from.iperf(to, address, Load::Tcp { streams: 1 }, 1).expect("TCP");
        assert!(tcp.gigabits() > 0.2, "to {}: {tcp:?}", to.plan().name);
    }
}

#[test]
fn each_receive_mode_delivers_everything() {
    for mode in ["xdp", "tc", "auto"] {
        let topology = TOPOLOGY.replace("receive_mode: xdp", &format!("receive_mode: {mode}"));
        everything_arrives(&fabric(&topology).unwrap());
    }
}

#[test]
fn guests_that_do_not_poll_get_everything() {
    // XDP cannot hand packets to such a guest's interface: they would vanish without a trace.
    let mut fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    for guest in fabric.guests() {
        guest.netns().run("ethtool -K eth0 gro off").unwrap();
    }
    fabric.start_agents().unwrap();
    everything_arrives(&fabric);
}

#[test]
fn the_router_of_the_vpc_shows_in_traceroute_and_only_between_subnets() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let hops = |from: &str, to: &str| -> Vec<Vec<String>> {
        let (from, to) = (fabric.guest(from).unwrap(), fabric.guest(to).unwrap());
        let text = |hop: Option<std::net::IpAddr>| hop.map_or("*".to_owned(), |hop| hop.to_string());
        let trace = |address: &std::net::IpAddr| from.traceroute(*address).unwrap().into_iter().map(text).collect();
        addresses(to).iter().map(trace).collect()
    };
    for to in ["b1", "b2"] {
        let number = if to == "b1" { "10" } else { "11" };
        let expected = [
            vec!["10.0.1.1".to_owned(), format!("10.0.2.{number}")],
            vec!["fd00:1:0:1::1".to_owned(), format!("fd00:1:0:2::{number}")],
        ];
        assert_eq!(hops("a1", to), expected);
    }
    assert_eq!(hops("a1", "a2"), [vec!["10.0.1.11"], vec!["fd00:1:0:1::11"]]);
}

#[test]
fn gateway_addresses_answer_ping() {
    let fabric = fabric(TOPOLOGY).unwrap();
    for (guest, gateways) in [("a1", ["10.0.1.1", "fd00:1:0:1::1"]), ("b1", ["10.0.2.1", "fd00:1:0:2::1"])] {
        for gateway in gateways {
            let pings = fabric.guest(guest).unwrap().ping(gateway.parse().unwrap(), PingOptions::default()).unwrap();
            all_answered(pings).unwrap();
        }
    }
}
