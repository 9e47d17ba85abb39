//! Security groups and policy groups: rules that say something, about groups within reach, and the groups of each port.

use super::{
    Unique,
    links::{Resolved, ResolvedPort},
    names::{Names, is_default},
    rules,
};
use crate::{
    compile::{Ids, group_key},
    diagnostics::{Problem, Spanned},
    document::Record,
    model::{File, GroupDefinition, GroupRule, Name, PolicyGroup, Port, SecurityGroup, Vpc},
    topology::{At, Group, GroupLinks, Identity, Links},
};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// A group with what it refers to, as far as that could be resolved.
pub(super) struct ResolvedGroup {
    pub(super) vpc: Option<At<Vpc>>,
    /// The groups that each rule names.
    pub(super) ingress: Vec<Vec<Option<Group>>>,
    pub(super) egress: Vec<Vec<Option<Group>>>,
}

/// The security groups of some names, as they are meant in a VPC.
pub(super) fn resolve_security<'f>(
    groups: &'f [Spanned<Name>],
    vpc: Option<At<Vpc>>,
    names: &mut Names<'f>,
    problems: &mut Vec<Problem>,
) -> Vec<Option<Group>> {
    let resolved = groups.iter().map(|name| match vpc {
        _ if !is_default(name) => names.security_groups.resolve(name, problems).map(Group::Security),
        vpc => vpc.map(Group::Default),
    });
    resolved.collect()
}

/// The peers of a rule, in the order of [`peers`].
fn resolve_peers<'f>(
    rule: &'f GroupRule,
    vpc: Option<At<Vpc>>,
    names: &mut Names<'f>,
    problems: &mut Vec<Problem>,
) -> Vec<Option<Group>> {
    let mut peers = resolve_security(&rule.security_groups, vpc, names, problems);
    let policy = rule.policy_groups.iter();
    peers.extend(policy.map(|name| names.policy_groups.resolve(name, problems).map(Group::Policy)));
    peers
}

/// The names of all groups that a rule names.
fn peers(rule: &GroupRule) -> impl Iterator<Item = &Spanned<Name>> {
    rule.security_groups.iter().chain(&rule.policy_groups)
}

pub(super) fn resolve_all<'f>(
    definitions: impl Iterator<Item = GroupDefinition<'f>>,
    names: &mut Names<'f>,
    problems: &mut Vec<Problem>,
) -> Vec<ResolvedGroup> {
    let resolved = definitions.map(|group| {
        let vpc = names.vpcs.resolve(group.vpc, problems);
        let mut of =
            |rules: &'f [GroupRule]| rules.iter().map(|rule| resolve_peers(rule, vpc, names, problems)).collect();
        let (ingress, egress) = (of(group.ingress), of(group.egress.unwrap_or_default()));
        ResolvedGroup { vpc, ingress, egress }
    });
    resolved.collect()
}

pub(super) fn check(file: &File, resolved: &Resolved, problems: &mut Vec<Problem>) {
    let mut defaults = Unique::with_capacity(file.vpcs.len());
    for (group, links) in file.security_groups.iter().zip(&resolved.security_groups) {
        if group.is_default()
            && let Some(vpc) = links.vpc
        {
            let message = |_: &Name| format!("two security groups are the default group of VPC `{}`", group.vpc.value);
            defaults.check_in(vpc, &group.name, |_| (), problems, message);
        }
    }
    let security = file.security_groups.iter().map(SecurityGroup::definition).zip(&resolved.security_groups);
    let policy = file.policy_groups.iter().map(PolicyGroup::definition).zip(&resolved.policy_groups);
    for (group, links) in security.chain(policy) {
        for (rule, groups) in group.rules().zip(links.ingress.iter().chain(&links.egress)) {
            check_rule(rule, problems);
            for (name, peer) in peers(rule).zip(groups) {
                check_peer(file, resolved, (&group, links.vpc), (name, *peer), problems);
            }
        }
    }
    for group in &file.policy_groups {
        if group.selector.labels.is_empty() && !group.lacks("selector") {
            let message = format!("the selector of policy group `{}` names no label", group.name.value);
            let problem = Problem::new(group.selector.span, message).label("selects nothing");
            problems.push(problem.help("name the labels that its ports have, like `labels: {tier: web}`"));
        }
    }
    for (port, links) in file.ports.iter().zip(&resolved.ports).filter(|(_, links)| !links.groups.is_empty()) {
        check_port(file, resolved, (port, links), problems);
    }
}

