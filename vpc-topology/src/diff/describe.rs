//! A plan in words.

use super::{Changed, Plan, outside, rules};
use crate::compile::{Desired, DesiredPort};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};
use vpc_common::{
    Ip, Mac, Vni,
    endpoint::{Endpoint, EndpointKey, flags},
    port::Port,
    route::{Route, kind},
};

pub(super) fn describe(plan: &Plan, old: &Desired, new: &Desired) -> Vec<String> {
    let words = Words { plan, old, new };
    let mut lines = Vec::new();
    words.nodes(&mut lines);
    words.vpcs(&mut lines);
    rules::describe(&old.names, &new.names, &mut lines);
    words.ports(&mut lines);
    words.endpoints(&mut lines);
    words.routes(&mut lines);
    outside::describe(old, new, &mut lines);
    words.sources(&mut lines);
    lines
}

struct Words<'p> {
    plan: &'p Plan,
    old: &'p Desired,
    new: &'p Desired,
}

impl Words<'_> {
    fn nodes(&self, lines: &mut Vec<String>) {
        let (old, new) = (&self.old.node, &self.new.node);
        if self.plan.node.is_some() {
            let mut changes = Vec::new();
            changes.extend(change("id", old.id, new.id));
            changes.extend(change("VTEP", old.vtep, new.vtep));
            changes.extend(change("uplinks", old.uplinks.join(", "), new.uplinks.join(", ")));
            changes.extend(change("receive mode", old.receive_mode, new.receive_mode));
            let dscp = |flags| if flags & vpc_common::node::flags::DSCP_UNIFORM != 0 { "uniform" } else { "pipe" };
            changes.extend(change("DSCP", dscp(old.flags), dscp(new.flags)));
            lines.push(format!("~ this node, {}: {}", new.name, changes.join(", ")));
        }
        for (id, node) in &self.plan.vteps.added {
            lines.push(format!("+ node {} (id {id}, VTEP {})", node.name, node.address));
        }
        for Changed { key, from, to } in &self.plan.vteps.changed {
            let changes = [change("VTEP", from.address, to.address), change("name", &from.name, &to.name)];
            lines.push(format!("~ node {} (id {key}): {}", to.name, join(changes)));
        }
        for (id, node) in &self.plan.vteps.removed {
            lines.push(format!("- node {} (id {id})", node.name));
        }
    }

    /// A VPC that comes or goes is one line, not one for each of its endpoints.
    fn vpcs(&self, lines: &mut Vec<String>) {
        for (vni, to) in &self.new.names.vpcs {
            if let Some(from) = self.old.names.vpcs.get(vni).filter(|from| *from != to) {
                lines.push(format!("~ VPC {to} (VNI {}): name {from} -> {to}", vni.0));
            }
        }
        for (sign, of, other) in [('+', self.new, self.old), ('-', self.old, self.new)] {
            for (vni, name) in of.names.vpcs.iter().filter(|(vni, _)| !other.names.vpcs.contains_key(vni)) {
                let count = of.endpoints.iter().filter(|(key, e)| key.vpc == *vni && e.flags == 0).count();
                lines.push(format!("{sign} VPC {name} (VNI {}) with {count} addresses", vni.0));
            }
        }
    }

    fn ports(&self, lines: &mut Vec<String>) {
        let place = |of: &Desired, port: &DesiredPort| {
            format!("port {} in subnet {} on {}", port.name, subnet(of, port.record.subnet), of.node.name)
        };
        // A slot whose port is another one is one port less and one more.
        for Changed { key: _, from, to } in &self.plan.ports.changed {
            if from.record.uid == to.record.uid {
                // Another route table is told route by route.
                let changes = self.port_changes(from, to);
                lines.extend((!changes.is_empty()).then(|| format!("~ port {}: {changes}", to.name)));
            } else {
                lines.push(format!("- {}", place(self.old, from)));
                lines.push(format!("+ {}", place(self.new, to)));
            }
        }
        lines.extend(self.plan.ports.added.iter().map(|(_, port)| format!("+ {}", place(self.new, port))));
        lines.extend(self.plan.ports.removed.iter().map(|(_, port)| format!("- {}", place(self.old, port))));
    }

    fn port_changes(&self, from: &DesiredPort, to: &DesiredPort) -> String {
        let device = |port: &DesiredPort| port.device.clone().unwrap_or_else(|| "none".into());
        let reach = |of: &Desired, port: &DesiredPort| {
            port.reach.iter().map(|vni| vpc(of, *vni)).collect::<Vec<_>>().join(", ")
        };
        let (a, b) = (&from.record, &to.record);
        let on = |port: &DesiredPort, flag| if port.record.flags & flag != 0 { "yes" } else { "no" };
        use vpc_common::port::flags as port_flags;
        let timeouts = timeouts(from).into_iter().zip(timeouts(to)).map(|((name, from), (_, to))| {
            change(&format!("session timeout {name}"), format!("{from} s"), format!("{to} s"))
        });
        let changes = [
            change("device", device(from), device(to)),
            change("mode", mode(from), mode(to)),
            change("MAC", a.mac, b.mac),
            change("VPC", vpc(self.old, a.vpc), vpc(self.new, b.vpc)),
            change("subnet", subnet(self.old, a.subnet), subnet(self.new, b.subnet)),
            change("VNI", a.l2_vni.0, b.l2_vni.0),
            change("IPv4 gateway", Ip::v4(a.gateway_v4), Ip::v4(b.gateway_v4)),
            change("IPv6 gateway", a.gateway_v6, b.gateway_v6),
            change("reaches", reach(self.old, from), reach(self.new, to)),
            change("groups", groups(from), groups(to)),
            change("network ACL", acl(from), acl(to)),
            change("session quota", a.session_quota, b.session_quota).filter(|_| self.same_share()),
            change("VPC session quota", a.vpc_quota, b.vpc_quota),
            change("non-IP frames", on(from, port_flags::NON_IP), on(to, port_flags::NON_IP)),
            change("routes for others", on(from, port_flags::ROUTES_FOR_OTHERS), on(to, port_flags::ROUTES_FOR_OTHERS)),
        ];
        join(changes.into_iter().chain(timeouts))
    }

    /// Whether each port has the same share of the session table as before: what changes otherwise goes without saying.
    fn same_share(&self) -> bool {
        self.old.ports.len().next_power_of_two() == self.new.ports.len().next_power_of_two()
    }

    fn endpoints(&self, lines: &mut Vec<String>) {
        let (came, went) = (owners(self.new, self.old), owners(self.old, self.new));
        let whole = [
            ('+', &self.plan.endpoints.added, self.new, self.old, came),
            ('-', &self.plan.endpoints.removed, self.old, self.new, went),
        ];
        for (sign, entries, of, other, local) in whole {
            for (key, endpoint) in entries {
                let told = !other.names.vpcs.contains_key(&key.vpc) || local.contains(&(endpoint.l2_vni, endpoint.mac));
                if !told && !derived(key, endpoint) {
                    lines.push(format!("{sign} {} {}", self.endpoint(of, key, endpoint), place(of, endpoint)));
                }
            }
        }
        for Changed { key, from, to } in &self.plan.endpoints.changed {
            if derived(key, from) && derived(key, to) {
                continue;
            }
            let what = self.endpoint(self.new, key, to);
            let changes = [
                change("MAC", from.mac, to.mac),
                change("subnet", subnet(self.old, from.subnet), subnet(self.new, to.subnet)),
                change("VNI", from.l2_vni.0, to.l2_vni.0),
                change("kind", role(from), role(to)),
                change("groups", identity(self.old, from), identity(self.new, to)),
            ];
            if from.node != to.node && from.flags == to.flags {
                lines.push(format!("~ {what} moves from {} to {}", node(self.old, from.node), node(self.new, to.node)));
            }
            let changes = join(changes);
            if !changes.is_empty() {
                lines.push(format!("~ {what}: {changes}"));
            }
        }
    }

    fn endpoint(&self, of: &Desired, key: &EndpointKey, endpoint: &Endpoint) -> String {
        format!("{} {} of {}", role(endpoint), key.address, vpc(of, key.vpc))
    }

    /// Routes by the subnets that see them: tables have no names here.
    fn routes(&self, lines: &mut Vec<String>) {
        let (before, after) = (tables(self.old), tables(self.new));
        let mut users: BTreeMap<(u32, u32), Vec<String>> = BTreeMap::new();
        for (id, new_table) in &after {
            if let Some(old_table) = before.get(id).filter(|old_table| *old_table != new_table) {
                users.entry((*old_table, *new_table)).or_default().push(subnet(self.new, *id));
            }
        }
        for ((old_table, new_table), subnets) in users {
            let (from, to) = (content(self.old, old_table), content(self.new, new_table));
            let changes = super::Changes::between(&from, &to);
            let of = format!("for subnet {}", subnets.join(", "));
            for (key, route) in &changes.added {
                lines.push(format!("+ route {} {} {of}", prefix(*key), hop(self.new, route)));
            }
            for Changed { key, from, to } in &changes.changed {
                let (from, to) = (hop(self.old, from), hop(self.new, to));
                // What else a route says is told rule by rule.
                lines.extend((from != to).then(|| format!("~ route {} {of}: {from} -> {to}", prefix(*key))));
            }
            for (key, route) in &changes.removed {
                lines.push(format!("- route {} {} {of}", prefix(*key), hop(self.old, route)));
            }
        }
    }

    /// Source prefixes of ports that stay, other than those of their own addresses.
    fn sources(&self, lines: &mut Vec<String>) {
        let whole = [
            ('+', &self.plan.sources.added, self.new, self.old),
            ('-', &self.plan.sources.removed, self.old, self.new),
        ];
        for (sign, entries, of, other) in whole {
            for (key, _) in entries {
                let slot = key.slot.get() as u16;
                let (Some(port), Some(same)) = (of.ports.get(&slot), other.ports.get(&slot)) else { continue };
                let endpoint = EndpointKey { vpc: port.record.vpc, address: key.address };
                let own = |state: &Desired| state.endpoints.binary_search_by_key(&endpoint, |(key, _)| *key).is_ok();
                let address = key.prefix_len == 32 + u128::BITS && own(of);
                if port.record.uid == same.record.uid && !address {
                    let block = prefix((key.prefix_len - 32, key.address));
                    lines.push(format!("{sign} port {} may use {block}", port.name));
                }
            }
        }
    }
}

