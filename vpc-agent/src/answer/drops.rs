//! Drops by port and reason.

use super::slots::slots;
use crate::{control::report::PortDrops, reconcile::Reconciler};
use vpc_common::DropReason;

pub(super) fn drops(reconciler: &Reconciler) -> Result<Vec<PortDrops>, String> {
    let mut rows = Vec::new();
    for (slot, port) in slots(reconciler) {
        let cpus = reconciler.datapath.tables.drops.get(slot.into()).map_err(|error| error.to_string())?;
        for reason in DropReason::ALL {
            let packets = cpus.iter().map(|drops| drops.0[*reason as usize]).sum();
            if packets > 0 {
                rows.push(PortDrops {
                    port: port.clone(),
                    reason: reason.name().to_owned(),
                    packets,
                    description: reason.description().trim().to_owned(),
                });
            }
        }
    }
    Ok(rows)
}
