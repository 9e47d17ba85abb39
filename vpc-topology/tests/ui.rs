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
