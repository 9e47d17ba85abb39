//! The ordered way from what the maps hold to what they should hold: add, switch, remove, then move epochs.
//!
//! A packet that passes meanwhile is decided by the old state or by the new one. What it leaves behind in a session
//! is decided again, since the epochs of all ports that are concerned move after the last write.

use super::{
    image::{Image, Wanted},
    locate::{self, BucketWrite, Full},
    outside::OutsidePlan,
};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use vpc_common::{
    Ip, Vni,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    node::Node,
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, SourceKey},
    route::{Route, RouteKey},
    vtep::{Vtep, VtepId},
};

/// What to write to a table and what to remove from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<K, V> {
    /// Entries that are new or other than before. Of a table that was empty these are all, which are shared with it.
    pub set: Arc<Vec<(K, V)>>,
    /// Keys that go.
    pub remove: Vec<K>,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self { set: Arc::default(), remove: Vec::new() }
    }
}

impl<K, V> Changes<K, V> {
    /// How many writes it takes.
    pub fn len(&self) -> usize {
        self.set.len() + self.remove.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether anything goes.
    pub fn removes(&self) -> bool {
        !self.remove.is_empty()
    }
}

/// All writes, table by table. [`super::apply()`] knows their order.
#[derive(Debug, Default)]
pub struct Plan {
    /// `NODE`, where it changes.
    pub node: Option<Node>,
    /// `VTEPS`; a removed one is overwritten with zeroes.
    pub vteps: Changes<u32, Vtep>,
    /// `VTEP_IDS`.
    pub vtep_ids: Changes<Ip, VtepId>,
    /// `ROUTES`.
    pub routes: Changes<RouteKey, Route>,
    /// `SOURCES`.
    pub sources: Changes<SourceKey, u32>,
    /// `ENDPOINTS`.
    pub endpoints: Changes<EndpointKey, Endpoint>,
    /// `MACS`.
    pub macs: Changes<MacKey, MacEntry>,
    /// `FLOOD`.
    pub flood: Changes<FloodKey, FloodMember>,
    /// `HOSTS`.
    pub hosts: Changes<HostKey, Subject>,
    /// `SUBJECTS`.
    pub subjects: Changes<SubjectKey, Subject>,
    /// `IDENTITIES`.
    pub identities: Changes<IdentityKey, Subject>,
    /// `RULES`.
    pub rules: Changes<RuleKey, RuleVerdict>,
    /// The way to the outside.
    pub outside: OutsidePlan,
    /// `PORTS`: existing ports with their old epoch, new ones with a first; a removed one is overwritten with zeroes.
    pub ports: Changes<u16, Port>,
    /// `PORT_DEVICES`.
    pub devices: Changes<u16, u32>,
    /// `LOCATE`: keys that come.
    pub locate_add: Vec<BucketWrite>,
    /// `LOCATE`: keys that go.
    pub locate_remove: Vec<BucketWrite>,
    /// `PORTS` once more, with the epoch that ends all older decisions.
    pub epochs: Vec<(u16, Port)>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.writes() == 0
    }

    /// How many writes it takes.
    pub fn writes(&self) -> usize {
        usize::from(self.node.is_some())
            + self.vteps.len()
            + self.vtep_ids.len()
            + self.routes.len()
            + self.sources.len()
            + self.endpoints.len()
            + self.macs.len()
            + self.flood.len()
            + self.hosts.len()
            + self.subjects.len()
            + self.identities.len()
            + self.rules.len()
            + self.outside.writes()
            + self.ports.len()
            + self.devices.len()
            + self.locate_add.len()
            + self.locate_remove.len()
            + self.epochs.len()
    }

    /// Whether anything goes that a packet may have found a moment before.
    pub fn removes(&self) -> bool {
        self.vteps.removes()
            || self.vtep_ids.removes()
            || self.routes.removes()
            || self.sources.removes()
            || self.endpoints.removes()
            || self.macs.removes()
            || self.flood.removes()
            || self.hosts.removes()
            || self.subjects.removes()
            || self.identities.removes()
            || self.rules.removes()
            || self.outside.removes()
            || self.ports.removes()
            || self.devices.removes()
            || !self.locate_remove.is_empty()
    }
}

