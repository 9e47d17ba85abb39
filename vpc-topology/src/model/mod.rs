//! The vocabulary of topology files, as written: one file per noun, every value with its place.

mod bfd;
mod cidr;
mod elastic_ip;
mod gateway;
mod label;
mod mac;
mod name;
mod nat;
mod network_acl;
mod node;
mod number;
mod peering;
mod policy_group;
mod port;
mod route_table;
mod security_group;
mod service;
mod session;
mod subnet;
mod vpc;

pub use crate::document::{AtLeastOne, OneOrMore, Stated, ThinList};
pub use bfd::{Bfd, BfdInterval, BfdMultiplier};
pub use cidr::{Address, AddressBlock, Cidr, Range};
pub use elastic_ip::ElasticIp;
pub use gateway::{InterfaceAddress, InternetGateway, NodeGateway};
pub use label::{LabelText, Labels};
pub use mac::PortMac;
pub(crate) use name::Pool;
pub use name::{DeviceName, Name, SharedName};
pub use nat::{EgressRule, ExternalSocket, L4Port, NatGateway, PortCount, PortForward};
pub use network_acl::{AclAction, AclRule, NetworkAcl};
pub use node::{Dscp, Node, ReceiveMode};
pub use number::{NodeId, RuleNumber, SessionCount, SessionTimeout, Version, VniNumber};
pub use peering::Peering;
pub use policy_group::{PolicyGroup, Selector};
pub use port::{Port, PortOptions};
pub use route_table::{Route, RouteTable, Target};
pub use security_group::{DEFAULT_GROUP, EstablishedFlows, GroupDefinition, GroupRule, SecurityGroup};
pub use service::{IcmpCode, IcmpName, IcmpType, PortRange, Protocol, Service};
pub use session::{Quotas, SessionTimeouts};
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
        /// The VPCs' ways to the outside, for ports with elastic IPs.
        internet_gateways: Vec<InternetGateway>,
        /// External addresses.
        elastic_ips: Vec<ElasticIp>,
        /// The VPCs' ways to the outside by shared addresses.
        nat_gateways: Vec<NatGateway>,
        /// Peerings between two VPCs.
        peerings: Vec<Peering>,
        /// Security groups that ports refer to.
        security_groups: Vec<SecurityGroup>,
        /// Policy groups, whose ports are found by their labels.
        policy_groups: Vec<PolicyGroup>,
        /// Network ACLs that subnets refer to.
        network_acls: Vec<NetworkAcl>,
        /// The workloads' interfaces.
        ports: Vec<Port>,
    }
    later [
        "target_groups",
        "load_balancers", "vpn_connections", "direct_connects", "bgp", "flow_logs",
    ]
}
