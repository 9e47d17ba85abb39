//! The network between the hypervisors: one router of plain Linux forwarding per zone, the routers in a chain.
//!
//! ```text
//!   hv1 eth1 ---\                          /--- eth1 hv3
//!   hv1 eth2 ---- router az-a --- router az-b
//!   hv2 eth1 ---/
//! ```
//!
//! Each uplink is a routed link of its own. A node's tunnel address is on its loopback device and is reached through
//! all of its uplinks, by flow hash.

use crate::{blueprint::NodePlan, instance::Lab, netns::Netns, node::Node};
use anyhow::{Context, Result};
use std::net::IpAddr;

/// How the underlay is built.
#[derive(Clone, Copy, Debug)]
pub struct UnderlayOptions {
    /// MTU of every link.
    pub mtu: u32,
    /// What crosses the links.
    pub wire: Wire,
}

/// What crosses a link between two virtual interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Frames of at most the MTU with their checksums filled in, as a real wire carries them.
    Frames,
    /// Whatever the sender hands over, also frames of 64 KiB without checksums.
    Gso,
}

impl Default for UnderlayOptions {
    fn default() -> Self {
        Self { mtu: 1_500, wire: Wire::Frames }
    }
}

/// Whether a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Up,
    /// The far end is down: the node sees the carrier go.
    Down,
}

/// The routers and the links to the nodes.
pub struct Underlay {
    options: UnderlayOptions,
    zones: Vec<Zone>,
    links: Vec<Link>,
}

struct Zone {
    name: String,
    router: Netns,
}

struct Link {
    node: String,
    uplink: String,
    zone: usize,
    /// Interface of the router.
    device: String,
    /// Address of the node's end.
    far: String,
    /// The router's whole route to the node's tunnel address.
    route: String,
}

impl Underlay {
    /// Routers for these zones, in a chain.
    ///
    /// # Errors
    /// A namespace or link cannot be made.
    pub fn new(lab: &Lab, zone_names: &[&str], options: UnderlayOptions) -> Result<Self> {
        let mut zones = Vec::new();
        for name in zone_names {
            let router = Netns::new(lab, &format!("router-{name}"))?;
            router.sysctl(&[
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv4/fib_multipath_hash_policy", "1"),
                ("net/ipv6/fib_multipath_hash_policy", "1"),
            ])?;
            follow_carrier(&router)?;
            zones.push(Zone { name: (*name).to_owned(), router });
        }
        let underlay = Self { options, zones, links: Vec::new() };
        for (index, pair) in underlay.zones.windows(2).enumerate() {
            let (left, right) = (&pair[0].router, &pair[1].router);
            left.ip(&format!("link add next mtu {} type veth peer name previous netns {}", options.mtu, right.name()))?;
            let [a4, b4, a6, b6] = chain_addresses(index);
            left.ip_batch(&up_with("next", options.mtu, &[format!("{a4}/30"), format!("{a6}/64")]))?;
            right.ip_batch(&up_with("previous", options.mtu, &[format!("{b4}/30"), format!("{b6}/64")]))?;
        }
        Ok(underlay)
    }

    /// MTU of the links.
    pub fn mtu(&self) -> u32 {
        self.options.mtu
    }

    /// Wires a node to its zone's router and makes its tunnel address reachable.
    ///
    /// # Errors
    /// The zone is unknown, or the kernel refuses something.
    pub fn attach(&mut self, node: &Node, plan: &NodePlan) -> Result<()> {
        let zone = self
            .zones
            .iter()
            .position(|zone| zone.name == plan.zone_name())
            .with_context(|| format!("no zone {}", plan.zone_name()))?;
        let mtu = self.options.mtu;
        follow_carrier(node.netns())?;
        node.netns()
            .sysctl(&[("net/ipv4/fib_multipath_hash_policy", "1"), ("net/ipv6/fib_multipath_hash_policy", "1")])?;
        let (mut to_router, mut to_node) = (String::new(), String::new());
        for uplink in plan.uplink.names() {
            let index = self.links.len();
            let device = format!("node{index}");
            let router = &self.zones[zone].router;
            router.ip(&format!(
                "link add {device} mtu {mtu} type veth peer name {uplink} netns {}",
                node.netns().name()
            ))?;
            let (near, far, bits) = link_addresses(plan.vtep, index);
            router.ip_batch(&up_with(&device, mtu, &[format!("{near}/{bits}")]))?;
            node.netns().ip_batch(&up_with(uplink, mtu, &[format!("{far}/{bits}")]))?;
            if self.options.wire == Wire::Frames {
                // As a NIC does, it merges what it receives.
                node.netns().run(&format!("ethtool -K {uplink} tx off gro on"))?;
            }
            // What the node's XDP program answers goes into this end: a veth takes that with NAPI only.
            router.run(&format!("ethtool -K {device} gro on"))?;
            to_router.push_str(&format!(" nexthop via {near} dev {uplink}"));
            to_node.push_str(&format!(" nexthop via {far} dev {device}"));
            let (node, uplink) = (plan.name.clone(), uplink.clone());
            self.links.push(Link { node, uplink, zone, device, far, route: String::new() });
        }
        let family = if plan.vtep.is_ipv4() { "-4" } else { "-6" };
        let host = if plan.vtep.is_ipv4() { 32 } else { 128 };
        node.netns().ip(&format!("addr add {}/{host} dev lo", plan.vtep))?;
        node.netns().ip(&format!("{family} route add default src {}{to_router}", plan.vtep))?;
        let route = format!("{family} route add {}/{host}{to_node}", plan.vtep);
        self.zones[zone].router.ip(&route)?;
        for link in self.links.iter_mut().filter(|link| link.node == plan.name) {
            link.route.clone_from(&route);
        }
        for (other, at) in self.zones.iter().enumerate().filter(|(other, _)| *other != zone) {
            let (device, address) = if other < zone {
                let [_, b4, _, b6] = chain_addresses(other);
                ("next", if plan.vtep.is_ipv4() { b4 } else { b6 })
            } else {
                let [a4, _, a6, _] = chain_addresses(other - 1);
                ("previous", if plan.vtep.is_ipv4() { a4 } else { a6 })
            };
            at.router.ip(&format!("{family} route add {}/{host} via {address} dev {device}", plan.vtep))?;
        }
        Ok(())
    }

