//! The egress allow lists of NAT gateways.

use super::{Described, Rule, services};
use crate::{
    model::{EgressRule, File, NatGateway},
    topology::At,
};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::policy::{RuleVerdict, action};

fn rule_name(gateway: &NatGateway, place: usize) -> String {
    format!("nat_gateway {} egress {place}", gateway.name.value)
}

/// The rules with their places; nothing where the gateway lets all out.
fn placed(gateway: &NatGateway) -> impl Iterator<Item = (usize, &EgressRule)> {
    gateway.egress_allow.get().into_iter().flatten().enumerate().map(|(index, rule)| (index + 1, rule))
}

/// All rules of a gateway.
pub(super) fn described(file: &File, gateway: At<NatGateway>) -> impl Iterator<Item = Described> + '_ {
    let gateway = gateway.of(file);
    placed(gateway).map(|(place, rule)| {
        let blocks: Vec<_> = rule.cidr_blocks.iter().map(|block| block.value.to_string()).collect();
        let name = rule_name(gateway, place);
        Described { key: name.clone(), name, text: format!("{} to {}", rule.service(), blocks.join(", ")) }
    })
}

/// The same, compiled one by one.
pub(super) fn rules(file: &File, gateway: At<NatGateway>, numbers: &BTreeMap<String, u32>) -> Vec<Rule> {
    let gateway = gateway.of(file);
    let rule = |(place, rule): (usize, &EgressRule)| {
        let number = numbers.get(&rule_name(gateway, place)).copied().unwrap_or_default();
        Rule {
            verdict: RuleVerdict { action: action::ALLOW, rule: number },
            services: services::of(&rule.service()),
            blocks: rule.cidr_blocks.iter().map(|block| block.value).collect(),
            identities: BTreeSet::new(),
        }
    };
    placed(gateway).map(rule).collect()
}
