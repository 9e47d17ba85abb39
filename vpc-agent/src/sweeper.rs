//! Removes sessions that nobody uses.
//!
//! The datapath judges staleness itself; the sweeper only frees memory. A session that it removes in the moment in
//! which a packet comes is decided again by the next one.

use crate::{
    epoch::monotonic,
    maps::{Tables, tables::Sessions},
};
use std::{
    collections::BTreeSet,
    io, thread,
    time::{Duration, Instant},
};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    limits::SESSION_IDLE_SECONDS,
    port::Port,
    session::{Session, SessionKey, V4, V6},
};

/// Pause between two sweeps.
const PAUSE: Duration = Duration::from_secs(10);
/// Of each stretch of work, so many times its length is slept: 5 % of one CPU.
const REST: u32 = 19;
/// Unit of [`Session::last_seen`].
const SEEN_SHIFT: u32 = 30;

/// Starts it. It ends with the process.
///
/// # Errors
/// Where no thread or descriptor can be had.
pub fn spawn(tables: &Tables) -> Result<(), io::Error> {
    let clone = |result: Result<_, TableError>| result.map_err(io::Error::other);
    let (v4, v6): (Sessions<V4>, _) = (clone(tables.sessions_v4.try_clone())?, tables.sessions_v6.try_clone());
    let v6: Sessions<V6> = v6.map_err(io::Error::other)?;
    let ports = tables.ports.try_clone().map_err(io::Error::other)?;
    thread::Builder::new().name("sweeper".to_owned()).spawn(move || {
        loop {
            thread::sleep(PAUSE);
            let swept = slots(&ports).and_then(|slots| Ok((sweep(&v4, &slots)?, sweep(&v6, &slots)?)));
            match swept {
                Ok((0, 0)) => {}
                Ok((v4, v6)) => tracing::debug!(v4, v6, "removed idle sessions"),
                Err(error) => tracing::warn!(%error, "sweep sessions"),
            }
        }
    })?;
    Ok(())
}

fn slots(ports: &Table<u32, Port>) -> Result<BTreeSet<u16>, TableError> {
    let entries = ports.entries()?;
    Ok(entries.into_iter().filter(|(_, port)| port.epoch != 0).map(|(slot, _)| slot as u16).collect())
}

fn sweep<A>(sessions: &Table<SessionKey<A>, Session>, slots: &BTreeSet<u16>) -> Result<usize, TableError>
where
    A: Copy + 'static,
    SessionKey<A>: bytemuck::Pod,
{
    let now = seen_now();
    let mut idle = Vec::new();
    let mut start = Instant::now();
    sessions.for_each_batch(|keys, values| {
        let dead = keys
            .iter()
            .zip(values)
            .filter(|(key, session)| !slots.contains(&key.slot) || is_idle(now, session.last_seen));
        idle.extend(dead.map(|(key, _)| *key));
        thread::sleep(start.elapsed() * REST);
        start = Instant::now();
    })?;
    for chunk in idle.chunks(4_096) {
        let start = Instant::now();
        sessions.delete_all(chunk)?;
        thread::sleep(start.elapsed() * REST);
    }
    Ok(idle.len())
}

/// The present as sessions note it.
pub fn seen_now() -> u32 {
    (monotonic().as_nanos() >> SEEN_SHIFT) as u32
}

/// Seconds since a session saw a packet.
pub fn idle_seconds(now: u32, last_seen: u32) -> u64 {
    // The clock of the unit wraps after 146 years; a packet that came after `now` was read is not idle.
    let units = now.saturating_sub(last_seen);
    (u64::from(units) << SEEN_SHIFT) / 1_000_000_000
}

fn is_idle(now: u32, last_seen: u32) -> bool {
    idle_seconds(now, last_seen) > u64::from(SESSION_IDLE_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::is_idle;

    #[test]
    fn idle_is_judged_in_seconds() {
        assert!(!is_idle(1_000, 1_001), "a packet came meanwhile");
        assert!(!is_idle(1_000, 1_000 - 279), "279 units are 299.6 s");
        assert!(is_idle(1_000, 1_000 - 281));
    }
}
