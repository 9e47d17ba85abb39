//! Where a packet goes on this node.

use crate::{Packet, Stage, Tables, Verdict};
use vpc_common::{DropReason, Mac, Vni, locate::LocateKey, port::Port, wire::Ethernet};

/// The slot of a key of the locate table.
#[inline(always)]
pub fn locate<T: Tables>(tables: &T, key: LocateKey) -> Option<u16> {
    let [first, second] = key.buckets();
    match in_bucket(tables, first, key) {
        Some(slot) => Some(slot),
        None => in_bucket(tables, second, key),
    }
}

#[inline(always)]
fn in_bucket<T: Tables>(tables: &T, bucket: u32, key: LocateKey) -> Option<u16> {
    let [a, b, c, d] = &tables.locate(bucket)?.0;
    if a.matches(key) {
        return Some(a.slot);
    }
    if b.matches(key) {
        return Some(b.slot);
    }
    if c.matches(key) {
        return Some(c.slot);
    }
    d.matches(key).then_some(d.slot)
}

/// The slot of an endpoint of this node.
#[inline(always)]
pub fn locate_endpoint<T: Tables>(tables: &T, vni: Vni, mac: Mac) -> Stage<u16> {
    Ok(locate(tables, LocateKey::endpoint(vni, mac)).ok_or(DropReason::PortDown)?)
}

/// The port in a slot, if a workload can be reached there now.
#[inline(always)]
pub fn port<T: Tables>(tables: &T, slot: u16) -> Stage<&Port> {
    reachable(tables.port(slot).ok_or(DropReason::PortDown)?)
}

/// The port, if a workload can be reached there now.
#[inline(always)]
pub fn reachable(port: &Port) -> Stage<&Port> {
    if port.epoch != 0 && port.ifindex != 0 { Ok(port) } else { Err(DropReason::PortDown.into()) }
}

/// Hands the frame, whose Ethernet header becomes `ethernet`, to the workload in `slot`.
#[inline(always)]
pub fn local<P: Packet>(packet: &mut P, slot: u16, ethernet: &Ethernet) -> Stage<Verdict> {
    *packet.get_mut(0).ok_or(DropReason::Truncated)? = *ethernet;
    Ok(Verdict::deliver(slot))
}
