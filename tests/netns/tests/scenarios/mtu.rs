//! Packets larger than the tunnel, and tunnels larger than usual.

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    sys::socket::{setsockopt, sockopt},
    unistd::Pid,
};
use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};
use vpc_lab::{
    Fabric, Guest, UnderlayOptions,
    agent::vpcctl_json,
    iperf::Load,
    ping::{Fragmentation, PingOptions},
    wait::eventually,
};
use vpc_netns_tests::{TOPOLOGY, addresses, all_answered, drops, fabric, fabric_with, learnt_mtu};

/// Bytes of the IP and ICMP headers in front of a ping's payload.
fn headers(address: IpAddr) -> u32 {
    if address.is_ipv4() { 28 } else { 48 }
}

/// Pings whose packets are of that size.
pub fn sized(address: IpAddr, mtu: u32, fragmentation: Fragmentation) -> PingOptions {
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

/// Has a guest send without DF, as `IP_PMTUDISC_DONT` does.
///
/// # Errors
/// The kernel refuses.
pub fn without_df(guest: &Guest) -> Result<()> {
    guest.netns().sysctl(&[("net/ipv4/ip_no_pmtu_disc", "1")])
}

/// A counter of a guest's kernel.
///
/// # Errors
/// There is none of that name.
pub fn counter(guest: &Guest, group: &str, name: &str) -> Result<u64> {
    let text = guest.netns().run("cat /proc/net/snmp")?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (rows.next().context("no names")?, rows.next().context("no values")?);
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, value) = columns.find(|(other, _)| *other == name).context("no such counter")?;
    Ok(value.parse()?)
}

/// How often a guest was told that something did not reach its destination.
fn complaints(guest: &Guest) -> Result<u64> {
    counter(guest, "Icmp", "InDestUnreachs")
}

/// Keeps this thread on its CPU: what two CPUs send has no order.
fn stay_here() -> Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &here)?)
}

/// Frames that a port's session with an address counts as sent and as received.
fn session(fabric: &Fabric, port: &str, remote: IpAddr) -> Result<(u64, u64)> {
    let sessions = vpcctl_json(fabric.node("hv1")?, "sessions")?;
    let rows = sessions.as_array().context("no list")?;
    let is_it = |row: &&serde_json::Value| {
        row["port"] == port && row["remote"].as_str().is_some_and(|text| text.starts_with(&remote.to_string()))
    };
    let row = rows.iter().find(is_it).with_context(|| format!("none of {port} with {remote} in {sessions}"))?;
    let number = |name: &str| row[name].as_u64().with_context(|| format!("no {name} in {row}"));
    Ok((number("sent_packets")?, number("received_packets")?))
}

/// A datagram of that size that is like no other.
fn datagram(number: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 7) as u8 ^ number).collect()
}

/// Has a guest send datagrams of that size without DF, 40 each one by one and four in one frame of half the size each, and
/// sees them arrive whole and in order, without a word to who sent them.
///
/// # Errors
/// One did not, or the kernel refuses something.
pub fn arrive_whole(fabric: &Fabric, from: &str, to: &str, size: usize) -> Result<()> {
    let (sender, receiver) = (fabric.guest(from)?, fabric.guest(to)?);
    without_df(sender)?;
    stay_here()?;
    let before = complaints(sender)?;
    let address = receiver.ipv4()?;
    let listening = receiver.netns().enter(|| UdpSocket::bind((address, 7_000)))??;
    setsockopt(&listening, sockopt::RcvBufForce, &(1 << 20))?;
    listening.set_read_timeout(Some(Duration::from_secs(2)))?;
    let socket = sender.netns().enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    for number in 0..40 {
        socket.send_to(&datagram(number, size), (address, 7_000))?;
    }
    let mut buffer = [0; 9_000];
    for number in 0..40 {
        let received = listening.recv(&mut buffer);
        let length = received.with_context(|| format!("{from} → {to}, datagram {number}{}", drops(fabric)))?;
        ensure!(
            buffer[..length] == datagram(number, size),
            "{from} → {to}: not datagram {number}: {} of {length} bytes",
            buffer[0]
        );
    }
    // Several in one frame, which the kernel cuts into datagrams.
    let segment = size / 2;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(segment)?)?;
    let frame = datagram(99, 4 * segment);
    socket.send_to(&frame, (address, 7_000))?;
    for part in frame.chunks(segment) {
        let length = listening.recv(&mut buffer).with_context(|| format!("segments{}", drops(fabric)))?;
        ensure!(&buffer[..length] == part, "{from} → {to}: a segment has {length} bytes");
    }
    ensure!(learnt_mtu(sender, address)?.is_none(), "{from} was told of an MTU");
    ensure!(complaints(sender)? == before, "{from} was told that something did not arrive");
    Ok(())
}

#[test]
fn without_df_datagrams_whose_checksum_is_left_to_the_interface_arrive_whole_and_in_order() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    a1.set_mtu(9_000).unwrap();
    // To another node, through the router, and to a port of the same node, whose own MTU is smaller.
    for to in ["b1", "a3"] {
        arrive_whole(&fabric, "a1", to, 4_000).unwrap();
        // Counted once each, when they came out of the offload device; those in one frame one by one.
        let to = fabric.guest(to).unwrap().ipv4().unwrap();
        assert_eq!(session(&fabric, "a1", to).unwrap(), (44, 0));
    }
    assert_eq!(session(&fabric, "a3", a1.ipv4().unwrap()).unwrap(), (0, 44));
    let counters = vpcctl_json(fabric.node("hv1").unwrap(), "get counters").unwrap();
    for row in counters.as_array().unwrap() {
        let number = |name: &str| row[name].as_u64().unwrap();
        let ends = number("forwarded") + number("dropped") + number("answered") + number("punted");
        assert_eq!(number("received"), ends, "{row}");
    }
}

#[test]
fn tcp_without_df_has_no_black_hole() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let a1 = fabric.guest("a1").unwrap();
    for name in ["a1", "b1", "a3"] {
        let guest = fabric.guest(name).unwrap();
        guest.set_mtu(1_500).unwrap();
        without_df(guest).unwrap();
    }
    for name in ["b1", "a3"] {
        let guest = fabric.guest(name).unwrap();
        let tcp = a1.iperf(guest, guest.ipv4().unwrap(), Load::Tcp { streams: 1 }, 1).unwrap();
        assert!(tcp.gigabits() > 0.2, "{name}: {tcp:?}{}", drops(&fabric));
    }
    // Where the guest left it to its interface to cut segments, they were made to fit.
    let b1 = fabric.guest("b1").unwrap();
    let (all, fragments) = (counter(b1, "Ip", "InReceives").unwrap(), counter(b1, "Ip", "ReasmReqds").unwrap());
    assert!(fragments < all / 4, "{fragments} of {all} are fragments");
    assert_eq!(complaints(a1).unwrap(), 0);
    assert_eq!(learnt_mtu(a1, b1.ipv4().unwrap()).unwrap(), None);
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
