//! Which external port stands for a port of a guest, whoever the peer is (RFC 4787 REQ-1).
//!
//! Each port of a guest has a home among the external ports of this node's slice, which a hash tells. Most mappings are
//! there, found and made under one key. Where the home is another's, `NAT_OUT` leads to the place that was free instead.

use crate::{
    Packet, Scratch, Stage, Tables, clock,
    packet::{Repeat, Step},
    token::{self, Token},
};
use vpc_common::{
    Be16, DropReason,
    limits::{NAT_FIRST_PROBES, NAT_PROBES, NAT_SEARCH_RATE},
    nat::{NatIn, NatOut, NatOutKey, NatSlice},
};

/// Takes the mapping of `scratch.nat_out`, or makes it from this node's slice of the gateway's ports: `flow.external`.
#[inline(never)]
pub fn find_or_make<P: Packet, T: Tables>(tables: &T, scratch: &mut Scratch) -> Stage {
    let (mut replaces, mut skip) = (false, 0);
    if let Some(&out) = tables.nat_out(&scratch.nat_out) {
        if lead_to(tables, scratch, out) {
            return Ok(());
        }
        (replaces, skip) = (true, (out == NatOut::LEAVING) as u64);
    }
    let NatOutKey { gateway, private, slot, port, .. } = scratch.nat_out;
    let slice = *tables.nat_gateway(&gateway).ok_or(DropReason::NatExhausted)?;
    let last_used = clock::tick(tables, &mut scratch.clock);
    scratch.nat_in = NatIn { gateway, private, slot, port, last_used, kept: 0 };
    match search::<P, T>(tables, scratch, slice, skip) {
        Found::HOME => {}
        Found::ELSEWHERE => {
            let out = NatOut { address: scratch.outside.address, port: scratch.outside.port, reserved: 0 };
            let led = if replaces {
                tables.replace_nat_out(&scratch.nat_out, &out)
            } else {
                tables.insert_nat_out(&scratch.nat_out, &out)
            };
            if led.is_err() {
                // Another CPU was faster, or there is no room.
                tables.remove_nat_in(&scratch.outside);
                let out = *tables.nat_out(&scratch.nat_out).ok_or(DropReason::NatExhausted)?;
                return if lead_to(tables, scratch, out) { Ok(()) } else { Err(DropReason::NatExhausted.into()) };
            }
        }
        _ => return Err(DropReason::NatExhausted.into()),
    }
    (scratch.flow.external, scratch.flow.external_port) = (scratch.outside.address, scratch.outside.port);
    Ok(())
}

/// Takes the mapping in that place. It may be none of this guest's: one that is being removed.
#[inline(always)]
fn lead_to<T: Tables>(tables: &T, scratch: &mut Scratch, out: NatOut) -> bool {
    scratch.outside = scratch.nat_out.external(out.address, out.port);
    let now = clock::tick(tables, &mut scratch.clock);
    let is_own = take(tables, scratch, now);
    if is_own {
        (scratch.flow.external, scratch.flow.external_port) = (out.address, out.port);
    }
    is_own
}

/// Uses the mapping of `scratch.outside`, if it is that of `scratch.nat_out`.
#[inline(always)]
fn take<T: Tables>(tables: &T, scratch: &Scratch, now: u16) -> bool {
    let taken = tables.nat_in(&scratch.outside, |mapping| {
        let is_own = mapping.is_of(&scratch.nat_out);
        if is_own {
            mapping.last_used = now;
        }
        is_own
    });
    taken == Some(true)
}

/// What a search came to. Not an enumeration: the verifier refuses to see those passed on.
struct Found;

impl Found {
    const NOTHING: u64 = 0;
    /// The mapping is, or is now, where it is looked for first.
    const HOME: u64 = 1;
    /// It has been made, but `NAT_OUT` must lead there.
    const ELSEWHERE: u64 = 2;
}

/// Looks for the mapping at its home, or for a free port from there on, leaving out so many of the first places.
#[inline(always)]
fn search<P: Packet, T: Tables>(tables: &T, scratch: &mut Scratch, slice: NatSlice, skip: u64) -> u64 {
    let key = &scratch.nat_out;
    scratch.outside = key.external(slice.external, Be16::default());
    let seed = (key.private[0] as u64) << 32 | (key.port.raw() as u64) << 16 | (key.protocol as u64) << 8;
    let hash = (seed ^ key.slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut search = Search {
        tables,
        scratch,
        hash,
        start: skip,
        ports: slice.ports as u64,
        first: slice.first_port as u64,
        forwards: slice.forwards as u64,
        found: Found::NOTHING,
    };
    P::repeat(NAT_FIRST_PROBES, &mut search);
    if search.found == Found::NOTHING && may_go_on(tables, search.scratch) {
        search.start = NAT_FIRST_PROBES as u64;
        P::repeat(NAT_PROBES - NAT_FIRST_PROBES, &mut search);
    }
    search.found
}

/// Whether the port may search on: else a guest that opens flows when there is no port left would cost too much with each.
#[inline(always)]
fn may_go_on<T: Tables>(tables: &T, scratch: &Scratch) -> bool {
    let now = tables.now_coarse();
    tables.buckets(scratch.flow.slot, |b| token::take(&mut b.nat, NAT_SEARCH_RATE, now)) == Some(Token::Taken)
}

/// The look for a port. In words: parts of one lie across words of the stack, which the verifier refuses.
struct Search<'a, T> {
    tables: &'a T,
    scratch: &'a mut Scratch,
    hash: u64,
    /// The place to begin with.
    start: u64,
    /// How many ports there are to choose from, and the first one.
    ports: u64,
    first: u64,
    /// How many of them are not for mappings.
    forwards: u64,
    /// See [`Found`]: it is the one in `scratch.outside`.
    found: u64,
}

/// How far from home a place is, `None` behind the last: wider and wider steps come first, since ports in a row are soon all
/// taken where one is; then a row, in which a slice of few ports is seen whole.
#[inline(always)]
const fn distance(place: u64, ports: u64) -> Option<u64> {
    const STEPS: u64 = NAT_PROBES as u64 / 2;
    if place < STEPS {
        Some(place * (place + 1) / 2)
    } else if place - STEPS < ports {
        Some(place - STEPS)
    } else {
        None
    }
}

impl<T: Tables> Step for Search<'_, T> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> Repeat {
        let (place, ports) = (index as u64 + self.start, self.ports);
        let Some(distance) = distance(place, ports) else { return Repeat::Stop };
        if ports == 0 {
            return Repeat::Stop;
        }
        let offset = (self.hash + distance) % ports;
        self.scratch.outside.port = Be16::new((self.first + offset) as u16);
        let Scratch { outside, nat_in, .. } = &*self.scratch;
        if self.forwards != 0 && self.tables.forward(outside).is_some() {
            return Repeat::Next;
        }
        if self.tables.insert_nat_in(outside, nat_in).is_ok() {
            self.found = if place == 0 { Found::HOME } else { Found::ELSEWHERE };
            return Repeat::Stop;
        }
        if place == 0 && take(self.tables, self.scratch, self.scratch.nat_in.last_used) {
            self.found = Found::HOME;
            return Repeat::Stop;
        }
        Repeat::Next
    }
}
