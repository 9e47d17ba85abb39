//! The gateways, as this node sees them.

use crate::{
    control::report::GatewayRow,
    liveness::{Health, Tallies},
    reconcile::Reconciler,
};
use std::time::Duration;
use vpc_datapath::external::speaker;
use vpc_topology::compile::Desired;

pub(super) fn gateways(desired: &Desired, reconciler: &Reconciler, tallies: &Tallies) -> Vec<GatewayRow> {
    let outside = &reconciler.actual().outside;
    let spoken = |id: u16| {
        let externals = outside.shared.externals.iter();
        externals.filter(|(address, external)| speaker(&outside.segment, address, external) == id).count()
    };
    let row = |id: &u16| {
        let discriminator = u32::from(*id);
        let probe = desired.outside.probes.iter().find(|probe| probe.discriminator == discriminator);
        let own = *id == desired.node.id;
        let (name, state) = match probe {
            _ if own => (desired.node.name.as_str(), "this"),
            Some(probe) => {
                let known = reconciler.healths().get(&discriminator);
                (probe.name.as_str(), known.map_or(Health::Unknown, |known| known.health).name())
            }
            // Nothing of this node leads outside, so nobody is asked.
            None => return None,
        };
        let tally = tallies.asked.get(&discriminator).copied().unwrap_or_default();
        let detection = probe.map_or(Duration::ZERO, |probe| probe.interval * probe.multiplier.into());
        Some(GatewayRow {
            node: name.to_owned(),
            id: *id,
            state: state.to_owned(),
            used: outside.gateways.lives(*id),
            detection_ms: detection.as_millis() as u64,
            asked: tally.asked,
            answered: tally.answered,
            failures: tally.failures,
            round_trip_us: tally.round_trip.as_micros() as u64,
            speaks_for: outside.segment.contains(*id).then(|| spoken(*id)),
        })
    };
    desired.outside.gateways.iter().filter_map(row).collect()
}
