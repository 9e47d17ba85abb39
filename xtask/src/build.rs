//! `cargo xtask build`: the kernel programs, the agent and the CLI.

use crate::{
    process::{cargo, run, target},
    setup::{self, Stage},
};
use anyhow::Result;
use std::path::PathBuf;

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Optimised, as packages are built
    #[arg(long)]
    release: bool,
}

/// How the programs are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For tests and the demo.
    Dev,
    /// For packages and measurements.
    Release,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    setup::ensure(Stage::Build)?;
    let directory = programs(if arguments.release { Profile::Release } else { Profile::Dev })?;
    println!("{}\n{}", directory.join("vpc-agent").display(), directory.join("vpcctl").display());
    Ok(())
}

/// Builds agent and CLI; the agent's build brings the kernel programs along. Returns the directory of the programs.
pub fn programs(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo(["build", "--package", "vpc-agent", "--package", "vpcctl"]);
    let name = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    run(&mut command)?;
    Ok(target().join(name))
}
