//! Tables of sessions and of NAT mappings grow with their use. A look-up costs what the memory costs that it touches: in tables for 65,536
//! sessions an established packet, and more so a new flow, takes less time than in tables for a million, and a node of
//! which little is asked keeps little memory.
//!
//! The table of one size is followed by one of eight times that size, up to what the operator allows. Programs that use
//! it are loaded beside the agent's loop and put in the place of the others, whose sessions they go on with.

use crate::{
    args::Run,
    bpffs,
    datapath::{Datapath, DatapathError},
    maps::{Tables, tables::Sessions},
    reconcile::{Reconciler, chain},
    sweeper,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use vpc_bpf::{Loaded, Sizes, Table, TableError};
use vpc_common::{maps, session::V4};
use vpc_topology::compile::session_share;

/// How much larger the next table is.
const FACTOR: u32 = 8;
/// Of what a port may have, or of the whole table, this part in use is reason to grow.
const IN_USE: u32 = 2;
/// The least that a port may have, whatever is in use, so that tables have grown before it is asked for.
const LEAST_SHARE: u32 = 1_024;
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// With how many sessions an agent starts: with as many as the tables of an earlier one have room for.
pub fn at_start(bpffs: &Path, least: u32, most: u32) -> u32 {
    let pinned: Option<Sessions<V4>> = Table::open(&bpffs::maps(bpffs).join(maps::SESSIONS_V4)).ok();
    pinned.map_or(0, |pinned| pinned.description().max_entries).max(least).min(most)
}

/// How many sessions the tables should have room for, if that is more than now.
///
/// # Errors
/// Where the maps cannot be read.
fn due(tables: &Tables, mappings: usize, sizes: Sizes, most: u32, ports: usize) -> Result<Option<u32>, TableError> {
    if sizes.sessions >= most {
        return Ok(None);
    }
    let used: Vec<u32> = tables.port_usage.entries()?.into_iter().map(|(_, usage)| usage.sessions).collect();
    let scarce = is_scarce(sizes.sessions, ports, &used) || are_scarce(sizes, mappings);
    Ok(scarce.then(|| sizes.sessions.saturating_mul(FACTOR).min(most)))
}

/// Whether too much of the room for NAT mappings is in use. They outlive their sessions.
fn are_scarce(sizes: Sizes, mappings: usize) -> bool {
    let room = sizes.room_for_mappings();
    room < sizes.nat_mappings && mappings > (room / IN_USE) as usize
}

/// Whether a port, or all together, have used too much of what there is, or may have too little.
fn is_scarce(sessions: u32, ports: usize, used: &[u32]) -> bool {
    let all: u64 = used.iter().map(|used| u64::from(*used)).sum();
    let busiest = used.iter().copied().max().unwrap_or_default();
    let share = session_share(ports, sessions);
    share < LEAST_SHARE || busiest > share / IN_USE || all > u64::from(sessions / IN_USE)
}

/// Goes on with larger tables. Returns for how many sessions they have room.
///
/// # Errors
/// The kernel refuses something.
pub fn adopt(loaded: Loaded, reconciler: &mut Reconciler) -> Result<u32, String> {
    let start = Instant::now();
    reconciler.adopt(loaded).map_err(|error| chain(&error))?;
    let sessions = reconciler.datapath.tables.sessions_v4.description().max_entries;
    tracing::info!(sessions, milliseconds = start.elapsed().as_secs_f64() * 1e3, "session tables have grown");
    Ok(sessions)
}

/// A larger table on its way.
pub struct Growth {
    sweeper: sweeper::Handle,
    task: Option<JoinHandle<Result<Loaded, DatapathError>>>,
    failed: Option<(Instant, String)>,
}

impl Growth {
    /// As large as it begins. The sweeper says how many mappings there are.
    pub const fn new(sweeper: sweeper::Handle) -> Self {
        Self { sweeper, task: None, failed: None }
    }

    /// Begins to load programs for larger tables where the present ones are scarce, or soon will be.
    pub fn look(&mut self, reconciler: &Reconciler, arguments: &Run, sizes: Sizes) {
        let too_soon = self.failed.as_ref().is_some_and(|(when, _)| when.elapsed() < RETRY);
        let Some(desired) = reconciler.desired().filter(|_| self.task.is_none() && !too_soon) else { return };
        let (tables, most) = (&reconciler.datapath.tables, arguments.sizes.sessions);
        match due(tables, self.sweeper.mappings(), sizes, most, desired.ports.len()) {
            Ok(None) => {}
            Ok(Some(sessions)) => {
                tracing::info!(from = sizes.sessions, to = sessions, "session tables grow");
                self.failed = None;
                let (bpffs, sizes) = (arguments.bpffs.clone(), Sizes { sessions, ..sizes });
                self.task = Some(tokio::task::spawn_blocking(move || Datapath::prepare(&bpffs, sizes)));
            }
            Err(error) => tracing::warn!(error = %chain(&error), "read how many sessions there are"),
        }
    }

    /// Waits for them, for ever if nothing is on its way.
    ///
    /// # Errors
    /// The kernel refuses something, most likely for want of memory.
    pub async fn finished(&mut self) -> Result<Loaded, String> {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let result = task.await;
        self.task = None;
        match result {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(error)) => Err(chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// It did not succeed, and is not tried for a while.
    pub fn has_failed(&mut self, error: &str) {
        self.failed = Some((Instant::now(), format!("session tables do not grow: {error}")));
    }

    /// Why it did not succeed last.
    pub fn problem(&self) -> Option<&String> {
        self.failed.as_ref().map(|(_, problem)| problem)
    }
}

#[cfg(test)]
mod tests {
    use super::{are_scarce, is_scarce};
    use vpc_bpf::Sizes;

    #[test]
    fn tables_grow_before_mappings_run_short() {
        let sizes = Sizes { sessions: 4_096, nat_mappings: 8_192, ..Sizes::default() };
        assert!(!are_scarce(sizes, 2_048) && are_scarce(sizes, 2_049));
        assert!(!are_scarce(Sizes { sessions: 8_192, ..sizes }, 8_000), "there is no more");
        assert!(!are_scarce(Sizes { sessions: 1 << 20, ..sizes }, 8_000), "more sessions would not help");
    }

    #[test]
    fn tables_grow_before_a_port_or_the_node_runs_short() {
        assert!(!is_scarce(8_192, 4, &[1_024, 1_024, 1_000]));
        assert!(is_scarce(8_192, 4, &[1_025]), "a port has more than half of its 2,048");
        assert!(is_scarce(8_192, 4, &[1_024, 1_024, 1_024, 1_025]));
        assert!(is_scarce(8_192, 1, &[4_097]) && !is_scarce(8_192, 1, &[4_096]));
        assert!(is_scarce(8_192, 9, &[]) && !is_scarce(8_192, 8, &[]), "nine ports would have 512 each");
    }
}
