//! `vpcctl nat`.

use super::sessions::{Which, tell_of_more};
use crate::output::{self, table};
use clap::Args;
use std::process::ExitCode;
use vpc_agent::control::{
    Request,
    client::ask,
    report::{NatReport, NatRow, NatSliceRow},
};

const EXAMPLES: &str = "\
A mapping lives while a session uses it, and 120 s longer. Each node gives out ports of its own slice of a NAT gateway, \
so many for each protocol. Elastic IPs and port forwards are no mappings: the topology says them.

Examples:
  vpcctl nat                                    up to 1,000 mappings, and the use of slices
  vpcctl nat --port app-1                       whom app-1 seems to be outside
  vpcctl nat --address 203.0.113.10             mappings of one external address
  vpcctl nat --vpc prod --limit 0 -o json       all of one VPC";

/// Arguments of `vpcctl nat`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// At most so many mappings; 0 for all
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let request = Request::Nat { filter: self.which.filter(), limit: self.limit };
        let report: NatReport = ask(&output.run_dir, request)?;
        output.show(&report, |report| format!("{}\n\n{}", mappings(&report.mappings), slices(&report.slices)))?;
        tell_of_more("mappings", report.mappings.len(), self.limit);
        Ok(ExitCode::SUCCESS)
    }
}

fn mappings(mappings: &[NatRow]) -> String {
    let rows = mappings.iter().map(|row| {
        [
            row.moved_to.as_ref().map_or_else(|| row.port.clone(), |node| format!("(moved to {node})")),
            row.nat_gateway.clone(),
            row.protocol.clone(),
            row.internal.clone(),
            row.external.clone(),
            row.sessions.to_string(),
            row.expires_in_seconds.map_or_else(|| "in use".to_owned(), |seconds| format!("in {seconds} s")),
        ]
    });
    table(&["port", "nat gateway", "protocol", "internal", "external", "sessions", "expires"], rows)
}

fn slices(slices: &[NatSliceRow]) -> String {
    let rows = slices.iter().map(|row| {
        [
            row.nat_gateway.clone(),
            row.vpc.clone(),
            row.address.clone(),
            format!("{}-{}", row.first_port, row.last_port),
            row.protocol.clone(),
            row.used.to_string(),
            row.forwarded.to_string(),
            row.available.to_string(),
        ]
    });
    table(&["nat gateway", "vpc", "address", "ports", "protocol", "used", "forwarded", "available"], rows)
}
