//! Nodes without an agent, whose tunnels Linux or Open vSwitch makes, join a subnet's VNI.

use super::mtu::{arrive_whole, counter};
use anyhow::ensure;
use std::{net::IpAddr, sync::LazyLock};
use vpc_lab::{
    Fabric, OpenVswitch,
    iperf::Load,
    plain_vtep::{RemoteMac, linux_vtep, open_vswitch_vtep},
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, addresses, drops, reaches, soon_reaches,
    topology::{Node, port, topology},
};

/// The subnet's own VNI is 6002, the router's MAC is the same everywhere.
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
subnets:
  - {name: red-a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}
  - {name: red-b, vpc: red, cidr_blocks: [10.0.2.0/24, 'fd00:1:0:2::/64'], vni: 6002}
";
    let ports = [
        port("a1", "red-a", "hv1", &["10.0.1.10", "fd00:1:0:1::10"]),
        port("b1", "red-b", "hv1", &["10.0.2.10", "fd00:1:0:2::10"]),
        port("b2", "red-b", "hv2", &["10.0.2.11", "fd00:1:0:2::11"]),
        port("p1", "red-b", "hv3", &["10.0.2.12", "fd00:1:0:2::12"]),
    ];
    topology(&[Node::Hypervisor, Node::Hypervisor, Node::PlainVtep], networks, &ports)
});
const VNI: u32 = 6_002;
const ROUTER_MAC: &str = "02:76:70:63:00:01";

fn fabric() -> Fabric {
    vpc_netns_tests::fabric(&TOPOLOGY).expect("a fabric")
}

fn vtep(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, 10 + number])
}

fn both_ways(fabric: &Fabric) {
    for (one, other) in [("b1", "p1"), ("b2", "p1")] {
        soon_reaches(fabric, one, other).expect("to the plain node");
        reaches(fabric, other, one).expect("from the plain node");
    }
}

fn routed_both_ways(fabric: &Fabric) {
    soon_reaches(fabric, "p1", "a1").expect("routed from the plain node");
    reaches(fabric, "a1", "p1").expect("routed to the plain node");
}

fn linux() -> Fabric {
    let fabric = fabric();
    let mac = |guest| fabric.guest(guest).expect("a guest").plan().mac.clone();
    let remote = |mac, number| RemoteMac { mac, vtep: vtep(number) };
    let remotes = [remote(mac("b1"), 1), remote(mac("b2"), 2), remote(ROUTER_MAC.to_owned(), 1)];
    let node = fabric.node("hv3").expect("a node");
    linux_vtep(node, vtep(3), VNI, &["tap-p1"], &remotes, &[vtep(1), vtep(2)]).expect("a tunnel");
    fabric
}

#[test]
fn a_stock_linux_vxlan_device_joins_a_subnet() {
    let fabric = linux();
    both_ways(&fabric);
    let (b2, p1) = (fabric.guest("b2").unwrap(), fabric.guest("p1").unwrap());
    for (from, to) in [(b2, p1), (p1, b2)] {
        for address in addresses(to) {
            let tcp = from.iperf(to, *address, Load::Tcp { streams: 1 }, 1).unwrap();
            assert!(tcp.gigabits() > 0.2, "{address}: {tcp:?}");
        }
    }
}

#[test]
fn guests_of_a_stock_linux_vxlan_device_are_routed() {
    routed_both_ways(&linux());
}

#[test]
fn without_df_what_guests_of_a_stock_linux_vxlan_device_send_through_the_router_is_cut() {
    let fabric = linux();
    routed_both_ways(&fabric);
    // Their checksums are unfinished here: the underlay is made of veths.
    let a1 = fabric.guest("a1").unwrap();
    a1.set_mtu(600).unwrap();
    eventually(SOON, || {
        arrive_whole(&fabric, "p1", "a1", 1_400)?;
        let put_together = counter(a1, "Ip", "ReasmOKs")?;
        ensure!(put_together >= 44, "{put_together} came in fragments{}", drops(&fabric));
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_open_vswitch_joins_a_subnet() {
    let fabric = fabric();
    let p1 = fabric.guest("p1").unwrap();
    // The userspace datapath takes frames as they are on a wire.
    p1.netns().run("ethtool -K eth0 tx off tso off gso off").unwrap();
    let node = fabric.node("hv3").unwrap();
    let switch = OpenVswitch::start(node.netns(), &fabric.directory().join("ovs")).unwrap();
    open_vswitch_vtep(&switch, node, "eth1", vtep(3), VNI, &["tap-p1"], &[vtep(1), vtep(2)]).unwrap();
    both_ways(&fabric);
    let b2 = fabric.guest("b2").unwrap();
    for (from, to) in [(b2, p1), (p1, b2)] {
        let tcp = from.iperf(to, to.ipv4().unwrap(), Load::Tcp { streams: 1 }, 1).unwrap();
        assert!(tcp.bits_per_second > 20e6, "{tcp:?}");
    }
}