/// Plans the way to `wanted`; `epoch` gives the next epoch. Returns the plan and what the maps hold after it.
///
/// # Errors
/// Where the table of ports by address is full.
pub fn plan(actual: &Image, wanted: &Wanted, mut epoch: impl FnMut() -> u32) -> Result<(Plan, Image), Full> {
    let shared = (&actual.shared, &wanted.shared);
    let mut plan = Plan {
        node: (actual.node != wanted.node).then_some(wanted.node),
        vteps: by_key(&actual.vteps, &wanted.vteps),
        vtep_ids: by_key(&actual.vtep_ids, &wanted.vtep_ids),
        routes: sorted(&shared.0.routes, &shared.1.routes),
        sources: sorted(&shared.0.sources, &shared.1.sources),
        endpoints: sorted(&shared.0.endpoints, &shared.1.endpoints),
        macs: sorted(&shared.0.macs, &shared.1.macs),
        flood: sorted(&shared.0.flood, &shared.1.flood),
        hosts: sorted(&shared.0.hosts, &shared.1.hosts),
        subjects: sorted(&shared.0.subjects, &shared.1.subjects),
        identities: sorted(&shared.0.identities, &shared.1.identities),
        rules: sorted(&shared.0.rules, &shared.1.rules),
        outside: OutsidePlan::between(&actual.outside, &wanted.outside),
        devices: by_key(&actual.devices, &wanted.devices),
        ..Plan::default()
    };
    let mut image = Image {
        node: wanted.node,
        ports: BTreeMap::new(),
        devices: wanted.devices.clone(),
        locate: actual.locate.clone(),
        vteps: wanted.vteps.clone(),
        vtep_ids: wanted.vtep_ids.clone(),
        outside: wanted.outside.clone(),
        shared: wanted.shared.clone(),
    };
    let located = locate::plan(&mut image.locate, &wanted.placement())?;
    (plan.locate_add, plan.locate_remove) = (located.add, located.remove);

    let touched = touched(&plan);
    let mut first = None;
    let (mut set, mut moved) = (Vec::new(), BTreeSet::new());
    for (slot, port) in &wanted.ports {
        let old = actual.ports.get(slot);
        let record =
            Port { epoch: old.map_or_else(|| *first.get_or_insert_with(&mut epoch), |old| old.epoch), ..*port };
        let decided_anew = wanted.reach.get(slot).is_some_and(|reach| !reach.is_disjoint(&touched.vpcs))
            || touched.slots.contains(slot)
            || touched.outside
            || plan.outside.changes_decisions();
        if old != Some(&record) {
            set.push((*slot, record));
            moved.insert(*slot);
        } else if decided_anew {
            moved.insert(*slot);
        }
        image.ports.insert(*slot, record);
    }
    plan.ports.set = Arc::new(set);
    plan.ports.remove = actual.ports.keys().filter(|slot| !wanted.ports.contains_key(slot)).copied().collect();
    if !moved.is_empty() {
        let epoch = epoch();
        for slot in moved {
            if let Some(port) = image.ports.get_mut(&slot) {
                port.epoch = epoch;
                plan.epochs.push((slot, *port));
            }
        }
    }
    Ok((plan, image))
}

/// What older decisions may rest on.
struct Touched {
    vpcs: BTreeSet<Vni>,
    slots: BTreeSet<u16>,
    /// Whether the outside's table is.
    outside: bool,
}

fn touched(plan: &Plan) -> Touched {
    let endpoints = plan.endpoints.set.iter().map(|(key, _)| key).chain(&plan.endpoints.remove);
    let sources = plan.sources.set.iter().map(|(key, _)| key).chain(&plan.sources.remove);
    let routes = plan.routes.set.iter().map(|(key, _)| key).chain(&plan.routes.remove);
    Touched {
        // An entry by MAC changes only together with the endpoint's. Another route table or rule set has another id,
        // which is a change of the port's record.
        vpcs: endpoints.map(|key| key.vpc).collect(),
        slots: sources.filter_map(|key| u16::try_from(key.slot.get()).ok()).collect(),
        outside: routes.map(|key| key.table).any(|table| table == RouteKey::OUTSIDE),
    }
}

fn by_key<K: Ord + Copy, V: PartialEq + Copy>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Changes<K, V> {
    let set = new.iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(key, value)| (*key, *value));
    let remove = old.keys().filter(|key| !new.contains_key(key)).copied();
    Changes { set: Arc::new(set.collect()), remove: remove.collect() }
}