/// Changes of one thing, those that are none left out.
pub(super) fn join(changes: impl IntoIterator<Item = Option<String>>) -> String {
    changes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) fn change<T: PartialEq + Display>(what: &str, from: T, to: T) -> Option<String> {
    (from != to).then(|| format!("{what} {from} -> {to}"))
}

/// Endpoints that nobody wrote into the file: they come and go with others.
fn derived(key: &EndpointKey, endpoint: &Endpoint) -> bool {
    endpoint.flags & flags::BROADCAST != 0 || key.address == endpoint.mac.link_local() || key.address.is_unspecified()
}

fn role(endpoint: &Endpoint) -> &'static str {
    match endpoint.flags {
        flags if flags & flags::GATEWAY != 0 => "gateway",
        flags if flags & flags::BROADCAST != 0 => "broadcast address",
        _ => "endpoint",
    }
}

/// VNI and MAC of the local ports that the other state does not have.
fn owners(of: &Desired, other: &Desired) -> BTreeSet<(Vni, Mac)> {
    let known: BTreeSet<_> = other.ports.values().map(|port| port.record.uid).collect();
    let new = of.ports.values().filter(|port| !known.contains(&port.record.uid));
    new.map(|port| (port.record.l2_vni, port.record.mac)).collect()
}

pub(super) fn vpc(of: &Desired, vni: Vni) -> String {
    of.names.vpcs.get(&vni).cloned().unwrap_or_else(|| format!("VNI {}", vni.0))
}

