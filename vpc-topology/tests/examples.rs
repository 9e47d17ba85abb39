//! The examples are valid for every node, and editors find their schema.

use std::{fs, path::Path};
use vpc_topology::{Limits, Slots, compile, load};

#[test]
fn are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let paths = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let topology = load(&text, name).unwrap();
        for node in topology.file().nodes.iter().filter(|node| node.runs_agent()) {
            compile(&topology, &node.name.value, &Slots::new(), &Limits::default()).unwrap();
        }
        let schema = text.lines().find_map(|line| line.strip_prefix("# yaml-language-server: $schema="));
        let schema = schema.unwrap_or_else(|| panic!("{name} names its schema for editors"));
        assert!(directory.join(schema).is_file(), "{name}: there is no {schema}");
    }
}
