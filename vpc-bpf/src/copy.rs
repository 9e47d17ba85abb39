//! Fills a new map with the entries of an old one of another size, while packets go on to use the old one.

use crate::{TableError, table::RawTable};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};
use vpc_common::{
    maps,
    session::{Session, decided, state},
};

/// What a copy took over: hashes of the keys and of the values that they had. Kept of what packets change.
#[derive(Debug, Default)]
pub(crate) struct Copied(HashMap<u64, u64>);

/// Maps that packets write to. Of all others the agent knows the content, and writes it itself.
const OF_PACKETS: [&str; 4] = [maps::SESSIONS_V4, maps::SESSIONS_V6, maps::NAT_IN, maps::NAT_OUT];

/// Copies what fits. Where the layouts differ nothing can be taken over.
///
/// The entries of an array beyond the new size are left out: whoever shrinks the table of ports below its highest
/// used slot has that port given another slot. A hash that becomes too small is an error, except that the caller's
/// own traffic may have filled it: then the rest is decided again.
pub(crate) fn copy_entries(name: &str, old: &RawTable, new: &RawTable) -> Result<Copied, TableError> {
    let mut copied = Copied::default();
    if !old.description.same_layout(&new.description) {
        return Ok(copied);
    }
    let entries = new.description.max_entries;
    let is_array = old.description.is_array();
    let (key_size, stride) = (old.description.key_size as usize, old.value_stride);
    let mut result = Ok(());
    old.for_each_batch(|keys, values| {
        if result.is_err() {
            return;
        }
        let count = if is_array {
            let below = |key: &&[u8]| u32::from_ne_bytes([key[0], key[1], key[2], key[3]]) < entries;
            keys.chunks_exact(key_size).take_while(below).count()
        } else {
            keys.len() / key_size
        };
        result = new.set_batch(&keys[..count * key_size], &values[..count * stride], count);
        if OF_PACKETS.contains(&name) {
            let pairs = keys.chunks_exact(key_size).zip(values.chunks_exact(stride));
            copied.0.extend(pairs.map(|(key, value)| (hash(key), hash(value))));
        }
    })?;
    match result {
        Err(TableError::Call { source, .. }) if source.raw_os_error() == Some(libc::E2BIG) => Ok(copied),
        result => result.map(|()| copied),
    }
}

/// Brings over what packets have put into an old map, or changed there, since it was copied or caught up with last.
pub(crate) fn catch_up(name: &str, old: &RawTable, new: &RawTable, copied: &mut Copied) -> Result<(), TableError> {
    if !OF_PACKETS.contains(&name) || !old.description.same_layout(&new.description) {
        return Ok(());
    }
    let (key_size, stride) = (old.description.key_size as usize, old.value_stride);
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    old.for_each_batch(|keys, values| {
        for (key, value) in keys.chunks_exact(key_size).zip(values.chunks_exact(stride)) {
            let now = hash(value);
            match copied.0.insert(hash(key), now) {
                None => added.push((key.to_vec(), value.to_vec(), None)),
                Some(before) if before != now => changed.push((key.to_vec(), value.to_vec(), Some(before))),
                Some(_) => {}
            }
        }
    })?;
    let mut there = vec![0; stride];
    // First what the new one has nothing of: there, a packet of a connection is dropped until it is known.
    for (key, value, before) in added.into_iter().chain(changed) {
        let written = if !new.get(&key, &mut there)? || before == Some(hash(&there)) {
            new.set(&key, &value)
        } else if name == maps::SESSIONS_V4 || name == maps::SESSIONS_V6 {
            new.set(&key, &further(&value, &there))
        } else {
            Ok(())
        };
        match written {
            // No room: what is left is decided again.
            Err(TableError::Call { source, .. }) if source.raw_os_error() == Some(libc::E2BIG) => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// A session that packets have changed in both maps: as the new one has it, and as far on its way as either.
fn further(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut session: Session = bytemuck::pod_read_unaligned(new);
    let old: Session = bytemuck::pod_read_unaligned(old);
    // TCP goes through its states in the order of their numbers, until it is closed and opened anew.
    if session.opened == old.opened && session.state < state::CLOSED && old.state < state::ONE_WAY {
        session.state = session.state.max(old.state);
        // Not the decisions, which stand for words of their own.
        session.decided |= old.decided & (decided::GUEST_FIN | decided::PEER_FIN);
        session.guest_expects = later(session.guest_expects, old.guest_expects);
        session.peer_expects = later(session.peer_expects, old.peer_expects);
    }
    bytemuck::bytes_of(&session).to_vec()
}

/// The later one of two sequence numbers (RFC 9293 §3.4).
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_how_far_it_has_come() {
        let old = Session { state: state::ANSWERED, peer_expects: 7, guest_expects: 9, ..Session::default() };
        let new = Session { state: state::OPENING, peer_expects: 8, sent_packets: 3, ..Session::default() };
        let merged: Session =
            bytemuck::pod_read_unaligned(&further(bytemuck::bytes_of(&old), bytemuck::bytes_of(&new)));
        assert_eq!(merged, Session { state: state::ANSWERED, peer_expects: 8, guest_expects: 9, ..new });
        // What only the old one has decided, its words say nothing of in the new one.
        let decided = decided::EGRESS | decided::INGRESS | decided::EXTERNAL | decided::PEER_FIN;
        let old = Session { decided, ..old };
        let merged: Session =
            bytemuck::pod_read_unaligned(&further(bytemuck::bytes_of(&old), bytemuck::bytes_of(&new)));
        assert_eq!(merged.decided, decided::PEER_FIN);
        // One that was opened anew is another one.
        let anew = Session { opened: 4, ..new };
        let merged: Session =
            bytemuck::pod_read_unaligned(&further(bytemuck::bytes_of(&old), bytemuck::bytes_of(&anew)));
        assert_eq!(merged, anew);
    }
}
