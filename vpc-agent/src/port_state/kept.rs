//! Mappings whose guests have moved: those that this node keeps, and those that came here.

use crate::maps::{Image, Tables};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};
use vpc_bpf::TableError;
use vpc_common::{
    Be32, Ip,
    endpoint::EndpointKey,
    nat::{External, ExternalPort, NatIn},
    port::UNDERLAY_SLOT,
    session::V4,
};

/// The addresses of guests whose state was given away, also by an earlier agent.
pub(crate) fn guests(tables: &Tables, image: &Image) -> Result<BTreeSet<EndpointKey>, TableError> {
    let externals: BTreeMap<_, _> = image.outside.shared.externals.iter().copied().collect();
    let entries = tables.outside.nat_in.entries()?;
    let kept = entries.iter().filter(|(_, mapping)| mapping.kept != 0).filter_map(|(key, mapping)| {
        let address = Ip::v4(Be32::from_raw(mapping.private[0]));
        Some(EndpointKey { vpc: externals.get(&key.address)?.vpc, address })
    });
    Ok(kept.collect())
}

/// Those kept for ports that have gone are no slot's any more: another port may have it next.
pub(crate) fn without_slot(tables: &Tables, gone: &BTreeSet<u16>) -> Result<(), TableError> {
    if gone.is_empty() {
        return Ok(());
    }
    let outside = &tables.outside;
    let _alone = outside.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, mapping) in outside.nat_in.entries()? {
        if mapping.kept != 0 && gone.contains(&mapping.slot) {
            outside.nat_out.delete(&mapping.way_out(&key).0)?;
            outside.nat_in.set(&key, &NatIn { slot: UNDERLAY_SLOT, ..mapping })?;
        }
    }
    Ok(())
}

/// Those that came from nodes that have gone lead nowhere: their guests are to have others, at once.
pub(crate) fn without_lender(tables: &Tables, externals: &[(V4, External)], gone: &[u32]) -> Result<(), TableError> {
    if gone.is_empty() || externals.is_empty() {
        return Ok(());
    }
    let outside = &tables.outside;
    let lent = |key: &ExternalPort| {
        let at = externals.binary_search_by_key(&key.address, |(key, _)| *key).ok();
        at.is_some_and(|at| gone.contains(&u32::from(externals[at].1.owner(key.port))))
    };
    let mut lost = BTreeSet::new();
    {
        let _alone = outside.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, mapping) in outside.nat_in.entries()?.into_iter().filter(|(key, _)| lent(key)) {
            outside.nat_out.delete(&mapping.way_out(&key).0)?;
            outside.nat_in.delete(&key)?;
            lost.insert(key);
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let mut sessions = Vec::new();
    tables.sessions_v4.for_each_batch(|keys, values| {
        for (key, session) in keys.iter().zip(values) {
            let (address, port) = session.external();
            if lost.contains(&ExternalPort { address, protocol: key.protocol, reserved: 0, port }) {
                sessions.push(*key);
            }
        }
    })?;
    tables.sessions_v4.delete_all(&sessions)
}
