//! Security groups, policy groups and network ACLs: which flows ports may open, which others may open towards them, and
//! which packets may pass between subnets. A rule set's id is made from its content, so that a changed rule set is
//! another one.

mod acls;
mod egress;
mod groups;
mod rule_set;
mod services;

pub(crate) use groups::{group_key, group_names};

use super::{Names, Scope, ids::Ids};
use crate::{
    compile::Desired,
    model::{File, NatGateway, NetworkAcl},
    topology::{At, Identity, Links},
};
use groups::Direction;
use rule_set::{Rule, RuleSet};
use services::Services;
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::{
    policy::{NOTHING, RuleVerdict, WITH_HOSTS, action},
    port::Port,
};

/// The rule sets of a node's ports.
pub(crate) struct Policies {
    ids: BTreeMap<User, u32>,
    /// By id.
    sets: BTreeMap<u32, RuleSet>,
    names: BTreeMap<u32, String>,
    texts: BTreeMap<u32, String>,
}

/// One rule for people.
struct Described {
    /// What its number is made of.
    key: String,
    name: String,
    /// What it says.
    text: String,
}

/// Who uses a rule set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum User {
    Groups(At<Identity>, Direction),
    Acl(At<NetworkAcl>, Direction),
    Nat(At<NatGateway>),
    Router,
}

