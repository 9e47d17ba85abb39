//! `cargo xtask test`: everything that CI runs, in the order of what fails soonest.

mod report;

use crate::{
    budget,
    process::{cargo, repository},
    setup::{self, Stage},
    test_programs::{self, TestProgram},
};
use anyhow::{Result, bail};
use report::{Outcome, Report};
use std::{cell::OnceCell, process::Command};

/// Directory of the packet cases, which are a step of their own.
pub const CASES: &str = "tests/cases";
/// The same of the scenarios.
const SCENARIOS: &str = "tests/netns";

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
    let (programs, mut report) = (Programs::default(), Report::default());
    for (name, step) in steps() {
        if arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            report.run(name, || step(&programs));
        }
    }
    report.print();
    if report.has_failures() {
        std::process::exit(1);
    }
    Ok(())
}

/// The test programs, built when the first one is needed.
#[derive(Default)]
struct Programs(OnceCell<Vec<TestProgram>>);

impl Programs {
    fn built(&self) -> Result<&[TestProgram]> {
        if let Some(built) = self.0.get() {
            return Ok(built);
        }
        let built = test_programs::build()?;
        Ok(self.0.get_or_init(|| built))
    }

    /// Runs the tests of a package.
    fn run(&self, package: &str) -> Result<Outcome> {
        self.run_at_once(package, None)
    }

    /// The same, so many tests of a program at once, if that is said.
    fn run_at_once(&self, package: &str, tests: Option<usize>) -> Result<Outcome> {
        let command = |program: &TestProgram| {
            let mut command = program.command();
            command.envs(tests.map(|tests| ("RUST_TEST_THREADS", tests.to_string())));
            command
        };
        let outcome = report::tests(self.built()?.iter().filter(|p| p.is_of(package)).map(command))?;
        if let Outcome::Tests { passed: 0, failed: 0 } = outcome {
            bail!("{package} has no tests");
        }
        Ok(outcome)
    }
}

/// More than there are CPUs: much of their time they wait.
fn scenarios_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * 3 / 2
}

type Step = fn(&Programs) -> Result<Outcome>;

fn steps() -> Vec<(&'static str, Step)> {
    let mut steps: Vec<(&str, Step)> = vec![
        ("format", |_| report::check(&mut cargo(["fmt", "--all", "--check"]))),
        ("format of the kernel programs", |_| report::check(&mut ebpf(["fmt", "--check"]))),
        ("tidy", |_| crate::tidy::run_verb().map(|()| Outcome::Check)),
        ("build", |programs| programs.built().map(|_| Outcome::Check)),
        ("clippy", |_| report::check(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
        ("clippy of the kernel programs", |_| clippy_of_the_kernel_programs()),
        ("unit tests", unit_tests),
        ("packet cases", |programs| programs.run(CASES)),
        ("network scenarios", |programs| programs.run_at_once(SCENARIOS, Some(scenarios_at_once()))),
        ("verifier budget", |programs| programs.run(budget::PACKAGE)),
        ("documentation", |_| documentation()),
    ];
    if crate::process::find_program("cargo-deny").is_some() {
        steps.push(("licences and bans", |_| {
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

/// The tests of all other packages, and the examples in the documentation.
fn unit_tests(programs: &Programs) -> Result<Outcome> {
    let others =
        programs.built()?.iter().filter(|p| ![CASES, SCENARIOS, budget::PACKAGE].iter().any(|dir| p.is_of(dir)));
    let examples = cargo(["test", "--workspace", "--doc", "--no-fail-fast"]);
    report::tests(others.map(TestProgram::command).chain([examples]))
}

fn documentation() -> Result<Outcome> {
    report::check(cargo(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))
}
