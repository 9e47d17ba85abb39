//! Local ports: their slots and records.

use super::{
    CompileError, DesiredPort, Scope, Slots,
    endpoints::{Family, gateway, or_unspecified},
    ids::port_uid,
    policy::{Policies, group_names},
    routes::Tables,
    sessions,
};
use crate::{
    Limits,
    model::{Port, Subnet},
    topology::{At, Identity},
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};
use vpc_common::{
    Be32, Ip, Mac,
    policy::NOBODY,
    port::{self, flags},
};

/// A port without its slot.
struct Candidate<'t> {
    name: String,
    port: Option<&'t Port>,
    identity: Option<At<Identity>>,
    subnet: At<Subnet>,
}

/// The ports of the node by slot.
pub(super) fn ports(
    scope: &Scope<'_>,
    tables: &Tables,
    policies: &Policies,
    previous: &Slots,
    limits: &Limits,
) -> Result<BTreeMap<u16, DesiredPort>, CompileError> {
    let candidates = candidates(scope)?;
    let slots = assign(candidates.keys().copied(), previous, limits.local_ports);
    let parts = Parts { tables, policies, share: sessions::share(scope, limits), limits };
    let port = |uid, candidate| desired(scope, &parts, uid, candidate);
    Ok(candidates.into_iter().filter_map(|(uid, c)| Some((*slots.get(&uid)?, port(uid, c)))).collect())
}

/// Every port of the node by uid: the workloads', and the routers that plain VTEPs send to.
fn candidates<'t>(scope: &Scope<'t>) -> Result<BTreeMap<u64, Candidate<'t>>, CompileError> {
    let workloads = scope.subnets.iter().flat_map(|(subnet, ports)| {
        ports.iter().map(|port| {
            let (port, identity) = (port.of(scope.file), port.links(scope.links).identity);
            Candidate { name: port.name.to_string(), port: Some(port), identity: Some(identity), subnet: *subnet }
        })
    });
    let routers = scope.routers.values().filter_map(|router| router.subnets.first()).map(|subnet| Candidate {
        name: format!("router/{}", subnet.of(scope.file).name.value),
        port: None,
        identity: None,
        subnet: *subnet,
    });
    let mut candidates = BTreeMap::new();
    for candidate in workloads.chain(routers) {
        match candidates.entry(port_uid(&candidate.name)) {
            Entry::Vacant(vacant) => {
                vacant.insert(candidate);
            }
            Entry::Occupied(first) => {
                return Err(CompileError::UidCollision {
                    node: scope.node.of(scope.file).name.to_string(),
                    first: first.get().name.clone(),
                    second: candidate.name,
                });
            }
        }
    }
    Ok(candidates)
}

/// Gives every uid its slot: the one that it had, else the lowest that is free. Slot 0 belongs to no port.
fn assign(uids: impl Iterator<Item = u64>, previous: &Slots, ports: u32) -> Slots {
    let mut slots = Slots::new();
    let mut taken = BTreeSet::new();
    let mut new = Vec::new();
    for uid in uids {
        match previous.get(&uid) {
            Some(slot) if *slot != port::UNDERLAY_SLOT && u32::from(*slot) <= ports && taken.insert(*slot) => {
                slots.insert(uid, *slot);
            }
            _ => new.push(uid),
        }
    }
    let free = (port::UNDERLAY_SLOT + 1..=u16::MAX).filter(|slot| !taken.contains(slot));
    slots.extend(new.into_iter().zip(free));
    slots
}

/// What the records of all ports are made with.
struct Parts<'p> {
    tables: &'p Tables,
    policies: &'p Policies,
    /// Sessions that each port may have.
    share: u32,
    limits: &'p Limits,
}

fn desired(scope: &Scope<'_>, parts: &Parts<'_>, uid: u64, candidate: Candidate<'_>) -> DesiredPort {
    let Parts { tables, policies, share, limits } = *parts;
    let (subnet, links) = (candidate.subnet.of(scope.file), candidate.subnet.links(scope.links));
    let flag = |on: bool, bit| if on { bit } else { 0 };
    let (mac, flags) = match candidate.port {
        Some(port) => (
            port.mac.value.0,
            flag(port.allows_non_ip(), flags::NON_IP) | flag(port.routes_for_others(), flags::ROUTES_FOR_OTHERS),
        ),
        None => (Mac::ROUTER, flags::ROUTER),
    };
    let table = scope.table_of(candidate.subnet);
    let flags = flags | flag(Tables::leads_to_endpoints(scope, table), flags::ENDPOINTS_FIRST);
    let gateway_v4 = or_unspecified(gateway(subnet, Family::V4));
    let (ingress_rules, egress_rules) = match candidate.identity {
        Some(identity) => (policies.ingress(identity), policies.egress(identity)),
        None => (policies.router(), policies.router()),
    };
    let vpc = links.vpc.of(scope.file);
    let timeouts = sessions::seconds(vpc);
    let record = port::Port {
        flags,
        vpc: scope.vni(links.vpc),
        l2_vni: links.vni,
        subnet: links.id,
        route_table: tables.id(table),
        uid,
        mac,
        gateway_v6: or_unspecified(gateway(subnet, Family::V6)),
        gateway_v4: if gateway_v4.is_v4() { gateway_v4.low() } else { Be32::default() },
        ingress_rules,
        egress_rules,
        ingress_acl: policies.ingress_acl(links.network_acl),
        egress_acl: policies.egress_acl(links.network_acl),
        timeouts: sessions::timeouts(&timeouts),
        session_quota: sessions::quota(vpc, candidate.port, share),
        vpc_quota: sessions::vpc_quota(vpc, limits),
        vpc_index: scope.own.iter().take_while(|own| **own != links.vpc).count() as u32,
        private_v4: candidate.port.and_then(first_v4).unwrap_or_default(),
        private_v6: candidate.port.and_then(first_v6).unwrap_or_default(),
        identity: candidate.identity.map_or(NOBODY, |identity| identity.links(scope.links).id),
        ..port::Port::default()
    };
    DesiredPort {
        name: candidate.name,
        device: candidate.port.and_then(|port| port.device.as_ref()).map(|device| device.to_string()),
        packet_rate: candidate.port.is_some_and(Port::is_for_packet_rate),
        record,
        reach: scope.reach(candidate.subnet),
        groups: candidate.identity.map(|identity| group_names(scope, identity)).unwrap_or_default(),
        network_acl: links.network_acl.map(|acl| acl.of(scope.file).name.to_string()),
        timeouts,
    }
}

fn first_v4(port: &Port) -> Option<Be32> {
    port.private_ips.iter().find_map(|address| match address.value.0 {
        IpAddr::V4(address) => Some(Be32(address.octets())),
        IpAddr::V6(_) => None,
    })
}

fn first_v6(port: &Port) -> Option<Ip> {
    port.private_ips.iter().map(|address| Ip::from(address.value.0)).find(|address| !address.is_v4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_kept_and_the_lowest_free_is_next() {
        let previous = Slots::from([(10, 2), (30, 5)]);
        let slots = assign([10, 20, 40].into_iter(), &previous, 1_024);
        assert_eq!(slots, Slots::from([(10, 2), (20, 1), (40, 3)]));
    }

    #[test]
    fn bad_previous_slots_are_given_up() {
        let previous = Slots::from([(10, 0), (20, 9), (30, 3), (40, 3)]);
        let slots = assign([10, 20, 30, 40].into_iter(), &previous, 8);
        assert_eq!(slots, Slots::from([(10, 1), (20, 2), (30, 3), (40, 4)]));
    }
}
