//! What security groups cost a packet of a flow that stands.

use super::{Rig, TARGET_SESSIONS, address, driver::Direction, remotes};
use crate::{
    flows::{self, Family},
    node_tables::LOCAL,
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Context, Result};
use vpc_common::Ip;

/// Rules of the guest's group, each way; none: it is in no group.
const RULES: [usize; 2] = [0, 20];
/// How much more a packet may cost with them.
const TARGET: f64 = 15.0;

/// Both families, both ways.
///
/// # Errors
/// The kernel refuses something, or a flow has no session.
pub(super) fn by_groups(rig: &Rig, report: &mut Report) -> Result<()> {
    for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
        for direction in [Direction::Egress, Direction::Ingress] {
            one_way(rig, direction, family, (address(LOCAL[index])?, &remotes(index)?), report)?;
        }
    }
    Ok(())
}

fn one_way(
    rig: &Rig,
    direction: Direction,
    family: Family,
    (local, remotes): (Ip, &[Ip]),
    report: &mut Report,
) -> Result<()> {
    let flows = flows::conversations(remotes, TARGET_SESSIONS);
    let shuffled = flows::shuffled(&flows);
    let subjects = rig.prepare(direction, family, local, &flows)?;
    let nothing = subjects.first().context("the program that does nothing")?;
    let product = subjects.last().context("the product")?;
    let guests = RULES.map(|rules| rig.node.member(rules)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut samples = [Samples::default(), Samples::default()];
    let mut foreign: f64 = 0.0;
    for _ in 0..rig.driver.rounds {
        for (guest, samples) in guests.iter().zip(&mut samples) {
            rig.node.replace_guest(guest)?;
            rig.node.forget_sessions(family)?;
            rig.present(direction, family, local, &flows)?;
            rig.warm_up(direction, product, family, flows.len())?;
            rig.present(direction, family, local, &shuffled)?;
            let noise = Noise::start();
            let rest = rig.driver.sample(direction, nothing, rig.driver.runs)?;
            samples.push(rig.driver.sample(direction, product, rig.driver.runs)? - rest);
            foreign = foreign.max(noise.cores());
        }
    }
    let group = format!("Flows that stand, {}, {direction:?}, {TARGET_SESSIONS} sessions", family.name());
    for (rules, samples) in RULES.iter().zip(&samples) {
        let name = format!("{rules} rules each way");
        report.add(Figure::new(&group, name, "ns", samples).foreign(foreign));
    }
    let more = samples[1].pairwise(&samples[0], |with, without| with - without);
    report.add(Figure::new(&group, "with rules, less without", "ns", &more).target(Some(Target::AtMost(TARGET))));
    rig.node.replace_guest(&guests[0])?;
    rig.node.forget_sessions(family)
}
