//! What people see of a wrong topology: each `ui/*.yaml` is rendered and compared with the `.txt` beside it.
//!
//! `UPDATE_EXPECT=1 cargo test -p vpc-topology --test ui` writes the renderings anew.

use std::{fs, path::Path};

#[test]
fn renderings() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let update = std::env::var_os("UPDATE_EXPECT").is_some_and(|value| !value.is_empty());
    let mut failures = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&case).unwrap();
        let rendering = match vpc_topology::load(&text, name) {
            Ok(topology) => format!("valid: {topology:?}\n"),
            Err(diagnostics) => diagnostics.to_string(),
        };
        let expected = case.with_extension("txt");
        if update {
            fs::write(expected, rendering).unwrap();
        } else if fs::read_to_string(expected).unwrap_or_default() != rendering {
            failures.push(format!("{name} renders as\n{rendering}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn one_nat_gateway_too_many() {
    let mut text = "version: 1\nvpcs: [{name: v, vni: 5001, cidr_blocks: [10.0.0.0/16]}]\nnat_gateways:\n".to_owned();
    for number in 0..=vpc_common::limits::NAT_GATEWAYS {
        text.push_str(&format!("  - {{name: ngw-{number}, vpc: v, elastic_ips: []}}\n"));
    }
    let problems = vpc_topology::load(&text, "many.yaml").expect_err("too many").to_string();
    let message = "the topology has 4097 NAT gateways, the map holds 4096";
    assert_eq!(problems.matches(message).count(), 1);
}
