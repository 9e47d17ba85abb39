//! Rule sets in the maps: whole before a port switches to them, gone after.

use super::map;
use crate::sandbox::{Sandbox, TOPOLOGY};
use bytemuck::Pod;
use nix::sys::signal::Signal;
use std::{collections::BTreeSet, fs};
use vpc_agent::{
    bpffs,
    control::{
        Kind, Request,
        client::ask,
        report::{Listing, PlanReport},
    },
};
use vpc_bpf::Table;
use vpc_common::{
    maps,
    policy::{IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::Port,
};

fn keys<K: Pod, V: Pod>(sandbox: &Sandbox, name: &str) -> Vec<K> {
    let table: Table<K, V> = Table::open(&bpffs::maps(sandbox.bpffs()).join(name)).expect("a pinned map");
    table.entries().expect("readable").into_iter().map(|(key, _)| key).collect()
}

/// The ids of all rule sets of which any map holds a part.
fn rule_sets(sandbox: &Sandbox) -> BTreeSet<u32> {
    let subjects = keys::<SubjectKey, Subject>(sandbox, maps::SUBJECTS).into_iter().map(|key| key.rules.get());
    let identities = keys::<IdentityKey, Subject>(sandbox, maps::IDENTITIES).into_iter().map(|key| key.rules);
    let rules = keys::<RuleKey, RuleVerdict>(sandbox, maps::RULES).into_iter().map(|key| key.rules.get());
    subjects.chain(identities).chain(rules).collect()
}

/// The rule sets that a port's record names.
fn named(port: &Port) -> BTreeSet<u32> {
    let all = [port.ingress_rules, port.egress_rules, port.ingress_acl, port.egress_acl];
    all.into_iter().filter(|id| *id != 0).collect()
}

fn column(listing: &Listing, name: &str) -> Vec<String> {
    let at = listing.columns.iter().position(|column| column == name).expect("a column");
    listing.rows.iter().filter_map(|row| row[at].as_str().map(str::to_owned)).collect()
}

#[test]
fn rule_sets_are_switched_and_collected() {
    let mut sandbox = Sandbox::new("policies");
    sandbox.start();
    let default: Port = map(&sandbox, maps::PORTS, 1);
    assert_eq!(rule_sets(&sandbox), named(&default));
    assert_eq!(keys::<IdentityKey, Subject>(&sandbox, maps::IDENTITIES).len(), 1, "the default group's own members");

    let with = |port: u16| {
        let groups = format!(
            "security_groups:\n  - {{name: web, vpc: prod, ingress: [{{protocol: tcp, ports: [{port}], cidr_blocks: \
             [10.0.0.0/8]}}], egress: []}}\nnetwork_acls:\n  - {{name: edge, vpc: prod, ingress: [{{rule_number: 100, \
             protocol: all, cidr_block: 0.0.0.0/0, action: allow}}]}}\nports:\n"
        );
        let text = TOPOLOGY.replace("ports:\n", &groups).replace("[10.0.1.0/24]}", "[10.0.1.0/24], network_acl: edge}");
        text.replace("[10.0.1.10]}", "[10.0.1.10], security_groups: [web]}")
    };
    let put = |sandbox: &Sandbox, text: &str, before: &Port| -> Port {
        fs::write(sandbox.topology(), text).expect("write");
        sandbox.eventually("the port has other rules", |_| {
            map::<Port>(sandbox, maps::PORTS, 1).ingress_rules != before.ingress_rules
        });
        sandbox.eventually("the old rule sets are gone", |_| {
            rule_sets(sandbox).is_subset(&named(&map::<Port>(sandbox, maps::PORTS, 1)))
        });
        sandbox.eventually("its epoch has moved", |_| map::<Port>(sandbox, maps::PORTS, 1).epoch > before.epoch);
        map(sandbox, maps::PORTS, 1)
    };
    let https = put(&sandbox, &with(443), &default);
    assert_eq!(https.egress_rules, 0, "nothing is allowed");
    assert!(https.ingress_acl != 0 && https.egress_acl != 0, "an ACL that says nothing is an ACL");

    let request = Request::Plan { name: "new.yaml".to_owned(), text: with(80) };
    let plan: PlanReport = ask(sandbox.run_dir(), request).expect("a plan");
    let expected = [
        "- security group web: ingress rule 1 removed: tcp 443 from 10.0.0.0/8",
        "+ security group web: ingress rule 1 added: tcp 80 from 10.0.0.0/8",
    ];
    assert_eq!(plan.changes, expected);
    let http = put(&sandbox, &with(80), &https);
    assert_eq!(http.ingress_acl, https.ingress_acl, "the same ACL is the same rule set");

    let listing: Listing = ask(sandbox.run_dir(), Request::Get(Kind::SecurityGroups)).expect("a list");
    assert_eq!(column(&listing, "says"), ["tcp 80 from 10.0.0.0/8", "nothing is allowed"]);
    assert_eq!(column(&listing, "rule"), ["security_group web ingress 1"]);
    let listing: Listing = ask(sandbox.run_dir(), Request::Get(Kind::NetworkAcls)).expect("a list");
    assert_eq!(column(&listing, "says"), ["allow all from 0.0.0.0/0", "nothing is allowed"]);

    sandbox.end(Signal::SIGKILL);
    let length = sandbox.log().len();
    sandbox.start();
    assert!(!sandbox.applied_since(length), "{}", &sandbox.log()[length..]);
    assert_eq!(map::<Port>(&sandbox, maps::PORTS, 1), http);
}
