//! ns per packet of the loaded programs by `BPF_PROG_TEST_RUN`, beside a forwarder that does the least.
//!
//! Every run sees a fresh packet of the next flow. At XDP a driver program makes it and tail-calls the program under
//! test; what the driver costs with a program that does nothing is taken off. At TC the packets are live frames that
//! the kernel makes skbs of and hands to TC ingress; what that costs with a classifier that does nothing is taken off.
//! All programs of one comparison run in turn, and what is taken off is of the same turn.

mod driver;
mod groups;
mod growth;

use crate::{
    Effort, Only,
    abi::{NOWHERE, NextHop},
    flows::{self, Conversation, Family, FiveTuple, Size},
    machine,
    node_tables::{LOCAL, PEERS, TestNode, peer},
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Context, Result, bail, ensure};
use driver::{Direction, Driver, Subject, device, forwarded, frame, product};
use std::net::IpAddr;
use vpc_common::{Ip, limits, maps::programs};

const SESSIONS: [usize; 3] = [1, 16_384, 1_000_000];
/// The number of sessions for which the targets hold.
const TARGET_SESSIONS: usize = 16_384;
const EGRESS_TARGET: f64 = 130.0;
const INGRESS_TARGET: f64 = 110.0;
const NEW_FLOW_TARGET: f64 = 450.0;
/// Flows that are opened in one sample.
const NEW_FLOWS: usize = 16_384;
/// Rules of the guest's security group.
const RULES: [usize; 4] = [10, 100, 1_000, 10_000];
/// How much more a new flow may cost under the most rules than under the fewest.
const RULES_TARGET: f64 = 1.2;

struct Rig {
    node: TestNode,
    driver: Driver,
}

/// Measures everything into `report`.
///
/// # Errors
/// The kernel refuses something, or a program does not do its work.
pub fn run(effort: Effort, only: &Only, report: &mut Report) -> Result<()> {
    let ifindex = device()?;
    machine::pin_to_last_cpu()?;
    machine::hurry()?;
    let rig = |sessions| {
        Ok::<_, anyhow::Error>(Rig {
            node: TestNode::new(ifindex, sessions)?,
            driver: Driver::new(effort, ifindex, sessions)?,
        })
    };
    // An agent begins with the smaller ones, and has the larger ones where there are so many sessions.
    if only.wants("sessions") {
        of_sessions(&SESSIONS[..2], &rig(limits::SESSIONS_AT_START)?, report)?;
        of_sessions(&SESSIONS[2..], &rig(limits::SESSIONS)?, report)?;
    }
    if only.wants("groups") {
        groups::by_groups(&rig(limits::SESSIONS_AT_START)?, report)?;
    }
    if only.wants("rules") {
        of_new_flows(&rig(limits::SESSIONS_AT_START)?, report)?;
    }
    if only.wants("endpoints") {
        growth::by_endpoints(effort, ifindex, report)?;
    }
    if only.wants("routes") {
        growth::by_routes(effort, ifindex, report)?;
    }
    Ok(())
}

fn remotes(index: usize) -> Result<Vec<Ip>> {
    (1..=PEERS).map(|number| address(&peer(number)[index])).collect()
}

fn of_new_flows(rig: &Rig, report: &mut Report) -> Result<()> {
    for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
        let flows = flows::conversations(&remotes(index)?, NEW_FLOWS);
        for direction in [Direction::Egress, Direction::Ingress] {
            rig.new_flows(direction, family, address(LOCAL[index])?, &flows, report)?;
        }
    }
    Ok(())
}

fn of_sessions(counts: &[usize], rig: &Rig, report: &mut Report) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let index = usize::from(family == Family::V6);
        let local = address(LOCAL[index])?;
        let all = flows::conversations(&remotes(index)?, counts[counts.len() - 1]);
        // Upwards, so that the table holds just those sessions.
        for &sessions in counts {
            for direction in [Direction::Egress, Direction::Ingress, Direction::Floor] {
                rig.compare(direction, family, local, &all[..sessions], report)?;
            }
        }
    }
    Ok(())
}

