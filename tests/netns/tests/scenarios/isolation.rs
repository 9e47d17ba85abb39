//! What must not pass.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::{net::UdpSocket, thread::sleep, time::Duration};
use vpc_lab::{Fabric, agent::vpcctl_json, capture::Capture, command::any_output, ping::PingOptions, wait::eventually};
use vpc_netns_tests::{SOON, TOPOLOGY, addresses, all_answered, fabric, reaches};

fn listen(fabric: &Fabric, guest: &str, filter: &str) -> Capture {
    let guest = fabric.guest(guest).expect("a guest");
    Capture::incoming(guest.netns(), "eth0", filter, guest.logs()).expect("a capture")
}

#[test]
fn vpcs_with_the_same_addresses_do_not_hear_each_other() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let ears = ["a1", "a2", "a3", "b1", "b2"].map(|guest| listen(&fabric, guest, "icmp or icmp6 or arp"));
    reaches(&fabric, "x1", "x2").unwrap();
    let x1 = fabric.guest("x1").unwrap();
    for only_in_red in addresses(fabric.guest("a3").unwrap()).iter().chain(addresses(fabric.guest("b1").unwrap())) {
        let pings = x1.ping(*only_in_red, PingOptions { count: 2, ..PingOptions::default() }).unwrap();
        assert_eq!(pings.received, 0, "blue reached {only_in_red}");
    }
    for ear in ears {
        // Red's own guests are silent but for their kernels' neighbour discovery, which is not from blue's addresses.
        let heard = ear.stop().unwrap();
        let strange: Vec<_> = heard.iter().filter(|packet| packet.contains("02:00:00:00:03:")).collect();
        assert!(strange.is_empty(), "{strange:#?}");
        assert!(!heard.iter().any(|packet| packet.contains("echo request")), "{heard:#?}");
    }
}

#[test]
fn arp_is_answered_for_the_own_vpc_only() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let arping = |guest: &str, address: &str| {
        let mut command = fabric.guest(guest).unwrap().netns().command("arping");
        let output = any_output(command.args(["-c", "2", "-w", "2", "-I", "eth0", address])).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).to_lowercase())
    };
    let (answered, text) = arping("a1", "10.0.1.11");
    assert!(answered && text.contains("02:00:00:00:01:11"), "{text}");
    let (answered, text) = arping("x1", "10.0.1.11");
    assert!(answered && text.contains("02:00:00:00:03:11"), "{text}");
    let (answered, text) = arping("x1", "10.0.1.12");
    assert!(!answered, "blue has no 10.0.1.12: {text}");
}

#[test]
fn a_guest_cannot_send_with_addresses_that_are_not_its_own() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    let ear = listen(&fabric, "a2", "icmp");
    a1.netns().ip("addr add 10.0.1.99/24 dev eth0").unwrap();
    let mut command = a1.netns().command("ping");
    let spoofed = any_output(command.args(["-n", "-c", "2", "-i", "0.1", "-W", "1", "-I", "10.0.1.99", "10.0.1.11"]));
    assert!(!spoofed.unwrap().status.success());
    let heard = ear.stop().unwrap();
    assert!(heard.is_empty(), "{heard:#?}");

    let ear = listen(&fabric, "a2", "icmp");
    a1.netns().ip("link set eth0 address 02:00:00:00:01:77").unwrap();
    a1.netns().ip("neigh replace 10.0.1.11 lladdr 02:00:00:00:01:11 dev eth0").unwrap();
    let pings = a1.ping("10.0.1.11".parse().unwrap(), PingOptions::default()).unwrap();
    assert_eq!(pings.received, 0);
    assert!(ear.stop().unwrap().is_empty());
    a1.netns().ip("link set eth0 address 02:00:00:00:01:10").unwrap();
    all_answered(a1.ping("10.0.1.11".parse().unwrap(), PingOptions::default()).unwrap()).unwrap();
}

/// A VXLAN header for blue's VNI and an ICMP echo request of x1 to x2 in it.
fn forged_tunnel_payload() -> Vec<u8> {
    let mut packet = vec![0x08, 0, 0, 0, 0x00, 0x13, 0x8a, 0];
    packet.extend([0x02, 0, 0, 0, 0x03, 0x11, 0x02, 0, 0, 0, 0x03, 0x10, 0x08, 0x00]);
    let mut ip = [0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 0, 1, 10, 10, 0, 1, 11];
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("two folds leave 16 bits");
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(ip);
    packet.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    packet
}

