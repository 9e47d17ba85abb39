//! The rules of the groups that a port is in, united.

use super::{DIRECTIONS, Described, Rule, Scope, Services};
use crate::{
    model::{Cidr, DEFAULT_GROUP, EstablishedFlows, File, GroupRule},
    topology::{At, Group, Identity, Links},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use vpc_common::policy::{RuleVerdict, action};

/// Who opens the flows that a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub(super) enum Direction {
    /// Others, towards the port.
    Ingress,
    /// The port.
    Egress,
}

impl Direction {
    /// Where the peer is.
    pub(super) fn preposition(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// All of IPv4 and all of IPv6.
pub(super) fn everyone() -> [Cidr; 2] {
    [Cidr::ALL_IPV4, Cidr::ALL_IPV6]
}

/// The identities that each group is part of.
pub(super) struct Members(BTreeMap<Group, BTreeSet<u32>>);

impl Members {
    pub(super) fn new<'l>(identities: impl IntoIterator<Item = &'l Identity>) -> Self {
        let mut members: BTreeMap<Group, BTreeSet<u32>> = BTreeMap::new();
        for links in identities {
            for group in &links.groups {
                members.entry(*group).or_default().insert(links.id);
            }
        }
        Self(members)
    }

    /// Those of the VPCs that a node reaches.
    pub(super) fn reached(scope: &Scope<'_>) -> Self {
        let identities = scope.reached.iter().flat_map(|vpc| &vpc.links(scope.links).identities);
        Self::new(identities.map(|identity| identity.links(scope.links)))
    }

    fn of(&self, groups: &[Group]) -> BTreeSet<u32> {
        groups.iter().filter_map(|group| self.0.get(group)).flatten().copied().collect()
    }
}

/// What a group says in one direction.
enum Says<'t> {
    /// Its rules, each with the groups that it names.
    Rules(&'t [GroupRule], &'t [Vec<Group>]),
    /// The group's own members may open any flow.
    OwnMembers,
    /// Everything is allowed.
    Everything,
}

fn says<'t>(file: &'t File, links: &'t Links, group: Group, direction: Direction) -> Says<'t> {
    match (group.definition(file, links), direction) {
        (None, Direction::Ingress) => Says::OwnMembers,
        (None, Direction::Egress) => Says::Everything,
        (Some((group, links)), Direction::Ingress) => Says::Rules(group.ingress, &links.ingress),
        (Some((group, links)), Direction::Egress) => match group.egress {
            Some(egress) => Says::Rules(egress, &links.egress),
            None => Says::Everything,
        },
    }
}

/// Whether flows that a group allowed outlive the rule.
fn keeps(file: &File, links: &Links, group: Group) -> bool {
    group.definition(file, links).is_some_and(|(group, _)| group.established_flows == EstablishedFlows::Keep)
}

/// What a group is called. A default group is its VPC's.
fn group_name(file: &File, group: Group) -> String {
    match group {
        Group::Default(vpc) => format!("security_group {}/default", vpc.of(file).name.value),
        Group::Security(group) => format!("security_group {}", group.of(file).name.value),
        Group::Policy(group) => format!("policy_group {}", group.of(file).name.value),
    }
}

/// What numbers are made of: as the name, but a VPC is still the same when it is called otherwise.
pub(crate) fn group_key(file: &File, group: Group) -> String {
    match group {
        Group::Default(vpc) => format!("security_group {}/default", vpc.of(file).vni.value.0.0),
        Group::Security(_) | Group::Policy(_) => group_name(file, group),
    }
}

/// Names of the groups of an identity, as they are meant in its VPC.
pub(crate) fn group_names(scope: &Scope<'_>, identity: At<Identity>) -> Vec<String> {
    let name = |group: &Group| match group {
        Group::Default(_) => format!("security_group {DEFAULT_GROUP}"),
        group => group_name(scope.file, *group),
    };
    identity.links(scope.links).groups.iter().map(name).collect()
}

/// All rules of the groups of some identities. What a group says without a rule counts as its rule 1.
pub(super) fn described(scope: &Scope<'_>, identities: &BTreeSet<At<Identity>>) -> Vec<Described> {
    let groups: BTreeSet<Group> =
        identities.iter().flat_map(|identity| identity.links(scope.links).groups.iter().copied()).collect();
    let mut rules = Vec::new();
    for group in groups {
        let (key, name) = (group_key(scope.file, group), group_name(scope.file, group));
        for direction in DIRECTIONS {
            let texts = match says(scope.file, scope.links, group, direction) {
                Says::Rules(records, _) => records.iter().map(|rule| text(rule, direction)).collect(),
                Says::OwnMembers => vec![format!("all {} its own members", direction.preposition())],
                Says::Everything => vec![format!("all {} everyone", direction.preposition())],
            };
            let flows = if keeps(scope.file, scope.links, group) { ", established flows may finish" } else { "" };
            rules.extend(texts.into_iter().zip(1..).map(|(text, number)| Described {
                key: format!("{key} {direction} {number}"),
                name: format!("{name} {direction} {number}"),
                text: format!("{text}{flows}"),
            }));
        }
    }
    rules
}

/// What a rule says: `tcp 80, 443 from 0.0.0.0/0, security_group web`.
fn text(rule: &GroupRule, direction: Direction) -> String {
    let blocks = rule.cidr_blocks.iter().map(|block| block.value.to_string());
    let security = rule.security_groups.iter().map(|name| format!("security_group {}", name.value));
    let policy = rule.policy_groups.iter().map(|name| format!("policy_group {}", name.value));
    let peers: Vec<_> = blocks.chain(security).chain(policy).collect();
    format!("{} {} {}", rule.service(), direction.preposition(), peers.join(", "))
}

/// The rules of all groups of an identity. Those whose flows outlive them come first: a flow that several rules allow
/// is theirs.
pub(super) fn rules(
    (file, links): (&File, &Links),
    identity: At<Identity>,
    direction: Direction,
    members: &Members,
    numbers: &BTreeMap<String, u32>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for group in &identity.links(links).groups {
        let allow = if keeps(file, links, *group) { action::ALLOW_KEEP } else { action::ALLOW };
        let (before, key) = (rules.len(), group_key(file, *group));
        let mut add = |services, blocks, identities| {
            let key = format!("{key} {direction} {}", rules.len() - before + 1);
            let rule = numbers.get(&key).copied().unwrap_or_default();
            rules.push(Rule { verdict: RuleVerdict { action: allow, rule }, services, blocks, identities });
        };
        match says(file, links, *group, direction) {
            Says::Rules(records, peers) => {
                for (record, peers) in records.iter().zip(peers) {
                    let blocks = record.cidr_blocks.iter().map(|block| block.value).collect();
                    add(super::services::of(&record.service()), blocks, members.of(peers));
                }
            }
            Says::OwnMembers => add(vec![Services::ALL], Vec::new(), members.of(&[*group])),
            Says::Everything => add(vec![Services::ALL], everyone().to_vec(), BTreeSet::new()),
        }
    }
    rules.sort_by_key(|rule| rule.verdict.action != action::ALLOW_KEEP);
    rules
}
