//! IPv6 to the outside and from there, by global addresses.

use crate::north_south::{guest, outside, seen_by_server};
use anyhow::{Context, ensure};
use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
};
use vpc_lab::{
    iperf::{Load, iperf},
    outside::SERVER_V6,
    ping::{Fragmentation, PingOptions},
    traceroute::traceroute,
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, all_answered, drops, fabric, learnt_mtu,
    topology::{Node, port, topology},
};

/// hv1 has guests, hv2 is the gateway and has one too. The router outside believes the guests' addresses to be on its
/// link, so that the gateway must answer for them.
///
/// ```text
///   web-1, tool-1 (egress-only)   hv1 ──── hv2 [eth2] ──── outside: next hop fe80::1, server 2001:db8:99::9
///                                          web-2
/// ```
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: ['2001:db8:1::/56', 'fd00:1::/56']}
  - {name: blue, vni: 5002, cidr_blocks: ['2001:db8:2::/56']}
subnets:
  - {name: public, vpc: red, cidr_blocks: ['2001:db8:1:1::/64', 'fd00:1:0:1::/64'], route_table: rt-public}
  - {name: tools, vpc: blue, cidr_blocks: ['2001:db8:2:1::/64'], route_table: rt-tools}
route_tables:
  - {name: rt-public, vpc: red, routes: [{destination: '::/0', internet_gateway: igw}]}
  - {name: rt-tools, vpc: blue, routes: [{destination: '::/0', internet_gateway: eigw}]}
internet_gateways: [{name: igw, vpc: red}, {name: eigw, vpc: blue, egress_only: true}]
security_groups:
  - {name: web, vpc: red, ingress: [{protocol: tcp, ports: [80], cidr_blocks: ['::/0']}, {protocol: icmpv6, icmp_type: echo_request, cidr_blocks: ['::/0']}, {protocol: udp, ports: ['33434-33534'], cidr_blocks: ['::/0']}]}
  - {name: tool, vpc: blue, ingress: [{protocol: tcp, ports: [80], cidr_blocks: ['::/0']}]}
";
    let ports = [
        port("web-1", "public", "hv1", &["2001:db8:1:1::10", "fd00:1:0:1::10"])
            .with("security_groups: [web], allowed_address_pairs: ['2001:db8:1:1:8::/80', '2001:db8:1:1::99']"),
        port("web-2", "public", "hv2", &["2001:db8:1:1::20"])
            .with("security_groups: [web], allowed_address_pairs: ['2001:db8:1:1::99']"),
        port("tool-1", "tools", "hv1", &["2001:db8:2:1::10"]).with("security_groups: [tool]"),
    ];
    topology(&[Node::Hypervisor, Node::Gateway], networks, &ports)
});

const WEB: &str = "2001:db8:1:1::10";
const FAR: &str = "2001:db8:98::1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn built() -> vpc_lab::Fabric {
    let fabric = fabric(&TOPOLOGY).expect("a fabric");
    let lines = [
        // On the link, as far as the router knows: it solicits each address.
        format!("route replace 2001:db8:1::/56 dev br0 src {SERVER_V6}"),
        // By way of the gateway's own address.
        format!("route replace 2001:db8:2::/56 via 2001:db8:f::2 dev br0 src {SERVER_V6}"),
    ];
    outside(&fabric).ip_batch(&lines).expect("routes");
    // The first choice of a source: the address that is meant.
    guest(&fabric, "web-1").ip(&format!("route replace ::/0 via 2001:db8:1:1::1 dev eth0 src {WEB}")).expect("a route");
    fabric
}

#[test]
fn guests_reach_the_outside_with_their_own_addresses() {
    let fabric = built();
    let (out, logs) = (outside(&fabric), fabric.directory());
    // From another node than the gateway, from the gateway node itself, and by an egress-only gateway.
    for (name, own) in [("web-1", WEB), ("web-2", "2001:db8:1:1::20"), ("tool-1", "2001:db8:2:1::10")] {
        let client = guest(&fabric, name);
        let pings = fabric.guest(name).unwrap().ping(SERVER_V6, PingOptions::default()).unwrap();
        all_answered(pings).with_context(|| format!("{name}{}", drops(&fabric))).unwrap();
        let to = SocketAddr::new(SERVER_V6, 8_080);
        let seen = seen_by_server(client, out, to, to).with_context(|| format!("{name}{}", drops(&fabric))).unwrap();
        assert_eq!(seen, ip(own), "{name}");
        let tcp = iperf(client, out, SERVER_V6, Load::Tcp { streams: 2 }, 1, logs).unwrap();
        assert!(tcp.gigabits() > 0.1, "{name}: {tcp:?}");
        let udp = iperf(client, out, SERVER_V6, Load::Udp { rate: 20_000_000, payload: 1_200 }, 1, logs).unwrap();
        assert!(udp.packets > 1_000 && udp.lost * 100 < udp.packets, "{name}: {udp:?}");
    }
}