fn subnet(of: &Desired, id: u32) -> String {
    of.names.subnets.get(&id).cloned().unwrap_or_else(|| format!("{id:#010x}"))
}

const fn mode(port: &DesiredPort) -> &'static str {
    if port.packet_rate { "packet-rate" } else { "standard" }
}

fn groups(port: &DesiredPort) -> String {
    if port.groups.is_empty() {
        "none".into()
    } else {
        port.groups.iter().map(|group| rules::words(group)).collect::<Vec<_>>().join(", ")
    }
}

fn acl(port: &DesiredPort) -> &str {
    port.network_acl.as_deref().unwrap_or("none")
}

/// The session timeouts with their names in the file.
fn timeouts(port: &DesiredPort) -> [(&'static str, u32); 6] {
    let timeouts = &port.timeouts;
    [
        ("tcp_half_open", timeouts.tcp_half_open),
        ("tcp_established", timeouts.tcp_established),
        ("tcp_closing", timeouts.tcp_closing),
        ("udp_one_way", timeouts.udp_one_way),
        ("udp_stream", timeouts.udp_stream),
        ("icmp", timeouts.icmp),
    ]
}

/// The groups of an endpoint's port.
fn identity(of: &Desired, endpoint: &Endpoint) -> String {
    let names = of.names.identities.get(&endpoint.identity);
    names.map_or_else(|| "none".into(), |names| names.split(", ").map(rules::words).collect::<Vec<_>>().join(", "))
}

pub(super) fn node(of: &Desired, id: u16) -> String {
    if id == of.node.id {
        return of.node.name.clone();
    }
    match of.vteps.binary_search_by_key(&id, |vtep| vtep.id) {
        Ok(at) => of.vteps[at].name.clone(),
        Err(_) => format!("node {id}"),
    }
}

fn place(of: &Desired, endpoint: &Endpoint) -> String {
    if endpoint.flags == 0 {
        format!("on {}", node(of, endpoint.node))
    } else {
        format!("in subnet {}", subnet(of, endpoint.subnet))
    }
}

/// The route table of each subnet that has a local port.
fn tables(of: &Desired) -> BTreeMap<u32, u32> {
    of.ports.values().map(|port| (port.record.subnet, port.record.route_table)).collect()
}

fn content(of: &Desired, table: u32) -> BTreeMap<(u32, Ip), Route> {
    let entries = of.routes.iter().filter(|(key, _)| key.table.get() == table);
    entries.map(|(key, route)| ((key.prefix_len - 32, key.destination), *route)).collect()
}

fn hop(of: &Desired, route: &Route) -> String {
    match route.kind {
        kind::LOCAL => format!("to {}", vpc(of, route.vpc)),
        kind::PORT => format!("via {}", route.next_hop),
        kind::PORTS => {
            let instances = of.instances().remove(&route.next_hop.low().get()).unwrap_or_default();
            format!("via {} by flow", instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        kind::BLACKHOLE => "to nowhere (blackhole)".into(),
        kind::INTERNET => "to the internet gateway".into(),
        kind::NAT => {
            let name = of.outside.gateway_names.get(&route.next_hop.low().get());
            let list = if route.next_hop.0[0] == Port::NO_ACL { "" } else { " by its egress allow list" };
            format!("to NAT gateway {}{list}", name.map_or("unknown", String::as_str))
        }
        _ => "unreachable".into(),
    }
}

/// A prefix in its 128-bit form as people write it.
fn prefix((length, address): (u32, Ip)) -> String {
    if address.is_v4() && length >= Ip::MAPPED_BITS {
        format!("{address}/{}", length - Ip::MAPPED_BITS)
    } else {
        format!("{address}/{length}")
    }
}
