//! Ports: addresses inside their subnet and no one else's, MACs, devices.

use super::{
    Unique,
    blocks::reserved,
    links::{Resolved, ResolvedPort},
    may_repeat,
};
use crate::{
    both::both,
    diagnostics::{Problem, Spanned},
    document::Record,
    model::{Address, File, Port, Subnet, Vpc},
    topology::At,
};
use std::net::IpAddr;
use vpc_common::Ip;

pub(super) fn check(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let alone = || {
        let mut problems = Vec::new();
        check_each(file, resolved, &mut problems);
        (problems, may_devices_repeat(file, resolved))
    };
    let ((of_ports, may_devices), may_addresses) = both(alone, || may_addresses_repeat(file, resolved));
    problems.extend(of_ports);
    if may_devices || may_addresses {
        check_repetitions(file, resolved, problems);
    }
}

/// What is looked at port by port.
fn check_each(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    for (port, links) in file.ports.iter().zip(&resolved.ports) {
        if let Some(subnet) = links.subnet {
            for address in &port.private_ips {
                check_address(*address, subnet.of(file), problems);
            }
        }
        if let Some(node) = links.node {
            check_device(port, node.of(file), problems);
        }
        check_pairs(port, problems);
    }
}

/// Where a port's MAC and addresses are unique. Whatever the VPC of a subnet is, the subnet is in one.
fn scope_of(resolved: &Resolved, links: &ResolvedPort) -> Option<Scope> {
    resolved.vpc_of(links).map(Scope::Vpc).or(links.subnet.map(Scope::Subnet))
}

/// Whether a MAC or an address may be there twice.
fn may_addresses_repeat(file: &File, resolved: &Resolved) -> bool {
    let ports = || file.ports.iter().zip(&resolved.ports);
    let scoped = || ports().filter_map(|(port, links)| Some((scope_of(resolved, links)?, port)));
    let addresses = scoped().flat_map(|(scope, port)| port.private_ips.iter().map(move |ip| (scope, ip.value)));
    may_repeat(addresses) || may_repeat(scoped().map(|(scope, port)| (scope, port.mac.to_u64())))
}

/// Whether a device may be there twice.
fn may_devices_repeat(file: &File, resolved: &Resolved) -> bool {
    let ports = file.ports.iter().zip(&resolved.ports);
    may_repeat(ports.filter_map(|(port, links)| Some((links.node?, &*port.device.as_ref()?.value))))
}

fn check_repetitions(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let count = file.ports.len();
    let mut macs = Unique::with_capacity(count);
    let mut addresses = Unique::with_capacity(count);
    let mut devices = Unique::with_capacity(count);
    for (port, links) in file.ports.iter().zip(&resolved.ports) {
        if let Some(scope) = scope_of(resolved, links) {
            macs.check_in(
                scope,
                &port.mac,
                |mac| mac.to_u64(),
                problems,
                |mac| format!("two ports of {} have the MAC {}", scope.name(file), mac.0),
            );
            for address in &port.private_ips {
                addresses.check_in(
                    scope,
                    address,
                    |address| Ip::from(address.0),
                    problems,
                    |address| format!("two ports of {} have the address {address}", scope.name(file)),
                );
            }
        }
        if let (Some(node), Some(device)) = (links.node, &port.device) {
            devices.check_in(
                node,
                device,
                |device| &**device,
                problems,
                |device| format!("two ports on node `{}` have the device `{device}`", port.node.value),
            );
        }
    }
}

/// Where MACs and addresses are unique.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    Vpc(At<Vpc>),
    Subnet(At<Subnet>),
}

impl Scope {
    fn name(self, file: &File) -> String {
        match self {
            Self::Vpc(vpc) => format!("VPC `{}`", vpc.of(file).name.value),
            Self::Subnet(subnet) => format!("subnet `{}`", subnet.of(file).name.value),
        }
    }
}

fn check_address(address: Spanned<Address>, subnet: &Subnet, problems: &mut Vec<Problem>) {
    let ip = address.value.0;
    let name = &subnet.name.value;
    let Some(block) = subnet.cidr_blocks.iter().find(|block| block.contains(ip)) else {
        if subnet.lacks("cidr_blocks") {
            return;
        }
        let mut problem = Problem::new(address.span(), format!("the address {ip} is outside subnet `{name}`"));
        problem = problem.label("in no block of the subnet");
        for block in &subnet.cidr_blocks {
            problem = problem.also(block.span(), "a block of the subnet");
        }
        problems.push(problem);
        return;
    };
    if let Some(what) = reserved(block.value, ip) {
        let message = format!("the address {ip} is the {what} of {}", **block);
        problems.push(Problem::new(address.span(), message).label(what).also(block.span(), "the block"));
    } else if subnet.gateway(block.value) == ip {
        let given = subnet.gateway_ips.iter().find(|gateway| gateway.value.0 == ip);
        if given.is_none() && subnet.lacks("gateway_ips") {
            return;
        }
        let problem = Problem::new(address.span(), format!("the address {ip} is the gateway of subnet `{name}`"));
        let problem = problem.label("belongs to the router");
        problems.push(match given {
            Some(given) => problem.also(given.span(), "the gateway"),
            None => problem
                .also(block.span(), "the gateway is its first host address")
                .help("choose another address, or set `gateway_ips` of the subnet"),
        });
    }
}

fn check_device(port: &Port, node: &crate::model::Node, problems: &mut Vec<Problem>) {
    match &port.device {
        None if node.runs_agent() && !node.lacks("agent") && !port.lacks("device") => {
            let message = format!("port `{}` has no device", port.name.value);
            let problem = Problem::new(port.name.span(), message).label("`device` is missing");
            problems.push(problem.also(port.node.span(), "this node runs an agent, which needs it"));
        }
        Some(device) => {
            if let Some(uplink) = node.uplink.iter().find(|uplink| uplink.value == device.value) {
                let message = format!("the device `{}` is an uplink of node `{}`", device.value, node.name.value);
                let problem = Problem::new(device.span(), message).label("cannot be a port's");
                problems.push(problem.also(uplink.span(), "the uplink"));
            }
        }
        None => {}
    }
}

fn check_pairs(port: &Port, problems: &mut Vec<Problem>) {
    for pair in &port.few().allowed_address_pairs {
        // Tables hold IPv4 as ::ffff:0:0/96: such a block would allow all of IPv4 unsaid.
        if pair.covers_mapped() {
            let message =
                format!("the allowed address pair {} of port `{}` is too wide", pair.value.0, port.name.value);
            problems.push(
                Problem::new(pair.span(), message)
                    .label("contains ::ffff:0:0/96")
                    .help("write 2000::/3 or fc00::/7, or `source_dest_check: false` for any address"),
            );
        }
        let special = match pair.net().network() {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_loopback(),
        };
        if special {
            let message = format!("{} cannot be an allowed address pair", pair.value.0);
            problems.push(Problem::new(pair.span(), message).label("not unicast"));
        }
    }
}
