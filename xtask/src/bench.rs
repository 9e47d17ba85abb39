//! `cargo xtask bench`: how fast it is, beside the kernel doing the same.

use crate::{
    build::{Profile, programs},
    process::{cargo, run, target},
    setup::{self, Stage},
};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only this part
    #[arg(value_enum)]
    part: Option<Part>,
    /// Fewer and shorter samples: for a first look
    #[arg(long)]
    quick: bool,
    /// Only this section of a part, also several: frames, sockets, gso of east-west; nodes, sockets, near, nat, elastic,
    /// rules, gso of stateful; steps, starts, changes, requests of control; sessions, groups, rules, endpoints, routes of
    /// pipelines
    #[arg(long, value_name = "SECTION")]
    only: Vec<String>,
    /// Also write all samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print each figure beside the one of an earlier run
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    /// The whole path between two nodes, beside the kernel's and bare veth
    EastWest,
    /// The same with connection tracking, rules and NAT, beside the kernel's nftables and Open vSwitch
    Stateful,
    /// Reading, compiling and applying large topologies, by steps and by real agents
    Control,
    /// ns per packet of the kernel programs
    Pipelines,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    setup::ensure(Stage::Bench)?;
    programs(Profile::Release)?;
    run(&mut cargo(["build", "--release", "--package", "vpc-bench"]))?;
    let mut command = Command::new(target().join("release/vpc-bench"));
    match arguments.part {
        Some(Part::EastWest) => _ = command.arg("east-west"),
        Some(Part::Stateful) => _ = command.arg("stateful"),
        Some(Part::Control) => _ = command.arg("control"),
        Some(Part::Pipelines) => _ = command.arg("pipelines"),
        None => {}
    }
    if arguments.quick {
        command.arg("--quick");
    }
    for section in &arguments.only {
        command.args(["--only", section]);
    }
    for (option, file) in [("--json", &arguments.json), ("--compare", &arguments.compare)] {
        if let Some(file) = file {
            command.arg(option).arg(file);
        }
    }
    run(&mut command)
}
