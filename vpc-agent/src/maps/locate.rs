//! Places keys in the buckets of the `LOCATE` array.
//!
//! A reader takes a key's two buckets in turn and no lock. So nothing that is in use moves without its new place
//! being written first, and an entry comes and goes by its slot: see [`vpc_common::locate`].

use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use vpc_common::locate::{BUCKETS, LocateBucket, LocateEntry, LocateKey, WAYS};

/// Which slot each key leads to.
pub type Placement = BTreeMap<LocateKey, u16>;

/// One write of a bucket.
pub type BucketWrite = (u32, LocateBucket);

/// There is no room for a key in either of its buckets.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no room to locate MAC {mac:#014x} in domain {domain}: both of its buckets are full")]
pub struct Full {
    /// See [`LocateKey::domain`].
    pub domain: u32,
    /// See [`LocateKey::mac`].
    pub mac: u64,
}

/// How to get from one content to another: the writes in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LocatePlan {
    /// Writes that add and redirect keys.
    pub add: Vec<BucketWrite>,
    /// Writes that remove keys; after every other table is switched.
    pub remove: Vec<BucketWrite>,
}

/// An empty array.
pub fn empty() -> Vec<LocateBucket> {
    vec![LocateBucket::default(); BUCKETS as usize]
}

/// All keys of an array.
pub fn placement(buckets: &[LocateBucket]) -> Placement {
    let entries = buckets.iter().flat_map(|bucket| bucket.0).filter(|entry| entry.slot != 0);
    entries.map(|entry| (key(&entry), entry.slot)).collect()
}

/// Plans the way from `buckets` to `wanted` and makes `buckets` what it will be then.
///
/// # Errors
/// Where a key finds no room.
pub fn plan(buckets: &mut [LocateBucket], wanted: &Placement) -> Result<LocatePlan, Full> {
    let mut plan = LocatePlan::default();
    let mut there = BTreeSet::new();
    for number in 0..buckets.len() {
        for way in 0..WAYS {
            let entry = buckets[number].0[way];
            if entry.slot == 0 {
                continue;
            }
            let key = key(&entry);
            if let Some(slot) = wanted.get(&key) {
                there.insert(key);
                if entry.slot != *slot {
                    write(buckets, number, way, LocateEntry { slot: *slot, ..entry }, &mut plan.add);
                }
            }
        }
    }
    for (key, slot) in wanted.iter().filter(|(key, _)| !there.contains(key)) {
        insert(buckets, *key, *slot, &mut plan.add)?;
    }
    for number in 0..buckets.len() {
        for way in 0..WAYS {
            let entry = buckets[number].0[way];
            if entry != LocateEntry::default() && (entry.slot == 0 || !wanted.contains_key(&key(&entry))) {
                if entry.slot != 0 {
                    write(buckets, number, way, LocateEntry { slot: 0, ..entry }, &mut plan.remove);
                }
                write(buckets, number, way, LocateEntry::default(), &mut plan.remove);
            }
        }
    }
    Ok(plan)
}

fn key(entry: &LocateEntry) -> LocateKey {
    LocateKey { domain: entry.domain, mac: u64::from(entry.mac_low) | u64::from(entry.mac_high) << 32 }
}

fn write(buckets: &mut [LocateBucket], number: usize, way: usize, entry: LocateEntry, writes: &mut Vec<BucketWrite>) {
    buckets[number].0[way] = entry;
    writes.push((number as u32, buckets[number]));
}

fn insert(buckets: &mut [LocateBucket], key: LocateKey, slot: u16, writes: &mut Vec<BucketWrite>) -> Result<(), Full> {
    let (number, way) = free_way(buckets, key)
        .or_else(|| make_room(buckets, key, writes))
        .ok_or(Full { domain: key.domain, mac: key.mac })?;
    put(buckets, number, way, LocateEntry::new(key, slot), writes);
    Ok(())
}

