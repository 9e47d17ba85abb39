//! Slots whose ports have gone, as long as something of those may be left in the tables that traffic fills.
//!
//! Sessions and NAT mappings are a slot's. The sweeper removes those of slots without a port in its time; where a slot has
//! its next port before, they are removed here, first: what one port has opened stands for no packet of another, nor of
//! the same one that has been elsewhere meanwhile.

use crate::{maps::Tables, port_state::kept, sweeper};
use bytemuck::Pod;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Instant,
};
use vpc_bpf::{Table, TableError};
use vpc_common::session::{Session, SessionKey};

/// Slots without a port.
pub struct Vacated {
    sweeper: sweeper::Handle,
    /// Since when it is known which slots lose their port.
    start: Instant,
    /// Those that did, and when.
    slots: BTreeMap<u16, Instant>,
}

impl Vacated {
    /// Nothing is known of any slot that is free now.
    pub fn new(sweeper: sweeper::Handle) -> Self {
        Self { sweeper, start: Instant::now(), slots: BTreeMap::new() }
    }

    /// The sweeper, which works on other maps from now on.
    ///
    /// # Errors
    /// See [`sweeper::Handle::follow`].
    pub fn follow(&self, tables: &Tables) -> Result<(), TableError> {
        self.sweeper.follow(tables)
    }

    /// Nothing is known of any slot that is free now, once more.
    pub fn forget(&mut self) {
        (self.start, self.slots) = (Instant::now(), BTreeMap::new());
    }

    /// Slots have lost their ports, and no program that runs knows these any more.
    pub fn leave(&mut self, slots: &[u16]) {
        let now = Instant::now();
        self.slots.retain(|_, then| !self.sweeper.has_swept_since(*then));
        self.slots.extend(slots.iter().map(|slot| (*slot, now)));
    }

    /// Removes what was left in slots that are to have a port again.
    ///
    /// # Errors
    /// Where the kernel refuses a call.
    pub fn clear(&self, tables: &Tables, slots: impl Iterator<Item = u16>) -> Result<(), TableError> {
        let then = |slot: &u16| *self.slots.get(slot).unwrap_or(&self.start);
        let slots: BTreeSet<u16> = slots.filter(|slot| !self.sweeper.has_swept_since(then(slot))).collect();
        if slots.is_empty() {
            return Ok(());
        }
        sessions(&tables.sessions_v4, &slots)?;
        sessions(&tables.sessions_v6, &slots)?;
        kept::without_slot(tables, &slots)?;
        mappings(tables, &slots)
    }
}

fn sessions<A>(table: &Table<SessionKey<A>, Session>, slots: &BTreeSet<u16>) -> Result<(), TableError>
where
    A: Copy + 'static,
    SessionKey<A>: Pod,
{
    let mut left = Vec::new();
    table.for_each_batch(|keys, _| left.extend(keys.iter().filter(|key| slots.contains(&key.slot)).copied()))?;
    table.delete_all(&left)
}

/// Those that are kept for guests elsewhere are no slot's.
fn mappings(tables: &Tables, slots: &BTreeSet<u16>) -> Result<(), TableError> {
    let outside = &tables.outside;
    let _alone = outside.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, mapping) in outside.nat_in.entries()? {
        if mapping.kept == 0 && slots.contains(&mapping.slot) {
            outside.nat_out.delete(&mapping.way_out(&key).0)?;
            outside.nat_in.delete(&key)?;
        }
    }
    Ok(())
}