#[test]
fn the_outside_reaches_guests_where_groups_and_gateway_allow_it() {
    let mut fabric = built();
    let at = |address: &str, port| SocketAddr::new(ip(address), port);
    let reached = |fabric: &vpc_lab::Fabric, name: &str, address: &str, port| {
        seen_by_server(outside(fabric), guest(fabric, name), at(address, port), at(address, port))
            .with_context(|| drops(fabric))
    };
    assert_eq!(reached(&fabric, "web-1", WEB, 80).unwrap(), SERVER_V6);
    assert_eq!(reached(&fabric, "web-2", "2001:db8:1:1::20", 80).unwrap(), SERVER_V6);
    assert!(reached(&fabric, "web-1", WEB, 81).is_err(), "no group allows port 81");
    assert!(reached(&fabric, "tool-1", "2001:db8:2:1::10", 80).is_err(), "its gateway lets replies in only");
    // From one VPC to another's global address, by the gateway.
    let client = guest(&fabric, "tool-1");
    let seen =
        seen_by_server(client, guest(&fabric, "web-1"), at(WEB, 80), at(WEB, 80)).with_context(|| drops(&fabric));
    assert_eq!(seen.unwrap(), ip("2001:db8:2:1::10"));
    fabric.edit(&TOPOLOGY.replace("egress_only: true", "egress_only: false")).unwrap();
    eventually(SOON, || reached(&fabric, "tool-1", "2001:db8:2:1::10", 80)).unwrap();
}

#[test]
fn a_port_is_outside_by_its_allowed_address_pairs_too_unless_another_one_has_the_same() {
    const POD: &str = "2001:db8:1:1:8::5";
    const WANDERS: &str = "2001:db8:1:1::99";
    let fabric = built();
    let (out, web) = (outside(&fabric), guest(&fabric, "web-1"));
    let (server, to_pod) = (SocketAddr::new(SERVER_V6, 8_080), SocketAddr::new(ip(POD), 80));
    for address in [POD, WANDERS] {
        web.ip(&format!("addr add {address}/128 dev eth0 nodad")).unwrap();
    }
    let speak_as =
        |address: &str| web.ip(&format!("route replace ::/0 via 2001:db8:1:1::1 dev eth0 src {address}")).unwrap();
    speak_as(POD);
    let seen = seen_by_server(web, out, server, server).with_context(|| drops(&fabric)).unwrap();
    assert_eq!(seen, ip(POD));
    let seen = seen_by_server(out, web, to_pod, to_pod).with_context(|| drops(&fabric)).unwrap();
    assert_eq!(seen, SERVER_V6);
    speak_as(WANDERS);
    assert!(seen_by_server(web, out, server, server).is_err(), "web-2 may use it as well");
}

#[test]
fn traceroute_and_path_mtu_discovery_work_both_ways() {
    let fabric = built();
    let out = outside(&fabric);
    // Nobody is there, but the router outside would send it on.
    out.ip("route replace 2001:db8:98::/48 via 2001:db8:f::99 dev br0").unwrap();
    let hops = traceroute(guest(&fabric, "web-1"), ip(FAR)).unwrap();
    assert_eq!(hops.first(), Some(&Some(ip("2001:db8:1:1::1"))), "{hops:?}");
    let beyond = hops.get(1).copied().flatten();
    assert!([ip("2001:db8:f::1"), SERVER_V6].map(Some).contains(&beyond), "{hops:?}{}", drops(&fabric));
    let hops = traceroute(out, ip(WEB)).unwrap();
    assert_eq!(hops, [Some(ip("2001:db8:f::2")), Some(ip(WEB))], "{}", drops(&fabric));

    let web = fabric.guest("web-1").unwrap();
    let sized = |payload| PingOptions { payload, fragmentation: Fragmentation::Forbidden, ..PingOptions::default() };
    // A narrow link outside: its router tells. 48 bytes are of the headers.
    out.ip("route replace 2001:db8:98::/48 via 2001:db8:f::99 dev br0 mtu lock 1300").unwrap();
    assert_eq!(web.ping(ip(FAR), sized(1_253)).unwrap().received, 0);
    assert_eq!(learnt_mtu(web, ip(FAR)).unwrap(), Some(1_300), "{}", drops(&fabric));
    // From outside, larger than the tunnel.
    let text =
        out.run(&format!("ping -n -c 2 -i 0.2 -W 1 -M do -s 1403 {WEB}")).unwrap_or_else(|error| format!("{error:#}"));
    assert!(text.contains("mtu = 1450") || text.contains("mtu=1450"), "{text}");
    // The gateway's own link: the gateway tells.
    fabric.node("hv2").unwrap().netns().ip("link set eth2 mtu 1350").unwrap();
    eventually(SOON, || {
        web.netns().ip("-6 route flush cache")?;
        web.ping(SERVER_V6, sized(1_303))?;
        let learnt = learnt_mtu(web, SERVER_V6)?;
        ensure!(learnt == Some(1_350), "learnt {learnt:?}{}", drops(&fabric));
        Ok(())
    })
    .unwrap();
    all_answered(web.ping(SERVER_V6, sized(1_302)).unwrap()).unwrap();
}
