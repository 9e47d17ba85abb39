//! What must not pass.

use std::{net::UdpSocket, thread::sleep, time::Duration};
use vpc_lab::{Fabric, capture::Capture, command::any_output, ping::PingOptions};
use vpc_netns_tests::{TOPOLOGY, addresses, all_answered, fabric, reaches};

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
