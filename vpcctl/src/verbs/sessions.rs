//! `vpcctl sessions`.

use crate::output::{self, table};
use clap::{Args, Subcommand};
use std::{net::IpAddr, process::ExitCode};
use vpc_agent::control::{
    Request, SessionFilter,
    client::ask,
    report::{Flushed, SessionRow},
};

const EXAMPLES: &str = "\
Examples:
  vpcctl sessions                               up to 1,000 sessions of all ports
  vpcctl sessions --port web-1 --address 10.0.2.5
  vpcctl sessions --vpc prod --limit 0 -o json  all of one VPC
  vpcctl sessions flush --port web-1            forget the flows of one port";

const FLUSH: &str = "\
The next packet of each flow is decided like a first one. TCP without SYN cannot open a flow: established \
connections are cut, unless their ends begin anew. Other flows go on if the rules allow the side that speaks \
next to open them. A session that another port of the node, or another node, has of the same flow stays. What \
ports have used of their quotas is corrected within seconds.

Examples:
  vpcctl sessions flush --port web-1 --address 10.0.2.5
  vpcctl sessions flush --vpc prod
  vpcctl sessions flush                         all sessions of this node";

/// Arguments of `vpcctl sessions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    which: Which,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Forget sessions: their flows are decided anew
    #[command(after_help = FLUSH)]
    Flush(Which),
}

/// Which sessions or mappings.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Of that port only
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Of ports of that VPC only
    #[arg(long, value_name = "NAME")]
    vpc: Option<String>,
    /// With that local, remote or external address only
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
}

impl Which {
    pub(super) fn filter(&self) -> SessionFilter {
        SessionFilter { port: self.port.clone(), vpc: self.vpc.clone(), address: self.address }
    }
}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        match &self.verb {
            None => {
                let request = Request::Sessions { filter: self.which.filter(), limit: self.limit };
                let sessions: Vec<SessionRow> = ask(&output.run_dir, request)?;
                output.show(&sessions, |sessions| people(sessions))?;
                tell_of_more("sessions", sessions.len(), self.limit);
            }
            Some(Verb::Flush(which)) => {
                let flushed: Flushed = ask(&output.run_dir, Request::FlushSessions(which.filter()))?;
                output.show(&flushed, |flushed| format!("{} sessions removed", flushed.sessions))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says so, beside the listing, if it ends where it was told to.
pub(super) fn tell_of_more(what: &str, shown: usize, limit: usize) {
    if shown > 0 && shown == limit {
        eprintln!("vpcctl: the first {limit} {what}, there may be more: --limit 0 lists all");
    }
}

fn people(sessions: &[SessionRow]) -> String {
    let rows = sessions.iter().map(|row| {
        [
            row.port.clone(),
            row.protocol.clone(),
            row.local.clone(),
            row.external.clone(),
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
        "external",
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
