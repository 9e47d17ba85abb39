//! Changes of security groups, policy groups and network ACLs, rule by rule.

use crate::compile::Names;
use std::collections::BTreeMap;

/// The rules of one direction of a group or an ACL, with their numbers there.
type Rules<'n> = BTreeMap<u32, &'n str>;
/// By owner, `security_group web`, and direction.
type Lists<'n> = BTreeMap<&'n str, BTreeMap<&'n str, Rules<'n>>>;

/// One line for each rule that comes, goes or changes. An owner that comes or goes is one line; a default group comes
/// and goes with its VPC.
pub(super) fn describe(old: &Names, new: &Names, lines: &mut Vec<String>) {
    let (old, new) = (lists(old), lists(new));
    for (owner, directions) in &new {
        let Some(before) = old.get(owner) else {
            if !is_default(owner) {
                lines.push(format!("+ {} with {}", words(owner), counted(owner, directions)));
            }
            continue;
        };
        for (direction, after) in directions {
            let none = Rules::new();
            let before = before.get(direction).unwrap_or(&none);
            of_direction(&format!("{}: {direction} rule", words(owner)), before, after, owner, lines);
        }
        for (direction, rules) in before.iter().filter(|(direction, _)| !directions.contains_key(*direction)) {
            let prefix = format!("{}: {direction} rule", words(owner));
            lines.extend(rules.iter().map(|(number, text)| format!("- {prefix} {number} removed: {text}")));
        }
    }
    for (owner, directions) in old.iter().filter(|(owner, _)| !new.contains_key(*owner) && !is_default(owner)) {
        lines.push(format!("- {} with {}", words(owner), counted(owner, directions)));
    }
}

fn of_direction(prefix: &str, before: &Rules<'_>, after: &Rules<'_>, owner: &str, lines: &mut Vec<String>) {
    if owner.starts_with("network_acl ") {
        // The number of an ACL's rule is its own.
        for (number, to) in after {
            match before.get(number) {
                None => lines.push(format!("+ {prefix} {number} added: {to}")),
                Some(from) if from != to => lines.push(format!("~ {prefix} {number}: {from} -> {to}")),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|(number, _)| !after.contains_key(*number));
        lines.extend(gone.map(|(number, text)| format!("- {prefix} {number} removed: {text}")));
        return;
    }
    // That of a group's rule is its place, which moves with those before it.
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    for text in after.values() {
        *kept.entry(text).or_default() += 1;
    }
    for (number, text) in before {
        match kept.get_mut(text).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => lines.push(format!("- {prefix} {number} removed: {text}")),
        }
    }
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for text in before.values() {
        *known.entry(text).or_default() += 1;
    }
    for (number, text) in after {
        match known.get_mut(text).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => lines.push(format!("+ {prefix} {number} added: {text}")),
        }
    }
}

fn lists(names: &Names) -> Lists<'_> {
    let mut lists = Lists::new();
    for (number, name) in &names.rules {
        // What a router's rule set says has no number, and is no one's to change.
        let mut parts = name.rsplitn(3, ' ');
        let (Some(place), Some(direction), Some(owner)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (Ok(place), Some(text)) = (place.parse(), names.rule_texts.get(number)) else { continue };
        lists.entry(owner).or_default().entry(direction).or_default().insert(place, text);
    }
    lists
}

fn is_default(owner: &str) -> bool {
    owner.ends_with("/default")
}

fn counted(owner: &str, directions: &BTreeMap<&str, Rules<'_>>) -> String {
    let count = |direction| directions.get(direction).map_or(0, BTreeMap::len);
    if owner.starts_with("nat_gateway ") {
        return format!("{} rules", count("egress"));
    }
    format!("{} ingress and {} egress rules", count("ingress"), count("egress"))
}

/// The name of a group or an ACL for people.
pub(super) fn words(name: &str) -> String {
    match name.split_once(' ') {
        Some(("security_group", name)) => format!("security group {name}"),
        Some(("policy_group", name)) => format!("policy group {name}"),
        Some(("nat_gateway", name)) => format!("egress allow list of NAT gateway {name}"),
        Some(("network_acl", name)) => format!("network ACL {name}"),
        _ => name.to_owned(),
    }
}
