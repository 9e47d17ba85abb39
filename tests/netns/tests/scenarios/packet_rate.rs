//! Ports in packet-rate mode: established flows go into the tunnel by XDP, nothing gets lost, and the mode is left where
//! something would.

use crate::traffic::everything_arrives;
use anyhow::{Context, Result, ensure};
use std::{net::SocketAddr, thread::sleep, time::Duration};
use vpc_lab::{
    Fabric,
    agent::vpcctl_json,
    capture::Capture,
    datagrams::{DatagramStream, Streamed},
    wait::eventually,
};
use vpc_netns_tests::{SOON, TOPOLOGY, drops, fabric};

const FLOWS: usize = 4;
const RATE: u32 = 2_000;
const WHILE: Duration = Duration::from_secs(2);
const PORT: u16 = 9_000;

pub fn topology() -> String {
    TOPOLOGY.replace(", private_ips:", ", mode: packet-rate, private_ips:")
}

/// The mode of a port's interface, as the status tells it, and what is wrong.
fn mode(fabric: &Fabric, port: &str) -> Result<(String, String)> {
    let status = vpcctl_json(fabric.node("hv1")?, "status")?;
    let rows = status["attachments"].as_array().context("attachments")?;
    let row = rows.iter().find(|row| row["role"] == "port" && row["name"] == port).context("the port")?;
    Ok((row["mode"].as_str().unwrap_or_default().to_owned(), status["problems"].to_string()))
}

fn expect_mode(fabric: &Fabric, wanted: &str, problem: &str) -> Result<()> {
    let (mode, problems) = mode(fabric, "a1")?;
    ensure!(mode == wanted && problems.contains(problem), "{mode}, {problems}");
    Ok(())
}

/// Whether the far end of hv1's uplink takes what XDP sends: a veth does with NAPI only.
fn poll(fabric: &Fabric, state: &str) -> Result<()> {
    let (netns, device) = fabric.underlay().far_end("hv1", "eth1")?;
    netns.run(&format!("ethtool -K {device} gro {state}")).map(drop)
}

/// A fabric with a1 in the mode.
fn in_mode() -> Result<Fabric> {
    let fabric = fabric(&topology())?;
    poll(&fabric, "on")?;
    eventually(SOON, || expect_mode(&fabric, "xdp+tcx", "[]"))?;
    Ok(fabric)
}

/// Datagrams from a1 to b1, and how many of them the host's own stack has seen.
fn stream(fabric: &Fabric) -> Result<(Streamed, usize)> {
    let (a1, b1) = (fabric.guest("a1")?, fabric.guest("b1")?);
    let to = SocketAddr::new(b1.ipv4()?, PORT);
    let logs = fabric.directory();
    let capture = Capture::incoming(fabric.node("hv1")?.netns(), "tap-a1", &format!("udp dst port {PORT}"), logs)?;
    let stream = DatagramStream::start((a1.netns(), 20_000), (b1.netns(), to, to), (FLOWS, RATE))?;
    sleep(WHILE);
    Ok((stream.stop()?, capture.stop()?.len()))
}

#[test]
fn established_flows_go_by_xdp_and_what_is_left_to_the_interface_does_not() {
    let fabric = in_mode().unwrap();
    let a1 = fabric.guest("a1").unwrap().netns();
    a1.run("ethtool -K eth0 tx off").unwrap();
    let (streamed, seen) = stream(&fabric).unwrap();
    println!("checksums of the guest's own: {streamed:?}, the host saw {seen}");
    assert!(streamed.sent > 1_000 && streamed.lost == 0, "{streamed:?}{}", drops(&fabric));
    assert!(seen >= FLOWS && seen < streamed.sent / 10, "the host saw {seen} of {}", streamed.sent);
    // Nobody would finish these checksums behind XDP: they take the long way.
    a1.run("ethtool -K eth0 tx on").unwrap();
    let (streamed, seen) = stream(&fabric).unwrap();
    println!("checksums left to the interface: {streamed:?}, the host saw {seen}");
    assert!(streamed.sent > 1_000 && streamed.lost == 0, "{streamed:?}{}", drops(&fabric));
    assert!(seen * 10 > streamed.sent * 9, "the host saw {seen} of {}", streamed.sent);
}

#[test]
fn everything_arrives_in_packet_rate_mode() {
    everything_arrives(&in_mode().unwrap());
}

#[test]
fn an_uplink_that_would_lose_frames_keeps_the_mode_away() {
    let mut fabric = in_mode().unwrap();
    poll(&fabric, "off").unwrap();
    eventually(SOON, || expect_mode(&fabric, "tcx", "no packet-rate mode")).unwrap();
    everything_arrives(&fabric);
    poll(&fabric, "on").unwrap();
    eventually(SOON, || expect_mode(&fabric, "xdp+tcx", "[]")).unwrap();
    // A port that leaves the mode has nothing left of it.
    fabric.edit(TOPOLOGY).unwrap();
    eventually(SOON, || expect_mode(&fabric, "tcx", "[]")).unwrap();
}
