//! Two machines on one: what each of them does stays on a CPU of its own.

use super::Path;
use crate::machine;
use anyhow::Result;

/// Work for which each machine has its CPU: the client's the first, the server's the last. By receive packet steering
/// (`rps_cpus`) of all interfaces: left alone, a frame is received on the CPU that sent it, whatever machine that was.
///
/// # Errors
/// The kernel refuses, or the work's.
pub fn with_own_cpus<T>(paths: &[&dyn Path], work: impl FnOnce() -> Result<T>) -> Result<T> {
    let steer = |masks: [u64; 2]| {
        paths.iter().try_for_each(|path| {
            path.machines()
                .iter()
                .zip(masks)
                .try_for_each(|(machine, mask)| machine.iter().try_for_each(|netns| netns.receive_on(mask)))
        })
    };
    steer([1, 1 << machine::last_cpu()])?;
    let result = work();
    steer([0; 2])?;
    result
}
