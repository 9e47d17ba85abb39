//! To the outside and from there: NAT gateways, elastic IPs, port forwards.

use anyhow::{Context, Result, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::LazyLock,
    time::Duration,
};
use vpc_lab::{
    Fabric, Netns,
    agent::{vpcctl, vpcctl_json, vpcctl_output},
    iperf::Load,
    iperf::iperf,
    outside::SERVER,
    ping::{Fragmentation, PingOptions},
    tcp::{Conversation, EchoServer, connect},
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, all_answered, drops, fabric, learnt_mtu,
    topology::{Node, port, topology},
};

/// hv1 has guests, hv2 is the gateway and has one too.
///
/// ```text
///   web-1 (.20), app-1, app-2, db-1   hv1 ──── hv2 [eth2] ──── outside: next hop .1, server 198.51.100.9
///                                              app-3
/// ```
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16]}
subnets:
  - {name: public, vpc: red, cidr_blocks: [10.0.1.0/24], route_table: rt-public}
  - {name: private, vpc: red, cidr_blocks: [10.0.2.0/24], route_table: rt-private}
route_tables:
  - {name: rt-public, vpc: red, routes: [{destination: 0.0.0.0/0, internet_gateway: igw}]}
  - {name: rt-private, vpc: red, routes: [{destination: 0.0.0.0/0, nat_gateway: ngw}]}
internet_gateways: [{name: igw, vpc: red}]
elastic_ips:
  - {name: eip-nat, address: 203.0.113.10}
  - {name: eip-web, address: 203.0.113.20, port: web-1}
nat_gateways:
  - {name: ngw, vpc: red, elastic_ips: [eip-nat], ports_per_node: 2048, port_forwards: [{protocol: tcp, external: '203.0.113.10:2222', port: db-1, to: 22}]}
security_groups:
  - {name: web, vpc: red, ingress: [{protocol: tcp, ports: [80], cidr_blocks: [0.0.0.0/0]}]}
  - {name: ssh, vpc: red, ingress: [{protocol: tcp, ports: [22], cidr_blocks: [198.51.100.0/24]}]}
";
    let ports = [
        port("web-1", "public", "hv1", &["10.0.1.10"]).with("security_groups: [web]"),
        port("app-1", "private", "hv1", &["10.0.2.10"]),
        port("app-2", "private", "hv1", &["10.0.2.11"]),
        port("db-1", "private", "hv1", &["10.0.2.5"]).with("security_groups: [ssh]"),
        port("app-3", "private", "hv2", &["10.0.2.12"]),
    ];
    topology(&[Node::Hypervisor, Node::Gateway], networks, &ports)
});

const NAT: &str = "203.0.113.10";
const WEB: &str = "203.0.113.20";
const PATIENCE: Duration = Duration::from_secs(3);

pub fn outside(fabric: &Fabric) -> &Netns {
    fabric.outside().expect("an outside").netns()
}

pub fn guest<'f>(fabric: &'f Fabric, name: &str) -> &'f Netns {
    fabric.guest(name).expect("a guest").netns()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Who a TCP server sees, when a client connects to an address and both say something.
pub fn seen_by_server(client: &Netns, server: &Netns, bind: SocketAddr, to: SocketAddr) -> Result<IpAddr> {
    let listener = server.enter(|| TcpListener::bind(bind))?.context("listen")?;
    listener.set_nonblocking(true)?;
    let stream =
        client.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?.with_context(|| format!("connect to {to}"))?;
    let accepted = (0..100).find_map(|_| match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::thread::sleep(Duration::from_millis(10));
            None
        }
        other => Some(other),
    });
    let (served, peer) = accepted.context("nobody came")??;
    served.set_nonblocking(false)?;
    for (mut from, mut to) in [(&stream, &served), (&served, &stream)] {
        from.write_all(b"hello")?;
        to.set_read_timeout(Some(PATIENCE))?;
        let mut heard = [0; 5];
        to.read_exact(&mut heard)?;
        ensure!(&heard == b"hello", "heard {heard:?}");
    }
    Ok(peer.ip())
}

