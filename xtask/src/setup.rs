//! `cargo xtask setup`: what the other verbs need, whether it is there, and how to get it.

mod install;
pub mod kernel;
mod needs;

use crate::process::is_root;
use anyhow::{Result, bail};
pub use needs::Stage;
use needs::{NEEDS, Need, Source};
use std::io::{IsTerminal, Write, stdin, stdout};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only list what is needed, what is there, and how the rest would be got; exit code 1 if something is missing
    #[arg(long)]
    check: bool,
    /// Do not ask before installing
    #[arg(long)]
    yes: bool,
    /// For what to prepare this machine
    #[arg(long = "for", value_enum, default_value_t = Stage::Vm)]
    stage: Stage,
}

/// The verb.
pub fn run_verb(arguments: &Arguments) -> Result<()> {
    let missing = missing(arguments.stage);
    if arguments.check {
        print_table(arguments.stage);
        if !missing.is_empty() {
            bail!("{} of the above missing; `cargo xtask setup` gets what can be got", missing.len());
        }
        return Ok(());
    }
    if missing.is_empty() {
        println!("Everything is there ({}).", arguments.stage.purpose());
        return Ok(());
    }
    announce(&missing);
    if !arguments.yes && stdin().is_terminal() && !confirmed()? {
        bail!("nothing installed");
    }
    install(&missing, arguments.stage)
}

/// What another verb calls first: gets what is missing for it, after saying so.
pub fn ensure(stage: Stage) -> Result<()> {
    let missing = missing(stage);
    if missing.is_empty() {
        return Ok(());
    }
    announce(&missing);
    install(&missing, stage)
}

fn missing(stage: Stage) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| need.is_wanted(stage) && !need.is_there()).collect()
}

fn announce(missing: &[&Need]) {
    println!("Missing on this machine, and how it is got:");
    for need in missing {
        println!("  {:24} {}  ({})", need.name, need.source.how(), need.why);
    }
}

fn confirmed() -> Result<bool> {
    print!("Install? [Y/n] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(!answer.trim_start().to_lowercase().starts_with('n'))
}

fn install(missing: &[&'static Need], stage: Stage) -> Result<()> {
    let hopeless: Vec<&str> =
        missing.iter().filter(|need| matches!(need.source, Source::Machine(_))).map(|need| need.name).collect();
    if !hopeless.is_empty() {
        bail!("this machine lacks what cannot be installed: {}", hopeless.join(", "));
    }
    if missing.iter().any(|need| matches!(need.source, Source::Apt { .. })) && !is_root() {
        bail!("installing packages takes root: run this as root");
    }
    install::all(missing)?;
    let still: Vec<&str> = self::missing(stage).iter().map(|need| need.name).collect();
    if !still.is_empty() {
        bail!("installed, but still not found: {}", still.join(", "));
    }
    println!("Set up for {}.", stage.purpose());
    Ok(())
}

fn print_table(stage: Stage) {
    println!("{:26} {:6} {:8} {:58} how to get it", "need", "for", "state", "why");
    for need in NEEDS.iter().filter(|need| need.stage <= stage) {
        let state = match (need.is_there(), need.is_wanted(stage)) {
            (true, _) => "there",
            (false, true) => "MISSING",
            (false, false) => "not now",
        };
        println!("{:26} {:6} {:8} {:58} {}", need.name, need.stage.name(), state, need.why, need.source.how());
    }
}
