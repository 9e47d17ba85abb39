//! The tables of the way to the outside: external addresses, who stands behind them, and the gateways.

use super::plan::{Changes, sorted};
use bytemuck::{Pod, Zeroable};
use std::sync::{Arc, Mutex};
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
        self.slices.set_all(&plan.slices.set)?;
        self.forwards.set_all(&plan.forwards.set)?;
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
