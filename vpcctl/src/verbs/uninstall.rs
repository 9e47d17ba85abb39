//! `vpcctl uninstall`.

use crate::output;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};
use vpc_agent::uninstall::uninstall;

const EXAMPLES: &str = "\
Ends the agent if one runs; all forwarding on this node ends with it.

Examples:
  systemctl disable --now vpc-agent && vpcctl uninstall";

/// Arguments of `vpcctl uninstall`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Where the BPF file system is
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let removed = uninstall(&output.run_dir, &self.bpffs)?;
        output.show(&removed, |removed| {
            if removed.is_empty() {
                return "nothing to remove".to_owned();
            }
            removed.iter().map(|what| format!("removed {what}\n")).collect()
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
