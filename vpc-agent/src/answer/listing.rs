//! Lists of what is in force, with names where the maps hold numbers.

use super::counters;
use super::policies;
use crate::{
    control::{Kind, report::Listing},
    reconcile::{Outcome, Reconciler},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::IpAddr};
use vpc_common::{
    Ip, endpoint, port,
    route::{RouteKey, kind},
};
use vpc_topology::compile::Desired;

pub(super) fn list(wanted: Kind, reconciler: &Reconciler, outcome: &Outcome) -> Result<Listing, String> {
    let Some(desired) = reconciler.desired() else { return Ok(table(columns(wanted), Vec::new())) };
    let names = Names::new(desired);
    let rows = match wanted {
        Kind::Ports => ports(desired, reconciler, &names),
        Kind::Endpoints => endpoints(desired, &names),
        Kind::Routes => routes(desired, &names),
        Kind::Vteps => vteps(desired, outcome),
        Kind::Subnets => subnets(desired, &names),
        Kind::SecurityGroups => policies::security_groups(desired),
        Kind::NetworkAcls => policies::network_acls(desired),
        Kind::Counters => counters::counters(reconciler)?,
    };
    Ok(table(columns(wanted), rows))
}

fn columns(wanted: Kind) -> &'static [&'static str] {
    match wanted {
        Kind::Ports => &["name", "slot", "vpc", "subnet", "mac", "addresses", "device", "ifindex", "mtu", "epoch"],
        Kind::Endpoints => &["vpc", "address", "mac", "node", "subnet", "kind"],
        Kind::Routes => &["table", "used_by", "destination", "kind", "vpc", "next_hop"],
        Kind::Vteps => &["node", "id", "address", "mtu", "next_hops"],
        Kind::Counters => counters::COLUMNS,
        Kind::SecurityGroups => &["port", "groups", "direction", "rule_set", "rule", "rule_id", "says"],
        Kind::NetworkAcls => &["port", "network_acl", "direction", "rule_set", "rule", "rule_id", "says"],
        Kind::Subnets => &["name", "id", "vpc", "vni", "gateways", "local_ports", "endpoints"],
    }
}

fn table(columns: &[&str], rows: Vec<Vec<Value>>) -> Listing {
    Listing { columns: columns.iter().map(|column| (*column).to_owned()).collect(), rows }
}

struct Names<'a> {
    desired: &'a Desired,
    nodes: BTreeMap<u16, &'a str>,
}

impl<'a> Names<'a> {
    fn new(desired: &'a Desired) -> Self {
        let others = desired.vteps.iter().map(|vtep| (vtep.id, vtep.name.as_str()));
        let nodes = std::iter::once((desired.node.id, desired.node.name.as_str())).chain(others).collect();
        Self { desired, nodes }
    }

    fn vpc(&self, vni: vpc_common::Vni) -> String {
        self.desired.names.vpcs.get(&vni).cloned().unwrap_or_else(|| vni.0.to_string())
    }

