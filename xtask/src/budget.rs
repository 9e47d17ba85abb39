//! `cargo xtask budget`: what the kernel programs use of the verifier's and the stack's limits, and what packets ask of the
//! maps.

use crate::{
    process::{cargo, run},
    setup::{self, Stage},
};
use anyhow::Result;

/// The package whose tests compare.
pub const PACKAGE: &str = "vpc-verifier-budget";
/// Tests that compare, with their packages.
const TESTS: [(&str, &str); 2] = [(PACKAGE, "budget"), (crate::test::CASES, "lookups")];

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
    for (package, test) in TESTS {
        let mut command = cargo(["test", "--quiet", "--package", package, "--test", test, "--", "--nocapture"]);
        if arguments.record {
            command.env("RECORD_BUDGET", "1");
        }
        run(&mut command)?;
    }
    Ok(())
}
