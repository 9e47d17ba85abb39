//! The tables of the way to the outside: external addresses, who stands behind them, and the gateways.

use super::plan::{Changes, sorted};
use bytemuck::{Pod, Zeroable};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use vpc_bpf::{LoadError, Loaded, Table, TableError};
use vpc_common::{
    gateway::{Gateways, Outlet, element},
    maps,
    nat::{ElasticKey, External, ExternalPort, Forward, NatIn, NatOut, NatOutKey, NatSlice},
    session::V4,
};
use vpc_topology::compile;

/// The tables that the topology alone decides, sorted by key.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// `EXTERNALS`.
    pub externals: Arc<Vec<(V4, External)>>,
    /// `ELASTIC_IPS`.
    pub elastic_ips: Arc<Vec<(ElasticKey, V4)>>,
    /// `NAT_GATEWAYS`.
    pub slices: Arc<Vec<(u32, NatSlice)>>,
    /// `FORWARDS`.
    pub forwards: Arc<Vec<(ExternalPort, Forward)>>,
}

impl Shared {
    /// Takes over what the topology says; what is the same as before keeps its identity.
    pub fn of(old: &Self, outside: &compile::Outside) -> Self {
        fn keep<T: PartialEq + Clone>(old: &Arc<Vec<T>>, new: &[T]) -> Arc<Vec<T>> {
            if old.as_slice() == new { Arc::clone(old) } else { Arc::new(new.to_vec()) }
        }
        Self {
            externals: keep(&old.externals, &outside.externals),
            elastic_ips: keep(&old.elastic_ips, &outside.elastic_ips),
            slices: keep(&old.slices, &outside.slices),
            forwards: keep(&old.forwards, &outside.forwards),
        }
    }
}

/// What the tables hold, or should hold.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// What the topology alone decides.
    pub shared: Shared,
    /// `GATEWAYS`, element `FABRIC`.
    pub gateways: Gateways,
    /// `GATEWAYS`, element `SEGMENT`.
    pub segment: Gateways,
    /// `OUTLET`.
    pub outlet: Outlet,
}

/// The writes.
#[derive(Debug, Default)]
pub struct OutsidePlan {
    externals: Changes<V4, External>,
    elastic_ips: Changes<ElasticKey, V4>,
    slices: Changes<u32, NatSlice>,
    forwards: Changes<ExternalPort, Forward>,
    gateways: Option<Gateways>,
    segment: Option<Gateways>,
    outlet: Option<Outlet>,
}

impl OutsidePlan {
    /// The way from one content to another.
    pub fn between(old: &Outside, new: &Outside) -> Self {
        Self {
            externals: sorted(&old.shared.externals, &new.shared.externals),
            elastic_ips: sorted(&old.shared.elastic_ips, &new.shared.elastic_ips),
            slices: sorted(&old.shared.slices, &new.shared.slices),
            forwards: sorted(&old.shared.forwards, &new.shared.forwards),
            gateways: (old.gateways != new.gateways).then_some(new.gateways),
            segment: (old.segment != new.segment).then_some(new.segment),
            outlet: (old.outlet != new.outlet).then_some(new.outlet),
        }
    }

    /// How many writes it takes.
    pub fn writes(&self) -> usize {
        self.externals.len()
            + self.elastic_ips.len()
            + self.slices.len()
            + self.forwards.len()
            + usize::from(self.gateways.is_some())
            + self.of_this_gateway()
    }

    /// Writes to what only this gateway asks, for every packet.
    fn of_this_gateway(&self) -> usize {
        usize::from(self.segment.is_some()) + usize::from(self.outlet.is_some())
    }

    /// Whether anything goes.
    pub fn removes(&self) -> bool {
        self.externals.removes() || self.elastic_ips.removes() || self.slices.removes() || self.forwards.removes()
    }

    /// Whether decisions about flows may rest on what changes.
    pub fn changes_decisions(&self) -> bool {
        self.writes() > self.of_this_gateway()
    }
}

/// Handles of the maps.
#[derive(Debug)]
pub struct OutsideTables {
    externals: Table<V4, External>,
    elastic_ips: Table<ElasticKey, V4>,
    slices: Table<u32, NatSlice>,
    forwards: Table<ExternalPort, Forward>,
    gateways: Table<u32, Gateways>,
    outlet: Table<u32, Outlet>,
    /// See [`maps::NAT_IN`].
    pub nat_in: Table<ExternalPort, NatIn>,
    /// See [`maps::NAT_OUT`].
    pub nat_out: Table<NatOutKey, NatOut>,
    /// Who writes a mapping that may be there already holds it: the sweeper does, and who moves a port's state.
    pub mappings_lock: Arc<Mutex<()>>,
}