impl Rig {
    fn compare(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
        report: &mut Report,
    ) -> Result<()> {
        let subjects = self.prepare(direction, family, local, flows)?;
        let group = format!("Pipelines, {}, {} sessions", family.name(), flows.len());
        if let Some(product) = subjects.iter().find(|subject| subject.target.is_some()) {
            self.warm_up(direction, product, family, flows.len())?;
        }
        // Not in the order in which they began: their entries may lie one behind the other in memory.
        self.present(direction, family, local, &flows::shuffled(flows))?;
        let mut samples = vec![Samples::default(); subjects.len()];
        let mut foreign: f64 = 0.0;
        for _ in 0..self.driver.rounds {
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                let noise = Noise::start();
                let before = forwarded(&self.node, direction)?;
                samples.push(self.driver.sample(direction, subject, self.driver.runs)?);
                foreign = foreign.max(noise.cores());
                let expected = if subject.target.is_some() { u64::from(self.driver.runs) } else { 0 };
                let forwarded = forwarded(&self.node, direction)? - before;
                ensure!(forwarded == expected, "{}: {forwarded} of {expected} packets forwarded", subject.name);
            }
        }
        let (nothing, rest) = samples.split_first().context("the program that does nothing")?;
        for (subject, samples) in subjects[1..].iter().zip(rest) {
            let bound = subject.target.filter(|_| flows.len() == TARGET_SESSIONS).map(Target::AtMost);
            let figure = Figure::new(&group, subject.name, "ns", &samples.pairwise(nothing, |all, rest| all - rest))
                .foreign(foreign)
                .target(bound)
                .note(format!("+ {:.0} ns of the rig", nothing.median()));
            report.add(figure);
        }
        Ok(())
    }

    /// What it costs when every packet opens a flow, by the number of rules.
    fn new_flows(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
        report: &mut Report,
    ) -> Result<()> {
        let subjects = self.prepare(direction, family, local, flows)?;
        let nothing = subjects.first().context("the program that does nothing")?;
        let product = subjects.last().context("the product")?;
        let guests = RULES.iter().map(|rules| self.node.member(*rules)).collect::<Result<Vec<_>>>()?;
        let mut samples = vec![Samples::default(); RULES.len()];
        let mut foreign: f64 = 0.0;
        for _ in 0..self.driver.rounds {
            for (guest, samples) in guests.iter().zip(&mut samples) {
                self.node.replace_guest(guest)?;
                // What came before is not in the caches any more when the second time is measured.
                self.open_all(direction, product, family, flows.len())?;
                let noise = Noise::start();
                let rest = self.driver.sample(direction, nothing, flows.len() as u32)?;
                samples.push(self.open_all(direction, product, family, flows.len())? - rest);
                foreign = foreign.max(noise.cores());
            }
        }
        let group = format!("New flows, {}, {direction:?}", family.name());
        for (rules, of_rules) in RULES.iter().zip(&samples) {
            let figure = Figure::new(&group, format!("{rules} rules each way"), "ns", of_rules)
                .foreign(foreign)
                .target(Some(Target::AtMost(NEW_FLOW_TARGET)));
            report.add(figure);
        }
        let (fewest, most) = (&samples[0], &samples[RULES.len() - 1]);
        let ratio = most.pairwise(fewest, |most, fewest| most / fewest);
        let figure = Figure::new(&group, "most rules / fewest", "x", &ratio).target(Some(Target::AtMost(RULES_TARGET)));
        report.add(figure);
        self.node.forget_sessions(family)
    }

    /// Makes the frames, fills the forwarder's table, and says what is measured: first what does nothing.
    fn prepare(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
    ) -> Result<Vec<Subject<'_>>> {
        let node = &self.node;
        let list = self.present(direction, family, local, flows)?;
        let next_hop = NextHop { macs: [1, 2, 3], ifindex: NOWHERE };
        match (direction, family) {
            (Direction::Ingress, _) => {}
            (_, Family::V4) => {
                self.driver.programs.table("FORWARD_V4")?.set_all(&flows::forward_v4(&list, next_hop))?
            }
            (_, Family::V6) => {
                self.driver.programs.table("FORWARD_V6")?.set_all(&flows::forward_v6(&list, next_hop))?
            }
        }
        let driver = &self.driver;
        let nothing = driver.nothing(direction)?;
        match direction {
            Direction::Egress => Ok(vec![
                nothing,
                driver.own("one-lookup forwarder, no push (TC)", "tc_forward")?,
                driver.own("VXLAN push alone (TC)", "tc_push")?,
                product(node, "egress established, with push (TC, vpc_port)", programs::PORT, EGRESS_TARGET)?,
            ]),
            Direction::Ingress => Ok(vec![
                nothing,
                driver.own("pop alone (XDP)", "xdp_pop")?,
                product(
                    node,
                    "decap and delivery decision (XDP, vpc_uplink_xdp)",
                    programs::UPLINK_XDP,
                    INGRESS_TARGET,
                )?,
            ]),
            Direction::Floor => Ok(vec![nothing, driver.own("one-lookup forwarder, no tunnel (XDP)", "xdp_forward")?]),
        }
    }

    /// Makes the frames of the flows, in this order.
    fn present(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
    ) -> Result<Vec<FiveTuple>> {
        let list = match direction {
            Direction::Egress | Direction::Floor => flows::from_guest(family, Size::B64, local, flows),
            Direction::Ingress => flows::to_guest(family, Size::B64, local, flows),
        };
        self.driver.programs.set_frames(&frame(&self.node, direction, family, flows.len()), &list)?;
        Ok(list)
    }

    /// Lets every flow be opened. Returns what one took, the rig included.
    fn open_all(&self, direction: Direction, product: &Subject<'_>, family: Family, flows: usize) -> Result<f64> {
        self.node.forget_sessions(family)?;
        self.warm_up(direction, product, family, flows)
    }

    /// Lets every flow be decided once. Returns what one took, the rig included.
    fn warm_up(&self, direction: Direction, product: &Subject<'_>, family: Family, flows: usize) -> Result<f64> {
        let before = forwarded(&self.node, direction)?;
        let each = self.driver.sample(direction, product, flows as u32)?;
        let forwarded = forwarded(&self.node, direction)? - before;
        if forwarded != flows as u64 {
            bail!("{}: only {forwarded} of {flows} flows were forwarded", product.name);
        }
        // A flow without a session is forwarded too, by the slow path.
        let sessions = self.node.sessions(family)?;
        ensure!(sessions == flows, "{}: {sessions} sessions of {flows} flows", product.name);
        Ok(each)
    }
}

fn address(text: &str) -> Result<Ip> {
    Ok(text.parse::<IpAddr>().with_context(|| format!("address {text}"))?.into())
}
