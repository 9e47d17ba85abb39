//! How much of each map a node needs.

use super::{Scope, flood, routes, sources};
use crate::Limits;
use std::fmt;

/// What a node needs of its maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    local_ports: usize,
    endpoints: usize,
    macs: usize,
    routes: usize,
    sources: usize,
    flood_members: usize,
    flood_fanout: usize,
}

/// A map that is too small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Excess {
    /// What it holds.
    pub what: &'static str,
    /// How many are needed.
    pub needed: usize,
    /// How many it can hold.
    pub limit: u32,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, the map holds {}", self.needed, self.what, self.limit)
    }
}

impl Scope<'_> {
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            local_ports: self.subnets.values().map(Vec::len).sum::<usize>() + self.routers.len(),
            endpoints: self.reached.iter().map(|vpc| vpc.links(self.links).endpoints).sum(),
            macs: self.own.iter().map(|vpc| vpc.links(self.links).macs).sum(),
            routes: routes::count(self),
            sources: sources::count(self),
            flood_members: flood::counts(self).sum(),
            flood_fanout: flood::counts(self).max().unwrap_or_default(),
        }
    }
}

impl Sizes {
    /// What does not fit.
    pub(crate) fn excesses(self, limits: &Limits) -> impl Iterator<Item = Excess> {
        let all = [
            ("local ports", self.local_ports, limits.local_ports),
            ("endpoints", self.endpoints, limits.endpoints),
            ("MAC addresses", self.macs, limits.endpoints),
            ("routes", self.routes, limits.routes),
            ("source prefixes", self.sources, limits.sources),
            ("flood list members", self.flood_members, limits.flood_members),
            ("members of one flood list", self.flood_fanout, limits.flood_fanout),
        ];
        let over = all.into_iter().filter(|(_, needed, limit)| *needed > *limit as usize);
        over.map(|(what, needed, limit)| Excess { what, needed, limit })
    }
}
