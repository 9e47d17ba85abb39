//! Route tables. A table's id is made from its content, so that a changed table is another one. The instances of a route
//! that has several are a table of their own, by the bucket of the flow.

use super::{
    Policies, Scope, global,
    ids::{Ids, port_uid},
    scope::TableOf,
};
use crate::{
    model::{Cidr, Port},
    topology::{At, Hop},
};
use siphasher::sip::SipHasher24;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
};
use vpc_common::{
    Be32, Ip, Vni,
    route::{BUCKETS, Route, RouteKey, kind},
};

/// The tables that the node's ports use.
pub(super) struct Tables {
    ids: BTreeMap<TableOf, u32>,
    entries: Vec<(RouteKey, Route)>,
}

/// Length and address of a prefix in its 128-bit form, with where it leads.
type Content = BTreeMap<(u32, Ip), Route>;

/// Ids of the tables of instances, by their content.
type Groups = BTreeMap<Vec<u8>, u32>;

impl Tables {
    pub(super) fn new(scope: &Scope<'_>, policies: &Policies) -> Self {
        let tables: BTreeSet<_> = scope.tables().collect();
        // Tables of one content are one table. Collisions are resolved in the order of content.
        let mut taken = Ids::default();
        let mut built = Self { ids: BTreeMap::new(), entries: Vec::new() };
        let instances: BTreeMap<Vec<u8>, Content> = tables
            .iter()
            .flat_map(|table| instances_of(scope, *table))
            .map(|content| (bytes(Vni(0), &content), content))
            .collect();
        let mut groups = Groups::new();
        for (bytes, content) in instances {
            let id = taken.take(&bytes);
            built.add(id, &content);
            groups.insert(bytes, id);
        }
        let mut by_content: BTreeMap<Vec<u8>, (Content, Vec<TableOf>)> = BTreeMap::new();
        for table in tables {
            let content = content(scope, table, (&groups, policies));
            by_content.entry(bytes(scope.vni(table.0), &content)).or_insert((content, Vec::new())).1.push(table);
        }
        for (bytes, (content, users)) in by_content {
            let id = taken.take(&bytes);
            built.ids.extend(users.into_iter().map(|table| (table, id)));
            built.add(id, &content);
        }
        built.entries.extend(global::routes(scope));
        built.entries.sort_unstable_by_key(|(key, _)| *key);
        built
    }

    fn add(&mut self, id: u32, content: &Content) {
        self.entries.extend(content.iter().map(|((prefix_len, destination), route)| {
            (RouteKey { prefix_len: 32 + prefix_len, table: Be32::new(id), destination: *destination }, *route)
        }));
    }

    /// The id of a table that a local port uses.
    pub(super) fn id(&self, table: TableOf) -> u32 {
        // Every table of a port of the scope is here; 0 is no table, in which the datapath finds no route.
        self.ids.get(&table).copied().unwrap_or_default()
    }

    /// Whether a table leads every address of its VPC to the endpoint that has it.
    pub(super) fn leads_to_endpoints(scope: &Scope<'_>, (vpc, table): TableOf) -> bool {
        let Some(table) = table else { return true };
        let blocks = &vpc.of(scope.file).cidr_blocks;
        let mut routes = table.of(scope.file).routes.iter().zip(&table.links(scope.links).hops);
        routes.all(|(record, hop)| {
            let within = |block: Cidr| block.net().contains(&record.destination.value.net());
            matches!(hop, Hop::Local) || !blocks.iter().any(|block| within(block.value))
        })
    }

    pub(super) fn into_entries(self) -> Vec<(RouteKey, Route)> {
        self.entries
    }
}

/// The number of routes of all tables of the scope: an upper bound, since tables of one content are one.
pub(super) fn count(scope: &Scope<'_>) -> usize {
    let tables: BTreeSet<_> = scope.tables().collect();
    tables
        .into_iter()
        .map(|(vpc, table)| {
            let routes = table.map_or(0, |table| table.of(scope.file).routes.iter().map(entries).sum());
            vpc.of(scope.file).cidr_blocks.len() + routes + usize::from(needs_guard(scope, (vpc, table)))
        })
        .sum::<usize>()
        + global::routes(scope).len()
}

/// How many entries a route takes at most.
pub(super) fn entries(route: &crate::model::Route) -> usize {
    1 + route.ports.get().map_or(0, |_| BUCKETS as usize)
}

