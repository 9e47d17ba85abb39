//! What every port received, and what became of it.

use super::slots::slots;
use crate::reconcile::Reconciler;
use serde_json::{Value, json};
use vpc_common::counters::DirectionCounters;

pub(super) const COLUMNS: &[&str] = &[
    "port",
    "direction",
    "received",
    "forwarded",
    "dropped",
    "answered",
    "punted",
    "received_bytes",
    "forwarded_bytes",
];

/// One row for each port and direction, that of no port first.
pub(super) fn counters(reconciler: &Reconciler) -> Result<Vec<Vec<Value>>, String> {
    let mut rows = Vec::new();
    for (slot, port) in slots(reconciler) {
        let cpus = reconciler.datapath.tables.counters.get(slot.into()).map_err(|error| error.to_string())?;
        let egress = cpus.iter().map(|cpu| cpu.egress).fold(DirectionCounters::default(), sum);
        let ingress = cpus.iter().map(|cpu| cpu.ingress).fold(DirectionCounters::default(), sum);
        for (direction, counted) in [("egress", egress), ("ingress", ingress)] {
            rows.push(vec![
                json!(port),
                json!(direction),
                json!(counted.received),
                json!(counted.forwarded),
                json!(counted.dropped),
                json!(counted.answered),
                json!(counted.punted),
                json!(counted.received_bytes),
                json!(counted.forwarded_bytes),
            ]);
        }
    }
    Ok(rows)
}

fn sum(a: DirectionCounters, b: DirectionCounters) -> DirectionCounters {
    DirectionCounters {
        received: a.received + b.received,
        received_bytes: a.received_bytes + b.received_bytes,
        forwarded: a.forwarded + b.forwarded,
        forwarded_bytes: a.forwarded_bytes + b.forwarded_bytes,
        answered: a.answered + b.answered,
        punted: a.punted + b.punted,
        dropped: a.dropped + b.dropped,
        reserved: 0,
    }
}