#[test]
fn guests_without_public_address_reach_the_outside_through_nat() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let (out, logs) = (outside(&fabric), fabric.directory());
    // From another node than the gateway, and from the gateway node itself.
    for name in ["app-1", "app-3"] {
        let client = guest(&fabric, name);
        let pings = fabric.guest(name).unwrap().ping(SERVER, PingOptions::default()).unwrap();
        all_answered(pings).with_context(|| format!("{name}{}", drops(&fabric))).unwrap();
        let to = SocketAddr::new(SERVER, 8_080);
        let seen = seen_by_server(client, out, to, to).with_context(|| format!("{name}{}", drops(&fabric))).unwrap();
        assert_eq!(seen, ip(NAT), "{name}");
        let tcp = iperf(client, out, SERVER, Load::Tcp { streams: 2 }, 1, logs).unwrap();
        assert!(tcp.gigabits() > 0.1, "{name}: {tcp:?}");
        let udp = iperf(client, out, SERVER, Load::Udp { rate: 20_000_000, payload: 1_200 }, 1, logs).unwrap();
        assert!(udp.packets > 1_000 && udp.lost * 100 < udp.packets, "{name}: {udp:?}");
    }
}

#[test]
fn two_guests_with_equal_ports_and_equal_icmp_identifiers_are_told_apart() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let server = outside(&fabric).enter(|| UdpSocket::bind(SocketAddr::new(SERVER, 7_000))).unwrap().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let clients = ["app-1", "app-2"].map(|name| {
        let socket = guest(&fabric, name).enter(|| UdpSocket::bind("0.0.0.0:4000")).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(name.as_bytes(), SocketAddr::new(SERVER, 7_000)).unwrap();
        (name, socket)
    });
    let mut peers = Vec::new();
    for _client in &clients {
        let mut buffer = [0; 16];
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(peer.ip(), ip(NAT));
        server.send_to(&buffer[..length], peer).unwrap();
        peers.push(peer);
    }
    assert_ne!(peers[0].port(), peers[1].port(), "one external port is one guest's");
    for (name, socket) in &clients {
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (name.as_bytes(), SocketAddr::new(SERVER, 7_000)));
    }
    // At once, with one identifier: each gets its own replies.
    std::thread::scope(|scope| {
        let pings = ["app-1", "app-2"].map(|name| {
            let netns = guest(&fabric, name);
            scope.spawn(move || netns.run(&format!("ping -n -e 77 -c 20 -i 0.05 -W 1 {SERVER}")))
        });
        for ping in pings {
            let text = ping.join().unwrap().unwrap();
            assert!(text.contains("20 received") && !text.contains("DUP"), "{text}");
        }
    });
}

