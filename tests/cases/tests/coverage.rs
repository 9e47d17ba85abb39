//! What the cases reach: every drop reason, every line of the contract that is the datapath's.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use vpc_cases::{
    case::{self, CaseFile},
    check,
    fabric::Fabric,
    host::Host,
};
use vpc_common::DropReason;

/// Reasons that no packet of a case can have, and why.
const UNREACHED: [(DropReason, &str); 1] =
    [(DropReason::NoRoom, "the kernel refused memory, or a helper failed that cannot fail on a frame that was parsed")];

/// Lines of `behaviour.md` that are the datapath's own.
const LINES: [&str; 49] = [
    "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9", "V10", "V11", "V12", "L1", "L2", "L3", "L4", "L5", "R1",
    "R2", "R3", "R4", "R5", "R6", "R7", "R8", "K1", "K2", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "S1", "S2", "S3",
    "S4", "S5", "F1", "F2", "F3", "N1", "N2", "N3", "N4", "N6", "N7", "N8",
];

fn reasons(file: &CaseFile) -> BTreeSet<DropReason> {
    let devices = Fabric::new(file).unwrap().made_up_devices();
    let run = |case| check::run(file, case, &mut Host::default(), &devices).unwrap();
    let records = file.cases.iter().flat_map(|case| run(case).records);
    records.filter_map(|record| record.drop_reason()).collect()
}

#[test]
fn every_drop_reason_is_reached() {
    let reached: BTreeSet<DropReason> = case::files().unwrap().iter().flat_map(|(_, file)| reasons(file)).collect();
    let expected: BTreeSet<DropReason> = DropReason::ALL
        .iter()
        .copied()
        .filter(|reason| UNREACHED.iter().all(|(unreached, _)| unreached != reason))
        .collect();
    let missing: Vec<_> = expected.difference(&reached).map(|reason| reason.name()).collect();
    let surprising: Vec<_> = reached.difference(&expected).map(|reason| reason.name()).collect();
    assert!(missing.is_empty() && surprising.is_empty(), "not reached: {missing:?}; not expected: {surprising:?}");
}

#[test]
fn every_line_of_the_contract_has_its_cases() {
    let mut cases: BTreeMap<String, usize> = BTreeMap::new();
    for (name, file) in case::files().unwrap() {
        for case in &file.cases {
            assert!(!case.covers.is_empty(), "{name}: {}: which line of the contract does it cover?", case.name);
            for line in &case.covers {
                *cases.entry(line.clone()).or_default() += 1;
            }
        }
    }
    let counts: Vec<_> = LINES.iter().map(|line| (line, cases.get(*line).copied().unwrap_or_default())).collect();
    println!("{counts:?}");
    let missing: Vec<_> = counts.iter().filter(|(_, count)| *count == 0).map(|(line, _)| line).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
