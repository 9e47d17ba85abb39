//! `vpcctl drops`.

use crate::output::{self, table};
use clap::Args;
use std::process::ExitCode;
use vpc_agent::control::{Request, client::ask, report::PortDrops};

const EXAMPLES: &str = "\
Examples:
  vpcctl drops                                  every counter that is not zero
  vpcctl drops --port web-1                     those of one port
  vpcctl drops --port -                         what could not be attributed to a port";

/// Arguments of `vpcctl drops`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Of that port only; `-` for what could not be attributed to one
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    port: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let mut drops: Vec<PortDrops> = ask(&output.run_dir, Request::Drops)?;
        drops.retain(|row| self.port.as_ref().is_none_or(|port| *port == row.port));
        output.show(&drops, |drops| {
            if drops.is_empty() {
                return "nothing was dropped".to_owned();
            }
            let rows = drops
                .iter()
                .map(|row| [row.port.clone(), row.reason.clone(), row.packets.to_string(), row.description.clone()]);
            table(&["port", "reason", "packets", "meaning"], rows)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
