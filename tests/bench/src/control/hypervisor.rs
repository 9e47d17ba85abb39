//! A node with a real agent, and what it pinned, seen from outside.

use anyhow::{Context, Result};
use std::{fs, path::PathBuf, time::Instant};
use vpc_bpf::Table;
use vpc_common::{
    maps,
    session::{Session, SessionKey, V4},
};
use vpc_lab::{Agent, Lab, Node};

/// Arguments of every agent here: a subnet's ports are spread over many nodes, more than flood lists have room for.
const ARGUMENTS: [&str; 2] = ["--flood-members", "1048576"];
/// A next hop that is always there, so that no start waits for the underlay.
const NEXT_HOP: &str = "100.64.0.2";

/// A node without guests, all of whose next hops are known.
pub(super) struct Hypervisor {
    agent: Option<Agent>,
    node: Node,
    topology: PathBuf,
    _lab: Lab,
}

impl Hypervisor {
    /// The node that topologies are compiled for, without its agent.
    pub(super) fn new(vtep: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let node = Node::new(&lab, super::topology::NODE)?;
        node.netns().ip_batch(&[
            "link add eth1 type veth peer name far".to_owned(),
            "link set eth1 up".to_owned(),
            "link set far up".to_owned(),
            format!("addr add {vtep}/32 dev lo"),
            "addr add 100.64.0.1/30 dev eth1".to_owned(),
            format!("neigh add {NEXT_HOP} lladdr 02:00:00:00:00:02 dev eth1 nud permanent"),
            format!("route add default via {NEXT_HOP} dev eth1"),
        ])?;
        let topology = lab.directory().join("topology.yaml");
        Ok(Self { agent: None, node, topology, _lab: lab })
    }

    /// Puts a topology where the agent looks for it, at once.
    pub(super) fn write(&self, text: &str) -> Result<()> {
        let next = self.topology.with_extension("next");
        fs::write(&next, text).with_context(|| format!("write {}", next.display()))?;
        fs::rename(&next, &self.topology).context("rename the topology")
    }

    /// Starts the agent with those arguments and waits until it is ready; returns how long that took, in ms.
    pub(super) fn start(&mut self, more: &[&str]) -> Result<f64> {
        let arguments: Vec<_> = ARGUMENTS.iter().chain(more).copied().collect();
        let started = Instant::now();
        let mut agent = Agent::start_with(&self.node, &self.topology, &arguments)?;
        agent.wait_ready()?;
        self.agent = Some(agent);
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// Stops it as a service manager does.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.stop()
    }

    /// The most memory that the agent has had so far, MB.
    pub(super) fn peak_memory(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")?;
        Ok(kib / 1_024.0)
    }

    /// How many writes to the maps the agents have logged, one number for each time.
    pub(super) fn applied(&self) -> Result<Vec<u64>> {
        let log = self.agent.as_ref().context("no agent runs")?.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        Ok(lines.filter_map(|line| line["fields"]["writes"].as_u64()).collect())
    }

    /// A map that the agent pinned.
    pub(super) fn table<K: bytemuck::Pod, V: bytemuck::Pod>(&self, name: &str) -> Result<Table<K, V>> {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()?));
        Ok(Table::open(&vpc_agent::bpffs::maps(&root.join("sys/fs/bpf")).join(name))?)
    }

    /// Its sessions of IPv4.
    pub(super) fn sessions(&self) -> Result<Table<SessionKey<V4>, Session>> {
        self.table(maps::SESSIONS_V4)
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.agent.as_ref().context("no agent runs")?.pid())
    }
}
