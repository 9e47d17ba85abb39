//! Datagrams larger than any packet: their fragments follow the first one, and do not come before it.

use crate::stateful::dropped;
use anyhow::{Context, Result};
use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};
use vpc_lab::{
    Guest,
    frames::{FrameSender, Mac, datagram, ethernet, fragments},
};
use vpc_netns_tests::{TOPOLOGY, addresses, fabric};

const BYTES: usize = 8_000;
const PORT: u16 = 7_000;
const PATIENCE: Duration = Duration::from_secs(2);
/// What has not come by then will not.
const NEVER: Duration = Duration::from_millis(300);
/// Payload of the fragments that are sent by hand.
const CHUNK: usize = 1_400;
const TTL: u8 = 64;
const IPV4: u16 = 0x0800;
const ROUTER: Mac = [0x02, 0x76, 0x70, 0x63, 0, 1];
const A1: (Mac, Ipv4Addr) = ([2, 0, 0, 0, 1, 0x10], Ipv4Addr::new(10, 0, 1, 10));
/// In a1's subnet and in another one, both on the other node.
const PEERS: [(&str, Mac); 2] = [("a2", [2, 0, 0, 0, 1, 0x11]), ("b1", ROUTER)];

fn payload() -> Vec<u8> {
    (0..BYTES).map(|at| (at / 7) as u8).collect()
}

fn bind(guest: &Guest, address: IpAddr, port: u16) -> UdpSocket {
    guest.netns().enter(|| UdpSocket::bind((address, port))).expect("inside").expect("a socket")
}

fn receive(socket: &UdpSocket, patience: Duration) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(patience))?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).context("nothing came")?;
    buffer.truncate(length);
    Ok(buffer)
}

#[test]
fn datagrams_of_8_kb_arrive_whole_near_and_far() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    for to in ["a2", "b1", "a3", "b2"] {
        let guest = fabric.guest(to).unwrap();
        for (source, address) in addresses(a1).iter().zip(addresses(guest)) {
            let (client, server) = (bind(a1, *source, 0), bind(guest, *address, PORT));
            for _ in 0..20 {
                client.send_to(&payload(), (*address, PORT)).unwrap();
                assert!(receive(&server, PATIENCE).unwrap() == payload(), "{source} to {address}");
                // And back: replies are cut as well.
                server.send_to(&payload(), client.local_addr().unwrap()).unwrap();
                assert!(receive(&client, PATIENCE).unwrap() == payload(), "{address} to {source}");
            }
        }
    }
    for (node, port) in [("hv1", "a1"), ("hv2", "a2"), ("hv2", "b1"), ("hv1", "a3"), ("hv1", "b2")] {
        assert_eq!(dropped(&fabric, node, port, "early_fragment"), 0, "{port}");
    }
}

#[test]
fn fragments_may_come_in_any_order_after_the_first_one() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    let sender = FrameSender::new(a1.netns(), "eth0").unwrap();
    for (number, (to, mac)) in PEERS.iter().enumerate() {
        let guest = fabric.guest(to).unwrap();
        let IpAddr::V4(address) = guest.ipv4().unwrap() else { panic!("IPv4") };
        let server = bind(guest, address.into(), PORT);
        let packet = datagram((A1.1, 5_000), (address, PORT), TTL, &payload());
        let cut = |identification| -> Vec<Vec<u8>> {
            let frame = |part: &Vec<u8>| ethernet(A1.0, *mac, IPV4, part);
            fragments(&packet, identification, CHUNK).iter().map(frame).collect()
        };
        let early = || dropped(&fabric, "hv1", "a1", "early_fragment");
        let before = early();

        // The first one, then the others from the end.
        let parts = cut(1 + number as u16 * 2);
        assert_eq!(parts.len(), 6);
        sender.send(&parts[0], 1).unwrap();
        parts[1..].iter().rev().for_each(|part| sender.send(part, 1).unwrap());
        assert!(receive(&server, PATIENCE).unwrap() == payload(), "to {to}");
        assert_eq!(early(), before);

        // Two come before the first one: they are dropped and counted, the others delivered.
        let parts = cut(2 + number as u16 * 2);
        for index in [2, 4, 0, 5, 3, 1] {
            sender.send(&parts[index], 1).unwrap();
        }
        assert!(receive(&server, NEVER).is_err(), "whole without two of its fragments");
        assert_eq!(early(), before + 2);
        // Sent again after the first one, they complete what was delivered.
        for index in [4, 2] {
            sender.send(&parts[index], 1).unwrap();
        }
        assert!(receive(&server, PATIENCE).unwrap() == payload(), "to {to}");
        assert_eq!(early(), before + 2);
        assert_eq!(dropped(&fabric, "hv2", to, "early_fragment"), 0);
    }
}
