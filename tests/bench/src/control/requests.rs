//! Request and response between two guests while their agents apply large topologies.

use crate::{
    Effort,
    load::Wait,
    noise::Noise,
    report::{Figure, Report},
    rig::{Mode, Ours, Wire, rules::Rules, sockets},
    samples::Samples,
};
use anyhow::{Result, anyhow, ensure};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Ports that come and go around the guests.
const PORTS: usize = 100_000;
/// The guests' own rules, in each direction.
const RULES: Rules = Rules::Some(20);
/// Between two versions of the file: about what both agents take to apply one.
const PAUSE: Duration = Duration::from_millis(1_500);
/// How long is asked.
const MILLISECONDS: u64 = 6_000;

/// Measures into `report`.
pub(super) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let rounds = if effort == Effort::Quick { 1 } else { 3 };
    let ours = Ours::new(Wire::Frames, Mode::Xdp, RULES)?;
    let names = ["p50", "p99", "p99.9"];
    let mut quiet = vec![Samples::default(); names.len()];
    let mut busy = quiet.clone();
    let (mut foreign, mut applied) = (0.0_f64, 0);
    for _ in 0..rounds {
        let noise = Noise::start();
        let got = sockets::ask(&ours, MILLISECONDS / 3, Wait::Blocking)?;
        quiet.iter_mut().zip([got.p50, got.p99, got.p999]).for_each(|(samples, value)| samples.push(value));
        foreign = foreign.max(noise.cores());
        let before = ours.large_changes(PORTS as u64);
        let got = while_applying(&ours)?;
        busy.iter_mut().zip([got.p50, got.p99, got.p999]).for_each(|(samples, value)| samples.push(value));
        let changes = ours.large_changes(PORTS as u64) - before;
        ensure!(changes > 0, "nothing was applied meanwhile");
        applied += changes;
    }
    let group = format!("Control, TCP request and response, 64 bytes, while {PORTS} ports come or go");
    for (name, (quiet, busy)) in names.iter().zip(quiet.iter().zip(&busy)) {
        report.add(Figure::new(&group, format!("{name}: nothing is applied"), "us", quiet).foreign(foreign));
        let note = format!("applied {applied} times on each node in {rounds} samples");
        report.add(Figure::new(&group, format!("{name}: large topologies are applied"), "us", busy).note(note));
    }
    Ok(())
}

/// Asks while the ports come and go, again and again.
fn while_applying(ours: &Ours) -> Result<crate::load::Latencies> {
    let (over, surroundings) = (AtomicBool::new(false), ours.surroundings(RULES, PORTS));
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                surroundings.come()?;
                thread::sleep(PAUSE);
                surroundings.go()?;
                thread::sleep(PAUSE);
            }
            Ok(())
        });
        let got = sockets::ask(ours, MILLISECONDS, Wait::Blocking);
        over.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow!("the writer panicked"))??;
        got
    })
}
