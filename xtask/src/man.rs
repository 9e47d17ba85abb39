//! `cargo xtask man`: man pages, made by the programs themselves from their own description of their arguments.

use crate::{
    build::{Profile, programs},
    process::{run, target},
    setup::{self, Stage},
};
use anyhow::{Context, Result};
use std::{fs, process::Command};

/// The programs that have man pages and completions.
const PROGRAMS: [&str; 2] = ["vpcctl", "vpc-agent"];

/// The verb.
pub fn run_verb() -> Result<()> {
    generate("man")
}

/// Has each program write what it can generate of that kind to `target/<kind>`.
pub fn generate(kind: &str) -> Result<()> {
    setup::ensure(Stage::Build)?;
    let built = programs(Profile::Dev)?;
    let directory = target().join(kind);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for program in PROGRAMS {
        run(Command::new(built.join(program)).args(["generate", kind]).arg(&directory))?;
    }
    println!("{}", directory.display());
    Ok(())
}