fn content(scope: &Scope<'_>, (vpc, table): TableOf, (groups, policies): (&Groups, &Policies)) -> Content {
    let own = scope.vni(vpc);
    let route = |kind, vpc, next_hop| Route { kind, vpc, next_hop };
    let local = route(kind::LOCAL, own, Ip::UNSPECIFIED);
    let mut content = Content::new();
    for block in &vpc.of(scope.file).cidr_blocks {
        content.insert(key(block.value), local);
    }
    if let Some(table) = table {
        let routes = table.of(scope.file).routes.iter().zip(&table.links(scope.links).hops);
        content.extend(routes.map(|(record, hop)| {
            let destination = record.destination.value;
            let route = match hop {
                Hop::Local => local,
                Hop::Blackhole => route(kind::BLACKHOLE, own, Ip::UNSPECIFIED),
                Hop::Peer(peer) => route(kind::LOCAL, scope.vni(*peer), Ip::UNSPECIFIED),
                Hop::Internet(_) => route(kind::INTERNET, own, Ip::UNSPECIFIED),
                Hop::Nat(gateway) => {
                    let id = gateway.links(scope.links).id;
                    let mut next_hop = Ip::v4(Be32::new(id));
                    next_hop.0[0] = Be32::new(policies.nat_egress(*gateway)).raw();
                    route(kind::NAT, own, next_hop)
                }
                Hop::Ports(ports) => {
                    let instances = instances(scope, own, ports, destination);
                    // Every table of instances has an id; in that of none the datapath finds no route.
                    let id = groups.get(&bytes(Vni(0), &instances)).copied().unwrap_or_default();
                    route(kind::PORTS, own, Ip::v4(Be32::new(id)))
                }
                Hop::Port(port) => route(kind::PORT, own, next_hop(scope, *port, destination)),
            };
            (key(destination), route)
        }));
    }
    if needs_guard(scope, (vpc, table)) {
        content.insert((Ip::MAPPED_BITS, GUARD), route(kind::UNREACHABLE, own, Ip::UNSPECIFIED));
    }
    content
}

/// `::ffff:0:0`, as whose part tables hold IPv4.
const GUARD: Ip = Ip([0, 0, Ip::MAPPED, 0]);

/// Whether an IPv6 route would catch IPv4 as well, because tables hold IPv4 inside `::ffff:0:0/96`.
fn needs_guard(scope: &Scope<'_>, (_, table): TableOf) -> bool {
    let routes = table.map(|table| table.of(scope.file).routes.as_slice()).unwrap_or_default();
    let v4_default = |cidr: Cidr| cidr.is_v4() && cidr.net().prefix_len() == 0;
    routes.iter().any(|route| route.destination.covers_mapped())
        && !routes.iter().any(|route| v4_default(route.destination.value))
}

fn key(destination: Cidr) -> (u32, Ip) {
    let (address, prefix_len) = destination.mapped();
    (prefix_len, address)
}

/// The first address of a port that has the destination's family.
fn next_hop(scope: &Scope<'_>, port: At<Port>, destination: Cidr) -> Ip {
    let addresses = &port.of(scope.file).private_ips;
    let of_family = addresses.iter().find(|address| address.is_ipv4() == destination.is_v4());
    of_family.map_or(Ip::UNSPECIFIED, |address| address.value.0.into())
}

/// The tables of instances that a table refers to.
fn instances_of(scope: &Scope<'_>, (vpc, table): TableOf) -> Vec<Content> {
    let Some(table) = table else { return Vec::new() };
    let routes = table.of(scope.file).routes.iter().zip(&table.links(scope.links).hops);
    routes
        .filter_map(|(record, hop)| match hop {
            Hop::Ports(ports) => Some(instances(scope, scope.vni(vpc), ports, record.destination.value)),
            _ => None,
        })
        .collect()
}

/// The ports that are next hops beside others in the scope's tables.
pub(super) fn next_hops(scope: &Scope<'_>) -> BTreeSet<At<Port>> {
    let tables: BTreeSet<_> = scope.tables().filter_map(|(_, table)| table).collect();
    let hops = tables.into_iter().flat_map(|table| &table.links(scope.links).hops);
    let several = hops.filter_map(|hop| if let Hop::Ports(ports) = hop { Some(ports) } else { None });
    several.flatten().copied().collect()
}

/// Those of the ports that can be next hops now. Where none can all stay: what becomes of their packets says why.
fn usable(scope: &Scope<'_>, ports: &[At<Port>]) -> Vec<At<Port>> {
    let is_there = |port: &&At<Port>| !scope.gone.contains(&port_uid(&port.of(scope.file).name.value));
    let usable: Vec<_> = ports.iter().filter(is_there).copied().collect();
    if usable.is_empty() { ports.to_vec() } else { usable }
}

/// The next hop of each bucket: the instance with the highest hash of its name and the bucket (rendezvous hashing), so
/// that an instance that goes leaves the flows of all others where they are.
fn instances(scope: &Scope<'_>, vpc: Vni, ports: &[At<Port>], destination: Cidr) -> Content {
    let weight = |port: &At<Port>, bucket: u32| {
        let mut hasher = SipHasher24::new_with_keys(u64::from(bucket), 0);
        hasher.write(port.of(scope.file).name.value.as_bytes());
        (hasher.finish(), port.index())
    };
    let usable = usable(scope, ports);
    (0..BUCKETS)
        .filter_map(|bucket| {
            let port = usable.iter().max_by_key(|port| weight(port, bucket))?;
            let route = Route { kind: kind::PORT, vpc, next_hop: next_hop(scope, *port, destination) };
            Some(((Ip::MAPPED_BITS + 32, Ip::v4(Be32::new(bucket))), route))
        })
        .collect()
}

/// The whole content as bytes, for its hash.
fn bytes(vpc: Vni, content: &Content) -> Vec<u8> {
    let mut bytes = vpc.0.to_be_bytes().to_vec();
    for ((prefix_len, destination), route) in content {
        bytes.extend(prefix_len.to_be_bytes());
        bytes.extend(destination.bytes());
        bytes.extend(route.kind.to_be_bytes());
        bytes.extend(route.vpc.0.to_be_bytes());
        bytes.extend(route.next_hop.bytes());
    }
    bytes
}
