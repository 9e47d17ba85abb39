//! What the lab reads of a topology file: which namespaces and links to make. All else is the agent's business.

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;

/// The part of a topology that has a body.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Blueprint {
    /// Hypervisors.
    pub nodes: Vec<NodePlan>,
    /// Subnets.
    pub subnets: Vec<SubnetPlan>,
    /// Ports, each with a guest.
    pub ports: Vec<PortPlan>,
}

/// A hypervisor.
#[derive(Clone, Debug, Deserialize)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Its tunnel address, which the lab puts on its loopback device.
    pub vtep: IpAddr,
    /// Its uplink or uplinks.
    #[serde(alias = "uplinks")]
    pub uplink: OneOrMore,
    /// Whether it runs an agent.
    #[serde(default = "yes")]
    pub agent: bool,
    /// Its zone, which has a router of its own.
    #[serde(default)]
    pub zone: Option<String>,
    /// Its way to the outside.
    #[serde(default)]
    pub gateway: Option<GatewayPlan>,
}

/// A gateway node's way to the outside.
#[derive(Clone, Debug, Deserialize)]
pub struct GatewayPlan {
    /// The external interface.
    pub external: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The router beyond, one of each family.
    next_hop: NextHops,
}

/// An address, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum NextHops {
    One(IpAddr),
    More(Vec<IpAddr>),
}

impl GatewayPlan {
    /// The routers beyond.
    pub fn next_hops(&self) -> &[IpAddr] {
        match &self.next_hop {
            NextHops::One(next_hop) => std::slice::from_ref(next_hop),
            NextHops::More(next_hops) => next_hops,
        }
    }
}

impl NodePlan {
    /// Its zone's name.
    pub fn zone_name(&self) -> &str {
        self.zone.as_deref().unwrap_or("zone")
    }
}

/// A name, or a list of names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// A name.
    One(String),
    /// A list.
    More(Vec<String>),
}

impl OneOrMore {
    /// The names.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::More(names) => names,
        }
    }
}

fn yes() -> bool {
    true
}

/// A subnet.
#[derive(Clone, Debug, Deserialize)]
pub struct SubnetPlan {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr_blocks: Vec<IpNet>,
    /// Addresses of its router; by default the first host address of each block.
    #[serde(default)]
    pub gateway_ips: Vec<IpAddr>,
}

impl SubnetPlan {
    /// The block that contains an address, and the router's address in it.
    pub fn block_of(&self, address: IpAddr) -> Option<(IpNet, IpAddr)> {
        let block = *self.cidr_blocks.iter().find(|block| block.contains(&address))?;
        let named = self.gateway_ips.iter().copied().find(|gateway| block.contains(gateway));
        Some((block, named.unwrap_or_else(|| first_host(block))))
    }
}

fn first_host(block: IpNet) -> IpAddr {
    match block.network() {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network) + 1).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network) + 1).into()),
    }
}

/// A port.
#[derive(Clone, Debug, Deserialize)]
pub struct PortPlan {
    /// Its name, which is its guest's.
    pub name: String,
    /// Its subnet.
    pub subnet: String,
    /// Its node.
    pub node: String,
    /// Its interface on the node.
    pub device: String,
    /// The guest's address.
    pub mac: String,
    /// The guest's addresses.
    pub private_ips: Vec<IpAddr>,
}

impl Blueprint {
    /// From the text of a topology file.
    ///
    /// # Errors
    /// The text is no YAML, or lacks what the lab needs.
    pub fn parse(text: &str) -> Result<Self> {
        serde_yaml::from_str(text).context("the topology cannot be read")
    }
    /// The subnet of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn subnet(&self, name: &str) -> Result<&SubnetPlan> {
        self.subnets.iter().find(|subnet| subnet.name == name).with_context(|| format!("no subnet {name}"))
    }
    /// The port of that name.
    pub fn port(&self, name: &str) -> Option<&PortPlan> {
        self.ports.iter().find(|port| port.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_read_and_what_has_no_body_is_passed_over() {
        let text = "version: 1\nvpcs: [{name: v, vni: 1}]\nnodes: [{name: hv1, id: 1, vtep: 192.0.2.1, uplink: eth1}]\n\
                    subnets: [{name: s, vpc: v, cidr_blocks: [10.0.1.0/24, \"fd00:1::/64\"]}]\n";
        let blueprint = Blueprint::parse(text).unwrap();
        assert_eq!(blueprint.nodes[0].uplink.names(), ["eth1"]);
        assert!(blueprint.nodes[0].agent);
        let subnet = blueprint.subnet("s").unwrap();
        let gateway = |address: &str| subnet.block_of(address.parse().unwrap()).map(|(_, gateway)| gateway.to_string());
        assert_eq!(gateway("10.0.1.9").as_deref(), Some("10.0.1.1"));
        assert_eq!(gateway("fd00:1::9").as_deref(), Some("fd00:1::1"));
        assert_eq!(gateway("10.0.2.9"), None);
    }
}
