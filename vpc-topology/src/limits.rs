//! What the maps of a node can hold.

use vpc_common::limits;

/// Sizes that a topology must fit into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// VPCs of the topology.
    pub vpcs: u32,
    /// Elements of the VTEP array: node ids are below it.
    pub vteps: u32,
    /// Local ports of a node, those of its routers included.
    pub local_ports: u32,
    /// Endpoints that a node knows; also the number of their MACs.
    pub endpoints: u32,
    /// Routes over all tables of a node.
    pub routes: u32,
    /// Source prefixes over all local ports of a node.
    pub sources: u32,
    /// Members of flood lists over all subnets of a node.
    pub flood_members: u32,
    /// Members of one flood list.
    pub flood_fanout: u32,
    /// Sessions of each address family of a node, which its ports share.
    pub sessions: u32,
    /// Addresses that the rule sets of a node tell apart.
    pub subjects: u32,
    /// Sets of groups that they tell apart.
    pub identities: u32,
    /// Compiled rules over all rule sets of a node.
    pub rules: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            vpcs: limits::VPCS,
            vteps: limits::VTEPS,
            local_ports: limits::LOCAL_PORTS,
            endpoints: limits::ENDPOINTS,
            routes: limits::ROUTES,
            sources: limits::SOURCES,
            flood_members: limits::FLOOD_MEMBERS,
            flood_fanout: limits::FLOOD_FANOUT,
            sessions: limits::SESSIONS,
            subjects: limits::SUBJECTS,
            identities: limits::IDENTITIES,
            rules: limits::RULES,
        }
    }
}
