//! Policy groups: security groups whose members are found by their labels.

use super::{EstablishedFlows, GroupDefinition, GroupRule, Labels, Name, Stated};
use crate::{diagnostics::Spanned, document::record};

record! {
    /// Stateful rules for the ports that have certain labels, united with those of the security groups that the ports
    /// name. A port that a policy group selects and that names no security group is not in its VPC's default group.
    pub struct PolicyGroup, "policy group" {
        /// Name of the group; rules refer to it.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// Which ports of the VPC are in it.
        selector: Selector,
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
    /// Selects ports.
    pub struct Selector, "selector" {
        /// The labels that a port must have, all of them, with these values. At least one.
        labels: Labels,
    }
    later []
}

impl PolicyGroup {
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
}
