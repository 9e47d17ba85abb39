//! The demo's lines about security groups.

use super::{
    lines::{address, pair},
    table::Table,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric,
    agent::vpcctl_json,
    tcp::{Conversation, EchoServer, connect},
};

const DATABASE: u16 = 5_432;
/// Open to the whole subnet, by another rule.
const OTHER: u16 = 5_201;
/// The rule that goes, as it stands in the file.
const RULE: &str = "      - {protocol: tcp, ports: [5432], security_groups: [app]}\n";
/// A connection is there in less, or refused; the next SYN would come after a second.
const PATIENCE: Duration = Duration::from_millis(300);
/// A stream that was not answered for so long was cut.
const SILENCE: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(3);

/// A group that lets in and refuses, and a rule that goes under a connection.
pub(super) fn lines(fabric: &Fabric, topology: &str, table: &mut Table) {
    table.line("db-1 lets in web-1 by its group, and refuses web-2", || refuses(fabric));
    table.line("a rule goes: its stream is cut, another one goes on", || revokes(fabric, topology));
}

fn refuses(fabric: &Fabric) -> Result<String> {
    let (member, database) = pair(fabric, "web-1", "db-1")?;
    let stranger = fabric.guest("web-2")?;
    let _server = EchoServer::start(database.netns(), DATABASE)?;
    let to = SocketAddr::new(address(database), DATABASE);
    let before = refused(fabric)?;
    let start = Instant::now();
    connect(member.netns(), to, PATIENCE)?;
    let took = start.elapsed();
    if connect(stranger.netns(), to, PATIENCE).is_ok() {
        bail!("web-2 is let in");
    }
    let refused = refused(fabric)? - before;
    ensure!(refused == 1, "{refused} drops of db-1 are counted as security_group");
    Ok(format!("connected in {:.1} ms, {refused} SYN dropped and counted", took.as_secs_f64() * 1e3))
}

/// What db-1's groups refused so far.
fn refused(fabric: &Fabric) -> Result<u64> {
    let rows = vpcctl_json(fabric.node("hv2")?, "drops --port db-1")?;
    let rows = rows.as_array().context("no list of drops")?;
    let row = rows.iter().find(|row| row["reason"] == "security_group");
    Ok(row.and_then(|row| row["packets"].as_u64()).unwrap_or(0))
}

fn revokes(fabric: &Fabric, topology: &str) -> Result<String> {
    ensure!(topology.contains(RULE), "the rule is not in the file");
    let (member, database) = pair(fabric, "web-1", "db-1")?;
    let stranger = fabric.guest("web-2")?;
    let _servers = [EchoServer::start(database.netns(), DATABASE)?, EchoServer::start(database.netns(), OTHER)?];
    let stream = Conversation::start(member.netns(), SocketAddr::new(address(database), DATABASE))?;
    let other = Conversation::start(stranger.netns(), SocketAddr::new(address(database), OTHER))?;
    let start = Instant::now();
    fabric.write_topology(&topology.replace(RULE, ""))?;
    let last = stream.wait_silent(SILENCE, LIMIT)?;
    let talk = other.stop()?;
    fabric.write_topology(topology)?;
    let cut = last.saturating_duration_since(start).as_secs_f64() * 1e3;
    ensure!(talk.retransmits == 0, "the other stream lost {} segments", talk.retransmits);
    Ok(format!("cut {cut:.0} ms after the edit, 0 of {} lost", talk.answered))
}
