//! The verbs: one file each.

mod schema;
mod validate;

use crate::output;
use clap::Subcommand;
use std::process::ExitCode;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check topology files, without an agent
    Validate(validate::Arguments),
    /// Print the JSON Schema of topology files
    Schema(schema::Arguments),
}

impl Verb {
    /// Does it.
    ///
    /// # Errors
    /// It could not be done at all, as against an answer that is no.
    pub fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        match self {
            Self::Validate(arguments) => arguments.run(output),
            Self::Schema(arguments) => arguments.run(),
        }
    }
}
