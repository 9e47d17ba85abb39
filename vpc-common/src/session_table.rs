//! How sessions lie in memory: a hash table in an array map, laid out for the CPU's caches.
//!
//! An element of the array is a bucket of eight sessions and their keys. A flow has two buckets in which it may lie, so
//! that both are as good as never full while a third of the table is free. A look-up of an established flow of IPv4 touches
//! two cache lines, the keys' and the session's, in one page; the kernel's own hash touches three in two pages, and for a
//! new flow five, some of them under locks.
//!
//! Nobody waits for anybody: a place is claimed by a compare-and-swap of its key's first word, filled, and published by
//! writing that word. See [`place`] for its states.

use crate::session::{Session, SessionKey, V4, V6};
use bytemuck::{Pod, Zeroable};

/// Words of a key that are compared in each place.
pub const HEAD: usize = 2;
/// Places of a bucket.
pub const PLACES: usize = 8;
/// Sessions that a table has room for by each bucket of it: with more of them both buckets of a flow may be full.
const SESSIONS: u32 = 5;

/// One element of `SESSIONS_V4` and `SESSIONS_V6`, except the first one. An IPv4 key is its head. Of an IPv6 key the head is
/// the first word and the hash of the whole, so that the heads of a bucket are two cache lines there too; `TAIL` words more,
/// the addresses, are compared where a head agrees.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Bucket<const TAIL: usize> {
    /// The sessions: a cache line each.
    pub sessions: [Session; PLACES],
    /// What keys begin with; [`SessionKey::state`] is in the first word.
    pub heads: [[u64; HEAD]; PLACES],
    /// The rest of them.
    pub tails: [[u64; TAIL]; PLACES],
}

/// Of IPv4.
pub type BucketV4 = Bucket<0>;
/// Of IPv6.
pub type BucketV6 = Bucket<4>;

/// The beginning of the first element: what a look-up must know of the table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Header {
    /// Where a key lies depends on it. Random, so that nobody outside can tell which flows share a bucket.
    pub seed: u64,
    /// Buckets, which follow; 0 until the table has been made ready.
    pub buckets: u32,
    /// Sessions for which there is room.
    pub sessions: u32,
}

/// Values of [`SessionKey::state`].
pub mod place {
    /// Free: whoever changes it to [`CLAIMED`] may fill it.
    pub const FREE: u8 = 0;
    /// A session, from the moment in which it was published until somebody changes it to [`LEAVING`].
    pub const HELD: u8 = 1;
    /// Somebody fills it.
    pub const CLAIMED: u8 = 2;
    /// Nobody finds it any more, but a program may still work on its session: it becomes free a moment later.
    pub const LEAVING: u8 = 3;
}

/// Elements of the array for so many sessions: the buckets, and the header.
pub const fn elements(sessions: u32) -> u32 {
    sessions.div_ceil(SESSIONS).saturating_add(1)
}

/// An odd number whose product spreads a word's bits over the upper half: 2^64 by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Header {
    /// The hash of a key. Buckets cannot become longer, and keys are compared as a whole, so flows that are chosen to
    /// meet make nobody's look-ups slower: this need not be a hash that withstands who knows the seed.
    #[inline(always)]
    pub fn hash(&self, key: &[u64]) -> u64 {
        let mut hash = self.seed;
        for word in key {
            hash = (hash ^ word).wrapping_mul(SPREAD);
            hash ^= hash >> 32;
        }
        hash.wrapping_mul(SPREAD)
    }

    /// The elements in which a key of that hash may lie.
    #[inline(always)]
    pub fn places(&self, hash: u64) -> [u32; 2] {
        let upper = (hash >> 32).wrapping_mul(self.buckets as u64) >> 32;
        let lower = ((hash ^ hash >> 32) & 0xffff_ffff).wrapping_mul(self.buckets as u64) >> 32;
        [1 + upper as u32, 1 + lower as u32]
    }
}

const _: () = {
    assert!(size_of::<BucketV4>() == 640 && size_of::<BucketV6>() == 896);
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<SessionKey<V4>>() == HEAD * 8 && size_of::<SessionKey<V6>>() == (1 + 4) * 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_room_for_what_was_asked() {
        assert_eq!([0, 1, 5, 6, 65_536].map(elements), [1, 2, 2, 3, 13_109]);
    }

    #[test]
    fn keys_spread_over_all_buckets() {
        let header = Header { seed: 0x0123_4567_89ab_cdef, buckets: 1_000, sessions: 5_000 };
        let mut found = [[0_u32; 1_001]; 2];
        for flow in 0..100_000_u64 {
            let places = header.places(header.hash(&[flow << 40 | 0x0106_0001, 0x0a00_0001_0a00_0002]));
            for (found, place) in found.iter_mut().zip(places) {
                found[place as usize] += 1;
            }
        }
        for found in found {
            assert_eq!(found[0], 0, "the header is no bucket");
            assert!(found[1..].iter().all(|count| (40..200).contains(count)), "100 are expected: {found:?}");
        }
    }
}
