//! Network ACLs.

use super::{
    AtLeastOne, Cidr, Name, Stated,
    number::RuleNumber,
    service::{IcmpCode, IcmpType, PortRange, Protocol, Service},
};
use crate::{
    diagnostics::Spanned,
    document::{choice, record},
};

record! {
    /// Stateless rules for what the router takes into the subnets that use the ACL, and out of them. The rule with the
    /// lowest number that matches a packet decides; what no rule matches is denied. Traffic inside a subnet is not
    /// asked about.
    pub struct NetworkAcl, "network ACL" {
        /// Name of the ACL; subnets refer to it.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// For packets that come into a subnet.
        ingress: Vec<AclRule>,
        /// For packets that leave a subnet.
        egress: Vec<AclRule>,
    }
    later []
}

record! {
    /// One rule of a network ACL.
    pub struct AclRule, "network ACL rule" {
        /// Its place in the order, unique in its direction, 1 to 32766.
        rule_number: Spanned<RuleNumber>,
        /// The IP protocol.
        protocol: Spanned<Protocol>,
        /// Destination ports of the packet itself, for TCP, UDP and SCTP. Default: all.
        ports: Stated<AtLeastOne<Spanned<PortRange>>>,
        /// Type of the message, for ICMP and ICMPv6. Default: all.
        icmp_type: Stated<Spanned<IcmpType>>,
        /// Code of the message, where a type is given. Default: all.
        icmp_code: Stated<Spanned<IcmpCode>>,
        /// Source of what comes in, destination of what leaves.
        cidr_block: Spanned<Cidr>,
        /// What happens to the packet.
        action: Spanned<AclAction>,
    }
    later []
}

impl AclRule {
    /// What it says of services.
    pub fn service(&self) -> Service<'_> {
        Service::new(self.protocol, &self.ports, &self.icmp_type, &self.icmp_code)
    }
}

choice! {
    /// What happens to a packet that a rule of a network ACL matches.
    pub enum AclAction, "an action" {
        /// It is dropped.
        Deny = "deny",
        /// It passes.
        Allow = "allow",
    }
}
