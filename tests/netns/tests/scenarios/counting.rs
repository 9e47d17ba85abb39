//! Every frame is counted once, by port and by node: what `vpcctl` shows is what was sent.

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    thread::sleep,
    time::Duration,
};
use vpc_lab::{
    Fabric, Guest,
    agent::vpcctl_json,
    frames::{FrameSender, Mac, arp_request, echo_request, ethernet, ipv4, syn, udp, vxlan},
    wait::eventually,
};
use vpc_netns_tests::{SOON, TOPOLOGY, fabric};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
/// For local experiments (IEEE 802).
const NEITHER_IP_NOR_ARP: u16 = 0x88b5;
const BROADCAST: Mac = [0xff; 6];
const ROUTER: Mac = [0x02, 0x76, 0x70, 0x63, 0, 1];
const A1: Mac = [2, 0, 0, 0, 1, 0x10];
const A2: Mac = [2, 0, 0, 0, 1, 0x11];
const A3: Mac = [2, 0, 0, 0, 1, 0x12];

/// The first subnet has a route that swallows.
pub fn topology() -> String {
    TOPOLOGY.replace("{name: red-a, vpc: red,", "{name: red-a, vpc: red, route_table: holes,")
        + "route_tables:\n  - {name: holes, vpc: red, routes: [{destination: 198.51.100.0/24, blackhole: true}]}\n"
}

/// Frames of a port in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    received: u64,
    forwarded: u64,
    dropped: u64,
    answered: u64,
    punted: u64,
}

impl Count {
    fn forwarded(count: u64) -> Self {
        Self { received: count, forwarded: count, ..Self::default() }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            received: self.received - other.received,
            forwarded: self.forwarded - other.forwarded,
            dropped: self.dropped - other.dropped,
            answered: self.answered - other.answered,
            punted: self.punted - other.punted,
        }
    }
}

type Key = (String, String);

/// What a node says: frames by port and direction, drops by port and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    ports: BTreeMap<Key, Count>,
    drops: BTreeMap<Key, u64>,
}

impl Counts {
    fn of(fabric: &Fabric, node: &str) -> Result<Self> {
        let rows = |what: &str| -> Result<Vec<serde_json::Value>> {
            vpcctl_json(fabric.node(node)?, what)?.as_array().cloned().context("a list")
        };
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let mut counts = Self::default();
        for row in rows("get counters")? {
            let number = |field: &str| row[field].as_u64().with_context(|| format!("{field} in {row}"));
            let count = Count {
                received: number("received")?,
                forwarded: number("forwarded")?,
                dropped: number("dropped")?,
                answered: number("answered")?,
                punted: number("punted")?,
            };
            counts.ports.insert((text(&row, "port"), text(&row, "direction")), count);
        }
        for row in rows("drops")? {
            counts
                .drops
                .insert((text(&row, "port"), text(&row, "reason")), row["packets"].as_u64().unwrap_or_default());
        }
        Ok(counts)
    }

