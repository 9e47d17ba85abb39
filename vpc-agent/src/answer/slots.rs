//! The slots that are counted for, with their ports' names.

use crate::reconcile::Reconciler;
use vpc_common::port::UNDERLAY_SLOT;

/// Every slot in use and its port's name, `-` for what could not be attributed to one.
pub(super) fn slots(reconciler: &Reconciler) -> impl Iterator<Item = (u16, String)> + '_ {
    let names = reconciler.desired().map(|desired| &desired.ports);
    std::iter::once(UNDERLAY_SLOT).chain(reconciler.actual().ports.keys().copied()).map(move |slot| {
        let name = match names.and_then(|ports| ports.get(&slot)) {
            Some(port) => port.name.clone(),
            None if slot == UNDERLAY_SLOT => "-".to_owned(),
            None => format!("slot {slot}"),
        };
        (slot, name)
    })
}