    /// Takes the router's end of an uplink down or up.
    ///
    /// # Errors
    /// There is no such uplink.
    pub fn set_link(&self, node: &str, uplink: &str, state: LinkState) -> Result<()> {
        let link = self.link(node, uplink)?;
        let word = if state == LinkState::Up { "up" } else { "down" };
        self.router(link).ip(&format!("link set {} {word}", link.device))?;
        if state == LinkState::Up {
            // The kernel has removed the route with its last link, and does not bring it back.
            let _was_there = self.router(link).ip(&link.route);
        }
        Ok(())
    }

    /// The router's namespace and interface at the far end of an uplink: what the wire carries is seen there.
    ///
    /// # Errors
    /// There is no such uplink.
    pub fn far_end(&self, node: &str, uplink: &str) -> Result<(&Netns, &str)> {
        let link = self.link(node, uplink)?;
        Ok((self.router(link), &link.device))
    }

    /// Has the router know the node at the far end of an uplink for good, so that it goes on sending there when it hears
    /// nothing any more.
    ///
    /// # Errors
    /// There is no such uplink, or the kernel refuses.
    pub fn know(&self, node: &Node, uplink: &str) -> Result<()> {
        let link = self.link(node.name(), uplink)?;
        let mac = node.netns().mac(uplink)?;
        self.router(link).ip(&format!("neigh replace {} lladdr {mac} dev {} nud permanent", link.far, link.device))
    }

    /// Sets the MTU of both ends of an uplink.
    ///
    /// # Errors
    /// There is no such uplink, or the kernel refuses.
    pub fn set_mtu(&self, node: &Node, uplink: &str, mtu: u32) -> Result<()> {
        let link = self.link(node.name(), uplink)?;
        self.router(link).ip(&format!("link set {} mtu {mtu}", link.device))?;
        node.netns().ip(&format!("link set {uplink} mtu {mtu}"))
    }

    /// Leaves the routers there when the value is dropped.
    pub fn keep(&mut self) {
        self.zones.iter_mut().for_each(|zone| zone.router.keep());
    }

    fn link(&self, node: &str, uplink: &str) -> Result<&Link> {
        self.links
            .iter()
            .find(|link| link.node == node && link.uplink == uplink)
            .with_context(|| format!("node {node} has no uplink {uplink}"))
    }

    fn router(&self, link: &Link) -> &Netns {
        &self.zones[link.zone].router
    }
}

fn up_with(device: &str, mtu: u32, addresses: &[String]) -> Vec<String> {
    let mut lines = vec![format!("link set {device} mtu {mtu} up")];
    lines.extend(addresses.iter().map(|address| format!("addr add {address} dev {device}")));
    lines
}

/// A route whose link has lost its carrier is passed over at once.
fn follow_carrier(netns: &Netns) -> Result<()> {
    netns.sysctl(&[
        ("net/ipv4/conf/all/ignore_routes_with_linkdown", "1"),
        ("net/ipv4/conf/default/ignore_routes_with_linkdown", "1"),
        ("net/ipv6/conf/all/ignore_routes_with_linkdown", "1"),
        ("net/ipv6/conf/default/ignore_routes_with_linkdown", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ])
}

/// IPv4 and IPv6 addresses of both ends of the link between router `index` and the next one: left, right of each.
fn chain_addresses(index: usize) -> [String; 4] {
    [
        format!("100.127.{index}.1"),
        format!("100.127.{index}.2"),
        format!("fd64:ffff:{index}::1"),
        format!("fd64:ffff:{index}::2"),
    ]
}

/// Addresses of link `index` in the family of the tunnel: the router's, the node's, prefix length.
fn link_addresses(vtep: IpAddr, index: usize) -> (String, String, u32) {
    if vtep.is_ipv4() {
        let (third, fourth) = (index / 64, index % 64 * 4);
        (format!("100.64.{third}.{}", fourth + 1), format!("100.64.{third}.{}", fourth + 2), 30)
    } else {
        (format!("fd64:{index:x}::1"), format!("fd64:{index:x}::2"), 64)
    }
}
