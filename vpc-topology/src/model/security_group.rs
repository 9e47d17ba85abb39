//! Security groups, and the rules that they share with policy groups.

use super::{
    AtLeastOne, Cidr, Name, Stated,
    service::{IcmpCode, IcmpType, PortRange, Protocol, Service},
};
use crate::{
    diagnostics::Spanned,
    document::{choice, record},
};

/// The group of the ports that are in no other one. Each VPC has one; a file may say what its rules are.
pub const DEFAULT_GROUP: &str = "default";

record! {
    /// Stateful rules for the ports that name the group: what no rule allows is denied. A group named `default` takes
    /// the place of its VPC's default group, in which the ports are that are in no other group: ingress from its own
    /// members, all egress.
    pub struct SecurityGroup, "security group" {
        /// Name of the group, unique; `default` is unique in its VPC.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// Which flows others may open towards its ports.
        ingress: Vec<GroupRule>,
        /// Which flows its ports may open. Default: all; an empty list allows none.
        egress: Stated<Vec<GroupRule>>,
        /// What happens to live flows when the rule that allowed them goes. Default: cut.
        established_flows: Option<Spanned<EstablishedFlows>>,
    }
    later []
}

record! {
    /// One rule of a group: a service, and the peers that it is allowed with. It needs a peer: an empty list of
    /// blocks or groups never means all.
    pub struct GroupRule, "rule" {
        /// The IP protocol.
        protocol: Spanned<Protocol>,
        /// Destination ports, for TCP, UDP and SCTP. Default: all.
        ports: Stated<AtLeastOne<Spanned<PortRange>>>,
        /// Type of the message, for ICMP and ICMPv6. Default: all.
        icmp_type: Stated<Spanned<IcmpType>>,
        /// Code of the message, where a type is given. Default: all.
        icmp_code: Stated<Spanned<IcmpCode>>,
        /// Peers by address.
        cidr_blocks: Vec<Spanned<Cidr>>,
        /// Peers by security group: of the own VPC, or of one that a peering joins to it.
        security_groups: Vec<Spanned<Name>>,
        /// Peers by policy group: of the own VPC, or of one that a peering joins to it.
        policy_groups: Vec<Spanned<Name>>,
    }
    later []
}

choice! {
    /// What happens to live flows when the rule that allowed them goes.
    pub enum EstablishedFlows, "cut or keep" {
        /// They end with their next packet.
        Cut = "cut",
        /// They may finish.
        Keep = "keep",
    }
}

/// What a group says, however its members are found.
#[derive(Clone, Copy, Debug)]
pub struct GroupDefinition<'f> {
    /// Name of the group.
    pub name: &'f Spanned<Name>,
    /// Its VPC.
    pub vpc: &'f Spanned<Name>,
    /// Which flows others may open towards its ports.
    pub ingress: &'f [GroupRule],
    /// Which flows its ports may open; all where nothing is said.
    pub egress: Option<&'f [GroupRule]>,
    /// What happens to live flows when the rule that allowed them goes.
    pub established_flows: EstablishedFlows,
}

impl GroupRule {
    /// What it says of services.
    pub fn service(&self) -> Service<'_> {
        Service::new(self.protocol, &self.ports, &self.icmp_type, &self.icmp_code)
    }
}

impl GroupDefinition<'_> {
    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &GroupRule> {
        self.ingress.iter().chain(self.egress.unwrap_or_default())
    }
}

impl SecurityGroup {
    /// What it says.
    pub fn definition(&self) -> GroupDefinition<'_> {
        GroupDefinition {
            name: &self.name,
            vpc: &self.vpc,
            ingress: &self.ingress,
            egress: self.egress.get().map(Vec::as_slice),
            established_flows: self.established_flows.map(|flows| flows.value).unwrap_or_default(),
        }
    }

    /// Whether it is its VPC's default group.
    pub fn is_default(&self) -> bool {
        &*self.name.value == DEFAULT_GROUP
    }
}
