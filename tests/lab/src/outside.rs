//! The outside: a network behind the external interfaces of gateway nodes, with a router and a server in one.

use crate::{blueprint::GatewayPlan, instance::Lab, netns::Netns, node::Node};
use anyhow::Result;
use ipnet::IpNet;
use std::net::IpAddr;

/// The server's address, which nothing of the fabric is near.
pub const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

/// The same of IPv6.
pub const SERVER_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 9));

/// The outside. Dropping it removes it.
pub struct Outside {
    netns: Netns,
}

/// An address of IPv6 that is not first asked for serves at once.
fn no_wait(own: &IpNet) -> &'static str {
    if own.addr().is_ipv4() { "" } else { " nodad" }
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
            format!("addr add {SERVER_V6}/128 dev lo"),
            "link set lo up".to_owned(),
            "link set br0 up".to_owned(),
        ];
        netns.ip_batch(&lines)?;
        netns.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
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
        for next_hop in plan.next_hops() {
            let block = plan.addresses.iter().find(|own| own.addr().is_ipv4() == next_hop.is_ipv4());
            let Some(block) = block else { continue };
            let (nodad, server) = if next_hop.is_ipv4() { ("", SERVER) } else { (" nodad", SERVER_V6) };
            lines.push(format!("addr replace {next_hop}/{} dev br0{nodad}", block.prefix_len()));
            // Also what is not bound to an address speaks as the server.
            lines.push(format!("route replace {} dev br0 src {server}", block.trunc()));
        }
        self.netns.ip_batch(&lines)?;
        let mut lines: Vec<String> =
            plan.addresses.iter().map(|own| format!("addr add {own} dev {external}{}", no_wait(own))).collect();
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
