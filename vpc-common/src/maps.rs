//! Names of the maps, as the kernel object declares them and the agent pins them.

/// [`crate::node::Node`], one element.
pub const NODE: &str = "NODE";
/// [`crate::locate::LocateBucket`], array of [`crate::locate::BUCKETS`].
pub const LOCATE: &str = "LOCATE";
/// [`crate::port::Port`], array by slot.
pub const PORTS: &str = "PORTS";
/// Device map by slot, for XDP.
pub const PORT_DEVICES: &str = "PORT_DEVICES";
/// [`crate::port::SourceKey`] to nothing (a zero `u32`), trie.
pub const SOURCES: &str = "SOURCES";
/// [`crate::port::PortBuckets`], array by slot.
pub const PORT_BUCKETS: &str = "PORT_BUCKETS";
/// [`crate::endpoint::EndpointKey`] to [`crate::endpoint::Endpoint`], hash.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// [`crate::endpoint::MacKey`] to [`crate::endpoint::MacEntry`], hash.
pub const MACS: &str = "MACS";
/// [`crate::route::RouteKey`] to [`crate::route::Route`], trie.
pub const ROUTES: &str = "ROUTES";
/// [`crate::vtep::Vtep`], array by node id.
pub const VTEPS: &str = "VTEPS";
/// [`crate::Ip`] to [`crate::vtep::VtepId`], hash.
pub const VTEP_IDS: &str = "VTEP_IDS";
/// [`crate::port::FloodKey`] to [`crate::port::FloodMember`], hash.
pub const FLOOD: &str = "FLOOD";
/// [`crate::session::SessionKey`] of IPv4 to [`crate::session::Session`], hash.
pub const SESSIONS_V4: &str = "SESSIONS_V4";
/// [`crate::session::SessionKey`] of IPv6 to [`crate::session::Session`], hash.
pub const SESSIONS_V6: &str = "SESSIONS_V6";
/// [`crate::policy::HostKey`] to [`crate::policy::Subject`], hash.
pub const HOSTS: &str = "HOSTS";
/// [`crate::policy::SubjectKey`] to [`crate::policy::Subject`], trie.
pub const SUBJECTS: &str = "SUBJECTS";
/// [`crate::policy::IdentityKey`] to [`crate::policy::Subject`], hash.
pub const IDENTITIES: &str = "IDENTITIES";
/// [`crate::policy::RuleKey`] to [`crate::policy::RuleVerdict`], trie.
pub const RULES: &str = "RULES";
/// [`crate::datagram::Datagram`], array: see there.
pub const DATAGRAMS: &str = "DATAGRAMS";
/// [`crate::port::Usage`], array by slot.
pub const PORT_USAGE: &str = "PORT_USAGE";
/// [`crate::port::Usage`], array by VPC.
pub const VPC_USAGE: &str = "VPC_USAGE";
/// [`crate::session::V4`] to [`crate::nat::External`], hash.
pub const EXTERNALS: &str = "EXTERNALS";
/// [`crate::nat::ElasticKey`] to [`crate::session::V4`], hash.
pub const ELASTIC_IPS: &str = "ELASTIC_IPS";
/// Gateway id to [`crate::nat::NatSlice`], hash.
pub const NAT_GATEWAYS: &str = "NAT_GATEWAYS";
/// [`crate::nat::ExternalPort`] to [`crate::nat::Forward`], hash.
pub const FORWARDS: &str = "FORWARDS";
/// [`crate::nat::ExternalPort`] to [`crate::nat::NatIn`], hash.
pub const NAT_IN: &str = "NAT_IN";
/// [`crate::nat::NatOutKey`] to [`crate::nat::NatOut`], hash.
pub const NAT_OUT: &str = "NAT_OUT";
/// [`crate::gateway::Gateways`], array by [`crate::gateway::element`].
pub const GATEWAYS: &str = "GATEWAYS";
/// [`crate::gateway::Outlet`], one element.
pub const OUTLET: &str = "OUTLET";
/// [`crate::counters::Counters`], per-CPU array by slot.
pub const COUNTERS: &str = "COUNTERS";
/// [`crate::counters::Drops`], per-CPU array by slot.
pub const DROPS: &str = "DROPS";
/// Per-CPU scratch of the datapath; of no interest to userspace.
pub const SCRATCH: &str = "SCRATCH";

/// Programs, by the name of their function.
pub mod programs {
    /// TC ingress of a workload port.
    pub const PORT: &str = "vpc_port";
    /// XDP on a workload port in packet-rate mode.
    pub const PORT_XDP: &str = "vpc_port_xdp";
    /// XDP on an uplink.
    pub const UPLINK_XDP: &str = "vpc_uplink_xdp";
    /// TC ingress of an uplink where XDP is not used.
    pub const UPLINK_TC: &str = "vpc_uplink_tc";
    /// TC ingress of the tunnel device.
    pub const TUNNEL: &str = "vpc_tunnel";
    /// TC ingress of the offload device's far end.
    pub const OFFLOAD: &str = "vpc_offload";
    /// TC ingress of a gateway's external interface.
    pub const EXTERNAL: &str = "vpc_external";
}
