//! `vpcctl status`.

use crate::output::{self, bytes, table};
use clap::Args;
use std::process::ExitCode;
use vpc_agent::control::{Request, client::ask, report::Status};

const EXAMPLES: &str = "\
Examples:
  vpcctl status                                 what is attached how and why, ways to other nodes, memory
  vpcctl status -o json | jq .problems          what is wrong now

Exit codes: 0 the agent answered, 2 it did not";

/// Arguments of `vpcctl status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

impl Arguments {
    pub(super) fn run(&self, output: &output::Options) -> anyhow::Result<ExitCode> {
        let status: Status = ask(&output.run_dir, Request::Status)?;
        output.show(&status, people)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn people(status: &Status) -> String {
    let mut text = format!(
        "node {}, vpc-agent {} (pid {}), kernel {}, up {} s, pins in {}\n",
        status.node, status.version, status.pid, status.kernel, status.uptime_seconds, status.pins
    );
    let in_force = match status.topology.state.as_str() {
        "file" => "in force",
        "last_good" => "REJECTED, the last good content is in force",
        _ => "REJECTED, nothing is in force",
    };
    text.push_str(&format!(
        "topology {}: {in_force} (generation {})\n",
        status.topology.file, status.topology.generation
    ));
    if !status.topology.errors.is_empty() {
        text.push_str(&format!("\n{}\n", status.topology.errors.trim_end()));
    }
    if !status.problems.is_empty() {
        text.push_str("\nPROBLEMS\n");
        status.problems.iter().for_each(|problem| text.push_str(&format!("  {problem}\n")));
    }
    let rows = status.attachments.iter().map(|row| {
        [
            row.role.clone(),
            row.name.clone(),
            row.device.clone(),
            row.mode.clone(),
            row.mtu.to_string(),
            row.reason.clone(),
        ]
    });
    text.push_str(&format!("\n{}\n", table(&["role", "name", "device", "mode", "mtu", "why"], rows)));
    let rows = status.vteps.iter().flat_map(|vtep| {
        let node = |hop: [&str; 5]| {
            let [uplink, address, mac, state, share] = hop.map(str::to_owned);
            let mtu = vtep.mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string());
            [vtep.node.clone(), vtep.address.clone(), mtu, address, mac, uplink, state, share]
        };
        let hops = vtep.next_hops.iter().map(|hop| [&*hop.uplink, &*hop.address, &*hop.mac, &*hop.state, &*hop.share]);
        let none = vtep.next_hops.is_empty().then_some(["-", "-", "-", "no_route", ""]);
        hops.chain(none).map(node).collect::<Vec<_>>()
    });
    let headings = ["node", "vtep", "inner mtu", "next hop", "mac", "uplink", "state", "flows"];
    text.push_str(&format!("\n{}\n", table(&headings, rows)));
    if !status.gateways.is_empty() {
        let rows = status.gateways.iter().map(|row| {
            let own = row.state == "this";
            let or_dash = |text: String| if own { "-".to_owned() } else { text };
            [
                row.node.clone(),
                row.state.clone(),
                if row.used { "yes" } else { "no" }.to_owned(),
                or_dash(format!("{} ms", row.detection_ms)),
                or_dash(format!("{}/{}", row.answered, row.asked)),
                or_dash(format!("{} us", row.round_trip_us)),
                or_dash(row.failures.to_string()),
                row.speaks_for.map_or_else(|| "-".to_owned(), |addresses| addresses.to_string()),
            ]
        });
        let headings = ["gateway", "state", "used", "detection", "answers", "round trip", "failures", "speaks for"];
        text.push_str(&format!("\n{}\n", table(&headings, rows)));
    }
    let rows = status.maps.iter().map(|map| {
        let entries = map.entries.map_or_else(|| "-".to_owned(), |entries| entries.to_string());
        [map.name.clone(), entries, map.max_entries.to_string(), bytes(map.bytes)]
    });
    text.push_str(&format!("\n{}\n", table(&["map", "entries", "room for", "memory"], rows)));
    let total = status.maps.iter().map(|map| map.bytes).sum();
    text.push_str(&format!("all maps: {}\n", bytes(total)));
    text
}
