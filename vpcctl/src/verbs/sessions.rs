//! `vpcctl sessions`.

use crate::output::{self, table};
use clap::Args;
use std::{net::IpAddr, process::ExitCode};
use vpc_agent::control::{Request, SessionFilter, client::ask, report::SessionRow};

const EXAMPLES: &str = "\
Examples:
  vpcctl sessions                               up to 1,000 sessions of all ports
  vpcctl sessions --port web-1 --address 10.0.2.5
  vpcctl sessions --limit 0 -o json             all of them";

/// Arguments of `vpcctl sessions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Of that port only
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// With that local or remote address only
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let filter = SessionFilter { port: self.port.clone(), address: self.address, limit: self.limit };
        let sessions: Vec<SessionRow> = ask(&output.run_dir, Request::Sessions(filter))?;
        output.show(&sessions, |sessions| people(sessions))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn people(sessions: &[SessionRow]) -> String {
    let rows = sessions.iter().map(|row| {
        [
            row.port.clone(),
            row.protocol.clone(),
            row.local.clone(),
            row.remote.clone(),
            format!("{} by {}", row.state, row.opened_by),
            row.rule.clone(),
            format!("{} s", row.idle_seconds),
            format!("{} / {}", row.sent_packets, row.received_packets),
            format!("{} / {}", output::bytes(row.sent_bytes), output::bytes(row.received_bytes)),
            row.egress.clone(),
            row.ingress.clone(),
        ]
    });
    let headings = [
        "port",
        "protocol",
        "local",
        "remote",
        "state",
        "allowed by",
        "idle",
        "frames out / in",
        "bytes out / in",
        "egress",
        "from",
    ];
    table(&headings, rows)
}
