//! The lines of the demo.

use super::{groups, outside, table::Table};
use anyhow::{Context, Result, bail, ensure};
use std::{
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric, Guest,
    capture::Capture,
    iperf::Load,
    ping::{BackgroundPing, Fragmentation, PingOptions, Pings},
    wait::eventually,
};

pub(super) const SECONDS: u32 = 1;
const TUNNEL_MTU: u32 = 1_450;
const JUMBO_MTU: u32 = 9_000;
const OVERHEAD: u32 = 50;
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const ADDED: &str = "  - {name: web-4, subnet: red-web, node: hv2, device: tap-web4, mac: \"02:00:00:01:01:13\", \
                     private_ips: [10.0.1.13]}\n";

/// All lines, in an order in which later ones may build on what earlier ones changed. Returns the topology as it is then.
pub fn all(fabric: &mut Fabric, topology: &str, table: &mut Table) -> String {
    println!(" IPv4");
    paths(fabric, table, "web-1", &[("web-3", "same node"), ("web-2", "other zone"), ("db-1", "routed")]);
    println!(" IPv6");
    paths(fabric, table, "six-1", &[("six-2", "other zone"), ("six-3", "routed")]);
    println!(" isolation");
    table.line("blue talks to blue on red's addresses, red hears nothing", || isolation(fabric));
    println!(" security groups");
    groups::lines(fabric, topology, table);
    println!(" the outside");
    outside::lines(fabric, table);
    println!(" packet sizes");
    table.line("path MTU discovery: the router names the tunnel's MTU", || path_mtu(fabric));
    table.line("jumbo underlay: frames of 8,950 bytes", || jumbo(fabric));
    println!(" change under traffic");
    let mut text = topology.to_owned() + ADDED;
    table.line("a port is added to the file", || added(fabric, &text));
    text = text.replace("subnet: red-web,  node: hv3", "subnet: red-web,  node: hv2");
    table.line("a port moves to another node", || moved(fabric, &text));
    table.line("kill -9 of an agent, and its restart", || killed(fabric));
    text
}

/// Ping, throughput and route from one guest to others.
fn paths(fabric: &Fabric, table: &mut Table, from: &str, to: &[(&str, &str)]) {
    for (server, path) in to {
        table.line(&format!("ping {from} → {server} ({path})"), || {
            let (from, to) = pair(fabric, from, server)?;
            let pings = from.ping(address(to), PingOptions { count: 20, interval: 0.02, ..PingOptions::default() })?;
            complete(pings)
        });
        table.line(&format!("iperf3 {from} → {server} ({path})"), || {
            let (from, to) = pair(fabric, from, server)?;
            let throughput = from.iperf(to, address(to), Load::Tcp { streams: 1 }, SECONDS)?;
            ensure!(throughput.gigabits() > 0.1, "{:.3} Gbit/s", throughput.gigabits());
            Ok(format!("{:.1} Gbit/s", throughput.gigabits()))
        });
    }
    table.line(&format!("traceroute {from} names the VPC's router"), || {
        let (server, _) = to.last().context("no server")?;
        let (from, to) = pair(fabric, from, server)?;
        let hops: Vec<String> =
            from.traceroute(address(to))?.iter().map(|hop| hop.map_or("*".to_owned(), |hop| hop.to_string())).collect();
        let router = gateway(address(from));
        ensure!(hops == [router.to_string(), address(to).to_string()], "{}", hops.join(" → "));
        Ok(hops.join(" → "))
    });
}

fn isolation(fabric: &Fabric) -> Result<String> {
    let (blue, peer) = pair(fabric, "blue-1", "blue-2")?;
    let red = ["web-1", "web-2", "db-1"].map(|name| fabric.guest(name));
    let mut captures = Vec::new();
    for guest in red {
        let guest = guest?;
        captures.push(Capture::incoming(guest.netns(), "eth0", "icmp", guest.logs())?);
    }
    let options = PingOptions { count: 20, interval: 0.01, ..PingOptions::default() };
    complete(blue.ping(address(peer), options)?)?;
    let stray = blue.ping(address(fabric.guest("db-1")?), PingOptions { count: 3, ..options })?;
    let mut heard = 0;
    for capture in captures {
        heard += capture.stop()?.len();
    }
    ensure!(stray.received == 0, "blue reached an address that only red has");
    ensure!(heard == 0, "red heard {heard} packets");
    Ok("20 of 20 by blue, 0 heard by red".to_owned())
}

