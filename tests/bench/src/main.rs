//! Measures the datapath. Run by `cargo xtask bench`, which builds everything first; `BENCHMARKS.md` says how to read
//! what it prints.

#[allow(dead_code, reason = "some of it only the kernel programs use")]
#[path = "../../bench-ebpf/src/abi.rs"]
mod abi;
mod control;
mod crowd;
mod east_west;
mod flows;
mod load;
mod machine;
mod node_tables;
mod noise;
mod pipelines;
mod programs;
mod report;
mod rig;
mod samples;
mod stateful;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use report::Report;
use std::{path::PathBuf, process::ExitCode};

/// What `--only` may name.
const SECTIONS: [&str; 16] = [
    "frames",
    "sockets",
    "gso",
    "nodes",
    "near",
    "nat",
    "elastic",
    "rules",
    "steps",
    "starts",
    "changes",
    "requests",
    "sessions",
    "groups",
    "endpoints",
    "routes",
];

#[derive(Parser)]
#[command(name = "vpc-bench", about = "Measure the datapath")]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Fewer and shorter samples: for a first look
    #[arg(long, global = true)]
    quick: bool,
    /// Only these sections: frames, sockets, gso of east-west; nodes, sockets, near, nat, elastic, rules, gso of stateful;
    /// steps, starts, changes, requests of control; sessions, groups, rules, endpoints, routes of pipelines
    #[arg(long, global = true, value_name = "SECTION", value_delimiter = ',', value_parser = SECTIONS)]
    #[arg(hide_possible_values = true)]
    only: Vec<String>,
    /// Also write all samples to this file
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print each figure beside the one of an earlier run
    #[arg(long, global = true, value_name = "OLD.json")]
    compare: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// The whole path between two nodes, beside the kernel's and bare veth
    EastWest,
    /// The same with connection tracking, rules and NAT, beside the kernel's nftables and Open vSwitch
    Stateful,
    /// Reading, compiling and applying large topologies, by steps and by real agents
    Control,
    /// ns per packet of the kernel programs
    Pipelines,
    /// Traffic tools that the benchmark runs in guests
    #[command(hide = true, subcommand)]
    Load(load::Load),
}

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Few samples.
    Quick,
    /// Enough to publish.
    Full,
}

/// The sections that are wanted.
pub struct Only<'a>(&'a [String]);

impl Only<'_> {
    /// Whether that one is.
    pub fn wants(&self, section: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == section)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let earlier = arguments.compare.as_deref().map(Report::read).transpose()?;
    let only = Only(&arguments.only);
    let mut report = Report::new(machine::describe());
    match &arguments.what {
        Some(What::Load(load)) => return load::run(load),
        Some(What::EastWest) => east_west::run(effort, &only, &mut report)?,
        Some(What::Stateful) => stateful::run(effort, &only, &mut report)?,
        Some(What::Control) => control::run(effort, &only, &mut report)?,
        Some(What::Pipelines) => pipelines::run(effort, &only, &mut report)?,
        None => {
            east_west::run(effort, &only, &mut report)?;
            stateful::run(effort, &only, &mut report)?;
            control::run(effort, &only, &mut report)?;
            pipelines::run(effort, &only, &mut report)?;
        }
    }
    if report.figures.is_empty() {
        bail!("nothing was measured: --only {} names no section of this suite", arguments.only.join(","));
    }
    report.print(earlier.as_ref());
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    Ok(())
}