/// The groups of a port are of its VPC, and there once.
fn check_port(file: &File, resolved: &Resolved, (port, links): (&Port, &ResolvedPort), problems: &mut Vec<Problem>) {
    let mut unique = Unique::with_capacity(links.groups.len());
    for (name, group) in port.security_groups.iter().zip(&links.groups) {
        unique.check(name, problems, |name| format!("port `{}` names the group `{name}` twice", port.name.value));
        let of = group.and_then(|group| vpc_of(resolved, group));
        if let (Some(of), Some(vpc)) = (of, resolved.vpc_of(links))
            && of != vpc
        {
            let message =
                format!("port `{}` names a security group of VPC `{}`", port.name.value, of.of(file).name.value);
            let problem = Problem::new(name.span(), message).label("a group of another VPC");
            problems
                .push(problem.also(port.subnet.span(), format!("the port is in VPC `{}`", vpc.of(file).name.value)));
        }
    }
}

fn check_rule(rule: &GroupRule, problems: &mut Vec<Problem>) {
    rules::check_service(rule, &rule.service(), &rule.cidr_blocks, problems);
    let unread = ["cidr_blocks", "security_groups", "policy_groups"].iter().any(|peers| rule.lacks(peers));
    if rule.cidr_blocks.is_empty() && peers(rule).next().is_none() && !rule.partial && !unread {
        let problem = Problem::new(rule.span, "the rule names no peer").label("an empty list never means all");
        problems.push(problem.help(
            "name peers by `cidr_blocks`, `security_groups` or `policy_groups`; everyone is \
             `cidr_blocks: [0.0.0.0/0, \"::/0\"]`",
        ));
    }
    let mut unique = Unique::with_capacity(rule.cidr_blocks.len());
    for block in &rule.cidr_blocks {
        unique.check(block, problems, |block| format!("the rule names the block {block} twice"));
    }
    for groups in [&rule.security_groups, &rule.policy_groups] {
        let mut unique = Unique::with_capacity(groups.len());
        for group in groups {
            unique.check(group, problems, |group| format!("the rule names the group `{group}` twice"));
        }
    }
}

/// The VPC of a group.
fn vpc_of(resolved: &Resolved, group: Group) -> Option<At<Vpc>> {
    match group {
        Group::Default(vpc) => Some(vpc),
        Group::Security(group) => resolved.security_groups[group.index()].vpc,
        Group::Policy(group) => resolved.policy_groups[group.index()].vpc,
    }
}

/// A rule may name groups of its own VPC and of those that a peering joins to it.
fn check_peer(
    file: &File,
    resolved: &Resolved,
    (group, vpc): (&GroupDefinition<'_>, Option<At<Vpc>>),
    (name, peer): (&Spanned<Name>, Option<Group>),
    problems: &mut Vec<Problem>,
) {
    let (Some(vpc), Some(of)) = (vpc, peer.and_then(|peer| vpc_of(resolved, peer))) else { return };
    let joins = |ends: &super::links::Ends| {
        let (Some(a), Some(b)) = (ends.requester, ends.accepter) else { return true };
        (a, b) == (vpc, of) || (b, a) == (vpc, of)
    };
    if of == vpc || resolved.peerings.iter().any(joins) || file.lacks("peerings") {
        return;
    }
    let (own, other) = (&vpc.of(file).name.value, &of.of(file).name.value);
    let message = format!("the group `{}` is of VPC `{other}`, which is no peer of VPC `{own}`", name.value);
    let problem = Problem::new(name.span(), message).label("not within reach");
    problems.push(
        problem
            .also(group.vpc.span(), "the VPC of the rule")
            .help(format!("add a peering of `{own}` and `{other}`, or name the peers by `cidr_blocks`")),
    );
}

/// Links groups, where every reference was resolved.
pub(super) fn link(file: &File, resolved: &Resolved, links: &mut Links) -> Option<()> {
    let all = |rules: &[Vec<Option<Group>>]| -> Option<_> {
        rules.iter().map(|peers| peers.iter().copied().collect()).collect()
    };
    let group = |group: &ResolvedGroup| Some(GroupLinks { ingress: all(&group.ingress)?, egress: all(&group.egress)? });
    links.security_groups = resolved.security_groups.iter().map(group).collect::<Option<_>>()?;
    links.policy_groups = resolved.policy_groups.iter().map(group).collect::<Option<_>>()?;
    for (index, (group, record)) in resolved.security_groups.iter().zip(&file.security_groups).enumerate() {
        if record.is_default() {
            links.vpcs[group.vpc?.index()].default_group = Some(At::new(index));
        }
    }
    Some(())
}

/// A label with its value in a VPC.
type Label<'f> = (At<Vpc>, &'f str, &'f str);

/// The policy groups of each VPC, by one of the labels that they ask for.
struct Selectors<'f> {
    file: &'f File,
    by_label: FxHashMap<Label<'f>, Vec<At<PolicyGroup>>>,
}

