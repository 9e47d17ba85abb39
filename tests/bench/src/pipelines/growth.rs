//! New flows by the number of endpoints, and by the number of routes, that a node knows. There is a node for each number, and
//! they are measured in turn.
//!
//! What the tables' algorithms cost is seen by flows to the same few destinations whatever else the tables hold: all that
//! they ask for stays in the caches. Flows to destinations all over the table show the caches as well. An established packet
//! asks neither table: what it costs more is the price of a larger table to everybody else on the machine.

use super::{
    address,
    driver::{Direction, Driver, Subject, forwarded, frame},
};
use crate::{
    Effort, crowd,
    flows::{self, Conversation, Family, Size},
    node_tables::{LOCAL, TestNode},
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Result, ensure};
use vpc_common::{Ip, limits, maps::programs};

const ENDPOINTS: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
const ROUTES: [usize; 3] = [10, 1_000, 100_000];
/// Flows that are opened in one sample.
const FLOWS: usize = 16_384;
/// Packets of a sample of flows that stand.
const STANDING: u32 = 200_000;
/// Destinations that stay the same.
const FEW: usize = 10;
/// How much more a new flow may cost with the most entries than with the fewest.
const TARGET: f64 = 1.2;
/// What is measured of each node: its name, and how much more it may cost.
const KINDS: [(&str, Option<f64>); 3] = [
    ("new flow, ten destinations", Some(TARGET)),
    ("new flow, destinations all over", None),
    ("established packet, destinations all over", None),
];

/// Fills a table of a node with so many entries, and returns a destination for each.
type Fill = fn(&TestNode, Family, usize) -> Result<Vec<Ip>>;

/// A node with some number of entries.
struct Grown {
    entries: usize,
    node: TestNode,
    few: Vec<Conversation>,
    all: Vec<Conversation>,
}

/// Measures new flows by the number of endpoints.
///
/// # Errors
/// The kernel refuses something, or a program does not do its work.
pub(super) fn by_endpoints(effort: Effort, ifindex: u32, report: &mut Report) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let grown = grow(&ENDPOINTS, crowd::endpoints, family, ifindex)?;
        for direction in [Direction::Egress, Direction::Ingress] {
            Sweep::new(effort, ifindex, family, direction, "endpoints")?.measure(&grown, report)?;
        }
    }
    Ok(())
}

/// The same by the number of routes, which only what the guest sends asks for.
///
/// # Errors
/// As for [`by_endpoints`].
pub(super) fn by_routes(effort: Effort, ifindex: u32, report: &mut Report) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let grown = grow(&ROUTES, crowd::routes, family, ifindex)?;
        Sweep::new(effort, ifindex, family, Direction::Egress, "routes")?.measure(&grown, report)?;
    }
    Ok(())
}

fn grow(counts: &[usize], fill: Fill, family: Family, ifindex: u32) -> Result<Vec<Grown>> {
    let grow = |&entries: &usize| {
        let node = TestNode::new(ifindex, limits::SESSIONS_AT_START)?;
        let destinations = fill(&node, family, entries)?;
        let few = flows::conversations(&destinations[..FEW], FLOWS);
        Ok(Grown { entries, node, few, all: flows::conversations(&destinations, FLOWS) })
    };
    counts.iter().map(grow).collect()
}

/// What all nodes have in common.
struct Sweep {
    driver: Driver,
    family: Family,
    direction: Direction,
    of: &'static str,
}

impl Sweep {
    fn new(effort: Effort, ifindex: u32, family: Family, direction: Direction, of: &'static str) -> Result<Self> {
        Ok(Self { driver: Driver::new(effort, ifindex, limits::SESSIONS_AT_START)?, family, direction, of })
    }

    fn measure(&self, grown: &[Grown], report: &mut Report) -> Result<()> {
        let mut samples = vec![<[Samples; KINDS.len()]>::default(); grown.len()];
        let mut foreign: f64 = 0.0;
        for _ in 0..self.driver.rounds {
            for (grown, samples) in grown.iter().zip(&mut samples) {
                let noise = Noise::start();
                let values = [
                    self.new_flows(grown, &grown.few)?,
                    self.new_flows(grown, &grown.all)?,
                    self.cost(&grown.node, STANDING)?,
                ];
                samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
                foreign = foreign.max(noise.cores());
            }
        }
        let group = format!("By {}, {}, {:?}", self.of, self.family.name(), self.direction);
        for (kind, (name, target)) in KINDS.iter().enumerate() {
            for (grown, samples) in grown.iter().zip(&samples) {
                let name = format!("{name}, {} {}", grown.entries, self.of);
                report.add(Figure::new(&group, name, "ns", &samples[kind]).foreign(foreign));
            }
            let [fewest, .., most] = samples.as_slice() else { continue };
            let ratio = most[kind].pairwise(&fewest[kind], |most, fewest| most / fewest);
            let figure = Figure::new(&group, format!("{name}, most / fewest"), "x", &ratio).foreign(foreign);
            report.add(figure.target(target.map(Target::AtMost)));
        }
        Ok(())
    }

    /// What it costs when every packet opens a flow.
    fn new_flows(&self, grown: &Grown, flows: &[Conversation]) -> Result<f64> {
        let local = address(LOCAL[usize::from(self.family == Family::V6)])?;
        let list = match self.direction {
            Direction::Ingress => flows::to_guest(self.family, Size::B64, local, flows),
            Direction::Egress | Direction::Floor => flows::from_guest(self.family, Size::B64, local, flows),
        };
        let frame = frame(&grown.node, self.direction, self.family, flows.len());
        self.driver.programs.set_frames(&frame, &list)?;
        grown.node.forget_sessions(self.family)?;
        let cost = self.cost(&grown.node, flows.len() as u32)?;
        let sessions = grown.node.sessions(self.family)?;
        ensure!(sessions == flows.len(), "{} {}: {sessions} sessions", grown.entries, self.of);
        Ok(cost)
    }

    /// ns of one packet, without what the rig costs in the same turn.
    fn cost(&self, node: &TestNode, runs: u32) -> Result<f64> {
        let name = match self.direction {
            Direction::Egress => programs::PORT,
            Direction::Ingress | Direction::Floor => programs::UPLINK_XDP,
        };
        let product = Subject { name, program: node.loaded.program_fd(name)?, target: None };
        let rest = self.driver.sample(self.direction, &self.driver.nothing(self.direction)?, runs)?;
        let before = forwarded(node, self.direction)?;
        let cost = self.driver.sample(self.direction, &product, runs)? - rest;
        let forwarded = forwarded(node, self.direction)? - before;
        ensure!(forwarded == u64::from(runs), "{name}: {forwarded} of {runs} packets forwarded");
        Ok(cost)
    }
}
