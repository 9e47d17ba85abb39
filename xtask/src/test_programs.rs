//! The test programs of the workspace, all built at once.
//!
//! Cargo chooses the features of dependencies by the packages that it is asked for. Asked for one package after the other,
//! it would build half of them anew each time, the kernel programs included.

use crate::process::{cargo, describe, repository};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program that runs tests.
#[derive(Debug)]
pub struct TestProgram {
    /// Directory of its package.
    package: PathBuf,
    /// Name of the library, program or file of tests.
    name: String,
    executable: PathBuf,
}

impl TestProgram {
    /// Whether it belongs to the package in a directory of the repository.
    pub fn is_of(&self, directory: &str) -> bool {
        self.package == repository().join(directory)
    }

    /// Whether it is the one of that name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name
    }

    /// The command that runs it, as `cargo test` would.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        command
    }
}

/// Builds all test programs, and the programs that they start.
pub fn build() -> Result<Vec<TestProgram>> {
    let mut command = cargo(["build", "--workspace", "--bins", "--tests", "--message-format=json-render-diagnostics"]);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", describe(&command)))?;
    let mut programs = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        programs.extend(of_message(&line?)?);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} ended with {status}", describe(&command));
    }
    Ok(programs)
}

/// What is read of cargo's messages (The Cargo Book, "External tools").
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    manifest_path: PathBuf,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The test program that a message is about, if it is about one.
fn of_message(line: &str) -> Result<Option<TestProgram>> {
    let message: Message = serde_json::from_str(line).with_context(|| format!("cargo said {line}"))?;
    let (Some(executable), Some(target), Some(Profile { test: true })) =
        (message.executable, message.target, message.profile)
    else {
        return Ok(None);
    };
    let package = message.manifest_path.parent().map(Path::to_owned).context("a manifest lies in a directory")?;
    Ok(Some(TestProgram { package, name: target.name, executable }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_messages() {
        let message = |test, executable| {
            let manifest = repository().join("tests/cases/Cargo.toml");
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": manifest, "target": {"name": "host", "kind": ["test"]},
                "profile": {"test": test}, "executable": executable,
            })
            .to_string()
        };
        let program = of_message(&message(true, Some("/target/host-1"))).expect("a message").expect("a program");
        assert!(program.is_of("tests/cases") && !program.is_of("tests") && program.is_called("host"));
        assert_eq!(program.command().get_program(), "/target/host-1");
        assert!(of_message(&message(false, Some("/target/agent"))).expect("a message").is_none());
        assert!(of_message(&message(true, None)).expect("a message").is_none());
        assert!(of_message(r#"{"reason": "build-finished", "success": true}"#).expect("a message").is_none());
        assert!(of_message("Hello").is_err());
    }
}
