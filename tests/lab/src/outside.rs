//! The outside: a network behind the external interfaces of gateway nodes, with a router and a server in one.

use crate::{blueprint::GatewayPlan, instance::Lab, netns::Netns, node::Node};
use anyhow::Result;
use std::net::IpAddr;

/// The server's address, which nothing of the fabric is near.
pub const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

/// The outside. Dropping it removes it.
pub struct Outside {
    netns: Netns,
}

impl Outside {
    /// A network without gateways.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn new(lab: &Lab) -> Result<Self> {
        let netns = Netns::new(lab, "outside")?;
        let lines = [
            "link add br0 type bridge".to_owned(),
            format!("addr add {SERVER}/32 dev lo"),
            "link set br0 up".to_owned(),
        ];
        netns.ip_batch(&lines)?;
        netns.sysctl(&[("net/ipv4/ip_forward", "1")])?;
        Ok(Self { netns })
    }

    /// Wires a gateway node's external interface to it.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn attach(&self, node: &Node, plan: &GatewayPlan) -> Result<()> {
        let (external, own) = (&plan.external, node.netns().name());
        self.netns.ip(&format!("link add to-{} type veth peer name {external} netns {own}", node.name()))?;
        let mut lines = vec![format!("link set to-{} master br0 up", node.name())];
        if let Some(block) = plan.addresses.first() {
            lines.push(format!("addr replace {}/{} dev br0", plan.next_hop, block.prefix_len()));
            // Also what is not bound to an address speaks as the server.
            lines.push(format!("route replace {} dev br0 src {SERVER}", block.trunc()));
        }
        self.netns.ip_batch(&lines)?;
        let mut lines: Vec<String> =
            plan.addresses.iter().map(|address| format!("addr add {address} dev {external}")).collect();
        lines.push(format!("link set {external} up"));
        node.netns().ip_batch(&lines)
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The same, to keep it.
    pub fn netns_mut(&mut self) -> &mut Netns {
        &mut self.netns
    }
}
