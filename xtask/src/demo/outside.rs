//! The demo's lines about the way to the outside.

use super::{
    lines::{PATIENCE, SECONDS, address, complete},
    table::Table,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric, Netns,
    agent::vpcctl_json,
    crowd::Crowd,
    iperf::{Load, iperf},
    outside::SERVER,
    ping::{PingOptions, ping},
    tcp::{EchoServer, connect},
    underlay::LinkState,
    wait::eventually,
};

const NAT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const ELASTIC: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 20));
const SSH: u16 = 22;
const FORWARDED: u16 = 2_222;
const CONNECTIONS: usize = 1_000;
/// The gateway that fails. None of the guests that talk meanwhile is on it.
const FAILS: &str = "hv3";
const GATEWAYS: [&str; 2] = ["hv2", FAILS];

/// To the outside, from there, and past a gateway that fails.
pub(super) fn lines(fabric: &Fabric, table: &mut Table) {
    table.line("NAT gateway: web-1 is 203.0.113.10 outside", || translated(fabric));
    table.line("iperf3 web-1 → outside, by NAT", || throughput(fabric));
    table.line("elastic IP: ping outside → blue-1 at 203.0.113.20", || elastic(fabric));
    table.line("port forward: outside → web-3, 203.0.113.10:2222 → 22", || forwarded(fabric));
    table.line("a gateway's underlay is cut under 1,000 connections", || failed(fabric));
}

fn outside(fabric: &Fabric) -> Result<&Netns> {
    Ok(fabric.outside()?.netns())
}

/// Whom the server sees.
fn translated(fabric: &Fabric) -> Result<String> {
    let to = SocketAddr::new(SERVER, 80);
    let listener = outside(fabric)?.enter(|| TcpListener::bind(to))??;
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    let _client = connect(fabric.guest("web-1")?.netns(), to, PATIENCE)?;
    let took = start.elapsed();
    let ((_, peer), _) = eventually(PATIENCE, || match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("nobody came"),
        accepted => Ok(accepted?),
    })?;
    ensure!(peer.ip() == NAT, "the server sees {peer}");
    Ok(format!("{peer}, connected in {:.1} ms", took.as_secs_f64() * 1e3))
}

fn throughput(fabric: &Fabric) -> Result<String> {
    let client = fabric.guest("web-1")?;
    let load = Load::Tcp { streams: 1 };
    let got = iperf(client.netns(), outside(fabric)?, SERVER, load, SECONDS, client.logs())?.gigabits();
    ensure!(got > 0.1, "{got:.3} Gbit/s");
    Ok(format!("{got:.1} Gbit/s"))
}

fn elastic(fabric: &Fabric) -> Result<String> {
    let options = PingOptions { count: 20, interval: 0.02, ..PingOptions::default() };
    complete(ping(outside(fabric)?, ELASTIC, options)?)
}

fn forwarded(fabric: &Fabric) -> Result<String> {
    let _server = EchoServer::start(fabric.guest("web-3")?.netns(), SSH)?;
    let start = Instant::now();
    let mut stream = connect(outside(fabric)?, SocketAddr::new(NAT, FORWARDED), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).context("no answer")?;
    ensure!(&echo == b"hello", "{echo:?}");
    Ok(format!("answered in {:.1} ms", start.elapsed().as_secs_f64() * 1e3))
}

/// The connections of web-1 by NAT are spread over both gateways.
fn failed(fabric: &Fabric) -> Result<String> {
    eventually(PATIENCE, || used(fabric, &GATEWAYS))?;
    let to = SocketAddr::new(SERVER, 8_080);
    let crowd = Crowd::start(fabric.guest("web-1")?.netns(), outside(fabric)?, (to, to), CONNECTIONS)?;
    sleep(Duration::from_millis(500));
    fabric.underlay().set_link(FAILS, "eth1", LinkState::Down)?;
    let left = eventually(PATIENCE, || used(fabric, &GATEWAYS[..1]));
    sleep(Duration::from_secs(1));
    let since = Instant::now();
    sleep(Duration::from_secs(1));
    let gathering = crowd.stop(since)?;
    fabric.underlay().set_link(FAILS, "eth1", LinkState::Up)?;
    left?;
    ensure!(gathering.broken == 0 && gathering.silent == 0, "{gathering:?}");
    let back = PingOptions { count: 1, patience: 0.2, ..PingOptions::default() };
    let (from, to) = (fabric.guest("web-1")?, address(fabric.guest("web-2")?));
    eventually(PATIENCE, || complete(from.ping(to, back)?))?;
    let waited = gathering.longest_wait.as_secs_f64() * 1e3;
    Ok(format!("0 of {} broken, longest wait {waited:.0} ms", gathering.connections))
}

/// Whether web-1's node uses these gateways and no others.
fn used(fabric: &Fabric, gateways: &[&str]) -> Result<()> {
    let status = vpcctl_json(fabric.node("hv1")?, "status")?;
    let rows = status["gateways"].as_array().context("no gateways")?;
    let used: Vec<_> = rows.iter().filter(|row| row["used"] == true).filter_map(|row| row["node"].as_str()).collect();
    ensure!(used == gateways, "in use: {used:?}");
    Ok(())
}
