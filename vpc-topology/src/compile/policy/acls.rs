//! The rules of network ACLs, in their order.

use super::{Described, Direction, Rule, services};
use crate::{
    model::{AclAction, AclRule, File, NetworkAcl},
    topology::At,
};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::policy::{RuleVerdict, action};

fn in_order(acl: &NetworkAcl, direction: Direction) -> Vec<&AclRule> {
    let rules = match direction {
        Direction::Ingress => &acl.ingress,
        Direction::Egress => &acl.egress,
    };
    let mut rules: Vec<_> = rules.iter().collect();
    rules.sort_by_key(|rule| rule.rule_number.value);
    rules
}

fn rule_name(acl: &NetworkAcl, direction: Direction, rule: &AclRule) -> String {
    format!("network_acl {} {direction} {}", acl.name.value, rule.rule_number.value.0)
}

/// All rules of an ACL.
pub(super) fn described(file: &File, acl: At<NetworkAcl>) -> impl Iterator<Item = Described> + '_ {
    let acl = acl.of(file);
    let of = |direction| in_order(acl, direction).into_iter().map(move |rule| (direction, rule));
    of(Direction::Ingress).chain(of(Direction::Egress)).map(|(direction, rule)| {
        let action = match rule.action.value {
            AclAction::Allow => "allow",
            AclAction::Deny => "deny",
        };
        let name = rule_name(acl, direction, rule);
        let text = format!("{action} {} {} {}", rule.service(), direction.preposition(), rule.cidr_block.value);
        Described { key: name.clone(), name, text }
    })
}

/// The rules of one direction.
pub(super) fn rules(
    file: &File,
    acl: At<NetworkAcl>,
    direction: Direction,
    numbers: &BTreeMap<String, u32>,
) -> Vec<Rule> {
    let acl = acl.of(file);
    let rule = |rule: &AclRule| {
        let action = match rule.action.value {
            AclAction::Allow => action::ALLOW,
            AclAction::Deny => action::DENY,
        };
        let number = numbers.get(&rule_name(acl, direction, rule)).copied().unwrap_or_default();
        Rule {
            verdict: RuleVerdict { action, rule: number },
            services: services::of(&rule.service()),
            blocks: vec![rule.cidr_block.value],
            identities: BTreeSet::new(),
        }
    };
    in_order(acl, direction).into_iter().map(rule).collect()
}