#[test]
fn a_guests_socket_goes_on_by_what_its_nat_gateway_has_after_a_change() {
    let mut fabric = fabric(&TOPOLOGY).unwrap();
    let servers = [7_100, 7_101]
        .map(|port| outside(&fabric).enter(|| UdpSocket::bind(SocketAddr::new(SERVER, port))).unwrap().unwrap());
    let client = guest(&fabric, "app-1").enter(|| UdpSocket::bind("0.0.0.0:4100")).unwrap().unwrap();
    for socket in servers.iter().chain([&client]) {
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    // Whom a server sees who is asked and answers.
    let seen_by = |server: &UdpSocket| -> Result<SocketAddr> {
        let mut buffer = [0; 16];
        client.send_to(b"hello", server.local_addr()?)?;
        let (length, peer) = server.recv_from(&mut buffer)?;
        server.send_to(&buffer[..length], peer)?;
        client.recv(&mut buffer)?;
        Ok(peer)
    };
    // The socket has a mapping that no gateway takes any more.
    assert_eq!(seen_by(&servers[0]).unwrap().ip(), ip(NAT));
    let moved = TOPOLOGY.replace("name: eip-nat, address: 203.0.113.10", "name: eip-nat, address: 203.0.113.11");
    fabric.edit(&moved.replace("203.0.113.10:2222", "203.0.113.11:2222")).unwrap();
    let (before, _) = eventually(SOON, || {
        let peer = seen_by(&servers[0])?;
        ensure!(peer.ip() == ip("203.0.113.11"), "{peer}");
        Ok(peer)
    })
    .unwrap();
    // Of another slice that has the port too, it would choose another one.
    let narrow =
        moved.replace("203.0.113.10:2222", "203.0.113.11:2222").replace("ports_per_node: 2048", "ports_per_node: 2000");
    fabric.edit(&narrow).unwrap();
    eventually(SOON, || {
        let row = &vpcctl_json(fabric.node("hv1")?, "nat")?["slices"][0];
        let ports = row["last_port"].as_u64().zip(row["first_port"].as_u64()).map(|(last, first)| last - first + 1);
        ensure!(ports == Some(2_000), "{row:#}");
        Ok(())
    })
    .unwrap();
    assert_eq!(seen_by(&servers[1]).unwrap(), before, "the mapping is the same for a new peer");
    assert_eq!(seen_by(&servers[0]).unwrap(), before);
}

/// As FTP does: the control connection says nothing while data connections come and go.
#[test]
fn an_idle_connection_through_nat_lives_as_long_as_the_vpc_says() {
    let fabric = fabric(&TOPOLOGY.replace(
        "{name: red, vni: 5001, cidr_blocks: [10.0.0.0/16]}",
        "{name: red, vni: 5001, cidr_blocks: [10.0.0.0/16], session_timeouts: {tcp_established: 15s}}",
    ))
    .unwrap();
    let (client, server) = (guest(&fabric, "app-1"), outside(&fabric));
    let (control, data) = (SocketAddr::new(SERVER, 21), SocketAddr::new(SERVER, 2_020));
    let listener = server.enter(|| TcpListener::bind(control)).unwrap().unwrap();
    let mut near = client.enter(|| TcpStream::connect_timeout(&control, PATIENCE)).unwrap().unwrap();
    let (mut far, first) = listener.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut heard = [0; 4];
    for _round in 0..2 {
        let idle = std::time::Instant::now();
        // Longer than the sweeper rests.
        while idle.elapsed() < Duration::from_secs(8) {
            assert_eq!(seen_by_server(client, server, data, data).unwrap(), ip(NAT));
            // Each takes an external port of the slice for two minutes.
            std::thread::sleep(Duration::from_millis(200));
        }
        near.write_all(b"noop").unwrap();
        far.read_exact(&mut heard).unwrap();
        far.write_all(b"okay").unwrap();
        near.read_exact(&mut heard).unwrap();
    }
    assert_eq!(far.peer_addr().unwrap(), first, "one mapping all the time");
    std::thread::sleep(Duration::from_secs(20));
    far.write_all(b"late").unwrap();
    let late = near.read_exact(&mut heard);
    assert!(late.is_err(), "what is longer idle than its VPC allows is forgotten: {heard:?}");
}

#[test]
fn mappings_and_what_is_used_of_a_slice_are_listed() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let (server, to) = (outside(&fabric), SocketAddr::new(SERVER, 7_000));
    let server = server.enter(|| UdpSocket::bind(to)).unwrap().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let seen = ["app-1", "app-2"].map(|name| {
        let client = guest(&fabric, name).enter(|| UdpSocket::bind("0.0.0.0:4000")).unwrap().unwrap();
        client.send_to(b"hello", to).unwrap();
        server.recv_from(&mut [0; 16]).unwrap().1
    });
    let to = SocketAddr::new(SERVER, 8_080);
    seen_by_server(guest(&fabric, "app-1"), outside(&fabric), to, to).unwrap();
    let node = fabric.node("hv1").unwrap();
    let nat = |arguments: &str| vpcctl_json(node, &format!("nat {arguments}")).unwrap();

    let all = nat("");
    let mappings = all["mappings"].as_array().unwrap();
    assert_eq!(mappings.len(), 3, "{all:#}");
    for (name, private, seen) in [("app-1", "10.0.2.10:4000", seen[0]), ("app-2", "10.0.2.11:4000", seen[1])] {
        let of_one = nat(&format!("--port {name}"));
        let row = of_one["mappings"].as_array().unwrap().iter().find(|row| row["protocol"] == "udp").unwrap();
        assert_eq!((&row["internal"], &row["external"]), (&private.into(), &seen.to_string().into()), "{of_one:#}");
        assert_eq!((&row["nat_gateway"], &row["vpc"]), (&"ngw".into(), &"red".into()));
        assert_eq!((&row["sessions"], row["expires_in_seconds"].is_null()), (&1.into(), true), "{of_one:#}");
        let by_address = nat(&format!("--vpc red --address {}", &private[..private.len() - 5]));
        assert_eq!(by_address["mappings"], of_one["mappings"]);
    }
    assert_eq!(nat(&format!("--address {NAT}"))["mappings"], all["mappings"]);
    assert_eq!(nat("--address 198.51.100.77")["mappings"], serde_json::json!([]));
    assert_eq!(nat("--limit 1")["mappings"].as_array().unwrap().len(), 1);
    for what in ["nat", "sessions"] {
        let told = |limit| {
            let output = vpcctl_output(node, &format!("{what} --limit {limit}")).unwrap();
            String::from_utf8(output.stderr).unwrap()
        };
        assert!(told(1).contains("the first 1") && told(1).contains("--limit 0"), "{what}: {}", told(1));
        assert_eq!(told(0) + &told(1_000), "", "{what}");
    }

    let slice = |protocol: &str| {
        let rows = all["slices"].as_array().unwrap();
        let row = rows.iter().find(|row| row["protocol"] == protocol).unwrap().clone();
        let number = |field: &str| row[field].as_u64().unwrap();
        assert_eq!((&row["address"], number("last_port") - number("first_port")), (&NAT.into(), 2_047), "{row:#}");
        (number("used"), number("forwarded"), number("available"))
    };
    assert_eq!(slice("udp"), (2, 0, 2_046));
    assert_eq!(slice("tcp"), (1, 1, 2_046), "the port forward's port is never given out");
    assert_eq!(slice("icmp"), (0, 0, 2_048));

    let flushed = vpcctl(node, "sessions flush --port app-2").unwrap();
    assert_eq!(flushed.trim(), "1 sessions removed");
    let row = &nat("--port app-2")["mappings"][0];
    assert_eq!(row["sessions"], 0);
    assert!((100..=121).contains(&row["expires_in_seconds"].as_u64().unwrap()), "{row:#}");
    let text = vpcctl(node, "nat").unwrap();
    assert!(text.contains("app-1") && text.contains("in use") && text.contains("AVAILABLE"), "{text}");
    let refused = vpcctl_output(node, "nat --port nobody").unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no port nobody on this node"));
}

