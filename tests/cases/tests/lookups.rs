//! What the usual packets ask of the maps, against what is recorded: the last packet of each case of `lookups.yaml`.

use anyhow::{Result, ensure};
use std::{collections::BTreeMap, env, fmt::Write, fs, path::Path};
use vpc_cases::{
    accesses::{Accesses, Kind, Kinds, Operation},
    case, check,
    fabric::Fabric,
    host::Host,
};

const HEADING: &str = "# What the last packet of each case in tests/packets/lookups.yaml asks of the maps\n";

/// By the name of the case, in the order of names.
fn measured() -> Result<BTreeMap<String, Accesses>> {
    let file = case::read(&case::directory().join("lookups.yaml"))?;
    let devices = Fabric::new(&file)?.made_up_devices();
    let mut measured = BTreeMap::new();
    for case in &file.cases {
        let mut host = Host::default();
        let report = check::run(&file, case, &mut host, &devices)?;
        ensure!(report.failures.is_empty(), "{}: {:#?}", case.name, report.failures);
        measured.insert(case.name.clone(), host.accesses());
    }
    Ok(measured)
}

fn format(measured: &BTreeMap<String, Accesses>, kinds: &Kinds) -> Result<String> {
    let mut text = HEADING.to_owned();
    for (name, accesses) in measured {
        write!(text, "\n{name}\n  {}\n", accesses.lines(kinds)?.join("\n  "))?;
    }
    Ok(text)
}

/// Cases by their names, which stand above each.
fn by_name(text: &str) -> BTreeMap<&str, &str> {
    text.split("\n\n").filter_map(|paragraph| paragraph.trim_end().split_once('\n')).collect()
}

#[test]
fn packets_ask_what_is_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lookups.txt");
    let kinds = Kinds::of_object(vpc_bpf::OBJECT).unwrap();
    let now = format(&measured().unwrap(), &kinds).unwrap();
    println!("{now}");
    if env::var_os("RECORD_BUDGET").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let (recorded, now) = (by_name(&recorded), by_name(&now));
    let names = recorded.keys().chain(now.keys().filter(|name| !recorded.contains_key(*name)));
    let mut differences = String::new();
    for name in names.filter(|name| recorded.get(*name) != now.get(*name)) {
        let of = |accesses: &BTreeMap<&str, &str>| accesses.get(name).map_or("  nothing", |lines| *lines).to_owned();
        write!(differences, "\n{name}: recorded\n{}\nnow\n{}\n", of(&recorded), of(&now)).unwrap();
    }
    assert!(differences.is_empty(), "{differences}\nIf that is meant: cargo xtask budget --record");
}

/// What README.md promises, whatever is recorded.
#[test]
fn an_established_flow_costs_one_hash_lookup() {
    let kinds = Kinds::of_object(vpc_bpf::OBJECT).unwrap();
    let measured = measured().unwrap();
    let ways = ["into the tunnel", "from the tunnel", "to another one of its node", "from a port outside"];
    for way in ways {
        let of_way = |(name, _): &(&String, &Accesses)| name.starts_with("established") && name.contains(way);
        let cases: Vec<_> = measured.iter().filter(of_way).collect();
        assert!(!cases.is_empty(), "no case of {way}");
        for (name, accesses) in cases {
            let count = |operation, kind| accesses.count(operation, kind, &kinds).unwrap();
            assert_eq!(count(Operation::Lookup, Kind::Hash), 1, "{name}");
            assert_eq!(count(Operation::Lookup, Kind::Trie), 0, "{name}");
            assert_eq!(count(Operation::Insert, Kind::Hash) + count(Operation::Remove, Kind::Hash), 0, "{name}");
        }
    }
}