fn path_mtu(fabric: &Fabric) -> Result<String> {
    let (from, to) = pair(fabric, "web-1", "db-1")?;
    from.set_mtu(1_500)?;
    let options =
        PingOptions { count: 2, payload: 1_472, fragmentation: Fragmentation::Forbidden, ..PingOptions::default() };
    let pings = from.ping(address(to), options)?;
    let learnt = learnt_mtu(from, address(to))?;
    let throughput = from.iperf(to, address(to), Load::Tcp { streams: 1 }, SECONDS)?;
    from.netns().ip("route flush cache")?;
    from.set_mtu(TUNNEL_MTU)?;
    ensure!(pings.received == 0, "a ping of 1,500 bytes passed a tunnel of {TUNNEL_MTU}");
    ensure!(learnt == Some(TUNNEL_MTU), "the guest learnt {learnt:?}");
    Ok(format!("{TUNNEL_MTU} bytes, then TCP at {:.1} Gbit/s", throughput.gigabits()))
}

/// The MTU that the guest's kernel noted for an address.
fn learnt_mtu(guest: &Guest, to: IpAddr) -> Result<Option<u32>> {
    let text = guest.netns().run(&format!("ip route get {to}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    Ok(words.next().and_then(|word| word.parse().ok()))
}

fn jumbo(fabric: &Fabric) -> Result<String> {
    let (from, to) = pair(fabric, "web-1", "db-1")?;
    for node in ["hv1", "hv2"] {
        fabric.underlay().set_mtu(fabric.node(node)?, "eth1", JUMBO_MTU)?;
    }
    for guest in [from, to] {
        guest.set_mtu(JUMBO_MTU - OVERHEAD)?;
    }
    let payload = JUMBO_MTU - OVERHEAD - 28;
    let options = PingOptions { count: 5, payload, ..PingOptions::default() };
    eventually(PATIENCE, || {
        // What the router said while it knew the old size, the guest would believe for ten minutes.
        from.netns().ip("route flush cache")?;
        complete(from.ping(address(to), options)?)
    })?;
    let throughput = from.iperf(to, address(to), Load::Tcp { streams: 1 }, SECONDS)?;
    Ok(format!("5 of 5, TCP at {:.1} Gbit/s", throughput.gigabits()))
}

fn added(fabric: &mut Fabric, text: &str) -> Result<String> {
    let start = Instant::now();
    fabric.edit(text)?;
    let (from, to) = pair(fabric, "web-1", "web-4")?;
    let quickly = PingOptions { count: 1, patience: 0.05, ..PingOptions::default() };
    eventually(PATIENCE, || complete(from.ping(address(to), quickly)?))?;
    Ok(format!("answers {:.0} ms after the edit began", start.elapsed().as_secs_f64() * 1e3))
}

fn moved(fabric: &mut Fabric, text: &str) -> Result<String> {
    let running = ping_along(fabric, "web-1", "web-2")?;
    sleep(Duration::from_millis(500));
    fabric.edit(text)?;
    let (from, to) = pair(fabric, "web-1", "web-2")?;
    ensure!(to.plan().node == "hv2", "the file was not changed");
    eventually(PATIENCE, || complete(from.ping(address(to), PingOptions::default())?))?;
    let pings = running.stop()?;
    // A request each 10 ms: what is lost is the time without the port, in hundredths of a second.
    ensure!(pings.lost() < 100, "{} of {} lost", pings.lost(), pings.sent);
    Ok(format!("silent for {} ms", pings.lost() * 10))
}

fn killed(fabric: &mut Fabric) -> Result<String> {
    let running = ping_along(fabric, "web-1", "db-1")?;
    sleep(Duration::from_millis(500));
    fabric.agent_mut("hv1")?.kill()?;
    sleep(Duration::from_secs(1));
    let took = fabric.restart_agent("hv1")?;
    sleep(Duration::from_millis(500));
    let pings = running.stop()?;
    ensure!(pings.sent > 100, "only {} sent", pings.sent);
    ensure!(pings.lost() == 0, "{} of {} lost", pings.lost(), pings.sent);
    Ok(format!("0 of {} lost, converged again in {:.0} ms", pings.sent, took.as_secs_f64() * 1e3))
}

fn ping_along(fabric: &Fabric, from: &str, to: &str) -> Result<BackgroundPing> {
    let (from, to) = pair(fabric, from, to)?;
    BackgroundPing::start(from.netns(), address(to), 0.01, from.logs().join("running.ping"))
}

pub(super) fn pair<'a>(fabric: &'a Fabric, from: &str, to: &str) -> Result<(&'a Guest, &'a Guest)> {
    Ok((fabric.guest(from)?, fabric.guest(to)?))
}

pub(super) fn address(guest: &Guest) -> IpAddr {
    guest.plan().private_ips[0]
}

/// The first address of the guest's /24 or /64.
fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & !0xff | 1).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX) | 1).into()),
    }
}

pub(super) fn complete(pings: Pings) -> Result<String> {
    match pings.round_trip_ms {
        Some(times) if pings.lost() == 0 => Ok(format!("{} of {}, {:.3} ms", pings.received, pings.sent, times.mean)),
        _ => bail!("{} of {} lost", pings.lost(), pings.sent),
    }
}
