//! A guest behind a tap device: it leaves checksums and segments to its interface by virtio-net headers, as a virtual
//! machine does.

use super::mtu::{arrive_whole, sized, without_df};
use anyhow::{Context, Result};
use vpc_lab::{Fabric, TapWire, agent::vpcctl_json, iperf::Load, ping::Fragmentation};
use vpc_netns_tests::{TOPOLOGY, addresses, all_answered, drops, fabric, learnt_mtu, reaches, soon_reaches};

/// The usual fabric with a1 behind a tap, with that MTU.
fn with_tap(mtu: u32) -> Result<(Fabric, TapWire)> {
    let fabric = fabric(TOPOLOGY)?;
    let wire = fabric.put_behind_tap("a1", mtu)?;
    soon_reaches(&fabric, "a1", "b1")?;
    Ok((fabric, wire))
}

/// Bytes of a frame that a1 has sent, and been sent, in the mean, over all of its sessions of TCP.
fn mean_frames(fabric: &Fabric) -> Result<(u64, u64)> {
    let sessions = vpcctl_json(fabric.node("hv1")?, "sessions --port a1")?;
    let rows = sessions.as_array().context("no list")?;
    let of_tcp = || rows.iter().filter(|row| row["protocol"] == "tcp");
    let sum = |name: &str| of_tcp().filter_map(|row| row[name].as_u64()).sum::<u64>();
    let mean = |bytes, packets| sum(bytes).checked_div(sum(packets)).with_context(|| format!("none in {sessions}"));
    Ok((mean("sent_bytes", "sent_packets")?, mean("received_bytes", "received_packets")?))
}

#[test]
fn a_virtual_machine_learns_the_tunnels_mtu_and_tcp_keeps_its_segments_whole() {
    let (fabric, _wire) = with_tap(1_500).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    for to in addresses(b1) {
        let larger = a1.ping(*to, sized(*to, 1_451, Fragmentation::Forbidden)).unwrap();
        assert_eq!(larger.received, 0);
        assert_eq!(learnt_mtu(a1, *to).unwrap(), Some(1_450), "{to}");
        all_answered(a1.ping(*to, sized(*to, 1_450, Fragmentation::Forbidden)).unwrap()).unwrap();
    }
    for line in ["route flush cache", "-6 route flush cache"] {
        a1.netns().ip(line).unwrap();
    }
    // To another node, which finds out about the path once more, and to a port of this one.
    for name in ["b1", "a3"] {
        let guest = fabric.guest(name).unwrap();
        for (from, to) in [(a1, guest), (guest, a1)] {
            for address in addresses(to) {
                let tcp = from.iperf(to, *address, Load::Tcp { streams: 1 }, 1).unwrap();
                assert!(tcp.gigabits() > 0.2, "{address}: {tcp:?}{}", drops(&fabric));
            }
        }
    }
    let (sent, received) = mean_frames(&fabric).unwrap();
    assert!(sent > 3_000, "{sent} bytes a frame: its segments were cut before they came");
    assert!(received > 0);
}

#[test]
fn without_df_what_a_virtual_machine_sends_is_cut_and_arrives_whole_and_in_order() {
    let (fabric, _wire) = with_tap(9_000).unwrap();
    for to in ["b1", "a3"] {
        // The answer to its ARP request takes a moment, in which a guest does not keep as much as it is to send.
        reaches(&fabric, "a1", to).unwrap();
        arrive_whole(&fabric, "a1", to, 4_000).unwrap();
    }
}

#[test]
fn without_df_tcp_of_a_virtual_machine_has_no_black_hole() {
    let (fabric, _wire) = with_tap(1_500).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    without_df(a1).unwrap();
    let tcp = a1.iperf(b1, b1.ipv4().unwrap(), Load::Tcp { streams: 1 }, 1).unwrap();
    assert!(tcp.gigabits() > 0.2, "{tcp:?}{}", drops(&fabric));
    assert_eq!(learnt_mtu(a1, b1.ipv4().unwrap()).unwrap(), None);
}
