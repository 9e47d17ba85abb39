//! `cargo xtask test`: everything that CI runs, in the order of what fails soonest.

mod report;

use crate::{
    budget,
    build::{Profile, programs},
    process::{cargo, repository},
    setup::{self, Stage},
};
use anyhow::{Result, bail};
use report::{Outcome, Report};
use std::process::Command;

/// The package of the packet cases, whose tests are a step of their own.
pub const CASES: &str = "vpc-cases";
/// The same of the scenarios.
const SCENARIOS: &str = "vpc-netns-tests";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Run only the steps whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    setup::ensure(Stage::Test)?;
    let mut report = Report::default();
    for (name, step) in steps() {
        if arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            report.run(name, step);
        }
    }
    report.print();
    if report.has_failures() {
        std::process::exit(1);
    }
    Ok(())
}

type Step = fn() -> Result<Outcome>;

fn steps() -> Vec<(&'static str, Step)> {
    let mut steps: Vec<(&str, Step)> = vec![
        ("format", || report::check(&mut cargo(["fmt", "--all", "--check"]))),
        ("format of the kernel programs", || report::check(&mut ebpf(["fmt", "--check"]))),
        ("tidy", || crate::tidy::run_verb().map(|()| Outcome::Check)),
        ("build", || programs(Profile::Dev).map(|_| Outcome::Check)),
        ("clippy", || report::check(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
        ("clippy of the kernel programs", clippy_of_the_kernel_programs),
        ("unit tests", unit_tests),
        ("packet cases", || package(CASES)),
        ("network scenarios", || package(SCENARIOS)),
        ("verifier budget", || package(budget::PACKAGE)),
        ("documentation", documentation),
    ];
    if crate::process::find_program("cargo-deny").is_some() {
        steps.push(("licences and bans", || {
            report::check(&mut cargo(["deny", "check", "bans", "licenses", "sources"]))
        }));
    }
    steps
}

/// Cargo in the crate of the kernel programs, which is no member of the workspace.
fn ebpf<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = cargo(arguments);
    command.current_dir(repository().join("vpc-dataplane-ebpf"));
    command
}

/// Clippy knows no BPF target, but the programs are checked as well as if they were for the host.
fn clippy_of_the_kernel_programs() -> Result<Outcome> {
    let mut command = ebpf(["clippy", "--", "-D", "warnings"]);
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", crate::process::target().join("ebpf-clippy"));
    report::check(&mut command)
}

fn unit_tests() -> Result<Outcome> {
    let mut command = cargo(["test", "--workspace", "--no-fail-fast"]);
    command.args(["--exclude", CASES, "--exclude", SCENARIOS, "--exclude", budget::PACKAGE]);
    report::tests(&mut command)
}

fn package(name: &str) -> Result<Outcome> {
    let outcome = report::tests(&mut cargo(["test", "--package", name, "--no-fail-fast"]))?;
    if let Outcome::Tests { passed: 0, failed: 0 } = outcome {
        bail!("{name} has no tests");
    }
    Ok(outcome)
}

fn documentation() -> Result<Outcome> {
    report::check(cargo(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))
}
