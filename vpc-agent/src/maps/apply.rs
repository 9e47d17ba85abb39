//! Writes a plan to the maps, in the one order that keeps every packet on the old state or the new one.

use super::{Plan, Tables, locate::BucketWrite, plan::Changes};
use bytemuck::{Pod, Zeroable};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    counters::{Counters, Drops},
    port::{Port, PortBuckets, Usage},
    vtep::Vtep,
};

/// Applies a plan.
///
/// # Errors
/// Where the kernel refuses a write. What the maps hold then must be read again.
pub fn apply(tables: &Tables, plan: &Plan) -> Result<(), TableError> {
    // Add: nothing leads here yet, or the value is what takes effect by itself, as a VTEP's next hops do.
    if let Some(node) = &plan.node {
        tables.node.set(&0, node)?;
    }
    tables.vteps.set_all(&plan.vteps.set)?;
    tables.vtep_ids.set_all(&plan.vtep_ids.set)?;
    tables.routes.set_all(&plan.routes.set)?;
    tables.sources.set_all(&plan.sources.set)?;
    tables.macs.set_all(&plan.macs.set)?;
    tables.endpoints.set_all(&plan.endpoints.set)?;
    tables.flood.set_all(&plan.flood.set)?;
    // A rule set is whole before a port switches to it.
    tables.rules.set_all(&plan.rules.set)?;
    tables.identities.set_all(&plan.identities.set)?;
    tables.hosts.set_all(&plan.hosts.set)?;
    tables.subjects.set_all(&plan.subjects.set)?;
    tables.outside.add(&plan.outside)?;
    // Switch: ports, then what leads to them.
    for (slot, port) in plan.ports.set.iter() {
        tables.ports.set(&u32::from(*slot), port)?;
    }
    for (slot, index) in plan.devices.set.iter() {
        tables.devices.set(&u32::from(*slot), &[*index, 0])?;
    }
    write_buckets(tables, &plan.locate_add)?;
    // Remove: what leads to a port first.
    write_buckets(tables, &plan.locate_remove)?;
    for slot in &plan.devices.remove {
        tables.devices.delete(&u32::from(*slot))?;
    }
    for slot in &plan.ports.remove {
        clear_slot(tables, *slot)?;
    }
    tables.outside.remove(&plan.outside)?;
    remove(&tables.hosts, &plan.hosts)?;
    remove(&tables.subjects, &plan.subjects)?;
    remove(&tables.identities, &plan.identities)?;
    remove(&tables.rules, &plan.rules)?;
    remove(&tables.flood, &plan.flood)?;
    remove(&tables.endpoints, &plan.endpoints)?;
    remove(&tables.macs, &plan.macs)?;
    remove(&tables.sources, &plan.sources)?;
    remove(&tables.routes, &plan.routes)?;
    remove(&tables.vtep_ids, &plan.vtep_ids)?;
    for index in &plan.vteps.remove {
        tables.vteps.set(index, &Vtep::zeroed())?;
    }
    // Sessions that were decided before or meanwhile are decided again.
    for (slot, port) in &plan.epochs {
        tables.ports.set(&u32::from(*slot), port)?;
    }
    // What was removed may still be looked at. The next plan gives its places away.
    if plan.removes() { tables.readers.wait() } else { Ok(()) }
}

fn write_buckets(tables: &Tables, writes: &[BucketWrite]) -> Result<(), TableError> {
    writes.iter().try_for_each(|(number, bucket)| tables.locate.set(number, bucket))
}

fn remove<K: Pod, V: Pod>(table: &Table<K, V>, changes: &Changes<K, V>) -> Result<(), TableError> {
    table.delete_all(&changes.remove)
}

/// The next port that gets the slot starts with nothing.
fn clear_slot(tables: &Tables, slot: u16) -> Result<(), TableError> {
    let index = u32::from(slot);
    tables.ports.set(&index, &Port::default())?;
    tables.buckets.set(&index, &PortBuckets::default())?;
    tables.port_usage.set(&index, &Usage::default())?;
    tables.counters.set(index, &Counters::default())?;
    tables.drops.set(index, &Drops::zeroed())
}
