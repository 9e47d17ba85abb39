//! Compiled rule sets by port, in words.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::{policy::NOTHING, port::Port};
use vpc_topology::compile::Desired;

/// What each local port allows others, and what it is allowed.
pub(super) fn security_groups(desired: &Desired) -> Vec<Vec<Value>> {
    let rules = rules_by_set(desired);
    let mut rows = Vec::new();
    for port in desired.ports.values() {
        for (direction, id) in [("ingress", port.record.ingress_rules), ("egress", port.record.egress_rules)] {
            let owner = (json!(port.name), json!(port.groups));
            list(desired, &rules, owner, direction, (id, id == NOTHING), &mut rows);
        }
    }
    rows
}

/// What passes between the subnet of each local port and others.
pub(super) fn network_acls(desired: &Desired) -> Vec<Vec<Value>> {
    let rules = rules_by_set(desired);
    let mut rows = Vec::new();
    for port in desired.ports.values() {
        for (direction, id) in [("ingress", port.record.ingress_acl), ("egress", port.record.egress_acl)] {
            if id != Port::NO_ACL {
                let owner = (json!(port.name), json!(port.network_acl));
                list(desired, &rules, owner, direction, (id, false), &mut rows);
            }
        }
    }
    rows
}

/// The rules that decide anything in each rule set. What rules before them decide wholly is not there.
fn rules_by_set(desired: &Desired) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut rules: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let by_host = desired.hosts.iter().map(|(key, subject)| (key.rules, subject));
    let by_address = desired.subjects.iter().map(|(key, subject)| (key.rules.get(), subject));
    let by_identity = desired.identities.iter().map(|(key, subject)| (key.rules, subject));
    // What is little stands with its subject.
    let little = by_host.chain(by_address).chain(by_identity).flat_map(|(set, subject)| {
        let answers = subject.answers.iter().take(subject.answer_count as usize);
        answers.map(move |answer| (set, answer.verdict.rule))
    });
    let much = desired.rules.iter().map(|(key, verdict)| (key.rules.get(), verdict.rule));
    for (set, rule) in little.chain(much) {
        rules.entry(set).or_default().insert(rule);
    }
    rules
}

/// One row for each rule; one that says so where there is none.
fn list(
    desired: &Desired,
    rules: &BTreeMap<u32, BTreeSet<u32>>,
    (port, owner): (Value, Value),
    direction: &str,
    (id, nothing): (u32, bool),
    rows: &mut Vec<Vec<Value>>,
) {
    let mut add = |rule: Value, rule_id: Value, says: Value| {
        let set = if nothing { Value::Null } else { json!(format!("{id:08x}")) };
        rows.push(vec![port.clone(), owner.clone(), json!(direction), set, rule, rule_id, says]);
    };
    let Some(numbers) = rules.get(&id).filter(|_| !nothing) else {
        add(Value::Null, Value::Null, json!("nothing is allowed"));
        return;
    };
    let mut named: Vec<_> = numbers
        .iter()
        .map(|number| (desired.names.rules.get(number), *number, desired.names.rule_texts.get(number)))
        .collect();
    named.sort_by_key(|(name, ..)| name.map(|name| in_order(name)));
    for (name, number, text) in named {
        add(json!(name), json!(format!("{number:08x}")), json!(text));
    }
}

/// Rules by owner and direction, then by number.
fn in_order(name: &str) -> (&str, u32) {
    let (owner, number) = name.rsplit_once(' ').unwrap_or((name, ""));
    (owner, number.parse().unwrap_or_default())
}
