//! How much ports and VPCs use of their quotas, as the datapath counts it.
//!
//! The datapath adds atomically, the agent reads and writes: what is counted in between gets lost, and is found by the next
//! sweep, which counts by hand.

use crate::maps::Tables;
use std::collections::BTreeMap;
use vpc_bpf::{Table, TableError};
use vpc_common::port::{Port, Usage};

/// The counts.
pub struct UsageTables {
    ports: Table<u32, Port>,
    of_ports: Table<u32, Usage>,
    of_vpcs: Table<u32, Usage>,
}

impl UsageTables {
    /// Handles of their own.
    ///
    /// # Errors
    /// Where no descriptor can be had.
    pub fn new(tables: &Tables) -> Result<Self, TableError> {
        Ok(Self {
            ports: tables.ports.try_clone()?,
            of_ports: tables.port_usage.try_clone()?,
            of_vpcs: tables.vpc_usage.try_clone()?,
        })
    }

    /// Gives back what sessions have taken that were removed, by slot.
    ///
    /// # Errors
    /// Where a map cannot be read or written.
    pub fn give_back(&self, removed: &BTreeMap<u16, Usage>) -> Result<(), TableError> {
        for (slot, gone) in removed {
            let slot = u32::from(*slot);
            less(&self.of_ports, slot, *gone)?;
            let index = self.ports.get(&slot)?.map_or(0, |port| port.vpc_index);
            less(&self.of_vpcs, index, Usage { half_open: 0, ..*gone })?;
        }
        Ok(())
    }
}

fn less(table: &Table<u32, Usage>, index: u32, gone: Usage) -> Result<(), TableError> {
    let now = table.get(&index)?.unwrap_or_default();
    let left = Usage {
        sessions: now.sessions.saturating_sub(gone.sessions),
        half_open: now.half_open.saturating_sub(gone.half_open),
    };
    table.set(&index, &left)
}
