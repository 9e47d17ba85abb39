//! The control plane on one node of a large fabric: reading, validating and compiling the topology, and carrying one
//! changed port through to real maps; and real agents: how they start, how they follow, and what guests notice of it.

mod changes;
mod hypervisor;
mod requests;
mod starts;
mod topology;

use crate::{
    Effort, Only,
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Result, anyhow};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use topology::{NODE, Size, Version, text};
use vpc_agent::{
    epoch::{EpochClock, since_boot},
    gateway::Heard,
    machine::Machine,
    maps::{self, Image, Tables, image::Shared},
    render::render,
};
use vpc_bpf::{Loader, Sizes};
use vpc_topology::{Limits, Slots, compile, compile::Desired};

const SIZES: [Size; 2] = [
    Size { ports: 100_000, nodes: 1_000, vpcs: 500 },
    // More nodes: a node holds at most 1,024 ports.
    Size { ports: 1_000_000, nodes: 2_000, vpcs: 500 },
];
/// Members of flood lists: a subnet's ports are spread over many nodes here, more than the default has room for.
const FLOOD_MEMBERS: u32 = 1 << 18;
/// Ports of the fabric for which the targets hold.
const TARGET_PORTS: usize = 100_000;
/// ms to read, validate and compile.
const COMPILE_TARGET: f64 = 2_000.0;
/// ms to plan and apply one changed port.
const CHANGE_TARGET: f64 = 50.0;

/// What is timed, in this order.
const STEPS: [&str; 7] = [
    "read and validate",
    "compile for one node",
    "apply everything to empty maps",
    "one port moved: read and validate",
    "one port moved: compile",
    "one port moved: plan",
    "one port moved: apply",
];

/// Measures everything into `report`.
///
/// # Errors
/// A topology is refused, the kernel refuses a map, or an agent does not follow.
pub fn run(effort: Effort, only: &Only, report: &mut Report) -> Result<()> {
    if only.wants("steps") {
        steps(effort, report)?;
    }
    if only.wants("starts") {
        starts::run(effort, report)?;
    }
    if only.wants("changes") {
        changes::run(effort, report)?;
    }
    if only.wants("requests") {
        requests::run(effort, report)?;
    }
    Ok(())
}

fn steps(effort: Effort, report: &mut Report) -> Result<()> {
    for size in SIZES {
        let rounds = match (effort, size.ports) {
            (Effort::Quick, TARGET_PORTS) => 3,
            (Effort::Full, TARGET_PORTS) => 9,
            (Effort::Quick, _) => 1,
            (Effort::Full, _) => 3,
        };
        measure(size, rounds, report)?;
    }
    Ok(())
}

fn measure(size: Size, rounds: u32, report: &mut Report) -> Result<()> {
    let (before, after) = (Arc::new(text(size, Version::Before)), Arc::new(text(size, Version::After)));
    let mut samples = vec![Samples::default(); STEPS.len()];
    let mut foreign: f64 = 0.0;
    let mut note = String::new();
    for _ in 0..rounds {
        let noise = Noise::start();
        let round = round(&before, &after)?;
        foreign = foreign.max(noise.cores());
        samples.iter_mut().zip(round.milliseconds).for_each(|(samples, value)| samples.push(value));
        note = round.note;
    }
    let group = format!("Control, {} ports, {} nodes, {} VPCs", size.ports, size.nodes, size.vpcs);
    for (name, samples) in STEPS.iter().zip(&samples) {
        report.add(Figure::new(&group, *name, "ms", samples).foreign(foreign));
    }
    let bound = |target| (size.ports == TARGET_PORTS).then_some(Target::AtMost(target));
    let sum = |a: usize, b: usize| samples[a].pairwise(&samples[b], |a, b| a + b);
    let whole = Figure::new(&group, "read, validate and compile", "ms", &sum(0, 1)).foreign(foreign);
    report.add(whole.target(bound(COMPILE_TARGET)).note(note));
    let change = Figure::new(&group, "one port moved: planned and applied", "ms", &sum(5, 6)).foreign(foreign);
    report.add(change.target(bound(CHANGE_TARGET)));
    let total = sum(3, 4).pairwise(&sum(5, 6), |a, b| a + b);
    report.add(Figure::new(&group, "one port moved: from the file's text to the maps", "ms", &total).foreign(foreign));
    Ok(())
}

