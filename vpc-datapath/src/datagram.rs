//! Fragments: all of a datagram are judged and sent as its first one is. Nothing is put together.

use crate::{Scratch, Stage, Tables, conntrack::Side, scratch::flow_flags};
use vpc_common::{
    DropReason,
    datagram::{Datagram, Share},
    limits::DATAGRAM_NS,
};

/// Notes what a first fragment says, or fills it in for a later one. Fragments that come before the first one are
/// dropped; so are those that overlap with it (RFC 1858, RFC 5722), and those of another datagram of the same hash.
#[inline(never)]
pub fn follow<T: Tables>(tables: &T, scratch: &mut Scratch, share: Share, side: Side) -> Stage {
    let now = tables.now_coarse();
    let Scratch { flow, datagram, .. } = scratch;
    *datagram = Datagram {
        source: flow.source,
        destination: flow.destination,
        id: flow.fragment_id,
        protocol: flow.protocol,
        direction: match side {
            Side::Guest => 1,
            Side::Peer => 2,
        },
        first_end: flow.fragment_end,
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        reserved: 0,
        seen_ns: now,
        reserved2: 0,
    };
    let place = share.index(hash(datagram));
    if flow.flags & flow_flags::LATER_FRAGMENT == 0 {
        return tables.datagram(place, |known| *known = *datagram).ok_or(DropReason::EarlyFragment.into());
    }
    let found = tables.datagram(place, |known| {
        let same = known.source == datagram.source
            && known.destination == datagram.destination
            && known.id == datagram.id
            && known.protocol == datagram.protocol
            && known.direction == datagram.direction;
        if !same || now.saturating_sub(known.seen_ns) > DATAGRAM_NS {
            return Found::Nothing;
        }
        if flow.fragment_offset < known.first_end {
            return Found::Overlap;
        }
        flow.source_port = known.source_port;
        flow.destination_port = known.destination_port;
        Found::First
    });
    match found {
        Some(Found::First) => Ok(()),
        Some(Found::Overlap) => Err(DropReason::BadFragment.into()),
        _ => Err(DropReason::EarlyFragment.into()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Overlap,
    First,
}

#[inline(always)]
fn hash(datagram: &Datagram) -> u32 {
    let mut h = (datagram.id as u64) << 16 | (datagram.protocol as u64) << 8 | datagram.direction as u64;
    let mut i = 0;
    while i < 4 {
        h = (h ^ (datagram.source.0[i] as u64) << 32 ^ datagram.destination.0[i] as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 29;
        i += 1;
    }
    (h >> 32) as u32
}
