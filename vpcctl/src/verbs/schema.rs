//! `vpcctl schema`.

use crate::output;
use clap::Args;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  vpcctl schema > topology.schema.json

An editor with the YAML language server completes and checks a topology that starts with
  # yaml-language-server: $schema=topology.schema.json";

/// Arguments of `vpcctl schema`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        output::print(&vpc_topology::schema::json())?;
        Ok(ExitCode::SUCCESS)
    }
}
