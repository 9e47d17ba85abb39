//! The machine that the figures are of, and the CPU that they are taken on.

use anyhow::{Context, Result};
use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};
use std::fs;

/// One line: CPU, number of CPUs, kernel.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    format!("{model}, {} CPUs, Linux {}", last_cpu() + 1, vpc_bpf::kernel_release())
}

/// Number of the last CPU, whatever this thread is kept on.
pub fn last_cpu() -> usize {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1);
    usize::try_from(count - 1).unwrap_or(0)
}

/// Keeps the calling thread, and what it starts, on one CPU: the last, since interrupts prefer the first.
///
/// # Errors
/// The kernel refuses.
pub fn pin_to_last_cpu() -> Result<()> {
    pin_to(last_cpu())
}

/// Lets the calling thread run before all others: what is timed should not wait for a CPU.
///
/// # Errors
/// Not root.
pub fn hurry() -> Result<()> {
    // SAFETY: plain call without addresses; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("set the priority") }
}

/// Keeps the calling thread, and what it starts, on a CPU.
///
/// # Errors
/// The kernel refuses.
pub fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).context("CPU number")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pin to CPU {cpu}"))
}