/// Writes an entry in the two steps that readers rely on.
fn put(buckets: &mut [LocateBucket], number: usize, way: usize, entry: LocateEntry, writes: &mut Vec<BucketWrite>) {
    write(buckets, number, way, LocateEntry { slot: 0, ..entry }, writes);
    write(buckets, number, way, entry, writes);
}

fn free_way(buckets: &[LocateBucket], key: LocateKey) -> Option<(usize, usize)> {
    key.buckets().into_iter().find_map(|number| {
        let number = number as usize;
        buckets[number].0.iter().position(|entry| entry.slot == 0).map(|way| (number, way))
    })
}

/// Moves one neighbour to its other bucket.
fn make_room(buckets: &mut [LocateBucket], wanted: LocateKey, writes: &mut Vec<BucketWrite>) -> Option<(usize, usize)> {
    let places = wanted.buckets().into_iter().flat_map(|number| (0..WAYS).map(move |way| (number as usize, way)));
    for (number, way) in places.collect::<Vec<_>>() {
        let entry = buckets[number].0[way];
        if let Some((other, free)) = free_way(buckets, key(&entry)) {
            put(buckets, other, free, entry, writes);
            // The key is now in both places; the old one is free for another.
            write(buckets, number, way, LocateEntry { slot: 0, ..entry }, writes);
            return Some((number, way));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Full, Placement, empty, placement, plan};
    use vpc_common::{
        Mac, Vni,
        locate::{LocateBucket, LocateKey},
    };

    /// What the datapath does.
    fn look_up(buckets: &[LocateBucket], key: LocateKey) -> Option<u16> {
        key.buckets().into_iter().find_map(|number| {
            buckets[number as usize].0.iter().find(|entry| entry.matches(key)).map(|entry| entry.slot)
        })
    }

    fn keys(ports: u16) -> Placement {
        (1..=ports)
            .flat_map(|slot| {
                let mac = Mac::new([2, 0, 0, 0, (slot >> 8) as u8, slot as u8]);
                [(LocateKey::endpoint(Vni(5_000), mac), slot), (LocateKey::interface(slot.into()), slot)]
            })
            .collect()
    }

    #[test]
    fn every_key_of_a_full_node_is_found() {
        let mut buckets = empty();
        let wanted = keys(1_024);
        plan(&mut buckets, &wanted).unwrap();
        assert!(wanted.iter().all(|(key, slot)| look_up(&buckets, *key) == Some(*slot)));
        assert_eq!(placement(&buckets), wanted);
        let again = plan(&mut buckets, &wanted).unwrap();
        assert!(again.add.is_empty() && again.remove.is_empty(), "what is there is not written again");
    }

    /// A reader between any two writes sees each key that stays, with its old or its new slot.
    #[test]
    fn keys_that_stay_are_found_at_every_moment() {
        let mut buckets = empty();
        let old = keys(600);
        plan(&mut buckets, &old).unwrap();
        let mut live = buckets.clone();
        let mut new = keys(4_000);
        new.retain(|_, slot| *slot % 3 != 0);
        *new.get_mut(&LocateKey::interface(1)).unwrap() = 77;
        let plan = plan(&mut buckets, &new).unwrap();
        for (number, bucket) in plan.add.iter().chain(&plan.remove) {
            live[*number as usize] = *bucket;
            for key in old.keys().filter(|key| new.contains_key(key)).take(20) {
                let found = look_up(&live, *key);
                assert!(found == Some(old[key]) || found == Some(new[key]));
            }
        }
        assert_eq!(live, buckets);
        assert_eq!(placement(&live), new);
    }

    #[test]
    fn an_overfull_table_is_an_error() {
        let mut buckets = empty();
        let wanted: Placement = (0..60_000).map(|index| (LocateKey::interface(index), 1)).collect();
        assert!(matches!(plan(&mut buckets, &wanted), Err(Full { .. })));
    }
}
