//! `vpcctl validate`.

use crate::output;
use anyhow::Context;
use clap::Args;
use std::{fs, io::Read, path::PathBuf, process::ExitCode};
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

fn read(file: &PathBuf) -> anyhow::Result<(String, String)> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(("<stdin>".into(), text));
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), text))
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