impl OutsideTables {
    /// Takes the handles of a loaded object.
    ///
    /// # Errors
    /// Where the object's maps are not those of this agent.
    pub fn new(loaded: &Loaded) -> Result<Self, LoadError> {
        Ok(Self {
            externals: loaded.table(maps::EXTERNALS)?,
            elastic_ips: loaded.table(maps::ELASTIC_IPS)?,
            slices: loaded.table(maps::NAT_GATEWAYS)?,
            forwards: loaded.table(maps::FORWARDS)?,
            gateways: loaded.table(maps::GATEWAYS)?,
            outlet: loaded.table(maps::OUTLET)?,
            nat_in: loaded.table(maps::NAT_IN)?,
            nat_out: loaded.table(maps::NAT_OUT)?,
            mappings_lock: Arc::default(),
        })
    }

    /// Reads what the maps hold, the mappings of traffic left out.
    ///
    /// # Errors
    /// Where the kernel refuses a call.
    pub fn read(&self) -> Result<Outside, TableError> {
        Ok(Outside {
            shared: Shared {
                externals: by_key(&self.externals)?,
                elastic_ips: by_key(&self.elastic_ips)?,
                slices: by_key(&self.slices)?,
                forwards: by_key(&self.forwards)?,
            },
            gateways: self.gateways.get(&element::FABRIC)?.unwrap_or_default(),
            segment: self.gateways.get(&element::SEGMENT)?.unwrap_or_default(),
            outlet: self.outlet.get(&0)?.unwrap_or_else(Zeroable::zeroed),
        })
    }

    /// Writes what comes.
    ///
    /// # Errors
    /// Where the kernel refuses a call.
    pub fn add(&self, plan: &OutsidePlan) -> Result<(), TableError> {
        self.externals.set_all(&plan.externals.set)?;
        self.elastic_ips.set_all(&plan.elastic_ips.set)?;
        self.set_slices(&plan.slices.set)?;
        self.set_forwards(&plan.forwards.set)?;
        if let Some(outlet) = &plan.outlet {
            self.outlet.set(&0, outlet)?;
        }
        if let Some(gateways) = &plan.gateways {
            self.gateways.set(&element::FABRIC, gateways)?;
        }
        if let Some(segment) = &plan.segment {
            self.gateways.set(&element::SEGMENT, segment)?;
        }
        Ok(())
    }

    /// A guest's port has its home in the slice: to mappings made in the former one their guests are led from now on, and
    /// those whose external ports are no more of this node's are removed.
    fn set_slices(&self, slices: &[(u32, NatSlice)]) -> Result<(), TableError> {
        let mut changed = BTreeMap::new();
        for (gateway, new) in slices {
            if let Some(old) = self.slices.get(gateway)?.filter(|old| !old.same_ports(new)) {
                changed.insert(*gateway, (old, *new));
            }
        }
        if changed.is_empty() {
            return self.slices.set_all(slices);
        }
        let _alone = self.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let led: BTreeMap<NatOutKey, NatOut> = self.nat_out.entries()?.into_iter().collect();
        let (mut leads, mut lost) = (Vec::new(), Vec::new());
        for (key, mapping) in self.nat_in.entries()? {
            // What a guest has brought along is in the slice of another node.
            let Some((_, new)) = changed.get(&mapping.gateway).filter(|(old, _)| old.contains(&key)) else { continue };
            let way = mapping.way_out(&key);
            match (new.contains(&key), led.get(&way.0)) {
                (true, None) => leads.push(way),
                (true, Some(_)) => {}
                (false, there) => lost.push((key, there.filter(|there| **there == way.1).map(|_| way.0))),
            }
        }
        self.nat_out.set_all(&leads)?;
        self.slices.set_all(slices)?;
        let outs: Vec<_> = lost.iter().filter_map(|(_, out)| *out).collect();
        self.nat_out.delete_all(&outs)?;
        let keys: Vec<_> = lost.iter().map(|(key, _)| *key).collect();
        self.nat_in.delete_all(&keys)
    }

    /// What comes from outside to the port of a forward is the forward's: a guest that has a mapping there gets another one.
    /// One that a packet makes in this very moment stays until it is idle.
    fn set_forwards(&self, forwards: &[(ExternalPort, Forward)]) -> Result<(), TableError> {
        self.forwards.set_all(forwards)?;
        let _alone = self.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in forwards {
            let Some(mapping) = self.nat_in.get(key)? else { continue };
            let (out, here) = mapping.way_out(key);
            if self.nat_out.get(&out)? == Some(here) {
                self.nat_out.delete(&out)?;
            }
            self.nat_in.delete(key)?;
        }
        Ok(())
    }

