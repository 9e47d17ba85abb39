//! Two nodes with a real agent each, the uplinks wired to each other.

use super::{
    CLIENT, GUEST_MTU, Generator, Path, SERVER, UNDERLAY_MTU, Wire,
    rules::{Rules, of_group},
};
use crate::flows::Macs;
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf, time::Duration};
use vpc_common::Mac;
use vpc_lab::{
    Agent, Blueprint, Guest, Lab, Netns, Node,
    agent::{vpcctl, vpcctl_output},
    wait::eventually,
};

/// Nodes of the ports around the guests.
const CROWD_NODES: usize = 1_000;
const MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x01, 0x10]);

/// The fields are dropped in their order: agents first.
pub struct Ours {
    agents: [Agent; 2],
    client: Guest,
    server: Guest,
    nodes: [Node; 2],
    mode: Mode,
    place: Place,
    topology: PathBuf,
    _lab: Lab,
}

/// How the nodes receive: `receive_mode` of the topology; and how the client sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// By XDP, as on real hardware.
    Xdp,
    /// By TC: XDP on a veth uplink copies every frame that has fragments and takes the peer's segmentation offload away,
    /// which no real wire has.
    Tc,
    /// By XDP, and the client's port is in packet-rate mode.
    PacketRate,
}

/// Where the server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// With the client.
    SameNode = 0,
    /// On the other node.
    OtherNode = 1,
}

impl Ours {
    /// Agents converged, guests wired.
    ///
    /// # Errors
    /// The agents do not come up, or no ping arrives.
    pub fn new(wire: Wire, mode: Mode, rules: Rules) -> Result<Self> {
        Self::build(wire, mode, rules, Place::OtherNode)
    }

    /// The same with both guests on one node.
    ///
    /// # Errors
    /// As for [`Ours::new`].
    pub fn on_one_node(rules: Rules) -> Result<Self> {
        Self::build(Wire::Frames, Mode::Xdp, rules, Place::SameNode)
    }

    fn build(wire: Wire, mode: Mode, rules: Rules, server: Place) -> Result<Self> {
        let lab = Lab::new()?;
        let text = topology(mode, rules, server);
        let path = lab.directory().join("east-west.yaml");
        fs::write(&path, &text)?;
        let blueprint = Blueprint::parse(&text)?;
        let nodes = [Node::new(&lab, "hv1")?, Node::new(&lab, "hv2")?];
        wire_nodes(&nodes, wire)?;
        let guest = |name: &str, node: &Node| {
            let plan = blueprint.port(name).with_context(|| format!("port {name}"))?;
            Guest::new(&lab, node, plan, blueprint.subnet(&plan.subnet)?, GUEST_MTU)
        };
        let (client, far) = (guest("client", &nodes[0])?, guest("server", &nodes[server as usize])?);
        let mut agents = [Agent::start(&nodes[0], &path)?, Agent::start(&nodes[1], &path)?];
        for agent in &mut agents {
            agent.wait_ready()?;
        }
        client.netns().run(&format!("ping -c 2 -i 0.2 -W 2 {SERVER}")).context("our path carries no ping")?;
        Ok(Self { agents, client, server: far, nodes, mode, place: server, topology: path, _lab: lab })
    }

    /// So many more ports of the guests' VPC, all of them on other nodes, that may come and go.
    pub fn surroundings(&self, rules: Rules, ports: usize) -> Surroundings {
        let without = topology(self.mode, rules, self.place);
        Surroundings { topology: self.topology.clone(), with: surrounded(&without, ports), without }
    }

    /// How often the client's agent has written at least so many entries at once.
    pub fn large_changes(&self, least: u64) -> usize {
        let log = self.agents[0].log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["fields"]["writes"].as_u64() >= Some(least)).count()
    }

    /// Puts other rules in force, as a user does: by editing the file.
    ///
    /// # Errors
    /// The agents do not follow within some seconds.
    pub fn judge_by(&self, count: usize) -> Result<()> {
        let edited = self.topology.with_extension("new");
        fs::write(&edited, topology(self.mode, Rules::Some(count), self.place))?;
        fs::rename(&edited, &self.topology)?;
        self.nodes.iter().try_for_each(|node| in_force(node, &self.topology))
    }
}

/// Two versions of a topology file.
pub struct Surroundings {
    topology: PathBuf,
    with: String,
    without: String,
}

impl Surroundings {
    /// The ports are there from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn come(&self) -> Result<()> {
        self.write(&self.with)
    }

    /// They are there no longer.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn go(&self) -> Result<()> {
        self.write(&self.without)
    }

    fn write(&self, text: &str) -> Result<()> {
        let edited = self.topology.with_extension("new");
        fs::write(&edited, text)?;
        Ok(fs::rename(&edited, &self.topology)?)
    }
}

