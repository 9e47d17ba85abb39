//! What else the machine does meanwhile: CPU time of processes that are not ours, in cores.

use std::{collections::BTreeSet, fs, time::Instant};

/// Clock ticks a second, as `/proc` counts them on every architecture.
const TICKS: f64 = 100.0;
/// Foreign CPU use, in cores, above which a sample deserves a warning.
pub const LOUD: f64 = 0.15;
const PF_KTHREAD: u64 = 0x0020_0000;

/// Foreign CPU use since it was started.
#[derive(Debug)]
pub struct Noise {
    start: Instant,
    ticks: u64,
}

impl Noise {
    /// Starts to count.
    pub fn start() -> Self {
        Self { start: Instant::now(), ticks: foreign_ticks() }
    }
    /// Cores that others used since.
    pub fn cores(&self) -> f64 {
        foreign_ticks().saturating_sub(self.ticks) as f64 / TICKS / self.start.elapsed().as_secs_f64().max(0.01)
    }
}

/// One process of `/proc/*/stat`.
struct Process {
    pid: u32,
    parent: u32,
    kernel: bool,
    ticks: u64,
}

fn foreign_ticks() -> u64 {
    let processes: Vec<Process> = fs::read_dir("/proc")
        .map(|entries| entries.flatten().filter_map(|entry| process(entry.file_name().to_str()?)).collect())
        .unwrap_or_default();
    let mut ours = BTreeSet::from([std::process::id()]);
    // Children have larger pids than their parents except after a wrap: until nothing is added.
    loop {
        let before = ours.len();
        ours.extend(
            processes.iter().filter(|process| ours.contains(&process.parent)).map(|p| p.pid).collect::<Vec<_>>(),
        );
        if ours.len() == before {
            break;
        }
    }
    processes
        .iter()
        .filter(|process| !process.kernel && !ours.contains(&process.pid))
        .map(|process| process.ticks)
        .sum()
}

fn process(name: &str) -> Option<Process> {
    let pid = name.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: number(1)? as u32,
        kernel: number(6)? & PF_KTHREAD != 0,
        // User and system time, its own and of its reaped children.
        ticks: (11..=14).filter_map(number).sum(),
    })
}