impl<'f> Selectors<'f> {
    fn new(file: &'f File, resolved: &Resolved) -> Self {
        let mut by_label: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for (index, (group, links)) in file.policy_groups.iter().zip(&resolved.policy_groups).enumerate() {
            if let (Some((label, value)), Some(vpc)) = (group.selector.labels.first(), links.vpc) {
                by_label.entry((vpc, &*label.value, &*value.value)).or_default().push(At::new(index));
            }
        }
        Self { file, by_label }
    }

    /// The groups that a port is in.
    fn of<'s>(&'s self, port: &'s Port, vpc: At<Vpc>) -> impl Iterator<Item = Group> + 's {
        let labels = port.few().labels.iter();
        let candidates = labels.flat_map(move |labels| {
            let of_label =
                labels.iter().filter_map(move |(label, value)| self.by_label.get(&(vpc, &*label.value, &*value.value)));
            let selects = move |group: &&At<PolicyGroup>| labels.contains(&group.of(self.file).selector.labels);
            of_label.flatten().filter(selects)
        });
        candidates.copied().map(Group::Policy)
    }
}

/// Makes the identities, and tells that of each port. Their ids are made from the names of their groups; collisions
/// are resolved in the order of names, over the whole topology, so that all nodes agree.
pub(super) fn identities(file: &File, resolved: &Resolved, links: &mut Links) -> Option<Vec<At<Identity>>> {
    type Key = (At<Vpc>, Vec<Group>);
    let mut numbers: FxHashMap<Key, usize> = FxHashMap::default();
    let mut of_ports = Vec::with_capacity(resolved.ports.len());
    let selectors = Selectors::new(file, resolved);
    // Most ports of a large topology are in no other group: one look-up for each VPC rather than for each of them.
    let mut default_of = vec![None; file.vpcs.len()];
    for (port, record) in resolved.ports.iter().zip(&file.ports) {
        let vpc = resolved.vpc_of(port)?;
        let mut groups: Vec<Group> = port.groups.iter().copied().collect::<Option<_>>()?;
        groups.extend(selectors.of(record, vpc));
        groups.sort_unstable();
        groups.dedup();
        let next = numbers.len();
        of_ports.push(if groups.is_empty() {
            let known: &mut Option<usize> = &mut default_of[vpc.index()];
            *known.get_or_insert_with(|| *numbers.entry((vpc, vec![Group::Default(vpc)])).or_insert(next))
        } else {
            *numbers.entry((vpc, groups)).or_insert(next)
        });
    }
    // Two VPCs of one VNI are told apart here, and refused elsewhere.
    let mut by_name: BTreeMap<(String, At<Vpc>), (Key, usize)> = BTreeMap::new();
    for (key, number) in numbers {
        let mut names: Vec<String> = key.1.iter().map(|group| group_key(file, *group)).collect();
        names.sort_unstable();
        by_name.insert((names.join("\n"), key.0), (key, number));
    }
    let mut taken = Ids::default();
    let mut places = vec![0; by_name.len()];
    for ((name, vpc), ((_, groups), number)) in by_name {
        let at = links.identities.len();
        places[number] = at;
        links.vpcs[vpc.index()].identities.push(At::new(at));
        links.identities.push(Identity { id: taken.take(name.as_bytes()), groups });
    }
    Some(of_ports.into_iter().map(|number| At::new(places[number])).collect())
}