#[test]
fn an_elastic_ip_is_reached_from_outside_where_its_group_allows_it() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let (out, web) = (outside(&fabric), guest(&fabric, "web-1"));
    let at = |port| SocketAddr::new(ip(WEB), port);
    let bind = |port| SocketAddr::new(ip("10.0.1.10"), port);
    let seen = seen_by_server(out, web, bind(80), at(80)).with_context(|| drops(&fabric)).unwrap();
    assert_eq!(seen, SERVER);
    assert!(seen_by_server(out, web, bind(81), at(81)).is_err(), "no group allows port 81");
    // The port itself leaves with its elastic IP.
    let to = SocketAddr::new(SERVER, 8_080);
    assert_eq!(seen_by_server(web, out, to, to).unwrap(), ip(WEB));
}

#[test]
fn a_forwarded_port_keeps_the_address_of_the_client() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let (out, db) = (outside(&fabric), guest(&fabric, "db-1"));
    let seen = seen_by_server(out, db, "10.0.2.5:22".parse().unwrap(), SocketAddr::new(ip(NAT), 2_222));
    assert_eq!(seen.with_context(|| drops(&fabric)).unwrap(), SERVER);
}

#[test]
fn external_addresses_are_reached_from_inside_by_themselves() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let web = guest(&fabric, "web-1");
    let (bind, to) = ("10.0.1.10:80".parse().unwrap(), SocketAddr::new(ip(WEB), 80));
    // On the same node, from another node, and from the port itself.
    for (name, expected) in [("app-1", NAT), ("app-3", NAT), ("web-1", WEB)] {
        let seen = seen_by_server(guest(&fabric, name), web, bind, to);
        assert_eq!(seen.with_context(|| format!("{name}{}", drops(&fabric))).unwrap(), ip(expected), "{name}");
    }
}