#[test]
fn what_a_guest_sends_to_the_tunnel_port_is_never_decapsulated() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    let blue = ["x1", "x2"].map(|guest| listen(&fabric, guest, "icmp"));
    let receiver = listen(&fabric, "a2", "udp port 4789");
    let (router, link) = fabric.underlay().far_end("hv1", "eth1").unwrap();
    let wire = Capture::incoming(router, link, "ip and not src host 192.0.2.11", fabric.directory()).unwrap();

    let payload = forged_tunnel_payload();
    // The other node, the own node, a guest, the gateway.
    let targets = ["192.0.2.12", "192.0.2.11", "10.0.1.11", "10.0.1.1"];
    a1.netns()
        .enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for port in [4789, 8472] {
                for target in targets {
                    for _ in 0..5 {
                        let _refused = socket.send_to(&payload, (target, port));
                    }
                }
            }
        })
        .unwrap();
    sleep(Duration::from_millis(300));
    for ear in blue {
        assert_eq!(ear.stop().unwrap(), Vec::<String>::new(), "decapsulated");
    }
    assert_eq!(wire.stop().unwrap(), Vec::<String>::new(), "left the node by itself");
    // To a guest it is a datagram like any other.
    assert_eq!(receiver.stop().unwrap().len(), 5);
}

/// Groups of both VPCs: one whose flows outlive their rules, one that lets nothing pass, one that lets all pass.
const GROUPS: &str = "\
security_groups:
  - {name: lasting, vpc: red, established_flows: keep, ingress: [{protocol: all, cidr_blocks: [0.0.0.0/0]}], \
     egress: [{protocol: all, cidr_blocks: [0.0.0.0/0]}]}
  - {name: closed, vpc: blue, ingress: [], egress: []}
  - {name: open, vpc: blue, ingress: [{protocol: all, cidr_blocks: [0.0.0.0/0]}]}
ports:
";

/// A UDP socket of a guest.
fn socket(fabric: &Fabric, guest: &str, port: u16) -> Result<UdpSocket> {
    let guest = fabric.guest(guest)?;
    let socket = guest.netns().enter(|| UdpSocket::bind(("0.0.0.0", port)))??;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    Ok(socket)
}

/// The slot of a port of the first node; an error as long as the node has none for it.
fn slot(fabric: &Fabric, port: &str) -> Result<Value> {
    let ports = vpcctl_json(fabric.node("hv1")?, "get ports")?;
    let found = ports.as_array().and_then(|rows| rows.iter().find(|row| row["name"] == port));
    ensure!(found.is_some(), "no port {port} in {ports}");
    Ok(found.map(|row| row["slot"].clone()).unwrap_or_default())
}

/// Another VPC, the same addresses and ports, and a session that would let it pass.
#[test]
fn a_slots_next_port_has_no_flow_of_the_one_before() {
    let in_group = |text: &str, port: &str, group: &str| {
        let (before, rest) = text.split_once(&format!("{{name: {port},")).expect("a port");
        let (line, behind) = rest.split_once("]}\n").expect("its addresses");
        format!("{before}{{name: {port},{line}], security_groups: [{group}]}}\n{behind}")
    };
    let without = |text: &str, port: &str| {
        let other = |line: &&str| !line.contains(&format!("{{name: {port},"));
        text.lines().filter(other).map(|line| format!("{line}\n")).collect::<String>()
    };
    let all = [("a1", "lasting"), ("a2", "lasting"), ("x1", "closed"), ("x2", "open")];
    let all = all.iter().fold(TOPOLOGY.replace("ports:\n", GROUPS), |text, (port, group)| in_group(&text, port, group));
    let (red, blue) = (without(&all, "x1"), without(&all, "a1"));
    let fabric = fabric(&all).unwrap();
    fabric.write_topology(&red).unwrap();
    let gone = || {
        ensure!(slot(&fabric, "x1").is_err(), "x1 is still there");
        Ok(())
    };
    eventually(SOON, gone).unwrap();

    let [a1, x1] = ["a1", "x1"].map(|guest| socket(&fabric, guest, 5_000).unwrap());
    let [a2, x2] = ["a2", "x2"].map(|guest| socket(&fabric, guest, 6_000).unwrap());
    let mut buffer = [0; 16];
    a1.send_to(b"red", "10.0.1.11:6000").unwrap();
    let (_, from) = a2.recv_from(&mut buffer).unwrap();
    a2.send_to(b"red", from).unwrap();
    a1.recv_from(&mut buffer).unwrap();

    let vacated = slot(&fabric, "a1").unwrap();
    fabric.write_topology(&blue).unwrap();
    let (taken, _) = eventually(SOON, || slot(&fabric, "x1")).unwrap();
    assert_eq!(taken, vacated, "the slot of a1 has another port now");
    x1.send_to(b"blue", "10.0.1.11:6000").unwrap();
    x2.send_to(b"blue", "10.0.1.10:5000").unwrap();
    for (ear, name) in [(&x2, "x2"), (&x1, "x1"), (&a2, "a2"), (&a1, "a1")] {
        assert!(ear.recv_from(&mut buffer).is_err(), "{name} heard {:?}", &buffer[..4]);
    }
}
