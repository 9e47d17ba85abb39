//! `cargo xtask budget`: what the kernel programs use of the verifier's and the stack's limits.

use crate::{
    process::{cargo, run},
    setup::{self, Stage},
};
use anyhow::Result;

/// The package whose tests compare.
pub const PACKAGE: &str = "vpc-verifier-budget";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Record what they use now, in place of comparing
    #[arg(long)]
    record: bool,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    setup::ensure(Stage::Build)?;
    let mut command = cargo(["test", "--quiet", "--package", PACKAGE, "--test", "budget", "--", "--nocapture"]);
    if arguments.record {
        command.env("RECORD_BUDGET", "1");
    }
    run(&mut command)
}