    fn subnet(&self, id: u32) -> String {
        self.desired.names.subnets.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn node(&self, id: u16) -> String {
        self.nodes.get(&id).map_or_else(|| id.to_string(), |name| (*name).to_owned())
    }
}

fn ports(desired: &Desired, reconciler: &Reconciler, names: &Names<'_>) -> Vec<Vec<Value>> {
    let mut addresses: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (key, _) in &desired.sources {
        let text = prefix(key.address, key.prefix_len);
        addresses.entry(key.slot.get() as u16).or_default().push(text);
    }
    let row = |(slot, wanted): (&u16, &vpc_topology::compile::DesiredPort)| {
        let empty = port::Port::default();
        let actual = reconciler.actual().ports.get(slot).unwrap_or(&empty);
        vec![
            json!(wanted.name),
            json!(slot),
            json!(names.vpc(wanted.record.vpc)),
            json!(names.subnet(wanted.record.subnet)),
            json!(wanted.record.mac.to_string()),
            json!(addresses.get(slot).cloned().unwrap_or_default()),
            json!(wanted.device),
            json!(actual.ifindex),
            json!(actual.mtu),
            json!(actual.epoch),
        ]
    };
    desired.ports.iter().map(row).collect()
}

fn endpoints(desired: &Desired, names: &Names<'_>) -> Vec<Vec<Value>> {
    let row = |(key, value): &(endpoint::EndpointKey, endpoint::Endpoint)| {
        let (kind, node) = if value.flags & endpoint::flags::GATEWAY != 0 {
            ("gateway", String::new())
        } else if value.flags & endpoint::flags::BROADCAST != 0 {
            ("broadcast", String::new())
        } else {
            ("port", names.node(value.node))
        };
        vec![
            json!(names.vpc(key.vpc)),
            json!(key.address.to_string()),
            json!(value.mac.to_string()),
            json!(node),
            json!(names.subnet(value.subnet)),
            json!(kind),
        ]
    };
    let mut sorted: Vec<_> = desired.endpoints.iter().collect();
    sorted.sort_by_key(|(key, _)| (key.vpc, IpAddr::from(key.address)));
    sorted.into_iter().map(row).collect()
}

fn routes(desired: &Desired, names: &Names<'_>) -> Vec<Vec<Value>> {
    let outside = (RouteKey::OUTSIDE.get(), vec!["(outside)".to_owned()]);
    let mut users: BTreeMap<u32, Vec<String>> = BTreeMap::from([outside]);
    for port in desired.ports.values() {
        let subnets = users.entry(port.record.route_table).or_default();
        let subnet = names.subnet(port.record.subnet);
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    let instances = desired.instances();
    let row = |(key, route): &(vpc_common::route::RouteKey, vpc_common::route::Route)| {
        let kind = match route.kind {
            kind::LOCAL => "local",
            kind::REPLIES => "local, replies only",
            kind::PORT => "port",
            kind::PORTS => "ports",
            kind::BLACKHOLE => "blackhole",
            kind::INTERNET => "internet gateway",
            kind::NAT => "NAT gateway",
            _ => "unreachable",
        };
        let leads = matches!(route.kind, kind::LOCAL | kind::REPLIES | kind::PORT | kind::PORTS);
        let next_hop = match route.kind {
            kind::PORT => route.next_hop.to_string(),
            kind::PORTS => {
                let of_flows = instances.get(&route.next_hop.low().get()).into_iter().flatten();
                of_flows.map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            kind::NAT => desired.outside.gateway_names.get(&route.next_hop.low().get()).cloned().unwrap_or_default(),
            _ => String::new(),
        };
        vec![
            json!(format!("{:08x}", key.table.get())),
            json!(users.get(&key.table.get()).cloned().unwrap_or_default()),
            json!(prefix(key.destination, key.prefix_len)),
            json!(kind),
            json!(if leads { names.vpc(route.vpc) } else { String::new() }),
            json!(next_hop),
        ]
    };
    // What is behind a route of several instances is shown with it.
    desired.routes.iter().filter(|(key, _)| !instances.contains_key(&key.table.get())).map(row).collect()
}

fn vteps(desired: &Desired, outcome: &Outcome) -> Vec<Vec<Value>> {
    let rows = desired.vteps.iter().zip(&outcome.vteps).map(|(vtep, described)| {
        let hops: Vec<String> = super::next_hops(described)
            .into_iter()
            .map(|hop| format!("{} dev {} {}", hop.address, hop.uplink, hop.state))
            .collect();
        vec![json!(vtep.name), json!(vtep.id), json!(vtep.address.to_string()), json!(described.mtu()), json!(hops)]
    });
    rows.collect()
}

fn subnets(desired: &Desired, names: &Names<'_>) -> Vec<Vec<Value>> {
    /// What is known of a subnet.
    #[derive(Default)]
    struct Row {
        vpc: String,
        vni: u32,
        gateways: Vec<String>,
        ports: usize,
        endpoints: usize,
    }
    let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
    for (key, value) in desired.endpoints.iter() {
        let row = rows.entry(value.subnet).or_default();
        row.vpc = names.vpc(key.vpc);
        row.vni = value.l2_vni.0;
        if value.flags & endpoint::flags::GATEWAY != 0 {
            row.gateways.push(key.address.to_string());
        } else if value.flags & endpoint::flags::BROADCAST == 0 {
            row.endpoints += 1;
        }
    }
    for port in desired.ports.values().filter(|port| port.record.flags & port::flags::ROUTER == 0) {
        rows.entry(port.record.subnet).or_default().ports += 1;
    }
    let row = |(id, row): (u32, Row)| {
        vec![
            json!(names.subnet(id)),
            json!(id),
            json!(row.vpc),
            json!(row.vni),
            json!(row.gateways),
            json!(row.ports),
            json!(row.endpoints),
        ]
    };
    rows.into_iter().map(row).collect()
}

/// A prefix of a trie whose first 32 bits are another number's.
fn prefix(address: Ip, bits: u32) -> String {
    let bits = bits.saturating_sub(32);
    match IpAddr::from(address) {
        IpAddr::V4(v4) if bits >= Ip::MAPPED_BITS => format!("{v4}/{}", bits - Ip::MAPPED_BITS),
        address => format!("{address}/{bits}"),
    }
}