/// The difference of two sorted tables, in one walk over both.
pub(super) fn sorted<K: Ord + Copy, V: PartialEq + Copy>(
    old: &Arc<Vec<(K, V)>>,
    new: &Arc<Vec<(K, V)>>,
) -> Changes<K, V> {
    if Arc::ptr_eq(old, new) {
        return Changes::default();
    }
    if old.is_empty() {
        return Changes { set: Arc::clone(new), remove: Vec::new() };
    }
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Changes { set: Arc::new(set), remove },
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        match (before, after) {
            (Some((key, _)), None) => remove.push(*key),
            (before, Some((key, value))) if before.is_none_or(|(_, old)| old != value) => {
                set.push((*key, *value));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::locate::placement;
    use vpc_common::{Be32, Mac, port::flags};

    fn port(uid: u64, vpc: u32) -> Port {
        Port {
            uid,
            vpc: Vni(vpc),
            l2_vni: Vni(vpc),
            mac: Mac::new([2, 0, 0, 0, 0, uid as u8]),
            ifindex: 7,
            ..Port::default()
        }
    }

    fn wanted(ports: &[(u16, Port)]) -> Wanted {
        Wanted {
            ports: ports.iter().copied().collect(),
            reach: ports.iter().map(|(slot, port)| (*slot, BTreeSet::from([port.vpc]))).collect(),
            ..Wanted::default()
        }
    }

    fn endpoint(vpc: u32, address: u32, node: u16) -> (EndpointKey, Endpoint) {
        let key = EndpointKey { vpc: Vni(vpc), address: Ip::v4(Be32::new(address)) };
        (key, Endpoint { node, ..Endpoint::default() })
    }

    fn start() -> Image {
        Image { locate: locate::empty(), ..Image::default() }
    }

    fn next(last: &mut u32) -> impl FnMut() -> u32 + '_ {
        || {
            *last += 1;
            *last
        }
    }

    #[test]
    fn planning_twice_does_nothing() {
        let mut last = 0;
        let mut wanted = wanted(&[(1, port(1, 5)), (2, Port { ifindex: 8, ..port(2, 6) })]);
        wanted.shared.endpoints = Arc::new(vec![endpoint(5, 1, 1), endpoint(6, 1, 2)]);
        let (first, image) = plan(&start(), &wanted, next(&mut last)).unwrap();
        assert_eq!((first.ports.set.len(), first.epochs.len(), first.endpoints.set.len()), (2, 2, 2));
        assert!(Arc::ptr_eq(&first.endpoints.set, &wanted.shared.endpoints), "all of a table is not copied");
        assert!(image.ports.values().all(|port| port.epoch == 2), "an epoch after all that decides");
        assert!(!first.removes());
        let again = Wanted { shared: wanted.shared.clone(), ..wanted };
        assert!(plan(&image, &again, next(&mut last)).unwrap().0.is_empty());
        assert_eq!(placement(&image.locate), again.placement());
    }

    #[test]
    fn a_changed_endpoint_moves_the_epochs_of_its_vpc_only() {
        let mut last = 0;
        let mut wanted = wanted(&[(1, port(1, 5)), (2, Port { ifindex: 8, ..port(2, 6) })]);
        wanted.shared.endpoints = Arc::new(vec![endpoint(5, 1, 1), endpoint(5, 2, 1), endpoint(6, 1, 2)]);
        let (_, image) = plan(&start(), &wanted, next(&mut last)).unwrap();
        wanted.shared.endpoints = Arc::new(vec![endpoint(5, 1, 3), endpoint(6, 1, 2)]);
        let (plan, after) = plan(&image, &wanted, next(&mut last)).unwrap();
        assert_eq!(*plan.endpoints.set, [endpoint(5, 1, 3)]);
        assert_eq!(plan.endpoints.remove, [endpoint(5, 2, 1).0]);
        assert!(plan.removes());
        assert_eq!(plan.epochs.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [1]);
        assert!(plan.ports.is_empty());
        assert!(after.ports[&1].epoch > after.ports[&2].epoch);
    }

    #[test]
    fn a_changed_record_keeps_its_epoch_until_all_is_switched() {
        let mut last = 0;
        let (_, image) = plan(&start(), &wanted(&[(1, port(1, 5))]), next(&mut last)).unwrap();
        let new = wanted(&[(1, Port { flags: flags::NON_IP, ..port(1, 5) })]);
        let (plan, _) = plan(&image, &new, next(&mut last)).unwrap();
        assert_eq!(plan.ports.set[0].1.epoch, image.ports[&1].epoch);
        assert!(plan.epochs[0].1.epoch > image.ports[&1].epoch);
    }

    #[test]
    fn a_slot_is_emptied_before_another_port_gets_it() {
        let mut last = 0;
        let (_, image) = plan(&start(), &wanted(&[(1, port(1, 5)), (2, port(2, 5))]), next(&mut last)).unwrap();
        let new = wanted(&[(1, port(9, 5)), (2, port(2, 5))]);
        let recycled = image.recycled(&new);
        assert_eq!(recycled, BTreeSet::from([1]));
        let (emptied, between) = plan(&image, &image.without(&recycled), next(&mut last)).unwrap();
        assert_eq!(emptied.ports.remove, [1]);
        assert!(emptied.epochs.is_empty());
        assert!(!placement(&between.locate).values().any(|slot| *slot == 1));
    }
}
