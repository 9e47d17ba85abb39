//! The vocabulary of topology files, as written: one file per noun, every value with its place.

mod cidr;
mod mac;
mod name;
mod node;
mod number;
mod peering;
mod port;
mod route_table;
mod security_group;
mod service;
mod subnet;
mod vpc;

pub use crate::document::{AtLeastOne, OneOrMore, Stated};
pub use cidr::{Address, AddressBlock, Cidr, Range};
pub use mac::PortMac;
pub use name::{DeviceName, Name};
pub use node::{Dscp, Node, ReceiveMode};
pub use number::{NodeId, Version, VniNumber};
pub use peering::Peering;
pub use port::Port;
pub use route_table::{Route, RouteTable, Target};
pub use security_group::{DEFAULT_GROUP, EstablishedFlows, GroupRule, SecurityGroup};
pub use service::{IcmpCode, IcmpName, IcmpType, PortRange, Protocol};
pub use subnet::Subnet;
pub use vpc::Vpc;

use crate::{diagnostics::Spanned, document::record};

record! {
    /// A topology: which VPCs, subnets and ports exist, and on which nodes.
    pub struct File, "topology" {
        /// Version of the format: 1.
        version: Spanned<Version>,
        /// The nodes of the fabric: hypervisors, each with its agent, and plain VTEPs.
        nodes: Vec<Node>,
        /// The VPCs.
        vpcs: Vec<Vpc>,
        /// Their subnets.
        subnets: Vec<Subnet>,
        /// Route tables that subnets refer to.
        route_tables: Vec<RouteTable>,
        /// Peerings between two VPCs.
        peerings: Vec<Peering>,
        /// Security groups that ports refer to.
        security_groups: Vec<SecurityGroup>,
        /// The workloads' interfaces.
        ports: Vec<Port>,
    }
    later [
        "internet_gateways", "elastic_ips", "nat_gateways", "network_acls", "target_groups",
        "load_balancers", "vpn_connections", "direct_connects", "bgp", "flow_logs",
    ]
}
