//! Starts of a real agent with a million ports: from nothing, and again with everything in place.

use super::{
    hypervisor::Hypervisor,
    topology::{Size, Version, text},
};
use crate::{
    Effort,
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Result, ensure};
use vpc_agent::epoch::monotonic;
use vpc_common::{
    Be16, maps,
    port::Port,
    session::{Session, SessionKey, TICK_SHIFT, V4, state},
};

const SIZE: Size = Size { ports: 1_000_000, nodes: 2_000, vpcs: 500 };
const VTEP: &str = "192.0.0.1";
/// Sessions of the node when its agent starts again.
const SESSIONS: u32 = 1_000_000;
/// Arguments for tables that take them.
const MANY_SESSIONS: [&str; 4] = ["--sessions", "2097152", "--sessions-at-start", "2097152"];
/// ms from nothing.
const COLD_TARGET: f64 = 5_000.0;
/// MB that the agent may have had.
const MEMORY_TARGET: f64 = 300.0;
/// ms with everything in place.
const RESTART_TARGET: f64 = 2_000.0;

/// Measures into `report`.
pub(super) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let rounds = if effort == Effort::Quick { 1 } else { 3 };
    let text = text(SIZE, Version::Before);
    let (mut cold, mut memory, mut again) = (Samples::default(), Samples::default(), Samples::default());
    let mut foreign: f64 = 0.0;
    for _ in 0..rounds {
        let mut node = Hypervisor::new(VTEP)?;
        node.write(&text)?;
        let noise = Noise::start();
        cold.push(node.start(&[])?);
        memory.push(node.peak_memory()?);
        let written: u64 = node.applied()?.iter().sum();
        ensure!(written > SIZE.ports as u64, "the first start wrote {written} entries only");
        node.stop()?;
        node.start(&MANY_SESSIONS)?;
        open_sessions(&node)?;
        let before = node.applied()?;
        node.stop()?;
        again.push(node.start(&MANY_SESSIONS)?);
        foreign = foreign.max(noise.cores());
        ensure!(node.applied()? == before, "the last start wrote: {:?}", node.applied()?);
        let kept = node.sessions()?.entries()?.len();
        ensure!(kept == SESSIONS as usize, "of {SESSIONS} sessions {kept} are left");
    }
    let group = format!("Control, starts of an agent, {} ports, {} nodes, {} VPCs", SIZE.ports, SIZE.nodes, SIZE.vpcs);
    let mut add = |name: &str, unit, samples, target| {
        let figure = Figure::new(&group, name, unit, samples).foreign(foreign);
        report.add(figure.target(Some(Target::AtMost(target))));
    };
    add("from nothing until ready", "ms", &cold, COLD_TARGET);
    add("most memory until then", "MB", &memory, MEMORY_TARGET);
    add("again, with 1,000,000 sessions, nothing written, until ready", "ms", &again, RESTART_TARGET);
    Ok(())
}

/// Gives the node's ports sessions that stand, as their packets would.
fn open_sessions(node: &Hypervisor) -> Result<()> {
    let ports = node.table::<u32, Port>(maps::PORTS)?.entries()?;
    let ports: Vec<_> = ports.into_iter().filter(|(_, port)| port.epoch != 0).collect();
    ensure!(!ports.is_empty(), "the node has no ports");
    let now = (monotonic().as_nanos() >> TICK_SHIFT) as u16;
    let sessions = (0..SESSIONS).map(|number| {
        let (slot, port) = ports[number as usize % ports.len()];
        let key = SessionKey::<V4> {
            slot: slot as u16,
            protocol: 6,
            local_port: Be16::new(1_024 + (number >> 16) as u16),
            remote_port: Be16::new(number as u16),
            ..SessionKey::default()
        };
        let seal = key.seal(port.epoch);
        (key, Session { seal, last_seen: now, opened: now, state: state::ESTABLISHED, ..Session::default() })
    });
    let sessions: Vec<_> = sessions.collect();
    Ok(node.sessions()?.set_all(&sessions)?)
}
