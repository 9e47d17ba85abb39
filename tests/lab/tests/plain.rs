//! The lab by itself, with nothing but Linux in it.

use anyhow::Result;
use std::{fs, net::IpAddr, path::Path, time::Duration};
use vpc_lab::{
    Fabric, Lab, OpenVswitch, UnderlayOptions,
    iperf::Load,
    ping::{BackgroundPing, PingOptions, ping},
    plain_vtep::{RemoteMac, linux_vtep, open_vswitch_vtep},
    underlay::LinkState,
    wait::eventually,
};

const TOPOLOGY: &str = "
nodes:
  - {name: hv1, vtep: 192.0.2.11, uplinks: [eth1, eth2], zone: az-a}
  - {name: hv2, vtep: 192.0.2.12, uplink: eth1, zone: az-b}
subnets:
  - {name: s, cidr_blocks: [10.0.1.0/24, 'fd00:1::/64']}
ports:
  - {name: a, subnet: s, node: hv1, device: tap-a, mac: '02:00:00:00:00:0a', private_ips: [10.0.1.10, 'fd00:1::10']}
  - {name: b, subnet: s, node: hv2, device: tap-b, mac: '02:00:00:00:00:0b', private_ips: [10.0.1.11, 'fd00:1::11']}
";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn vteps(fabric: &Fabric) -> Result<()> {
    let remote = |mac: &str, vtep: &str| RemoteMac { mac: mac.to_owned(), vtep: address(vtep) };
    let (a, b) = (remote("02:00:00:00:00:0a", "192.0.2.11"), remote("02:00:00:00:00:0b", "192.0.2.12"));
    linux_vtep(fabric.node("hv1")?, a.vtep, 7, &["tap-a"], std::slice::from_ref(&b), &[b.vtep])?;
    linux_vtep(fabric.node("hv2")?, b.vtep, 7, &["tap-b"], std::slice::from_ref(&a), &[a.vtep])
}

#[test]
fn guests_talk_through_stock_tunnels_over_the_routed_underlay() {
    let fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    vteps(&fabric).unwrap();
    let (a, b) = (fabric.guest("a").unwrap(), fabric.guest("b").unwrap());
    for to in [b.ipv4().unwrap(), b.ipv6().unwrap()] {
        let pings = a.ping(to, PingOptions { payload: 1_400, ..PingOptions::default() }).unwrap();
        assert_eq!((pings.sent, pings.received), (3, 3), "{to}");
    }
    let throughput = a.iperf(b, b.ipv4().unwrap(), Load::Tcp { streams: 1 }, 1).unwrap();
    assert!(throughput.gigabits() > 0.1, "{throughput:?}");
    let udp = a.iperf(b, b.ipv6().unwrap(), Load::Udp { rate: 10_000_000, payload: 1_000 }, 1).unwrap();
    assert!(udp.packets > 500 && udp.lost * 10 < udp.packets, "{udp:?}");
}

#[test]
fn tunnel_addresses_are_reached_by_another_uplink_when_one_goes_down() {
    let fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    let hv2 = fabric.node("hv2").unwrap().netns();
    let hops = vpc_lab::traceroute::traceroute(hv2, address("192.0.2.11")).unwrap();
    assert_eq!(hops.len(), 3, "two routers and the node: {hops:?}");
    for uplink in ["eth1", "eth2"] {
        fabric.underlay().set_link("hv1", uplink, LinkState::Down).unwrap();
        eventually(Duration::from_secs(1), || {
            let pings = ping(hv2, address("192.0.2.11"), PingOptions::default())?;
            anyhow::ensure!(pings.lost() == 0, "{pings:?} without {uplink}");
            Ok(())
        })
        .unwrap();
        fabric.underlay().set_link("hv1", uplink, LinkState::Up).unwrap();
    }
}

#[test]
fn a_port_moves_with_its_guest_running() {
    let mut fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    fabric.edit(&TOPOLOGY.replace("node: hv2", "node: hv1")).unwrap();
    let hv1 = fabric.node("hv1").unwrap().netns();
    assert!(hv1.run("ip -br link show tap-b").unwrap().contains("UP"));
    assert_eq!(fs::read_to_string(fabric.topology()).unwrap(), TOPOLOGY.replace("node: hv2", "node: hv1"));
}

#[test]
fn a_running_ping_counts_what_is_lost() {
    let fabric = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    vteps(&fabric).unwrap();
    let (a, b) = (fabric.guest("a").unwrap(), fabric.guest("b").unwrap());
    assert_eq!(a.ping(b.ipv4().unwrap(), PingOptions::default()).unwrap().lost(), 0);
    let running = BackgroundPing::start(a.netns(), b.ipv4().unwrap(), 0.01, a.logs().join("a.ping")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    b.netns().ip("link set eth0 down").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let pings = running.stop().unwrap();
    assert!(pings.received > 10 && pings.lost() > 5, "{pings:?}");
}

#[test]
fn nothing_is_left_and_labs_do_not_meet() {
    let first = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    let second = Fabric::build(Lab::new().unwrap(), TOPOLOGY, UnderlayOptions::default()).unwrap();
    let names: Vec<_> = first.guests().map(|guest| guest.netns().path()).collect();
    let (directory, survivor) = (first.directory().to_owned(), second.directory().to_owned());
    drop(first);
    assert!(names.iter().all(|path| !path.exists()) && !directory.exists());
    assert!(second.guests().all(|guest| guest.netns().path().exists()) && survivor.exists());
}

#[test]
fn what_a_killed_process_left_is_swept() {
    let abandoned = Path::new("/var/lib/vpc-lab/4194305-0");
    let left = std::process::Command::new("ip").args(["netns", "add", "vpclab-4194305-0-hv1"]).status().unwrap();
    assert!(left.success());
    let _lab = Lab::new().unwrap();
    assert!(!abandoned.exists() && !Path::new("/run/netns/vpclab-4194305-0-hv1").exists());
}

#[test]
fn an_open_vswitch_talks_to_a_stock_tunnel() {
    let topology = TOPOLOGY.replace("uplinks: [eth1, eth2]", "uplink: eth1");
    let fabric = Fabric::build(Lab::new().unwrap(), &topology, UnderlayOptions::default()).unwrap();
    let (one, other) = (address("192.0.2.11"), address("192.0.2.12"));
    let remote = RemoteMac { mac: "02:00:00:00:00:0b".to_owned(), vtep: other };
    linux_vtep(fabric.node("hv1").unwrap(), one, 7, &["tap-a"], &[remote], &[other]).unwrap();
    let (a, b) = (fabric.guest("a").unwrap(), fabric.guest("b").unwrap());
    b.netns().run("ethtool -K eth0 tx off tso off gso off").unwrap();
    let node = fabric.node("hv2").unwrap();
    let switch = OpenVswitch::start(node.netns(), &fabric.directory().join("ovs")).unwrap();
    open_vswitch_vtep(&switch, node, "eth1", other, 7, &["tap-b"], &[one]).unwrap();
    for to in [b.ipv4().unwrap(), b.ipv6().unwrap()] {
        eventually(Duration::from_secs(5), || {
            let pings = a.ping(to, PingOptions::default())?;
            anyhow::ensure!(pings.lost() == 0, "{pings:?} at {to}");
            Ok(())
        })
        .unwrap();
    }
}