struct Round {
    milliseconds: Vec<f64>,
    note: String,
}

/// One life of an agent: a first topology, then one edit.
fn round(before: &Arc<String>, after: &Arc<String>) -> Result<Round> {
    let limits = Limits { flood_members: FLOOD_MEMBERS, ..Limits::default() };
    let mut clock = Laps::default();
    let mut loader = vpc_topology::Loader::default();
    let loaded = Loader::new(Sizes { flood_members: FLOOD_MEMBERS, ..Sizes::default() }).load()?;
    let mut node = Node::new(Tables::new(&loaded)?);

    clock.start();
    let first = loader.load(before, "before.yaml", &limits).map_err(|problems| anyhow!("{problems}"))?;
    clock.lap();
    let desired = compile(first, NODE, &Slots::new(), &limits)?;
    clock.lap();
    node.apply(&desired, &mut Laps::default())?;
    clock.lap();
    let note = format!("{} local ports, {} endpoints", desired.ports.len(), desired.endpoints.len());

    clock.start();
    let second = loader.load(after, "after.yaml", &limits).map_err(|problems| anyhow!("{problems}"))?;
    clock.lap();
    let desired = compile(second, NODE, &node.actual.slots(), &limits)?;
    clock.lap();
    let writes = node.apply(&desired, &mut clock)?;
    Ok(Round { milliseconds: clock.milliseconds, note: format!("{note}, {writes} writes for the edit") })
}

/// The agent's way from a desired state to the maps, without interfaces.
struct Node {
    tables: Tables,
    actual: Image,
    epochs: EpochClock,
}

impl Node {
    fn new(tables: Tables) -> Self {
        let actual = Image { locate: maps::locate::empty(), ..Image::default() };
        Self { tables, actual, epochs: EpochClock::after(0) }
    }

    /// Two laps: plan, apply.
    fn apply(&mut self, desired: &Desired, clock: &mut Laps) -> Result<usize> {
        clock.start();
        let shared = self.share(desired);
        let rendered = render(
            desired,
            (&shared, &vpc_agent::maps::outside::Shared::default()),
            &BTreeMap::new(),
            (&Machine::default(), &Heard::default()),
        );
        let (plan, image) = maps::plan(&self.actual, &rendered.wanted, || self.epochs.next(since_boot()))?;
        clock.lap();
        maps::apply(&self.tables, &plan)?;
        clock.lap();
        self.actual = image;
        Ok(plan.writes())
    }

    /// Tables that are the same as before are not compared again.
    fn share(&self, desired: &Desired) -> Shared {
        fn keep<T: PartialEq + Clone>(old: &Arc<Vec<T>>, new: &[T]) -> Arc<Vec<T>> {
            if old.as_slice() == new { Arc::clone(old) } else { Arc::new(new.to_vec()) }
        }
        let old = &self.actual.shared;
        Shared {
            endpoints: Arc::clone(&desired.endpoints),
            macs: Arc::clone(&desired.macs),
            routes: keep(&old.routes, &desired.routes),
            sources: keep(&old.sources, &desired.sources),
            flood: Arc::clone(&desired.flood),
            hosts: keep(&old.hosts, &desired.hosts),
            subjects: keep(&old.subjects, &desired.subjects),
            identities: keep(&old.identities, &desired.identities),
            rules: keep(&old.rules, &desired.rules),
        }
    }
}

/// A stopwatch.
struct Laps {
    last: Instant,
    milliseconds: Vec<f64>,
}

impl Default for Laps {
    fn default() -> Self {
        Self { last: Instant::now(), milliseconds: Vec::new() }
    }
}

impl Laps {
    fn start(&mut self) {
        self.last = Instant::now();
    }
    fn lap(&mut self) {
        self.milliseconds.push(self.last.elapsed().as_secs_f64() * 1e3);
        self.start();
    }
}
