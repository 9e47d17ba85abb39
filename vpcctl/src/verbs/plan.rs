//! `vpcctl plan`.

use super::read;
use crate::output;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};
use vpc_agent::control::{Request, client::ask, report::PlanReport};

const EXAMPLES: &str = "\
Examples:
  vpcctl plan -f new.yaml                       what would change on this node

Exit codes: 0 nothing would change, 1 something would, 2 the file is bad or the agent does not answer";

/// Arguments of `vpcctl plan`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Topology file; `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let (name, text) = read(&self.file)?;
        let report: PlanReport = ask(&output.run_dir, Request::Plan { name, text })?;
        output.show(&report, |report| match report.writes {
            0 if report.changes.is_empty() => "no changes".to_owned(),
            1 => format!("{}\n1 table entry would change", report.changes.join("\n")),
            writes => format!("{}\n{writes} table entries would change", report.changes.join("\n")),
        })?;
        let changes = report.writes > 0 || !report.changes.is_empty();
        Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
