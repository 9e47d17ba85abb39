//! `vpcctl validate`.

use super::read;
use crate::output;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};
use vpc_topology::{Topology, load};

const EXAMPLES: &str = "\
Examples:
  vpcctl validate -f topology.yaml              every problem, with its place and a hint
  vpcctl validate -f a.yaml -f b.yaml           two topologies, each for itself
  generate-topology | vpcctl validate -f -      from standard input

Exit codes: 0 no problem, 1 problems, 2 a file that cannot be read or wrong usage";

/// Arguments of `vpcctl validate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Topology file; `-` for standard input. May be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Say nothing of files without problems
    #[arg(short, long)]
    quiet: bool,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for file in &self.files {
            let (name, text) = read(file)?;
            match load(&text, &name) {
                Ok(topology) if !self.quiet => output::print(&format!("{name}: {}\n", summary(&topology)))?,
                Ok(_) => {}
                Err(diagnostics) => {
                    eprint!("{}", diagnostics.render(output.error_style()));
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

fn summary(topology: &Topology) -> String {
    let file = topology.file();
    let counts = [
        (file.nodes.len(), "node", "nodes"),
        (file.vpcs.len(), "VPC", "VPCs"),
        (file.subnets.len(), "subnet", "subnets"),
        (file.ports.len(), "port", "ports"),
    ];
    let counts = counts.map(|(count, one, more)| format!("{count} {}", if count == 1 { one } else { more }));
    format!("valid, {}", counts.join(", "))
}
