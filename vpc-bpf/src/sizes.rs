//! How many entries each map has room for.

use vpc_common::{datagram, limits, maps};

/// Sizes of the maps that an operator may set. The defaults are those of [`vpc_common::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Local ports, slot 0 excluded.
    pub local_ports: u32,
    /// Endpoints, by address and by MAC.
    pub endpoints: u32,
    /// Routes of all tables.
    pub routes: u32,
    /// Sessions of each address family.
    pub sessions: u32,
    /// Most NAT mappings. There is room for as many as for sessions at most, since each one begins with one.
    pub nat_mappings: u32,
    /// Source prefixes over all local ports.
    pub sources: u32,
    /// Members of all flood lists.
    pub flood_members: u32,
    /// Addresses that rule sets tell apart.
    pub subjects: u32,
    /// Sets of groups that rule sets tell apart.
    pub identities: u32,
    /// Compiled rules.
    pub rules: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            local_ports: limits::LOCAL_PORTS,
            endpoints: limits::ENDPOINTS,
            routes: limits::ROUTES,
            sessions: limits::SESSIONS,
            nat_mappings: limits::NAT_MAPPINGS,
            sources: limits::SOURCES,
            flood_members: limits::FLOOD_MEMBERS,
            subjects: limits::SUBJECTS,
            identities: limits::IDENTITIES,
            rules: limits::RULES,
        }
    }
}

impl Sizes {
    /// The maps whose size is set here, with their number of entries.
    pub fn max_entries(&self) -> [(&'static str, u32); 20] {
        let (slots, mappings) = (self.local_ports + 1, self.room_for_mappings());
        [
            (maps::PORTS, slots),
            (maps::PORT_DEVICES, slots),
            (maps::PORT_BUCKETS, slots),
            (maps::PORT_USAGE, slots),
            (maps::DATAGRAMS, datagram::elements(slots)),
            (maps::COUNTERS, slots),
            (maps::DROPS, slots),
            (maps::SOURCES, self.sources),
            (maps::ENDPOINTS, self.endpoints),
            (maps::MACS, self.endpoints),
            (maps::ROUTES, self.routes),
            (maps::FLOOD, self.flood_members),
            (maps::HOSTS, self.subjects),
            (maps::SUBJECTS, self.subjects),
            (maps::IDENTITIES, self.identities),
            (maps::RULES, self.rules),
            (maps::SESSIONS_V4, self.sessions),
            (maps::SESSIONS_V6, self.sessions),
            (maps::NAT_IN, mappings),
            (maps::NAT_OUT, mappings),
        ]
    }

    /// For how many NAT mappings there is room.
    pub fn room_for_mappings(&self) -> u32 {
        self.sessions.min(self.nat_mappings)
    }
}
