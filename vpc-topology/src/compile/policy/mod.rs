//! Security groups: which flows ports may open, and which others may open towards them. A rule set's id is made from
//! its content, so that a changed rule set is another one.

mod groups;
mod rule_set;
mod services;

pub(crate) use groups::group_key;

use super::{Names, Scope, ids::Ids};
use crate::{
    compile::Desired,
    model::File,
    topology::{At, Identity, Links},
};
use groups::Direction;
use rule_set::{Rule, RuleSet};
use services::Services;
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::policy::{NOTHING, RuleVerdict, action};

/// The rule sets of a node's ports.
pub(crate) struct Policies {
    ids: BTreeMap<User, u32>,
    /// By id.
    sets: BTreeMap<u32, RuleSet>,
    names: BTreeMap<u32, String>,
}

/// Who uses a rule set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum User {
    Groups(At<Identity>, Direction),
    Router,
}

/// How much of each map the rule sets need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PolicySizes {
    pub(crate) subjects: usize,
    pub(crate) identities: usize,
    pub(crate) rules: usize,
}

/// What a router's own rule set is called: the workloads behind it have their groups, the router lets all pass.
const ROUTER_RULE: &str = "router";

impl PolicySizes {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            subjects: self.subjects.saturating_add(other.subjects),
            identities: self.identities.saturating_add(other.identities),
            rules: self.rules.saturating_add(other.rules),
        }
    }
}

/// Up to so many compiled rules it does not matter how many there are exactly.
const FEW_RULES: usize = 4_096;

/// For every identity of a topology a bound that the sizes of its rule sets do not exceed on any node.
pub(crate) fn upper_bounds(file: &File, links: &Links) -> Vec<PolicySizes> {
    let members = groups::Members::new(&links.identities);
    let of = |identity, direction| {
        let rules = groups::rules((file, links), identity, direction, &members, &BTreeMap::new());
        let bound = groups::bound(&rules);
        if bound.rules <= FEW_RULES { bound } else { RuleSet::new(&rules).sizes() }
    };
    let identities = (0..links.identities.len()).map(At::<Identity>::new);
    identities.map(|at| of(at, Direction::Ingress).plus(of(at, Direction::Egress))).collect()
}

impl Policies {
    pub(crate) fn new(scope: &Scope<'_>) -> Self {
        let identities: BTreeSet<_> =
            scope.subnets.values().flatten().map(|port| port.links(scope.links).identity).collect();
        let (numbers, names) = number_rules(scope, &identities);
        let members = groups::Members::reached(scope);
        // Rule sets of one content are one rule set. Collisions are resolved in the order of content.
        let mut by_content: BTreeMap<Vec<u8>, (RuleSet, Vec<User>)> = BTreeMap::new();
        let mut add = |set: RuleSet, user: User| {
            by_content.entry(set.bytes()).or_insert((set, Vec::new())).1.push(user);
        };
        for identity in identities {
            for direction in [Direction::Ingress, Direction::Egress] {
                let rules = groups::rules((scope.file, scope.links), identity, direction, &members, &numbers);
                add(RuleSet::new(&rules), User::Groups(identity, direction));
            }
        }
        if !scope.routers.is_empty() {
            let rule = numbers.get(ROUTER_RULE).copied().unwrap_or_default();
            let all = Rule {
                verdict: RuleVerdict { action: action::ALLOW, rule },
                services: vec![Services::ALL],
                blocks: groups::everyone().to_vec(),
                identities: BTreeSet::new(),
            };
            add(RuleSet::new(&[all]), User::Router);
        }
        let mut taken = Ids::default();
        let mut policies = Self { ids: BTreeMap::new(), sets: BTreeMap::new(), names: BTreeMap::new() };
        for (bytes, (set, users)) in by_content {
            let id = if set.is_empty() { NOTHING } else { taken.take(&bytes) };
            policies.ids.extend(users.into_iter().map(|user| (user, id)));
            policies.sets.insert(id, set);
        }
        policies.names = names;
        policies
    }

    /// The rule set for flows that others open towards a port.
    pub(super) fn ingress(&self, identity: At<Identity>) -> u32 {
        self.id(User::Groups(identity, Direction::Ingress))
    }

    /// The rule set for flows that a port opens.
    pub(super) fn egress(&self, identity: At<Identity>) -> u32 {
        self.id(User::Groups(identity, Direction::Egress))
    }

    /// The rule set of routers.
    pub(super) fn router(&self) -> u32 {
        self.id(User::Router)
    }

    /// Every local port's rule sets are here; nothing is allowed by another.
    fn id(&self, user: User) -> u32 {
        self.ids.get(&user).copied().unwrap_or(NOTHING)
    }

    /// How much of each map they need.
    pub(super) fn sizes(&self) -> PolicySizes {
        self.sets.values().map(RuleSet::sizes).fold(PolicySizes::default(), PolicySizes::plus)
    }

    /// Puts the entries where they belong.
    pub(super) fn write(self, desired: &mut Desired) {
        for (id, set) in &self.sets {
            let entries = set.entries(*id);
            desired.subjects.extend(entries.subjects());
            desired.identities.extend(entries.identities());
            desired.rules.extend(entries.rules());
        }
        desired.subjects.sort_unstable_by_key(|(key, _)| *key);
        desired.identities.sort_unstable_by_key(|(key, _)| *key);
        desired.rules.sort_unstable_by_key(|(key, _)| *key);
        desired.names = Names { rules: self.names, ..std::mem::take(&mut desired.names) };
    }
}

/// Numbers of all rules that a node's rule sets are made of, by their keys, and their names by number. Collisions are
/// resolved in the order of keys.
fn number_rules(
    scope: &Scope<'_>,
    identities: &BTreeSet<At<Identity>>,
) -> (BTreeMap<String, u32>, BTreeMap<u32, String>) {
    let mut names = groups::rule_names(scope, identities);
    if !scope.routers.is_empty() {
        names.insert(ROUTER_RULE.to_owned(), ROUTER_RULE.to_owned());
    }
    let mut taken = Ids::default();
    let numbered = names.into_iter().map(|(key, name)| {
        let number = taken.take(key.as_bytes());
        ((key, number), (number, name))
    });
    numbered.unzip()
}
