//! Removes sessions that have expired, and counts the others.
//!
//! The datapath judges expiry itself; the sweeper only frees memory. A session that it removes in the moment in which a
//! packet comes is opened again by that packet, if it may. The datapath counts what it opens; what goes, and what two
//! CPUs counted wrongly at once, is corrected here.

use crate::{
    epoch::monotonic,
    maps::{Tables, tables::Sessions},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use vpc_bpf::{Readers, Table, TableError};
use vpc_common::{
    nat::{ExternalPort, NatIn, NatOut, NatOutKey},
    port::{Port, Usage},
    session::{Session, SessionKey, TICK_SHIFT, V4, V6},
};
use vpc_datapath::conntrack;

/// Pause between two sweeps.
const PAUSE: Duration = Duration::from_secs(5);
/// Of each stretch of work, so many times its length is slept: 5 % of one CPU.
const REST: u32 = 19;

/// A NAT mapping without sessions lives so long, ticks of 2.1 s: its external port is not given to another flow whose
/// peer may still send to the former one.
pub const MAPPING_TICKS: u16 = 56;

/// What the sweeper works on.
pub struct Sweeper {
    v4: Sessions<V4>,
    v6: Sessions<V6>,
    nat_in: Table<ExternalPort, NatIn>,
    nat_out: Table<NatOutKey, NatOut>,
    mappings_lock: Arc<Mutex<()>>,
    readers: Readers,
    ports: Table<u32, Port>,
    port_usage: Table<u32, Usage>,
    vpc_usage: Table<u32, Usage>,
}

/// The running sweeper.
#[derive(Clone)]
pub struct Handle(Arc<Mutex<Work>>);

struct Work {
    sweeper: Arc<Sweeper>,
    /// When the last whole sweep of these maps began.
    swept: Option<Instant>,
    /// NAT mappings that it left.
    mappings: usize,
}

impl Work {
    fn on(tables: &Tables) -> Result<Self, TableError> {
        Ok(Self { sweeper: Arc::new(Sweeper::new(tables)?), swept: None, mappings: 0 })
    }
}

impl Handle {
    fn new(tables: &Tables) -> Result<Self, TableError> {
        Ok(Self(Arc::new(Mutex::new(Work::on(tables)?))))
    }

    /// From its next sweep on it works on these maps.
    ///
    /// # Errors
    /// Where no descriptor can be had.
    pub fn follow(&self, tables: &Tables) -> Result<(), TableError> {
        *self.work() = Work::on(tables)?;
        Ok(())
    }

    /// How many NAT mappings there were after the last whole sweep of the present maps.
    pub fn mappings(&self) -> usize {
        self.work().mappings
    }

    /// Whether a whole sweep of the present maps has begun and ended since then.
    pub fn has_swept_since(&self, then: Instant) -> bool {
        self.work().swept.is_some_and(|began| began >= then)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sweeps once; returns how many sessions were removed.
    fn sweep(&self) -> Result<usize, TableError> {
        let (sweeper, began) = (Arc::clone(&self.work().sweeper), Instant::now());
        let swept = sweeper.sweep()?;
        let mut work = self.work();
        if Arc::ptr_eq(&work.sweeper, &sweeper) {
            (work.swept, work.mappings) = (Some(began), swept.mappings);
        }
        Ok(swept.removed)
    }
}

/// Starts it. It ends with the process.
///
/// # Errors
/// Where no thread or descriptor can be had.
pub fn spawn(tables: &Tables) -> Result<Handle, io::Error> {
    let handle = Handle::new(tables).map_err(io::Error::other)?;
    let sweeping = handle.clone();
    thread::Builder::new().name("sweeper".to_owned()).spawn(move || {
        loop {
            thread::sleep(PAUSE);
            match sweeping.sweep() {
                Ok(0) => {}
                Ok(removed) => tracing::debug!(removed, "removed expired sessions"),
                Err(error) => tracing::warn!(%error, "sweep sessions"),
            }
        }
    })?;
    Ok(handle)
}

/// What came of a sweep.
struct Swept {
    /// Sessions that were removed.
    removed: usize,
    /// NAT mappings that are left.
    mappings: usize,
}

impl Sweeper {
    fn new(tables: &Tables) -> Result<Self, TableError> {
        Ok(Self {
            v4: tables.sessions_v4.try_clone()?,
            v6: tables.sessions_v6.try_clone()?,
            nat_in: tables.outside.nat_in.try_clone()?,
            nat_out: tables.outside.nat_out.try_clone()?,
            mappings_lock: Arc::clone(&tables.outside.mappings_lock),
            readers: Readers::new()?,
            ports: tables.ports.try_clone()?,
            port_usage: tables.port_usage.try_clone()?,
            vpc_usage: tables.vpc_usage.try_clone()?,
        })
    }

    fn sweep(&self) -> Result<Swept, TableError> {
        let ports: BTreeMap<u16, Port> =
            self.ports.entries()?.into_iter().map(|(slot, port)| (slot as u16, port)).collect();
        let used = |(slot, usage): (u32, Usage)| (usage != Usage::default()).then_some((slot, usage));
        let port_usage: BTreeMap<u32, Usage> = self.port_usage.entries()?.into_iter().filter_map(used).collect();
        let vpc_usage: BTreeMap<u32, Usage> = self.vpc_usage.entries()?.into_iter().filter_map(used).collect();
        let mut living = BTreeMap::new();
        let mut used = BTreeSet::new();
        let removed = self.family(&self.v4, &ports, &mut living, &mut used)?
            + self.family(&self.v6, &ports, &mut living, &mut used)?;
        let mappings = self.mappings(&ports, &used)?;
        let mut of_vpcs: BTreeMap<u32, Usage> = BTreeMap::new();
        for (slot, usage) in &living {
            let index = ports.get(slot).map_or(0, |port| port.vpc_index);
            of_vpcs.entry(index).or_default().sessions += usage.sessions;
        }
        let of_ports = living.into_iter().map(|(slot, usage)| (u32::from(slot), usage)).collect();
        correct(&self.port_usage, &port_usage, &of_ports)?;
        correct(&self.vpc_usage, &vpc_usage, &of_vpcs)?;
        Ok(Swept { removed, mappings })
    }

    /// Removes NAT mappings that no session has used for so long that their ports may be given to others. One whose guest
    /// has left is used on another node: packets on their way there show it, see [`NatIn::kept`]. Returns how many are left.
    fn mappings(&self, ports: &BTreeMap<u16, Port>, used: &BTreeSet<ExternalPort>) -> Result<usize, TableError> {
        let _alone = self.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let now = tick();
        let mut dead = Vec::new();
        let all = self.nat_in.entries()?;
        let count = all.len();
        for (key, mapping) in all {
            let idle = idle_ticks(now, mapping.last_used);
            let gone = !has_port(ports, mapping.slot) && self.is_vacant(mapping.slot)?;
            let limit = match (gone, mapping.kept) {
                (true, 0) => None,
                (true, kept) => Some(kept),
                (false, _) => Some(MAPPING_TICKS),
            };
            if used.contains(&key) && !gone {
                if idle > 0 {
                    self.nat_in.set(&key, &NatIn { last_used: now, ..mapping })?;
                }
            } else if limit.is_none_or(|limit| idle > limit) {
                dead.push((key, mapping));
            }
        }
        if !dead.is_empty() {
            self.remove_mappings(&dead)?;
        }
        Ok(count - dead.len())
    }

    /// Removes mappings, but for those that a packet has taken in this very moment.
    fn remove_mappings(&self, dead: &[(ExternalPort, NatIn)]) -> Result<(), TableError> {
        let led: BTreeMap<NatOutKey, NatOut> = self.nat_out.entries()?.into_iter().collect();
        let ways: Vec<_> = dead.iter().map(|(key, mapping)| mapping.way_out(key)).collect();
        // First what leads to a mapping: a packet from here on takes another place.
        let leave = |(out, here): &(NatOutKey, NatOut)| led.get(out).is_none_or(|there| there == here);
        let leaving: Vec<_> = ways.iter().filter(|way| leave(way)).map(|(out, _)| (*out, NatOut::LEAVING)).collect();
        self.nat_out.set_all(&leaving)?;
        self.readers.wait()?;
        let mut taken = BTreeMap::new();
        for ((key, mapping), (out, here)) in dead.iter().zip(&ways) {
            if self.nat_in.get(key)?.is_some_and(|now| now.last_used != mapping.last_used) {
                taken.insert(*out, *here);
            } else {
                self.nat_in.delete(key)?;
            }
        }
        // A packet may have led its guest elsewhere since.
        for (out, _) in self.nat_out.entries()?.iter().filter(|(_, value)| *value == NatOut::LEAVING) {
            match taken.get(out).filter(|here| led.get(out) == Some(here)) {
                Some(here) => self.nat_out.set(out, here)?,
                None => {
                    self.nat_out.delete(out)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what has expired, and counts what lives by slot.
    fn family<A>(
        &self,
        sessions: &Table<SessionKey<A>, Session>,
        ports: &BTreeMap<u16, Port>,
        living: &mut BTreeMap<u16, Usage>,
        used: &mut BTreeSet<ExternalPort>,
    ) -> Result<usize, TableError>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let now = tick();
        let mut dead = Vec::new();
        let mut start = Instant::now();
        sessions.for_each_batch(|keys, values| {
            for (key, session) in keys.iter().zip(values) {
                let port = ports.get(&key.slot).filter(|port| port.epoch != 0);
                if port.is_some_and(|port| !has_expired(session, key.protocol, port, now)) {
                    let usage = living.entry(key.slot).or_default();
                    usage.sessions += 1;
                    let (address, external_port) = session.external();
                    if address != [0] {
                        let (protocol, port) = (key.protocol, external_port);
                        used.insert(ExternalPort { address, protocol, reserved: 0, port });
                    }
                    usage.half_open += u32::from(conntrack::is_half_open(session.state));
                } else {
                    dead.push(*key);
                }
            }
            thread::sleep(start.elapsed() * REST);
            start = Instant::now();
        })?;
        let mut removed = 0;
        for chunk in dead.chunks(4_096) {
            let start = Instant::now();
            let slots: BTreeSet<u16> = chunk.iter().map(|key| key.slot).collect();
            let mut newcomers = BTreeSet::new();
            for slot in slots.into_iter().filter(|slot| !has_port(ports, *slot)) {
                if !self.is_vacant(slot)? {
                    newcomers.insert(slot);
                }
            }
            let chunk: Vec<_> = chunk.iter().filter(|key| !newcomers.contains(&key.slot)).copied().collect();
            sessions.delete_all(&chunk)?;
            removed += chunk.len();
            thread::sleep(start.elapsed() * REST);
        }
        Ok(removed)
    }

    /// Whether a slot has no port now. Where it had none when the sweep began, it may have one by now.
    fn is_vacant(&self, slot: u16) -> Result<bool, TableError> {
        Ok(self.ports.get(&u32::from(slot))?.is_none_or(|port| port.epoch == 0))
    }
}

/// Whether a slot had a port when the sweep began.
fn has_port(ports: &BTreeMap<u16, Port>, slot: u16) -> bool {
    ports.get(&slot).is_some_and(|port| port.epoch != 0)
}

/// Moves each count by the difference between what was counted by hand and what the datapath had counted when that began.
fn correct(
    table: &Table<u32, Usage>,
    before: &BTreeMap<u32, Usage>,
    living: &BTreeMap<u32, Usage>,
) -> Result<(), TableError> {
    let mut indices: Vec<u32> = before.keys().chain(living.keys()).copied().collect();
    indices.sort_unstable();
    indices.dedup();
    for index in indices {
        let old = before.get(&index).copied().unwrap_or_default();
        let counted = living.get(&index).copied().unwrap_or_default();
        if old == counted {
            continue;
        }
        let now = table.get(&index)?.unwrap_or_default();
        let moved = |now: u32, old: u32, counted: u32| {
            u32::try_from(i64::from(now) + i64::from(counted) - i64::from(old)).unwrap_or_default()
        };
        let corrected = Usage {
            sessions: moved(now.sessions, old.sessions, counted.sessions),
            half_open: moved(now.half_open, old.half_open, counted.half_open),
        };
        table.set(&index, &corrected)?;
    }
    Ok(())
}

/// The present as sessions note it.
pub fn tick() -> u16 {
    (monotonic().as_nanos() >> TICK_SHIFT) as u16
}

/// Seconds since a session saw a packet.
pub fn idle_seconds(now: u16, last_seen: u16) -> u64 {
    (u64::from(idle_ticks(now, last_seen)) << TICK_SHIFT) / 1_000_000_000
}

/// Seconds until the port of a mapping that no session uses may be given to another, if it lives so many ticks.
pub fn seconds_left(now: u16, last_used: u16, life: u16) -> u64 {
    (u64::from(life.saturating_sub(idle_ticks(now, last_used))) << TICK_SHIFT) / 1_000_000_000
}

/// Ticks since a session saw a packet.
pub fn idle_ticks(now: u16, last_seen: u16) -> u16 {
    let idle = now.wrapping_sub(last_seen);
    // A packet that came after `now` was read is not idle.
    if idle >= conntrack::BEHIND { 0 } else { idle }
}

/// Whether the datapath would not take a session for a packet's any more.
pub fn has_expired(session: &Session, protocol: u8, port: &Port, now: u16) -> bool {
    idle_ticks(now, session.last_seen) > conntrack::timeout(&port.timeouts, protocol, session.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpc_bpf::{Loader, Sizes};
    use vpc_common::{Be16, port::Timeouts, session::state};

    #[test]
    fn expiry_is_that_of_the_datapath() {
        let port = Port { timeouts: Timeouts { two_way: 140, ..Timeouts::default() }, ..Port::default() };
        let session = Session { state: state::TWO_WAY, last_seen: 1_000, ..Session::default() };
        assert!(!has_expired(&session, 17, &port, 999), "a packet came meanwhile");
        assert!(!has_expired(&session, 17, &port, 1_140));
        assert!(has_expired(&session, 17, &port, 1_141));
        assert_eq!(idle_seconds(1_140, 1_000), 300);
    }

    /// Needs root.
    #[test]
    fn what_a_port_opens_that_came_during_the_sweep_stays() {
        let loaded = Loader::new(Sizes { sessions: 1_024, endpoints: 1_024, routes: 1_024, ..Sizes::default() });
        let tables = Tables::new(&loaded.load().unwrap()).unwrap();
        let sweeper = Sweeper::new(&tables).unwrap();
        let key = |slot| SessionKey { slot, protocol: 17, ..SessionKey::default() };
        for slot in [1, 2] {
            tables.sessions_v4.set(&key(slot), &Session { last_seen: tick(), ..Session::default() }).unwrap();
        }
        tables.ports.set(&2, &Port { epoch: 7, ..Port::default() }).unwrap();
        let none = BTreeMap::new();
        let removed = sweeper.family(&sweeper.v4, &none, &mut BTreeMap::new(), &mut BTreeSet::new()).unwrap();
        assert_eq!(removed, 1);
        let left: Vec<u16> = tables.sessions_v4.entries().unwrap().iter().map(|(key, _)| key.slot).collect();
        assert_eq!(left, [2], "slot 1 has no port, slot 2 had none when the sweep began");
    }

    /// Needs root.
    #[test]
    fn a_mapping_that_a_packet_takes_up_meanwhile_stays() {
        let loaded = Loader::new(Sizes { sessions: 1_024, endpoints: 1_024, routes: 1_024, ..Sizes::default() });
        let tables = Tables::new(&loaded.load().unwrap()).unwrap();
        let sweeper = Sweeper::new(&tables).unwrap();
        let external = |port| ExternalPort { address: [9], protocol: 17, reserved: 0, port: Be16::new(port) };
        let mapping = |port, last_used| NatIn { slot: 1, port: Be16::new(port), last_used, ..NatIn::default() };
        let way = |port| mapping(port, 0).way_out(&external(port));
        let elsewhere = (way(5).0, NatOut { address: [9], port: Be16::new(50), reserved: 0 });
        // Two have been taken up since the sweep looked; 1 and 2 are at their homes, to 3 and 4 their guests are led, and the
        // guest of the fifth is led elsewhere.
        let entries =
            [(1, 5), (2, 6), (3, 5), (4, 6), (5, 5)].map(|(port, used)| (external(port), mapping(port, used)));
        tables.outside.nat_in.set_all(&entries).unwrap();
        tables.outside.nat_out.set_all(&[way(3), way(4), elsewhere]).unwrap();
        sweeper.remove_mappings(&[1, 2, 3, 4, 5].map(|port| (external(port), mapping(port, 5)))).unwrap();
        let mut left = tables.outside.nat_in.entries().unwrap();
        left.sort_unstable_by_key(|(key, _)| *key);
        assert_eq!(left, [2, 4].map(|port| (external(port), mapping(port, 6))));
        let led: BTreeMap<_, _> = tables.outside.nat_out.entries().unwrap().into_iter().collect();
        assert_eq!(led, BTreeMap::from([way(4), elsewhere]));
    }
}