impl User {
    /// Whether a rule set that says nothing denies all, and none at all allows all.
    fn is_acl(&self) -> bool {
        matches!(self, Self::Acl(..) | Self::Nat(..))
    }
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

/// What the rule set of routers takes.
pub(crate) const ROUTER_SIZES: PolicySizes = PolicySizes { subjects: 1, identities: 0, rules: 1 };

/// Up to so many compiled rules it does not matter how many there are exactly.
const FEW_RULES: usize = 4_096;

/// For every identity of a topology a bound that the sizes of its rule sets do not exceed on any node.
pub(crate) fn upper_bounds(file: &File, links: &Links) -> Vec<PolicySizes> {
    let members = groups::Members::new(&links.identities);
    let of =
        |identity, direction| bound(&groups::rules((file, links), identity, direction, &members, &BTreeMap::new()));
    let identities = (0..links.identities.len()).map(At::<Identity>::new);
    identities.map(|at| of(at, Direction::Ingress).plus(of(at, Direction::Egress))).collect()
}

/// The same for every network ACL.
pub(crate) fn acl_upper_bounds(file: &File) -> Vec<PolicySizes> {
    let of = |acl, direction| bound(&acls::rules(file, acl, direction, &BTreeMap::new()));
    let acls = (0..file.network_acls.len()).map(At::<NetworkAcl>::new);
    acls.map(|acl| of(acl, Direction::Ingress).plus(of(acl, Direction::Egress))).collect()
}

/// The same for all egress allow lists together.
pub(crate) fn egress_upper_bounds(file: &File) -> PolicySizes {
    let gateways = (0..file.nat_gateways.len()).map(At::<NatGateway>::new);
    let bounds = gateways.map(|gateway| bound(&egress::rules(file, gateway, &BTreeMap::new())));
    bounds.fold(PolicySizes::default(), PolicySizes::plus)
}

/// How many entries of each kind rules take at most: from a look at each rule alone where there are few, exactly where
/// there are many.
fn bound(rules: &[Rule]) -> PolicySizes {
    // One more for what keeps IPv4 from blocks of IPv6.
    let subjects = rules.iter().map(|rule| rule.blocks.len()).sum::<usize>() + 1;
    let identities = rules.iter().map(|rule| rule.identities.len()).sum();
    let prefixes: usize = rules.iter().flat_map(|rule| &rule.services).map(|services| services.prefixes()).sum();
    let most = PolicySizes { subjects, identities, rules: prefixes.saturating_mul(subjects + identities) };
    if most.rules <= FEW_RULES { most } else { RuleSet::new(rules).sizes() }
}

impl Policies {
    pub(crate) fn new(scope: &Scope<'_>) -> Self {
        let identities: BTreeSet<_> =
            scope.subnets.values().flatten().map(|port| port.links(scope.links).identity).collect();
        let acls: BTreeSet<_> = acls_used(scope).collect();
        let gateways = scope.nat_gateways();
        let described = describe_rules(scope, &identities, &acls, &gateways);
        let numbers: BTreeMap<String, u32> =
            described.iter().map(|(number, rule)| (rule.key.clone(), *number)).collect();
        let members = groups::Members::reached(scope);
        // Rule sets of one content are one rule set. Collisions are resolved in the order of content.
        let mut by_content: BTreeMap<Vec<u8>, (RuleSet, Vec<User>)> = BTreeMap::new();
        let mut add = |set: RuleSet, user: User| {
            // ACLs and groups have other ids even where they say the same: an ACL that says nothing denies all.
            let mut content = vec![u8::from(user.is_acl())];
            content.extend(set.bytes());
            by_content.entry(content).or_insert((set, Vec::new())).1.push(user);
        };
        for identity in identities {
            for direction in DIRECTIONS {
                let rules = groups::rules((scope.file, scope.links), identity, direction, &members, &numbers);
                add(RuleSet::new(&rules), User::Groups(identity, direction));
            }
        }
        for acl in acls {
            for direction in DIRECTIONS {
                add(RuleSet::new(&acls::rules(scope.file, acl, direction, &numbers)), User::Acl(acl, direction));
            }
        }
        for gateway in gateways {
            add(RuleSet::new(&egress::rules(scope.file, gateway, &numbers)), User::Nat(gateway));
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
        let (names, texts) =
            described.into_iter().map(|(number, rule)| ((number, rule.name), (number, rule.text))).unzip();
        let mut policies = Self { ids: BTreeMap::new(), sets: BTreeMap::new(), names, texts };
        for (bytes, (set, users)) in by_content {
            let of_groups = !users.iter().any(|user| user.is_acl());
            let id = if set.is_empty() && of_groups {
                NOTHING
            } else {
                taken.take_marked(&bytes, WITH_HOSTS, set.has_hosts())
            };
            policies.ids.extend(users.into_iter().map(|user| (user, id)));
            policies.sets.insert(id, set);
        }
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

    /// The rule set for packets that come into a subnet.
    pub(super) fn ingress_acl(&self, acl: Option<At<NetworkAcl>>) -> u32 {
        acl.map_or(Port::NO_ACL, |acl| self.id(User::Acl(acl, Direction::Ingress)))
    }

    /// The rule set for packets that leave a subnet.
    pub(super) fn egress_acl(&self, acl: Option<At<NetworkAcl>>) -> u32 {
        acl.map_or(Port::NO_ACL, |acl| self.id(User::Acl(acl, Direction::Egress)))
    }

    /// The rule set for what a NAT gateway lets out.
    pub(super) fn nat_egress(&self, gateway: At<NatGateway>) -> u32 {
        self.ids.get(&User::Nat(gateway)).copied().unwrap_or(Port::NO_ACL)
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
            desired.hosts.extend(entries.hosts());
            desired.subjects.extend(entries.subjects());
            desired.identities.extend(entries.identities());
            desired.rules.extend(entries.rules());
        }
        desired.hosts.sort_unstable_by_key(|(key, _)| *key);
        desired.subjects.sort_unstable_by_key(|(key, _)| *key);
        desired.identities.sort_unstable_by_key(|(key, _)| *key);
        desired.rules.sort_unstable_by_key(|(key, _)| *key);
        desired.names = Names { rules: self.names, rule_texts: self.texts, ..std::mem::take(&mut desired.names) };
    }
}

/// The ACLs of all local ports and routers, with repetitions.
fn acls_used(scope: &Scope<'_>) -> impl Iterator<Item = At<NetworkAcl>> {
    let routers = scope.routers.values().filter_map(|router| router.subnets.first());
    scope.subnets.keys().chain(routers).filter_map(|subnet| subnet.links(scope.links).network_acl)
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// All rules that a node's rule sets are made of, by their numbers. Collisions are resolved in the order of keys.
fn describe_rules(
    scope: &Scope<'_>,
    identities: &BTreeSet<At<Identity>>,
    acls: &BTreeSet<At<NetworkAcl>>,
    gateways: &BTreeSet<At<NatGateway>>,
) -> BTreeMap<u32, Described> {
    let mut rules = groups::described(scope, identities);
    rules.extend(acls.iter().flat_map(|acl| acls::described(scope.file, *acl)));
    rules.extend(gateways.iter().flat_map(|gateway| egress::described(scope.file, *gateway)));
    if !scope.routers.is_empty() {
        let text = "all for the workloads behind plain VTEPs".to_owned();
        rules.push(Described { key: ROUTER_RULE.to_owned(), name: ROUTER_RULE.to_owned(), text });
    }
    rules.sort_by(|a, b| a.key.cmp(&b.key));
    let mut taken = Ids::default();
    rules.into_iter().map(|rule| (taken.take(rule.key.as_bytes()), rule)).collect()
}
