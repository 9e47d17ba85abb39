//! Drops by port and reason.

use crate::{control::report::PortDrops, reconcile::Reconciler};
use vpc_common::{DropReason, port::UNDERLAY_SLOT};

pub(super) fn drops(reconciler: &Reconciler) -> Result<Vec<PortDrops>, String> {
    let mut rows = Vec::new();
    let names = reconciler.desired().map(|desired| &desired.ports);
    for slot in std::iter::once(UNDERLAY_SLOT).chain(reconciler.actual().ports.keys().copied()) {
        let port = match names.and_then(|ports| ports.get(&slot)) {
            Some(port) => port.name.clone(),
            None if slot == UNDERLAY_SLOT => "-".to_owned(),
            None => format!("slot {slot}"),
        };
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
