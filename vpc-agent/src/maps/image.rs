//! The content of the maps, in memory.

use super::{locate::Placement, outside::Outside};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use vpc_common::{
    Ip, Vni, bfd,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    locate::{LocateBucket, LocateKey},
    maps,
    node::Node,
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, SourceKey, flags},
    route::{Route, RouteKey},
    vtep::{Vtep, VtepId},
};

/// The tables that the topology alone decides. Sorted by key; shared, since they are large and most changes leave
/// them alone.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// `ENDPOINTS`.
    pub endpoints: Arc<Vec<(EndpointKey, Endpoint)>>,
    /// `MACS`.
    pub macs: Arc<Vec<(MacKey, MacEntry)>>,
    /// `ROUTES`.
    pub routes: Arc<Vec<(RouteKey, Route)>>,
    /// `SOURCES`.
    pub sources: Arc<Vec<(SourceKey, u32)>>,
    /// `FLOOD`.
    pub flood: Arc<Vec<(FloodKey, FloodMember)>>,
    /// `HOSTS`.
    pub hosts: Arc<Vec<(HostKey, Subject)>>,
    /// `SUBJECTS`.
    pub subjects: Arc<Vec<(SubjectKey, Subject)>>,
    /// `IDENTITIES`.
    pub identities: Arc<Vec<(IdentityKey, Subject)>>,
    /// `RULES`.
    pub rules: Arc<Vec<(RuleKey, RuleVerdict)>>,
}

/// What the maps hold.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// `NODE`.
    pub node: Node,
    /// `PORTS`, used slots only.
    pub ports: BTreeMap<u16, Port>,
    /// `PORT_DEVICES`.
    pub devices: BTreeMap<u16, u32>,
    /// `LOCATE`, whole.
    pub locate: Vec<LocateBucket>,
    /// `VTEPS`, used indices only.
    pub vteps: BTreeMap<u32, Vtep>,
    /// `VTEP_IDS`.
    pub vtep_ids: BTreeMap<Ip, VtepId>,
    /// The way to the outside.
    pub outside: Outside,
    /// The rest.
    pub shared: Shared,
}

/// What they should hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `NODE`.
    pub node: Node,
    /// `PORTS`, with epoch 0: that is the plan's business.
    pub ports: BTreeMap<u16, Port>,
    /// The VPCs that decide over a slot's flows.
    pub reach: BTreeMap<u16, BTreeSet<Vni>>,
    /// `PORT_DEVICES`.
    pub devices: BTreeMap<u16, u32>,
    /// `VTEPS`.
    pub vteps: BTreeMap<u32, Vtep>,
    /// `VTEP_IDS`.
    pub vtep_ids: BTreeMap<Ip, VtepId>,
    /// The way to the outside.
    pub outside: Outside,
    /// The rest.
    pub shared: Shared,
}

impl Wanted {
    /// What leads to each slot: the port's MAC in its subnet's VNI, its interface, and by what others ask for it as a next hop.
    pub fn placement(&self) -> Placement {
        let mut placement = Placement::new();
        for (slot, port) in &self.ports {
            placement.insert(LocateKey::endpoint(port.l2_vni, port.mac), *slot);
            if port.ifindex != 0 {
                placement.insert(LocateKey::interface(port.ifindex), *slot);
            }
            if port.flags & flags::ROUTES_FOR_OTHERS != 0 {
                placement.insert(LocateKey::discriminator(bfd::of_port(port.uid)), *slot);
            }
        }
        placement
    }
}

impl Image {
    /// The slots that go to another port. They are emptied before, so that no frame of the old port reaches the new
    /// one's interface.
    pub fn recycled(&self, wanted: &Wanted) -> BTreeSet<u16> {
        let other = |slot: &u16, port: &Port| wanted.ports.get(slot).is_some_and(|new| new.uid != port.uid);
        self.ports.iter().filter(|(slot, port)| other(slot, port)).map(|(slot, _)| *slot).collect()
    }

    /// The present content without some slots.
    pub fn without(&self, slots: &BTreeSet<u16>) -> Wanted {
        let keep = |slot: &u16| !slots.contains(slot);
        Wanted {
            node: self.node,
            ports: self
                .ports
                .iter()
                .filter(|(slot, _)| keep(slot))
                .map(|(slot, port)| (*slot, Port { epoch: 0, ..*port }))
                .collect(),
            reach: BTreeMap::new(),
            devices: self.devices.iter().filter(|(slot, _)| keep(slot)).map(|(slot, index)| (*slot, *index)).collect(),
            vteps: self.vteps.clone(),
            vtep_ids: self.vtep_ids.clone(),
            outside: self.outside.clone(),
            shared: self.shared.clone(),
        }
    }

    /// How many entries of a map are in use; none where traffic fills it.
    pub fn entries(&self, map: &str) -> Option<usize> {
        match map {
            maps::NODE => Some(1),
            maps::LOCATE => {
                Some(self.locate.iter().flat_map(|bucket| bucket.0).filter(|entry| entry.slot != 0).count())
            }
            maps::PORTS => Some(self.ports.len()),
            maps::PORT_DEVICES => Some(self.devices.len()),
            maps::SOURCES => Some(self.shared.sources.len()),
            maps::ENDPOINTS => Some(self.shared.endpoints.len()),
            maps::MACS => Some(self.shared.macs.len()),
            maps::ROUTES => Some(self.shared.routes.len()),
            maps::VTEPS => Some(self.vteps.len()),
            maps::VTEP_IDS => Some(self.vtep_ids.len()),
            maps::FLOOD => Some(self.shared.flood.len()),
            maps::EXTERNALS => Some(self.outside.shared.externals.len()),
            maps::ELASTIC_IPS => Some(self.outside.shared.elastic_ips.len()),
            maps::NAT_GATEWAYS => Some(self.outside.shared.slices.len()),
            maps::FORWARDS => Some(self.outside.shared.forwards.len()),
            maps::HOSTS => Some(self.shared.hosts.len()),
            maps::SUBJECTS => Some(self.shared.subjects.len()),
            maps::IDENTITIES => Some(self.shared.identities.len()),
            maps::RULES => Some(self.shared.rules.len()),
            _ => None,
        }
    }

    /// The highest epoch in use.
    pub fn last_epoch(&self) -> u32 {
        self.ports.values().map(|port| port.epoch).max().unwrap_or_default()
    }

    /// Which port has which slot.
    pub fn slots(&self) -> vpc_topology::Slots {
        self.ports.iter().map(|(slot, port)| (port.uid, *slot)).collect()
    }
}