    /// Removes what goes.
    ///
    /// # Errors
    /// Where the kernel refuses a call.
    pub fn remove(&self, plan: &OutsidePlan) -> Result<(), TableError> {
        self.forwards.delete_all(&plan.forwards.remove)?;
        self.slices.delete_all(&plan.slices.remove)?;
        self.elastic_ips.delete_all(&plan.elastic_ips.remove)?;
        self.externals.delete_all(&plan.externals.remove)
    }
}

fn by_key<K: Pod + Ord, V: Pod>(table: &Table<K, V>) -> Result<Arc<Vec<(K, V)>>, TableError> {
    let mut entries = table.entries()?;
    entries.sort_unstable_by_key(|(key, _)| *key);
    Ok(Arc::new(entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpc_bpf::{Loader, Sizes};
    use vpc_common::Be16;

    /// Needs root.
    #[test]
    fn a_guest_has_no_mapping_where_a_forward_comes() {
        let loaded = Loader::new(Sizes { sessions: 1_024, endpoints: 1_024, routes: 1_024, ..Sizes::default() });
        let tables = OutsideTables::new(&loaded.load().unwrap()).unwrap();
        let external = |port| ExternalPort { address: [9], protocol: 17, reserved: 0, port: Be16::new(port) };
        let mapping = |port| NatIn { gateway: 1, slot: 1, port: Be16::new(port), ..NatIn::default() };
        let way = |port| mapping(port).way_out(&external(port));
        // To 80 and 81 guests are led, 82 is at home; the guest of 83 is led elsewhere by now.
        let elsewhere = (way(83).0, NatOut { address: [9], port: Be16::new(90), reserved: 0 });
        tables.nat_in.set_all(&[80, 81, 82, 83].map(|port| (external(port), mapping(port)))).unwrap();
        tables.nat_out.set_all(&[way(80), way(81), elsewhere]).unwrap();
        let forward = |port| (external(port), Forward::zeroed());
        tables.set_forwards(&[80, 82, 83, 84].map(forward)).unwrap();
        assert_eq!(tables.nat_in.entries().unwrap(), [(external(81), mapping(81))]);
        let led: BTreeMap<_, _> = tables.nat_out.entries().unwrap().into_iter().collect();
        assert_eq!(led, BTreeMap::from([way(81), elsewhere]));
    }

    /// Needs root.
    #[test]
    fn mappings_stay_where_a_changed_slice_still_has_their_ports() {
        let loaded = Loader::new(Sizes { sessions: 1_024, endpoints: 1_024, routes: 1_024, ..Sizes::default() });
        let tables = OutsideTables::new(&loaded.load().unwrap()).unwrap();
        let slice = |ports| NatSlice { external: [9], first_port: 1_024, ports, forwards: 0 };
        let external = |port| ExternalPort { address: [9], protocol: 17, reserved: 0, port: Be16::new(port) };
        let mapping = |gateway, port| NatIn { gateway, slot: 1, port: Be16::new(port), ..NatIn::default() };
        let entry = |gateway, port| (external(port), mapping(gateway, port));
        let way = |gateway, port| mapping(gateway, port).way_out(&external(port));
        tables.set_slices(&[(1, slice(100)), (2, slice(0))]).unwrap();
        // The ports of 1024 and 1100 are at home; 3000 has come along with a guest, and 1030 is another gateway's.
        tables
            .nat_in
            .set_all(
                &[(1, 1_024), (1, 1_025), (1, 1_100), (1, 1_101), (1, 3_000), (2, 1_030)].map(|(g, p)| entry(g, p)),
            )
            .unwrap();
        tables.nat_out.set_all(&[(1, 1_025), (1, 1_101), (1, 3_000)].map(|(g, p)| way(g, p))).unwrap();
        let left = || {
            let mut mappings: Vec<_> = tables.nat_in.entries().unwrap().iter().map(|(key, _)| key.port.get()).collect();
            let mut led: Vec<_> = tables.nat_out.entries().unwrap().iter().map(|(_, out)| out.port.get()).collect();
            mappings.sort_unstable();
            led.sort_unstable();
            (mappings, led)
        };
        let before = left();
        tables.set_slices(&[(1, NatSlice { forwards: 1, ..slice(100) })]).unwrap();
        assert_eq!(left(), before, "the ports are the same");
        tables.set_slices(&[(1, slice(50))]).unwrap();
        assert_eq!(left(), (vec![1_024, 1_025, 1_030, 3_000], vec![1_024, 1_025, 3_000]));
        tables.set_slices(&[(1, NatSlice { external: [8], ..slice(50) })]).unwrap();
        assert_eq!(left(), (vec![1_030, 3_000], vec![3_000]));
    }
}