    fn since(&self, before: &Self) -> Self {
        let ports = self
            .ports
            .iter()
            .map(|(key, count)| (key.clone(), count.minus(before.ports.get(key).copied().unwrap_or_default())));
        let drops = self
            .drops
            .iter()
            .map(|(key, count)| (key.clone(), count - before.drops.get(key).copied().unwrap_or_default()));
        Self {
            ports: ports.filter(|(_, count)| *count != Count::default()).collect(),
            drops: drops.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn port(&self, name: &str, direction: &str) -> Count {
        self.ports.get(&(name.to_owned(), direction.to_owned())).copied().unwrap_or_default()
    }

    fn drops_of(&self, name: &str) -> BTreeMap<&str, u64> {
        self.drops.iter().filter(|((port, _), _)| port == name).map(|((_, reason), n)| (reason.as_str(), *n)).collect()
    }

    /// received = forwarded + dropped + answered + punted everywhere, and drops by reason are all drops.
    fn add_up(&self) -> Result<()> {
        for (key, count) in &self.ports {
            let ended = count.forwarded + count.dropped + count.answered + count.punted;
            ensure!(count.received == ended, "{key:?}: {count:?}");
        }
        let mut names: Vec<&str> = self.ports.keys().map(|(port, _)| port.as_str()).collect();
        names.dedup();
        for name in names {
            let dropped = self.port(name, "egress").dropped + self.port(name, "ingress").dropped;
            let by_reason: u64 = self.drops_of(name).values().sum();
            ensure!(dropped == by_reason, "{name}: {dropped} dropped, {by_reason} by reason");
        }
        Ok(())
    }
}

/// Guests say nothing of themselves any more.
fn silence(guest: &Guest) {
    guest.netns().sysctl(&[("net/ipv6/conf/eth0/disable_ipv6", "1")]).expect("IPv6 off");
    guest.netns().ip("addr flush dev eth0").expect("no addresses");
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// What both nodes say once nothing moves any more but the underlay's own traffic.
fn settled(fabric: &Fabric) -> [Counts; 2] {
    let look = || ["hv1", "hv2"].map(|node| Counts::of(fabric, node).expect("counters"));
    let moved = |counts: &[Counts; 2]| {
        counts.clone().map(|mut node| {
            node.ports.retain(|(port, _), _| port != "-");
            node
        })
    };
    let (counts, _) = eventually(SOON, || {
        let before = look();
        sleep(Duration::from_millis(200));
        let after = look();
        ensure!(moved(&before) == moved(&after), "frames still move");
        after.iter().try_for_each(Counts::add_up)?;
        Ok(after)
    })
    .expect("the guests are silent");
    counts
}

#[test]
fn received_is_forwarded_and_dropped_and_answered_and_punted_by_port_and_by_node() {
    let fabric = fabric(&topology()).unwrap();
    fabric.guests().for_each(silence);
    let before = settled(&fabric);

    let (a1, a2, a3, b1) = (v4("10.0.1.10"), v4("10.0.1.11"), v4("10.0.1.12"), v4("10.0.2.10"));
    let gateway = v4("10.0.1.1");
    let sender = FrameSender::new(fabric.guest("a1").unwrap().netns(), "eth0").unwrap();
    let ip = |destination, packet: &[u8]| ethernet(A1, destination, IPV4, packet);
    let datagram = |destination, ttl| udp((a1, 1_000), (destination, 2_000), ttl);
    let mut broken = datagram(a2, 64);
    broken[10] ^= 0xff;
    let forwarded = [
        (ip(A2, &datagram(a2, 64)), 7),
        (ip(A3, &datagram(a3, 64)), 5),
        (ip(ROUTER, &datagram(b1, 64)), 6),
        (ip(A2, &syn((a1, 1_001), (a2, 80))), 3),
        // To nobody that is known: flooded.
        (ethernet(A1, BROADCAST, ARP, &arp_request((A1, a1), v4("10.0.1.77"))), 2),
    ];
    let answered = [
        (ethernet(A1, BROADCAST, ARP, &arp_request((A1, a1), gateway)), 3),
        (ip(ROUTER, &echo_request(a1, gateway)), 4),
        (ip(ROUTER, &datagram(b1, 1)), 2),
        (ip(ROUTER, &datagram(v4("203.0.113.9"), 64)), 2),
    ];
    let dropped = [
        ("source_mac", ethernet(A3, A2, IPV4, &datagram(a2, 64)), 4),
        ("source_address", ip(A2, &udp((v4("10.0.1.99"), 1), (a2, 2), 64)), 3),
        ("arp_spoof", ethernet(A1, BROADCAST, ARP, &arp_request((A1, a3), gateway)), 2),
        ("ether_type", ethernet(A1, A2, NEITHER_IP_NOR_ARP, &[0; 46]), 5),
        ("ip_checksum", ip(A2, &broken), 2),
        ("vlan", ethernet(A1, A2, VLAN, &[0; 46]), 1),
        ("blackhole", ip(ROUTER, &datagram(v4("198.51.100.9"), 64)), 3),
        ("martian", ip(ROUTER, &datagram(v4("127.0.0.1"), 64)), 2),
        ("truncated", ip(A2, &ipv4(a1, a2, 64, 17, &[])[..19]), 2),
    ];
    for (frame, times) in forwarded.iter().chain(&answered) {
        sender.send(frame, *times).unwrap();
    }
    for (_, frame, times) in &dropped {
        sender.send(frame, *times).unwrap();
    }
    // What no guest sent: frames for the tunnel, from a node and from nobody.
    let tunnel = |netns: &vpc_lab::Netns, source: &str, payload: &[u8], times: usize| {
        let send = || {
            let socket = UdpSocket::bind((source, 0)).expect("a socket");
            (0..times).for_each(|_| assert!(socket.send_to(payload, "192.0.2.12:4789").is_ok()));
        };
        netns.enter(send).expect("in the namespace");
    };
    let inner = ip(A2, &udp((a1, 5), (a2, 6), 64));
    let hv1 = fabric.node("hv1").unwrap().netns();
    tunnel(hv1, "192.0.2.11", &vxlan(0, 5_001, &inner), 3);
    tunnel(hv1, "192.0.2.11", &vxlan(8, 9_999, &inner), 4);
    let (router, _) = fabric.underlay().far_end("hv2", "eth1").unwrap();
    tunnel(router, "0.0.0.0", &vxlan(8, 5_001, &inner), 5);

    let after = settled(&fabric);
    let [on_hv1, on_hv2] = [after[0].since(&before[0]), after[1].since(&before[1])];
    on_hv1.add_up().unwrap();
    on_hv2.add_up().unwrap();

    let times = |frames: &[(Vec<u8>, u64)]| frames.iter().map(|(_, times)| times).sum::<u64>();
    let drops: BTreeMap<&str, u64> = dropped.iter().map(|(reason, _, times)| (*reason, *times)).collect();
    let expected = Count {
        received: times(&forwarded) + times(&answered) + drops.values().sum::<u64>(),
        forwarded: times(&forwarded),
        dropped: drops.values().sum(),
        answered: times(&answered),
        punted: 0,
    };
    assert_eq!((on_hv1.port("a1", "egress"), on_hv1.drops_of("a1")), (expected, drops));
    assert_eq!(on_hv1.port("a3", "ingress"), Count::forwarded(5));
    let silent = |counts: &Counts, but: &[&str]| {
        counts.ports.keys().filter(|(port, _)| !but.contains(&port.as_str())).cloned().collect::<Vec<_>>()
    };
    assert_eq!(silent(&on_hv1, &["a1", "a3", "-"]), []);
    assert_eq!(silent(&on_hv2, &["a2", "b1", "-"]), []);

    assert_eq!(on_hv2.port("b1", "ingress"), Count::forwarded(6));
    let expected = Count { received: 15, forwarded: 10, dropped: 5, ..Count::default() };
    assert_eq!((on_hv2.port("a2", "ingress"), on_hv2.drops_of("a2")), (expected, [("unknown_vtep", 5)].into()));
    // TCP and the flooded go through the tunnel device, where the flooded are received again. The underlay's own
    // packets are handed to the host as well.
    let underlay = on_hv2.port("-", "ingress");
    assert_eq!(on_hv2.drops_of("-"), [("vxlan_flags", 3), ("unknown_vni", 4)].into());
    assert_eq!((underlay.forwarded, underlay.dropped, underlay.answered), (2, 7, 0));
    assert!(underlay.punted >= 5, "{underlay:?}");
}
