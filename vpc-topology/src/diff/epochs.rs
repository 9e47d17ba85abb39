//! Which ports' sessions must be decided again.

use super::Plan;
use crate::compile::{Desired, DesiredPort};
use std::collections::BTreeSet;
use vpc_common::route::RouteKey;

/// Slots of the new state for which anything changes that a decision about their flows is made of.
pub(super) fn epochs(plan: &Plan, new: &Desired) -> BTreeSet<u16> {
    let added = plan.ports.added.iter().map(|(slot, _)| *slot);
    let changed = plan.ports.changed.iter().map(|changed| changed.key);
    let records: BTreeSet<_> = added.chain(changed).collect();
    let vpcs: BTreeSet<_> = plan.endpoints.keys().map(|key| key.vpc).collect();
    let vnis: BTreeSet<_> = plan.macs.keys().map(|key| key.l2_vni).collect();
    let tables: BTreeSet<_> = plan.routes.keys().map(|key| key.table.get()).collect();
    let floods: BTreeSet<_> = plan.flood.keys().map(|key| key.subnet).collect();
    let sources: BTreeSet<_> = plan.sources.keys().map(|key| key.slot.get()).collect();
    let touched = |slot: u16, port: &DesiredPort| {
        plan.outside.is_some()
            || tables.contains(&RouteKey::OUTSIDE.get())
            || records.contains(&slot)
            || !port.reach.is_disjoint(&vpcs)
            || vnis.contains(&port.record.l2_vni)
            || tables.contains(&port.record.route_table)
            || floods.contains(&port.record.subnet)
            || sources.contains(&slot.into())
    };
    new.ports.iter().filter(|(slot, port)| touched(**slot, port)).map(|(slot, _)| *slot).collect()
}
