//! `cargo xtask demo`: the main job in network namespaces, with real agents and real clients.

mod groups;
mod lines;
mod machine;
mod outside;
mod table;

use crate::{
    build::{Profile, programs},
    process::repository,
    setup::{self, Stage},
};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, time::Instant};
use table::Table;
use vpc_lab::{Fabric, Lab, UnderlayOptions, instance};

/// Name of the lab that `--keep` leaves up.
const NAME: &str = "demo";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave it up, and say how to enter a guest
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Make one more guest a virtual machine
    #[arg(long, conflicts_with = "down")]
    vm: bool,
    /// Remove every trace of what --keep left
    #[arg(long)]
    down: bool,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    if arguments.down {
        let there = instance::remove(NAME)?;
        println!("{}", if there { "The demo is gone." } else { "No demo is up." });
        return Ok(());
    }
    setup::ensure(if arguments.vm { Stage::Vm } else { Stage::Demo })?;
    let built = programs(Profile::Dev)?;
    let topology = fs::read_to_string(repository().join("examples/demo.yaml")).context("examples/demo.yaml")?;

    let lab =
        if arguments.keep { Lab::named(NAME).context("`cargo xtask demo --down` removes it")? } else { Lab::new()? };
    println!("Three hypervisors in two zones, three VPCs, nine guests, two gateways: examples/demo.yaml\n");
    let start = Instant::now();
    let mut fabric = Fabric::build(lab, &topology, UnderlayOptions::default())?;
    let converged = fabric.start_agents()?;

    let mut table = Table::default();
    table.line("agents of three nodes converged", || Ok(format!("{:.0} ms", converged.as_secs_f64() * 1e3)));
    let topology = lines::all(&mut fabric, &topology, &mut table);
    let machine = if arguments.vm { machine::line(&fabric, &topology, &mut table) } else { None };
    println!("\n{} in {:.0} s", table.summary(), start.elapsed().as_secs_f64());

    if arguments.keep {
        print_how_to_enter(&fabric, &built)?;
        if let Some(mut machine) = machine {
            machine.release();
        }
        fabric.keep()?;
    }
    if table.failures() > 0 {
        bail!("{} lines failed", table.failures());
    }
    Ok(())
}

fn print_how_to_enter(fabric: &Fabric, built: &Path) -> Result<()> {
    println!("\nIt is left up. Enter a guest, each a network namespace:");
    for guest in fabric.guests() {
        let addresses: Vec<String> = guest.plan().private_ips.iter().map(ToString::to_string).collect();
        println!("  nsenter --net={}    # {}", guest.netns().path().display(), addresses.join(" "));
    }
    println!("Ask an agent:");
    for node in fabric.nodes() {
        println!("  nsenter {} {}/vpcctl status", node.enter_arguments().join(" "), built.display());
    }
    println!("Edit the fabric, the agents follow:\n  {}", fabric.topology().display());
    println!("Remove it:\n  cargo xtask demo --down");
    Ok(())
}
