//! `vpcctl port`.

use crate::output;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_agent::{
    control::{Request, client::ask},
    port_state::{Given, Outcome, PortState, Taken},
};

/// Pause between two looks whether the port is there.
const PAUSE: Duration = Duration::from_millis(20);

const EXAMPLES: &str = "\
With its state a port keeps its connections when it moves to another node, and its external addresses and ports. The \
order of a live migration:
  1. the guest is paused
  2. its state is exported where it was
  3. the topology says the new node
  4. the state is imported there, which waits for the topology
  5. the guest goes on

The node that a port comes from goes on serving the external ports of NAT gateways that the port had there: the packets \
of those flows take the way over it, until they end. If that node is lost they are, too. Elastic IPs, port forwards and \
connections within the fabric do not depend on it, nor do new flows.

Examples:
  vpcctl port export web-1 > web-1.json         on the old node; later on the new one:
  vpcctl port import web-1.json
  vpcctl port export web-1 | ssh hv2 vpcctl port import
  vpcctl port move web-1 --to /run/hv2          by a forwarded socket";

/// Arguments of `vpcctl port`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the state of a port of this node; its NAT mappings follow the port from then on
    Export {
        /// Its name
        name: String,
        /// Where to; standard output if left out
        file: Option<PathBuf>,
    },
    /// Take the state of a port over, all of it or nothing
    Import {
        /// What `export` wrote; `-` is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        #[command(flatten)]
        patience: Patience,
    },
    /// Export here, and import at another agent
    Move {
        /// Name of the port
        name: String,
        /// Run directory of the agent of the new node
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        #[command(flatten)]
        patience: Patience,
    },
}

#[derive(Clone, Copy, Debug, Args)]
struct Patience {
    /// How long to wait until the topology says that the port is on the node, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    wait: f64,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        match &self.verb {
            Verb::Export { name, file } => {
                let state = export(&output.run_dir, name)?;
                let mut text = serde_json::to_vec(&state)?;
                text.push(b'\n');
                match file {
                    Some(file) => {
                        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
                    }
                    None => std::io::stdout().lock().write_all(&text).context("cannot write standard output")?,
                }
            }
            Verb::Import { file, patience } => {
                let (name, text) = super::read(file)?;
                let state = serde_json::from_str(&text).with_context(|| format!("{name} is no port state"))?;
                import(&output.run_dir, state, *patience, output)?;
            }
            Verb::Move { name, to, patience } => {
                let state = serde_json::to_value(export(&output.run_dir, name)?)?;
                import(to, state, *patience, output)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn export(run_dir: &Path, name: &str) -> anyhow::Result<PortState> {
    let Given { state, left_behind } = ask(run_dir, Request::ExportPort { port: name.to_owned() })?;
    if left_behind > 0 {
        eprintln!("vpcctl: {left_behind} sessions and mappings are not the port's any more, and stay behind");
    }
    Ok(state)
}

fn import(
    run_dir: &Path,
    state: serde_json::Value,
    patience: Patience,
    output: &output::Options,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let limit = Duration::try_from_secs_f64(patience.wait).context("--wait")?;
    loop {
        match ask(run_dir, Request::ImportPort { state: state.clone() })? {
            Outcome::Taken(taken) => return output.show(&taken, people),
            Outcome::NotYet if start.elapsed() >= limit => {
                let port = state.get("port").and_then(serde_json::Value::as_str).unwrap_or_default();
                bail!("the topology in force there has no port {port} on that node");
            }
            Outcome::NotYet => sleep(PAUSE),
        }
    }
}

fn people(taken: &Taken) -> String {
    let Taken { sessions, mappings, expired } = taken;
    format!("{sessions} sessions and {mappings} NAT mappings taken over, {expired} sessions expired")
}
