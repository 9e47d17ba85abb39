//! `cargo xtask budget`: what the kernel programs use of the verifier's and the stack's limits, and what packets ask of the
//! maps.

use crate::{
    process::run,
    setup::{self, Stage},
    test::CASES,
    test_programs,
};
use anyhow::{Context, Result};

/// Directory of the package whose tests compare with the verifier's limits.
pub const PACKAGE: &str = "tests/budget";
/// Tests that compare, with their packages.
const TESTS: [(&str, &str); 2] = [(PACKAGE, "budget"), (CASES, "lookups")];

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Record what is used now, in place of comparing
    #[arg(long)]
    record: bool,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    setup::ensure(Stage::Build)?;
    let programs = test_programs::build()?;
    for (package, name) in TESTS {
        let program = programs.iter().find(|program| program.is_of(package) && program.is_called(name));
        let program = program.with_context(|| format!("{package} has no test {name}"))?;
        let mut command = program.command();
        command.arg("--nocapture");
        if arguments.record {
            command.env("RECORD_BUDGET", "1");
        }
        run(&mut command)?;
    }
    Ok(())
}