#[test]
fn traceroute_and_path_mtu_discovery_work_through_nat() {
    let fabric = fabric(&TOPOLOGY).unwrap();
    let out = outside(&fabric);
    let far = ip("198.18.0.9");
    // Nobody is there, but the router outside would send it on.
    out.ip("route replace 198.18.0.0/24 via 203.0.113.99 dev br0").unwrap();
    for (name, router) in [("app-1", "10.0.2.1"), ("web-1", "10.0.1.1")] {
        let hops = fabric.guest(name).unwrap().traceroute(far).unwrap();
        assert_eq!(hops.first(), Some(&Some(ip(router))), "{hops:?}");
        let beyond = hops.get(1).copied().flatten();
        assert!([ip("203.0.113.1"), SERVER].map(Some).contains(&beyond), "{name}: {hops:?}{}", drops(&fabric));
    }
    let sized = |payload| PingOptions { payload, fragmentation: Fragmentation::Forbidden, ..PingOptions::default() };
    // A narrow link outside: its router tells. 28 bytes are of the headers.
    out.ip("route replace 198.18.0.0/24 via 203.0.113.99 dev br0 mtu lock 1300").unwrap();
    for name in ["app-1", "web-1"] {
        let guest = fabric.guest(name).unwrap();
        assert_eq!(guest.ping(far, sized(1_273)).unwrap().received, 0);
        assert_eq!(learnt_mtu(guest, far).unwrap(), Some(1_300), "{name}{}", drops(&fabric));
    }
    // The gateway's own link: the gateway tells.
    fabric.node("hv2").unwrap().netns().ip("link set eth2 mtu 1350").unwrap();
    for name in ["app-1", "web-1", "app-3"] {
        let guest = fabric.guest(name).unwrap();
        eventually(SOON, || {
            guest.netns().ip("route flush cache")?;
            guest.ping(SERVER, sized(1_323))?;
            let learnt = learnt_mtu(guest, SERVER)?;
            ensure!(learnt == Some(1_350), "{name}: learnt {learnt:?}{}", drops(&fabric));
            Ok(())
        })
        .unwrap();
        all_answered(guest.ping(SERVER, sized(1_322)).unwrap()).unwrap();
    }
}

#[test]
fn a_nat_gateway_lets_out_what_is_on_its_list() {
    let allow = |rules: &str| {
        TOPOLOGY.replace("{name: ngw, vpc: red,", &format!("{{name: ngw, vpc: red, egress_allow: [{rules}],"))
    };
    let web = "{protocol: tcp, ports: [8080], cidr_blocks: [198.51.100.0/24]}";
    let mut fabric = fabric(&allow(web)).unwrap();
    let to = |port| SocketAddr::new(SERVER, port);
    let _servers = [8_080, 8_081].map(|port| EchoServer::start(outside(&fabric), port).unwrap());
    let talk = Conversation::start(guest(&fabric, "app-1"), to(8_080)).with_context(|| drops(&fabric)).unwrap();
    assert!(connect(guest(&fabric, "app-1"), to(8_081), Duration::from_millis(500)).is_err(), "not on the list");
    let text = vpcctl(fabric.node("hv1").unwrap(), "drops").unwrap();
    assert!(text.contains("egress_allow"), "{text}");
    // The other way round it needs no rule.
    let seen = seen_by_server(
        outside(&fabric),
        guest(&fabric, "db-1"),
        "10.0.2.5:22".parse().unwrap(),
        SocketAddr::new(ip(NAT), 2_222),
    );
    assert_eq!(seen.with_context(|| drops(&fabric)).unwrap(), SERVER);
    // Another list reaches the live flow.
    fabric.edit(&allow("{protocol: tcp, ports: [8081], cidr_blocks: [198.51.100.9/32]}")).unwrap();
    talk.wait_silent(Duration::from_millis(400), SOON).unwrap();
    eventually(SOON, || connect(guest(&fabric, "app-1"), to(8_081), Duration::from_millis(500)).map(drop)).unwrap();
    fabric.edit(&allow(web)).unwrap();
    talk.wait_answer(SOON).unwrap();
}
