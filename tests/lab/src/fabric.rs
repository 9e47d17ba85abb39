//! A whole fabric from a topology file: underlay, nodes, guests, agents.

use crate::{
    agent::Agent,
    blueprint::Blueprint,
    guest::Guest,
    instance::Lab,
    node::Node,
    outside::Outside,
    tap::TapWire,
    underlay::{Underlay, UnderlayOptions},
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A fabric. The fields are dropped in their order: agents, guests, nodes, routers, and the lab with its files last.
pub struct Fabric {
    agents: BTreeMap<String, Agent>,
    guests: BTreeMap<String, Guest>,
    nodes: BTreeMap<String, Node>,
    underlay: Underlay,
    outside: Option<Outside>,
    topology: PathBuf,
    blueprint: Blueprint,
    lab: Lab,
}

impl Fabric {
    /// Everything that the topology names, wired, without agents.
    ///
    /// # Errors
    /// The text is no topology, or the kernel refuses something.
    pub fn build(lab: Lab, topology: &str, options: UnderlayOptions) -> Result<Self> {
        let blueprint = Blueprint::parse(topology)?;
        let mut zones: Vec<&str> = blueprint.nodes.iter().map(|node| node.zone_name()).collect();
        zones.dedup();
        let mut underlay = Underlay::new(&lab, &zones, options)?;
        let mut nodes = BTreeMap::new();
        for plan in &blueprint.nodes {
            let node = Node::new(&lab, &plan.name)?;
            underlay.attach(&node, plan)?;
            nodes.insert(plan.name.clone(), node);
        }
        let mut outside = None;
        for plan in &blueprint.nodes {
            let Some(gateway) = &plan.gateway else { continue };
            let node = nodes.get(&plan.name).with_context(|| format!("no node {}", plan.name))?;
            let network = match outside.take() {
                Some(network) => network,
                None => Outside::new(&lab)?,
            };
            network.attach(node, gateway)?;
            outside = Some(network);
        }
        let path = lab.directory().join("topology.yaml");
        fs::write(&path, topology)?;
        let mut fabric = Self {
            agents: BTreeMap::new(),
            guests: BTreeMap::new(),
            nodes,
            underlay,
            outside,
            topology: path,
            blueprint: Blueprint::default(),
            lab,
        };
        fabric.wire(blueprint)?;
        Ok(fabric)
    }

    /// Makes the guests and devices agree with a blueprint: new ports get a guest, moved ones change their node.
    fn wire(&mut self, blueprint: Blueprint) -> Result<()> {
        self.guests.retain(|name, _| blueprint.port(name).is_some());
        let mtu = self.guest_mtu(&blueprint);
        for plan in &blueprint.ports {
            let to = self.nodes.get(&plan.node).with_context(|| format!("no node {}", plan.node))?;
            match self.guests.get_mut(&plan.name) {
                None => {
                    let guest = Guest::new(&self.lab, to, plan, blueprint.subnet(&plan.subnet)?, mtu)?;
                    self.guests.insert(plan.name.clone(), guest);
                }
                Some(guest) if guest.plan().node != plan.node => {
                    let from = self.nodes.get(&guest.plan().node).context("the guest's node is gone")?;
                    guest.move_device(from, to)?;
                }
                Some(_) => {}
            }
        }
        self.blueprint = blueprint;
        Ok(())
    }

    /// What fits into a tunnel: the underlay's MTU less the outer headers.
    fn guest_mtu(&self, blueprint: &Blueprint) -> u32 {
        let overhead = if blueprint.nodes.iter().any(|node| node.vtep.is_ipv6()) { 70 } else { 50 };
        self.underlay.mtu() - overhead
    }

    /// Starts an agent on every node that is to have one and waits until all have converged. Returns how long that
    /// took.
    ///
    /// # Errors
    /// One does not converge.
    pub fn start_agents(&mut self) -> Result<Duration> {
        self.start_agents_with(&[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// As for [`Fabric::start_agents`].
    pub fn start_agents_with(&mut self, arguments: &[&str]) -> Result<Duration> {
        let start = Instant::now();
        for plan in self.blueprint.nodes.iter().filter(|plan| plan.agent) {
            let node = self.nodes.get(&plan.name).with_context(|| format!("no node {}", plan.name))?;
            self.agents.insert(plan.name.clone(), Agent::start_with(node, &self.topology, arguments)?);
        }
        for (name, agent) in &mut self.agents {
            agent.wait_ready().with_context(|| format!("node {name}"))?;
        }
        Ok(start.elapsed())
    }

    /// Starts the agent of a node anew, the old one being dead, and waits until it has converged.
    ///
    /// # Errors
    /// It does not converge.
    pub fn restart_agent(&mut self, name: &str) -> Result<Duration> {
        let mut agent = Agent::start(self.node(name)?, &self.topology)?;
        let took = agent.wait_ready()?;
        self.agents.insert(name.to_owned(), agent);
        Ok(took)
    }

    /// Moves the device of a guest to another node, and nothing else: the topology does not say so yet.
    ///
    /// # Errors
    /// There is no such guest or node, or the kernel refuses.
    pub fn move_guest(&mut self, name: &str, to: &str) -> Result<()> {
        let to = self.nodes.get(to).with_context(|| format!("no node {to}"))?;
        let guest = self.guests.get_mut(name).with_context(|| format!("no guest {name}"))?;
        let from = self.nodes.get(&guest.plan().node).context("the guest's node is gone")?;
        guest.move_device(from, to)
    }

    /// Puts a guest behind a tap device, as a virtual machine is, with that MTU, for as long as the wire is there.
    ///
    /// # Errors
    /// There is no such guest, or the kernel refuses a device.
    pub fn put_behind_tap(&self, name: &str, mtu: u32) -> Result<TapWire> {
        let guest = self.guest(name)?;
        let (node, subnet) = (self.node(&guest.plan().node)?, self.blueprint.subnet(&guest.plan().subnet)?);
        guest.put_behind_tap(node, subnet, mtu)
    }

    /// Wires what a new topology names, then replaces the file at once, by a rename. The agents see it by themselves.
    ///
    /// # Errors
    /// The text is no topology, or the kernel refuses something.
    pub fn edit(&mut self, topology: &str) -> Result<()> {
        self.wire(Blueprint::parse(topology)?)?;
        self.write_topology(topology)
    }

    /// Replaces the file by a rename, and nothing else.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_topology(&self, text: &str) -> Result<()> {
        let new = self.topology.with_extension("yaml.new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.topology).context("the topology cannot be replaced")
    }

    /// What the fabric was wired from.
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// The file that the agents watch.
    pub fn topology(&self) -> &Path {
        &self.topology
    }

    /// The lab's directory, where the logs are.
    pub fn directory(&self) -> &Path {
        self.lab.directory()
    }

    /// The network between the nodes.
    pub fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// The network behind the gateway nodes.
    ///
    /// # Errors
    /// No node is a gateway.
    pub fn outside(&self) -> Result<&Outside> {
        self.outside.as_ref().context("no node is a gateway")
    }

    /// A node.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("no node {name}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A guest.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn guest(&self, name: &str) -> Result<&Guest> {
        self.guests.get(name).with_context(|| format!("no guest {name}"))
    }

    /// All guests.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }

    /// The agent of a node.
    ///
    /// # Errors
    /// None was started there.
    pub fn agent_mut(&mut self, node: &str) -> Result<&mut Agent> {
        self.agents.get_mut(node).with_context(|| format!("no agent on {node}"))
    }

    /// Leaves all of it up, also when this process ends.
    ///
    /// # Errors
    /// The lab's directory cannot be written.
    pub fn keep(mut self) -> Result<()> {
        self.lab.keep()?;
        self.underlay.keep();
        self.outside.iter_mut().for_each(|outside| outside.netns_mut().keep());
        self.agents.values_mut().for_each(Agent::release);
        self.nodes.values_mut().for_each(|node| node.netns_mut().keep());
        self.guests.values_mut().for_each(|guest| guest.netns_mut().keep());
        Ok(())
    }
}
