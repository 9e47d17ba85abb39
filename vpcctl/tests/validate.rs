//! Exit codes and output of the offline verbs.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

fn vpcctl(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vpcctl"))
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn valid_is_0() {
    let output = vpcctl(&["validate", "-f", "examples/two-nodes.yaml"], "");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "examples/two-nodes.yaml: valid, 2 nodes, 1 VPC, 2 subnets, 3 ports\n");
}

#[test]
fn problems_are_1() {
    let output = vpcctl(&["validate", "-f", "-", "-f", "examples/two-nodes.yaml"], "version: 3\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("two-nodes.yaml: valid"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--> <stdin>:1:10"), "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn colours_on_demand() {
    let output = vpcctl(&["validate", "--color", "always", "-f", "-"], "version: 3\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("\x1b["));
}

#[test]
fn what_cannot_be_read_is_2() {
    assert_eq!(vpcctl(&["validate", "-f", "no-such-file.yaml"], "").status.code(), Some(2));
    assert_eq!(vpcctl(&["validate"], "").status.code(), Some(2));
    assert_eq!(vpcctl(&["no-such-verb"], "").status.code(), Some(2));
}

#[test]
fn schema_is_the_committed_one() {
    let output = vpcctl(&["schema"], "");
    assert_eq!(output.status.code(), Some(0));
    let committed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../schema/topology.json")).unwrap();
    assert!(output.stdout == committed, "run: cargo run -p vpcctl -- schema > schema/topology.json");
}
