//! `cargo xtask tidy`: what the compiler and clippy do not check.

use crate::process::repository;
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, process::Command};

/// Lines that a source file may have. What grows beyond is split by feature.
const LINES: usize = 500;
/// Names that say nothing about what is in the file.
const NAMES: &[&str] = &["utils.rs", "util.rs", "types.rs", "helpers.rs", "helper.rs", "misc.rs"];
/// Words that mark unfinished work, and paths of somebody's machine. In parts, or this file would contain them.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unimplemen", "ted!("),
    concat!("not implemen", "ted"),
    concat!("not yet implemen", "ted"),
    concat!("place", "holder"),
    concat!("#[ign", "ore"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
];
/// Crates of pure logic, and what they must not know.
const PURE: &[&str] = &["vpc-common", "vpc-datapath", "vpc-topology"];
const IMPURE: &[&str] = &["aya", "tokio", "nix", "rtnetlink", "libc", "netlink-sys"];
/// How far above an `unsafe` its justification may begin.
const SAFETY_DISTANCE: usize = 8;

/// The verb.
pub fn run_verb() -> Result<()> {
    let problems = check()?;
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} problems", problems.len());
    }
    println!("tidy");
    Ok(())
}

/// All problems, one text each.
fn check() -> Result<Vec<String>> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .context("cannot run git")?;
    let mut problems = Vec::new();
    for path in String::from_utf8_lossy(&listing.stdout).lines() {
        // Deleted but not yet committed, or no text.
        let Ok(text) = fs::read_to_string(repository().join(path)) else { continue };
        if path.ends_with(".lock") {
            continue;
        }
        problems.extend(words(path, &text));
        if path.ends_with(".rs") {
            problems.extend(source(path, &text));
        }
        if path.ends_with("Cargo.toml") {
            problems.extend(manifest(path, &text));
        }
    }
    Ok(problems)
}

fn words(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in WORDS.iter().filter(|word| has_word(line, word)) {
            problems.push(format!("{path}:{number}: contains {word:?}"));
        }
        if line.ends_with([' ', '\t']) {
            problems.push(format!("{path}:{number}: ends with white space"));
        }
    }
    problems
}

/// Whether a line has the word, not only as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let begins = !word.starts_with(char::is_alphanumeric) || !is_letter(before.chars().next_back());
        let ends = !word.ends_with(char::is_alphanumeric) || !is_letter(after.chars().next());
        begins && ends
    })
}

fn source(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LINES {
        problems.push(format!("{path}: {} lines, more than {LINES}: split it by feature", lines.len()));
    }
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    if NAMES.contains(&&*name) {
        problems.push(format!("{path}: the name says nothing"));
    }
    if !lines.first().is_some_and(|line| line.starts_with("//!")) {
        problems.push(format!("{path}:1: does not begin by saying what it is (//!)"));
    }
    for (index, line) in lines.iter().enumerate() {
        let is_unsafe = ["unsafe {", "unsafe impl"].iter().any(|word| is_code(line, word));
        let above = &lines[index.saturating_sub(SAFETY_DISTANCE)..=index];
        if is_unsafe && !above.iter().any(|line| line.contains("SAFETY:")) {
            problems.push(format!("{path}:{}: unsafe without a SAFETY comment", index + 1));
        }
    }
    problems
}

/// Whether a line has these words outside of a comment and of a string.
fn is_code(line: &str, words: &str) -> bool {
    line.split_once(words).is_some_and(|(before, _)| !before.contains("//") && before.matches('"').count() % 2 == 0)
}

fn manifest(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let directory = path.trim_end_matches("Cargo.toml").trim_end_matches('/');
    if text.contains("[package]") && text.contains("version.workspace") && !text.contains("[lints]\nworkspace = true") {
        problems.push(format!("{path}: does not take the workspace's lints"));
    }
    if PURE.contains(&directory) {
        let dependencies = text.lines().filter_map(|line| line.split([' ', '=', '.']).next());
        for name in dependencies.filter(|name| IMPURE.contains(name)) {
            problems.push(format!("{path}: a crate of pure logic must not know {name}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_source_passes() {
        let text = "//! What it is.\n\n// SAFETY: why.\nunsafe { f() }\n";
        assert_eq!(source("a/b.rs", text), Vec::<String>::new());
        assert_eq!(words("a/b.rs", text), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(source("a/utils.rs", "//! It.\n").len(), 1);
        assert_eq!(source("a/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(source("a/b.rs", "//! It.\nfn f() { unsafe { g() } }\n").len(), 1);
        assert_eq!(source("a/b.rs", &"//! It.\n".repeat(LINES + 1)).len(), 1);
        assert_eq!(words("a.md", concat!("TO", "DO: all\nline \n")).len(), 2);
        assert_eq!(words("a.md", concat!("FFXX:XX", "XX\n")).len(), 0);
        assert_eq!(manifest("vpc-datapath/Cargo.toml", "[dependencies]\naya = { workspace = true }\n").len(), 1);
        assert_eq!(manifest("vpc-agent/Cargo.toml", "[package]\nversion.workspace = true\n").len(), 1);
    }
}
