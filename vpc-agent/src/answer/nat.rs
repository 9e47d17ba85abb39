//! NAT mappings in words, and what is used of this node's slices.

use super::{owners::Owners, words::protocol};
use crate::{
    control::{
        SessionFilter,
        report::{NatReport, NatRow, NatSliceRow},
    },
    maps::tables::Sessions,
    reconcile::Reconciler,
    sweeper::{MAPPING_TICKS, has_expired, seconds_left, tick},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    Be16, Be32, Vni,
    endpoint::EndpointKey,
    nat::{ExternalPort, NatIn, NatSlice},
    port::UNDERLAY_SLOT,
    session::V4,
    wire,
};
use vpc_topology::compile::Desired;

/// The protocols that NAT gateways translate, each with all ports of its own.
const PROTOCOLS: [u8; 3] = [wire::protocol::TCP, wire::protocol::UDP, wire::protocol::ICMP];

/// The mappings that a filter chooses, to be read away from the agent's loop.
pub(super) struct Translations {
    sessions: Sessions<V4>,
    mappings: Table<ExternalPort, NatIn>,
    owners: Owners,
    slices: Vec<Slice>,
    gateways: BTreeMap<u32, String>,
    forwards: BTreeSet<ExternalPort>,
    filter: SessionFilter,
    desired: Option<Arc<Desired>>,
}

/// This node's part of a NAT gateway.
struct Slice {
    gateway: u32,
    vpc: String,
    ports: NatSlice,
}

impl Slice {
    fn has(&self, key: &ExternalPort) -> bool {
        let offset = key.port.get().checked_sub(self.ports.first_port);
        key.address == self.ports.external && offset.is_some_and(|offset| offset < self.ports.ports)
    }
}

impl Translations {
    pub(super) fn new(reconciler: &Reconciler, filter: &SessionFilter) -> Result<Self, String> {
        let tables = &reconciler.datapath.tables;
        let clone = |error: TableError| error.to_string();
        let owners = Owners::new(reconciler, filter)?;
        let everything = filter.port.is_none() && filter.vpc.is_none();
        let vpcs: BTreeSet<Vni> = owners.all().map(|owner| owner.record.vpc).collect();
        let (mut slices, mut gateways, mut forwards) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        if let Some(desired) = reconciler.desired() {
            gateways.clone_from(&desired.outside.gateway_names);
            forwards.extend(desired.outside.forwards.iter().map(|(key, _)| *key));
            for (gateway, ports) in &desired.outside.slices {
                let Some(vni) = vpc_of(desired, *gateway).filter(|vni| everything || vpcs.contains(vni)) else {
                    continue;
                };
                slices.push(Slice { gateway: *gateway, vpc: vpc_name(Some(desired), vni), ports: *ports });
            }
        }
        Ok(Self {
            sessions: tables.sessions_v4.try_clone().map_err(clone)?,
            mappings: tables.outside.nat_in.try_clone().map_err(clone)?,
            owners,
            slices,
            gateways,
            forwards,
            filter: filter.clone(),
            desired: reconciler.desired().cloned(),
        })
    }

    /// At most so many mappings in words, 0 for all, and all slices.
    pub(super) fn read(&self, limit: usize) -> Result<NatReport, String> {
        let (limit, now) = (if limit == 0 { usize::MAX } else { limit }, tick());
        // Mappings first: the sessions of one that is made meanwhile are not missed.
        let mappings = self.mappings.entries().map_err(|error| error.to_string())?;
        let sessions = self.sessions_by_external(now)?;
        let mut chosen: Vec<_> = mappings
            .iter()
            .filter_map(|(key, mapping)| {
                let (internal, external) = (internal(mapping), external(key));
                let owner = self.owners.chosen(mapping.slot, &[Some(internal.ip()), Some(external.ip())])?;
                Some((owner, key, mapping, internal, external))
            })
            .collect();
        chosen.sort_by_key(|(owner, key, _, internal, external)| (&owner.name, key.protocol, *internal, *external));
        let mappings_in_words = chosen.into_iter().take(limit).map(|(owner, key, mapping, internal, external)| {
            let sessions = sessions.get(key).copied().unwrap_or_default();
            NatRow {
                moved_to: None,
                port: owner.name.clone(),
                vpc: owner.vpc.clone(),
                nat_gateway: self.gateway(mapping.gateway),
                protocol: protocol(key.protocol),
                internal: internal.to_string(),
                external: external.to_string(),
                sessions,
                expires_in_seconds: (sessions == 0).then(|| seconds_left(now, mapping.last_used, MAPPING_TICKS)),
            }
        });
        let mut rows: Vec<_> = mappings_in_words.collect();
        rows.extend(self.moved(&mappings, now).take(limit - rows.len()));
        Ok(NatReport { mappings: rows, slices: self.usage(&mappings) })
    }

