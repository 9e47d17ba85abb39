//! The verbs: one file each.

mod drops;
mod get;
mod nat;
mod plan;
mod port;
mod schema;
mod sessions;
mod status;
mod uninstall;
mod validate;

use crate::output;
use anyhow::Context;
use clap::{CommandFactory, Subcommand};
use std::{fs, io::Read, path::Path, process::ExitCode};
use vpc_agent::control::Kind;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check topology files, without an agent
    Validate(validate::Arguments),
    /// Say what a topology file would change on this node
    Plan(plan::Arguments),
    /// Show what the agent of this node does, and what is wrong
    Status(status::Arguments),
    /// List what is in force on this node
    Get(get::Arguments),
    /// Count dropped packets by port and reason
    Drops(drops::Arguments),
    /// List flows, or forget them
    Sessions(sessions::Arguments),
    /// List NAT mappings, and what is used of this node's ports of NAT gateways
    Nat(nat::Arguments),
    /// Move the sessions and NAT mappings of a port to another node
    Port(port::Arguments),
    /// List the rules of groups in force for each local port
    SecurityGroups(get::OfPort),
    /// List the rules of network ACLs in force for each local port
    Acl(get::OfPort),
    /// Remove everything from this node's kernel
    Uninstall(uninstall::Arguments),
    /// Print the JSON Schema of topology files
    Schema(schema::Arguments),
    /// Write man pages or completions
    #[command(hide = true)]
    Generate(vpc_agent::generate::Generate),
}

impl Verb {
    /// Does it.
    ///
    /// # Errors
    /// It could not be done at all, as against an answer that is no.
    pub fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        match self {
            Self::Validate(arguments) => arguments.run(output),
            Self::Plan(arguments) => arguments.run(output),
            Self::Status(arguments) => arguments.run(output),
            Self::Get(arguments) => arguments.run(output),
            Self::Drops(arguments) => arguments.run(output),
            Self::Sessions(arguments) => arguments.run(output),
            Self::Nat(arguments) => arguments.run(output),
            Self::Port(arguments) => arguments.run(output),
            Self::SecurityGroups(arguments) => arguments.run(Kind::SecurityGroups, output),
            Self::Acl(arguments) => arguments.run(Kind::NetworkAcls, output),
            Self::Uninstall(arguments) => arguments.run(output),
            Self::Schema(arguments) => arguments.run(),
            Self::Generate(arguments) => {
                arguments.run(crate::Arguments::command())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Name and text of a topology file; `-` is standard input.
fn read(file: &Path) -> anyhow::Result<(String, String)> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(("<stdin>".into(), text));
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), text))
}
