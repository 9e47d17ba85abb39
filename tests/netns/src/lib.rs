//! What the scenarios share: their fabric, and what it means that one guest reaches another.

pub mod topology;

use anyhow::{Context, Result, bail, ensure};
use std::{net::IpAddr, time::Duration};
use vpc_lab::{
    Fabric, Guest, Lab, Node, UnderlayOptions,
    agent::vpcctl_json,
    ping::{PingOptions, Pings},
    wait::eventually,
};

/// Two hypervisors in two zones, which receive by XDP as they would from a NIC; the VPCs red and blue use the same
/// addresses of both families.
///
/// ```text
///              hv1 (az-a)        hv2 (az-b)
///   red-a      a1, a3            a2
///   red-b      b2                b1           (own L2 VNI 6002)
///   blue-a     x1                x2           (x1, x2 have the addresses of a1, a2)
/// ```
pub const TOPOLOGY: &str = "\
version: 1
nodes:
  - {name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1, receive_mode: xdp, zone: az-a}
  - {name: hv2, id: 2, vtep: 192.0.2.12, uplink: eth1, receive_mode: xdp, zone: az-b}
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
  - {name: blue, vni: 5002, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
subnets:
  - {name: red-a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}
  - {name: red-b, vpc: red, cidr_blocks: [10.0.2.0/24, 'fd00:1:0:2::/64'], vni: 6002}
  - {name: blue-a, vpc: blue, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}
ports:
  - {name: a1, subnet: red-a, node: hv1, device: tap-a1, mac: '02:00:00:00:01:10', private_ips: [10.0.1.10, 'fd00:1:0:1::10']}
  - {name: a2, subnet: red-a, node: hv2, device: tap-a2, mac: '02:00:00:00:01:11', private_ips: [10.0.1.11, 'fd00:1:0:1::11']}
  - {name: a3, subnet: red-a, node: hv1, device: tap-a3, mac: '02:00:00:00:01:12', private_ips: [10.0.1.12, 'fd00:1:0:1::12']}
  - {name: b1, subnet: red-b, node: hv2, device: tap-b1, mac: '02:00:00:00:02:10', private_ips: [10.0.2.10, 'fd00:1:0:2::10']}
  - {name: b2, subnet: red-b, node: hv1, device: tap-b2, mac: '02:00:00:00:02:11', private_ips: [10.0.2.11, 'fd00:1:0:2::11']}
  - {name: x1, subnet: blue-a, node: hv1, device: tap-x1, mac: '02:00:00:00:03:10', private_ips: [10.0.1.10, 'fd00:1:0:1::10']}
  - {name: x2, subnet: blue-a, node: hv2, device: tap-x2, mac: '02:00:00:00:03:11', private_ips: [10.0.1.11, 'fd00:1:0:1::11']}
";

/// How long a change may take to show.
pub const SOON: Duration = Duration::from_secs(3);

/// The fabric of a topology with an agent on every node, all converged, and every gateway in use.
///
/// # Errors
/// It cannot be built, or an agent does not converge.
pub fn fabric(topology: &str) -> Result<Fabric> {
    fabric_with(topology, UnderlayOptions::default())
}

/// The same over an underlay of one's choice.
///
/// # Errors
/// As for [`fabric`].
pub fn fabric_with(topology: &str, options: UnderlayOptions) -> Result<Fabric> {
    fabric_in(Lab::new()?, topology, options)
}

/// The same while no other fabric is up, for what is measured in time or in lost packets.
///
/// # Errors
/// As for [`fabric`].
pub fn fabric_alone(topology: &str) -> Result<Fabric> {
    fabric_in(Lab::alone()?, topology, UnderlayOptions::default())
}

fn fabric_in(lab: Lab, topology: &str, options: UnderlayOptions) -> Result<Fabric> {
    let mut fabric = Fabric::build(lab, topology, options)?;
    fabric.start_agents()?;
    for plan in fabric.blueprint().nodes.iter().filter(|plan| plan.agent) {
        eventually(2 * SOON, || gateways_are_used(fabric.node(&plan.name)?))?;
    }
    Ok(fabric)
}

/// A gateway is used once it has answered that it can serve.
fn gateways_are_used(node: &Node) -> Result<()> {
    let status = vpcctl_json(node, "status")?;
    let gateways = status["gateways"].as_array().context("no gateways in the status")?;
    // One that was not heard of yet may be used as well, and then say that it is not ready.
    let serves = |row: &&serde_json::Value| row["used"] == true && (row["state"] == "alive" || row["state"] == "this");
    let idle: Vec<_> = gateways.iter().filter(|row| !serves(row)).map(|row| &row["node"]).collect();
    ensure!(idle.is_empty(), "{} does not use {idle:?}", node.name());
    // It serves as soon as it has one next hop; the one of the other family may still be silent.
    let problems = status["problems"].to_string();
    ensure!(!problems.contains("the outside cannot be reached"), "{}: {problems}", node.name());
    Ok(())
}

/// All addresses of a guest.
pub fn addresses(guest: &Guest) -> &[IpAddr] {
    &guest.plan().private_ips
}

/// Pings every address of a guest from another; a lost reply is an error.
///
/// # Errors
/// A reply is missing.
pub fn reaches(fabric: &Fabric, from: &str, to: &str) -> Result<()> {
    reaches_with(fabric, from, to, PingOptions::default())
}

fn reaches_with(fabric: &Fabric, from: &str, to: &str, options: PingOptions) -> Result<()> {
    let (from, to) = (fabric.guest(from)?, fabric.guest(to)?);
    for address in addresses(to) {
        all_answered(from.ping(*address, options)?)
            .with_context(|| format!("{} → {} at {address}{}", from.plan().name, to.plan().name, drops(fabric)))?;
    }
    Ok(())
}

/// The same, tried until it holds. Returns how long that took.
///
/// # Errors
/// It does not hold within [`SOON`].
pub fn soon_reaches(fabric: &Fabric, from: &str, to: &str) -> Result<Duration> {
    let quickly = PingOptions { count: 1, patience: 0.05, ..PingOptions::default() };
    let ((), took) = eventually(SOON, || reaches_with(fabric, from, to, quickly))?;
    reaches(fabric, from, to)?;
    Ok(took)
}

/// One request to each address of a guest; any reply is an error.
///
/// # Errors
/// A reply came.
pub fn does_not_reach(fabric: &Fabric, from: &str, to: &str) -> Result<()> {
    let (from, to) = (fabric.guest(from)?, fabric.guest(to)?);
    for address in addresses(to) {
        let pings = from.ping(*address, PingOptions { count: 2, ..PingOptions::default() })?;
        ensure!(pings.received == 0, "{} reached {} at {address}", from.plan().name, to.plan().name);
    }
    Ok(())
}

/// No request without reply.
///
/// # Errors
/// There is one.
pub fn all_answered(pings: Pings) -> Result<()> {
    if pings.lost() > 0 || pings.sent == 0 {
        bail!("{} of {} lost", pings.lost(), pings.sent);
    }
    Ok(())
}

/// What the nodes say that they dropped: for messages of tests that failed.
pub fn drops(fabric: &Fabric) -> String {
    let of = |node: &vpc_lab::Node| vpc_lab::agent::vpcctl(node, "drops").unwrap_or_default();
    fabric.nodes().map(|node| format!("\n{}:\n{}", node.name(), of(node))).collect()
}

/// The MTU that a guest's kernel noted for an address, if it noted one.
///
/// # Errors
/// `ip` fails.
pub fn learnt_mtu(guest: &Guest, to: IpAddr) -> Result<Option<u32>> {
    let text = guest.netns().run(&format!("ip route get {to}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    Ok(words.next().and_then(|word| word.parse().ok()))
}
