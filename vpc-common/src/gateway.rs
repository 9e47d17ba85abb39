//! Gateways: the nodes that send to the outside and receive from there. They hold no state of flows.

use crate::{Mac, limits::GATEWAYS, port::Port};
use bytemuck::{Pod, Zeroable};

/// Elements of the `GATEWAYS` array.
pub mod element {
    /// All gateways of the fabric.
    pub const FABRIC: u32 = 0;
    /// On a gateway: those on its own segment outside, itself among them. None of them is alive where this gateway
    /// answers nobody there.
    pub const SEGMENT: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Shares of what falls to gateways, by hash.
pub const BUCKETS: usize = 256;

/// Gateways, the living ones first. The same of them gives every node the same choice.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Gateways {
    /// How many are alive: they can be sent to now.
    pub count: u32,
    /// Their ids, then those of the others, then 0.
    pub nodes: [u16; GATEWAYS],
    /// The living gateway that each share falls to; 0 where none lives.
    pub buckets: [u16; BUCKETS],
}

impl Default for Gateways {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl Gateways {
    /// Gateways by whether they are alive, each in the order given. What there is no room for is left out. When one dies
    /// only its own shares fall to others: rendezvous hashing.
    pub fn of(alive: impl IntoIterator<Item = u16>, others: impl IntoIterator<Item = u16>) -> Self {
        let mut gateways = Self::default();
        for (place, node) in gateways.nodes.iter_mut().zip(alive) {
            *place = node;
            gateways.count += 1;
        }
        for (place, node) in gateways.nodes.iter_mut().skip(gateways.count as usize).zip(others) {
            *place = node;
        }
        let alive = gateways.count as usize;
        for (bucket, place) in gateways.buckets.iter_mut().enumerate() {
            let best = gateways.nodes[..alive].iter().max_by_key(|node| Self::bid(bucket as u32, **node));
            *place = best.copied().unwrap_or_default();
        }
        gateways
    }

    /// What a node bids for a share: the highest bid has it. Every bit of either counts.
    pub const fn bid(bucket: u32, node: u16) -> u32 {
        let mut h = bucket ^ (node as u32).wrapping_mul(0x9e37_79b9);
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }

    /// The living gateway that something falls to, by its hash; 0 where none lives.
    #[inline(always)]
    pub fn choose(&self, hash: u32) -> u16 {
        // The mask comes last: the compiler would put it before the end of the hash, which is an XOR, of whose bounds older
        // verifiers know nothing ("math between map_value pointer and register with unbounded min value", Linux 6.1).
        self.buckets[core::hint::black_box(hash) as usize & (BUCKETS - 1)]
    }

    /// Whether a node is one of them, alive or not: what a gateway sends that somebody else takes for dead is as good as
    /// any other's.
    #[inline(always)]
    pub fn contains(&self, node: u16) -> bool {
        let mut i = 0;
        while i < GATEWAYS {
            if node != 0 && self.nodes[i] == node {
                return true;
            }
            i += 1;
        }
        false
    }

    /// Whether a node is one of the living.
    #[inline(always)]
    pub fn lives(&self, node: u16) -> bool {
        let mut i = 0;
        while i < GATEWAYS {
            if self.nodes[i] == node {
                return i < self.count as usize;
            }
            i += 1;
        }
        false
    }

    /// The living gateways.
    pub fn alive(&self) -> &[u16] {
        &self.nodes[..(self.count as usize).min(GATEWAYS)]
    }
}

/// The one element of the `OUTLET` array: how a gateway reaches the outside. All zero on other nodes.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Outlet {
    /// In whose name the gateway answers: `gateway_v4` and `gateway_v6` are its external addresses. No port of a workload.
    pub router: Port,
    /// Index of the external interface; 0: there is none.
    pub ifindex: u32,
    /// Its MTU.
    pub mtu: u32,
    /// MAC of the next hop; all zero while it is not known.
    pub next_hop: Mac,
    /// MAC of the external interface.
    pub own: Mac,
    /// MAC of the next hop for IPv6; all zero while it is not known, or where there is none.
    pub next_hop_v6: Mac,
    /// Zero.
    pub reserved: [u16; 3],
}

impl Outlet {
    /// Whether something can be sent to the outside now.
    #[inline(always)]
    pub fn is_usable(&self) -> bool {
        self.ifindex != 0 && self.next_hop != Mac::default()
    }
}

const _: () = assert!(size_of::<Gateways>() == 580 && size_of::<Outlet>() == 224);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_dies_loses_its_own_shares_and_nobody_else_any() {
        let (all, fewer) = (Gateways::of([2, 3, 4, 5], []), Gateways::of([2, 4, 5], [3]));
        for (before, after) in all.buckets.iter().zip(fewer.buckets) {
            assert!(after == *before || *before == 3 && after != 3);
        }
        for node in [2, 3, 4, 5] {
            let shares = all.buckets.iter().filter(|bucket| **bucket == node).count();
            assert!((40..=90).contains(&shares), "{node} has {shares} of 256");
        }
        assert!(fewer.contains(3) && !fewer.lives(3) && fewer.lives(5) && !fewer.contains(0) && !fewer.lives(0));
    }

    #[test]
    fn the_order_of_the_living_does_not_count() {
        assert_eq!(Gateways::of([7, 2, 9], []).buckets, Gateways::of([2, 9, 7], [4]).buckets);
        assert_eq!(Gateways::of([], [2, 9]).choose(77), 0);
    }
}