    /// Mappings of guests that have left with their state: this node sends after them. They are of no port of this node.
    fn moved<'a>(&'a self, mappings: &'a [(ExternalPort, NatIn)], now: u16) -> impl Iterator<Item = NatRow> + 'a {
        let (filter, desired) = (&self.filter, self.desired.as_deref());
        let left = mappings.iter().filter(|(_, mapping)| mapping.kept != 0 && mapping.slot == UNDERLAY_SLOT);
        left.filter_map(move |(key, mapping)| {
            let (internal, external) = (internal(mapping), external(key));
            let addresses = [Some(internal.ip()), Some(external.ip())];
            let any_port = filter.port.is_none() && filter.vpc.is_none();
            let wanted = any_port && (filter.address.is_none() || addresses.contains(&filter.address));
            let vni = vpc_of(desired?, mapping.gateway)?;
            wanted.then(|| NatRow {
                port: String::new(),
                vpc: vpc_name(desired, vni),
                nat_gateway: self.gateway(mapping.gateway),
                protocol: protocol(key.protocol),
                internal: internal.to_string(),
                external: external.to_string(),
                sessions: 0,
                moved_to: node_of(desired, vni, internal.ip()),
                expires_in_seconds: Some(seconds_left(now, mapping.last_used, mapping.kept)),
            })
        })
    }

    fn sessions_by_external(&self, now: u16) -> Result<BTreeMap<ExternalPort, usize>, String> {
        let mut count = BTreeMap::new();
        let read = self.sessions.for_each_batch(|keys, sessions| {
            for (key, session) in keys.iter().zip(sessions) {
                let lives = |port| !has_expired(session, key.protocol, port, now);
                let (address, port) = session.external();
                if address != [0] && self.owners.of(key.slot).is_some_and(|owner| lives(&owner.record)) {
                    let external = ExternalPort { address, protocol: key.protocol, reserved: 0, port };
                    *count.entry(external).or_default() += 1;
                }
            }
        });
        read.map_err(|error| error.to_string())?;
        Ok(count)
    }

    fn usage(&self, mappings: &[(ExternalPort, NatIn)]) -> Vec<NatSliceRow> {
        let mut rows = Vec::new();
        for slice in &self.slices {
            for number in PROTOCOLS {
                let here = |key: &&ExternalPort| key.protocol == number && slice.has(key);
                let used = mappings.iter().map(|(key, _)| key).filter(here).count();
                let forwarded = self.forwards.iter().filter(here).count();
                let NatSlice { external, first_port, ports, .. } = slice.ports;
                rows.push(NatSliceRow {
                    nat_gateway: self.gateway(slice.gateway),
                    vpc: slice.vpc.clone(),
                    address: v4(external).to_string(),
                    protocol: protocol(number),
                    first_port,
                    last_port: first_port.saturating_add(ports.saturating_sub(1)),
                    used,
                    forwarded,
                    available: usize::from(ports).saturating_sub(used + forwarded),
                });
            }
        }
        rows.sort_by(|a, b| a.nat_gateway.cmp(&b.nat_gateway));
        rows
    }

    fn gateway(&self, id: u32) -> String {
        self.gateways.get(&id).cloned().unwrap_or_else(|| format!("NAT gateway {id:08x}"))
    }
}

/// The VPC of a NAT gateway.
fn vpc_of(desired: &Desired, gateway: u32) -> Option<Vni> {
    let mut externals = desired.outside.externals.iter().map(|(_, external)| external);
    externals.find(|external| external.gateway == gateway).map(|external| external.vpc)
}

fn vpc_name(desired: Option<&Desired>, vni: Vni) -> String {
    let known = desired.and_then(|desired| desired.names.vpcs.get(&vni)).cloned();
    known.unwrap_or_else(|| format!("VNI {}", vni.0))
}

/// The name of the node where an address is.
fn node_of(desired: Option<&Desired>, vpc: Vni, address: IpAddr) -> Option<String> {
    let (desired, key) = (desired?, EndpointKey { vpc, address: address.into() });
    let at = desired.endpoints.binary_search_by_key(&key, |(key, _)| *key).ok()?;
    let id = desired.endpoints[at].1.node;
    if id == desired.node.id {
        return Some(desired.node.name.clone());
    }
    desired.vteps.iter().find(|vtep| vtep.id == id).map(|vtep| vtep.name.clone())
}

fn internal(mapping: &NatIn) -> SocketAddr {
    socket(mapping.private, mapping.port)
}

fn external(key: &ExternalPort) -> SocketAddr {
    socket(key.address, key.port)
}

fn socket(address: V4, port: Be16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(v4(address)), port.get())
}

fn v4(address: V4) -> Ipv4Addr {
    Be32::from_raw(address[0]).0.into()
}