impl Path for Ours {
    fn name(&self) -> &'static str {
        match self.mode {
            Mode::Xdp => "ours",
            Mode::Tc => "ours, receive_mode tc",
            Mode::PacketRate => "ours, mode packet-rate",
        }
    }
    fn client(&self) -> &Netns {
        self.client.netns()
    }
    fn server(&self) -> &Netns {
        self.server.netns()
    }
    fn machines(&self) -> [Vec<&Netns>; 2] {
        [vec![self.client(), self.nodes[0].netns()], vec![self.server(), self.nodes[1].netns()]]
    }
    fn macs(&self) -> Macs {
        Macs { destination: Mac::ROUTER, source: MAC }
    }
    fn generator(&self, state: Generator) -> Result<()> {
        self.agents.iter().try_for_each(|agent| state.keep(agent))?;
        self.nodes[0].netns().run(&format!("ethtool -K tap-client gro {}", state.gro())).map(drop)
    }
    fn forget(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| vpcctl(node, "sessions flush").map(drop))
    }
}

/// Waits until there is nothing to do for a node's agent.
fn in_force(node: &Node, topology: &std::path::Path) -> Result<()> {
    eventually(Duration::from_secs(10), || {
        let plan = vpcctl_output(node, &format!("plan -f {}", topology.display()))?;
        ensure!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stdout));
        Ok(())
    })
    .map(drop)
}

fn wire_nodes(nodes: &[Node; 2], wire: Wire) -> Result<()> {
    let (left, right) = (nodes[0].netns(), nodes[1].netns());
    let mtu = UNDERLAY_MTU;
    left.ip(&format!("link add eth1 mtu {mtu} type veth peer name eth1 mtu {mtu} netns {}", right.name()))?;
    for (netns, own, other) in [(left, 1, 2), (right, 2, 1)] {
        netns.sysctl(&[("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0")])?;
        netns.ip_batch(&[
            "link set eth1 up".to_owned(),
            format!("addr add 100.64.0.{own}/30 dev eth1"),
            format!("addr add 192.0.2.{own}/32 dev lo"),
            format!("route add 192.0.2.{other}/32 via 100.64.0.{other} dev eth1 src 192.0.2.{own}"),
        ])?;
        netns.run(&format!("ethtool -K eth1 {}", wire.features()))?;
    }
    Ok(())
}

/// A topology with more ports in the guests' VPC, on a thousand nodes more.
fn surrounded(text: &str, ports: usize) -> String {
    let nodes: String = (0..CROWD_NODES)
        .map(|node| {
            let (id, [_, _, high, low]) = (node + 3, (node as u32).to_be_bytes());
            format!("  - {{name: hv{id}, id: {id}, vtep: 198.18.{high}.{low}, uplink: eth1}}\n")
        })
        .collect();
    let crowd: String = (0..ports)
        .map(|port| {
            let (node, [_, x, y, z]) = (port % CROWD_NODES + 3, (port as u32 + 2).to_be_bytes());
            format!(
                "  - {{name: crowd-{port}, subnet: crowd, node: hv{node}, device: tap-{port}, \
                 mac: \"02:01:00:{x:02x}:{y:02x}:{z:02x}\", private_ips: [10.{}.{y}.{z}]}}\n",
                64 + x
            )
        })
        .collect();
    let subnet = "  - {name: crowd, vpc: prod, cidr_blocks: [10.64.0.0/10]}\n";
    let text = text.replacen("vpcs:\n", &format!("{nodes}vpcs:\n"), 1);
    let text = text.replacen("cidr_blocks: [10.0.0.0/16]", "cidr_blocks: [10.0.0.0/16, 10.64.0.0/10]", 1);
    text.replacen("subnets:\n", &format!("subnets:\n{subnet}"), 1) + &crowd
}

fn topology(mode: Mode, rules: Rules, server: Place) -> String {
    let server_node = match server {
        Place::SameNode => "hv1",
        Place::OtherNode => "hv2",
    };
    let (groups, member) = match rules {
        Rules::None => (String::new(), ""),
        Rules::Some(count) => {
            let rules = of_group(count);
            let group = format!("{{name: all, vpc: prod, ingress: {rules}, egress: {rules}}}");
            (format!("security_groups:\n\x20 - {group}\n"), ", security_groups: [all]")
        }
    };
    let (receive_mode, port_mode) = match mode {
        Mode::Xdp => ("xdp", "standard"),
        Mode::Tc => ("tc", "standard"),
        Mode::PacketRate => ("xdp", "packet-rate"),
    };
    format!(
        "version: 1\n\
         nodes:\n\
         \x20 - {{name: hv1, id: 1, vtep: 192.0.2.1, uplink: eth1, receive_mode: {receive_mode}}}\n\
         \x20 - {{name: hv2, id: 2, vtep: 192.0.2.2, uplink: eth1, receive_mode: {receive_mode}}}\n\
         vpcs:\n\
         \x20 - {{name: prod, vni: 5001, cidr_blocks: [10.0.0.0/16]}}\n\
         subnets:\n\
         \x20 - {{name: left, vpc: prod, cidr_blocks: [10.0.1.0/24]}}\n\
         \x20 - {{name: right, vpc: prod, cidr_blocks: [10.0.2.0/24]}}\n\
         {groups}\
         ports:\n\
         \x20 - {{name: client, subnet: left, node: hv1, device: tap-client, mac: \"{MAC}\", private_ips: [{CLIENT}], \
         mode: {port_mode}{member}}}\n\
         \x20 - {{name: server, subnet: right, node: {server_node}, device: tap-server, mac: \"02:00:00:00:02:10\", \
         private_ips: [{SERVER}]{member}}}\n"
    )
}
