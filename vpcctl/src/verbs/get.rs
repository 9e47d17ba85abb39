//! `vpcctl get`.

use crate::output::{self, table};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use std::process::ExitCode;
use vpc_agent::control::{self, Request, client::ask, report::Listing};

const EXAMPLES: &str = "\
Examples:
  vpcctl get ports                              local ports, with slots and addresses
  vpcctl get endpoints -o json                  every endpoint that this node knows
  vpcctl get security-groups                    which rules hold for each local port
  vpcctl get counters                           frames per port: received, forwarded, dropped, answered, punted";

/// Arguments of `vpcctl get`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What to list
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Local ports
    Ports,
    /// Endpoints that this node knows
    Endpoints,
    /// Routes of the tables that local ports use
    Routes,
    /// The other nodes
    Vteps,
    /// Subnets of the VPCs that this node takes part in
    Subnets,
    /// The rules of security groups and policy groups in force for each local port
    SecurityGroups,
    /// The rules of network ACLs in force for each local port
    NetworkAcls,
    /// What every port received, and what became of it: received = forwarded + dropped + answered + punted
    Counters,
}

/// Arguments of `vpcctl security-groups` and `vpcctl acl`.
#[derive(Debug, Args)]
pub struct OfPort {
    /// Of that port only
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
}

impl From<Kind> for control::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ports => Self::Ports,
            Kind::Endpoints => Self::Endpoints,
            Kind::Routes => Self::Routes,
            Kind::Vteps => Self::Vteps,
            Kind::Subnets => Self::Subnets,
            Kind::SecurityGroups => Self::SecurityGroups,
            Kind::NetworkAcls => Self::NetworkAcls,
            Kind::Counters => Self::Counters,
        }
    }
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let listing: Listing = ask(&output.run_dir, Request::Get(self.kind.into()))?;
        show(&listing, output)
    }
}

impl OfPort {
    /// The rows of that port.
    pub(super) fn run(&self, kind: control::Kind, output: &output::Options) -> anyhow::Result<ExitCode> {
        let mut listing: Listing = ask(&output.run_dir, Request::Get(kind))?;
        let at = listing.columns.iter().position(|column| column == "port");
        if let (Some(wanted), Some(at)) = (&self.port, at) {
            listing.rows.retain(|row| row[at] == wanted.as_str());
        }
        show(&listing, output)
    }
}

fn show(listing: &Listing, output: &output::Options) -> anyhow::Result<ExitCode> {
    output.show(&objects(listing), |_| people(listing))?;
    Ok(ExitCode::SUCCESS)
}

fn objects(listing: &Listing) -> Vec<Map<String, Value>> {
    let object = |row: &Vec<Value>| listing.columns.iter().cloned().zip(row.iter().cloned()).collect();
    listing.rows.iter().map(object).collect()
}

fn people(listing: &Listing) -> String {
    let headings: Vec<String> = listing.columns.iter().map(|column| column.replace('_', " ")).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    table(&headings, listing.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>()))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
