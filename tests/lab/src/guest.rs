//! Guests: network namespaces with one interface, `eth0`, whose other end is a port's device on a node.

use crate::{
    blueprint::{PortPlan, SubnetPlan},
    instance::Lab,
    iperf::{Load, Throughput, iperf},
    netns::Netns,
    node::Node,
    ping::{PingOptions, Pings, ping},
    tap::TapWire,
    traceroute::traceroute,
};
use anyhow::{Context, Result};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

/// A guest. Dropping it removes it, and so the port's device.
pub struct Guest {
    plan: PortPlan,
    netns: Netns,
    logs: PathBuf,
}

impl Guest {
    /// A guest wired to its node, with addresses and default routes, ready to talk.
    ///
    /// # Errors
    /// An address lies in no block of the subnet, or the kernel refuses something.
    pub fn new(lab: &Lab, node: &Node, plan: &PortPlan, subnet: &SubnetPlan, mtu: u32) -> Result<Self> {
        let netns = Netns::new(lab, &plan.name)?;
        netns.ip(&format!(
            "link add eth0 address {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
            plan.mac,
            plan.device,
            node.netns().name()
        ))?;
        let guest = Self { plan: plan.clone(), netns, logs: lab.directory().to_owned() };
        guest.bring_up(node, subnet, mtu)?;
        // Packets that XDP redirects to the port's device arrive only while the guest's end polls, which GRO turns on.
        guest.netns.run("ethtool -K eth0 gro on")?;
        Ok(guest)
    }

    /// Puts tap devices in the place of its veth, so that it sends and receives as a virtual machine does, for as long as the
    /// wire is there.
    ///
    /// # Errors
    /// As for [`Guest::new`].
    pub fn put_behind_tap(&self, node: &Node, subnet: &SubnetPlan, mtu: u32) -> Result<TapWire> {
        let (device, mac) = (&self.plan.device, &self.plan.mac);
        node.netns().ip(&format!("link delete {device}"))?;
        let wire = TapWire::new((node.netns(), device), (&self.netns, "eth0"))?;
        self.netns.ip(&format!("link set eth0 address {mac}"))?;
        node.netns().ip(&format!("link set {device} mtu {mtu}"))?;
        self.bring_up(node, subnet, mtu)?;
        Ok(wire)
    }

    /// Sets its interface up, with addresses and default routes, and the port's device.
    fn bring_up(&self, node: &Node, subnet: &SubnetPlan, mtu: u32) -> Result<()> {
        let mut lines = vec![format!("link set eth0 mtu {mtu} up")];
        for address in &self.plan.private_ips {
            let (block, gateway) =
                subnet.block_of(*address).with_context(|| format!("{address} is not in subnet {}", subnet.name))?;
            lines.push(format!("addr add {address}/{} dev eth0", block.prefix_len()));
            let everything = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            lines.push(format!("route replace {everything} via {gateway} dev eth0"));
        }
        // A neighbour that could not be asked because the port was not served yet is asked again soon, not after 1 s.
        self.netns
            .sysctl(&[("net/ipv4/neigh/eth0/retrans_time_ms", "50"), ("net/ipv6/neigh/eth0/retrans_time_ms", "50")])?;
        node.netns().ip(&format!("link set {} up", self.plan.device))?;
        self.netns.ip_batch(&lines)
    }

    /// The port.
    pub fn plan(&self) -> &PortPlan {
        &self.plan
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The same, to keep it.
    pub fn netns_mut(&mut self) -> &mut Netns {
        &mut self.netns
    }

    /// Where the logs of its programs lie.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Its first IPv4 address.
    ///
    /// # Errors
    /// It has none.
    pub fn ipv4(&self) -> Result<IpAddr> {
        self.address(IpAddr::is_ipv4)
    }

    /// Its first IPv6 address.
    ///
    /// # Errors
    /// It has none.
    pub fn ipv6(&self) -> Result<IpAddr> {
        self.address(IpAddr::is_ipv6)
    }

    fn address(&self, wanted: fn(&IpAddr) -> bool) -> Result<IpAddr> {
        let found = self.plan.private_ips.iter().copied().find(wanted);
        found.with_context(|| format!("{} has no address of that family", self.plan.name))
    }

    /// Moves the device of the port to another node, as a live migration does; the guest notices nothing.
    ///
    /// # Errors
    /// The device is not on the first node.
    pub fn move_device(&mut self, from: &Node, to: &Node) -> Result<()> {
        let device = &self.plan.device;
        from.netns().ip(&format!("link set {device} netns {}", to.netns().name()))?;
        to.netns().ip(&format!("link set {device} up"))?;
        to.name().clone_into(&mut self.plan.node);
        Ok(())
    }

    /// Pings an address.
    ///
    /// # Errors
    /// `ping` cannot be run; no reply is no error.
    pub fn ping(&self, to: IpAddr, options: PingOptions) -> Result<Pings> {
        ping(&self.netns, to, options)
    }

    /// Sends to a server on another guest for so many seconds.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn iperf(&self, server: &Self, to: IpAddr, load: Load, seconds: u32) -> Result<Throughput> {
        iperf(&self.netns, &server.netns, to, load, seconds, &self.logs)
    }

    /// The hops towards an address.
    ///
    /// # Errors
    /// `traceroute` fails.
    pub fn traceroute(&self, to: IpAddr) -> Result<Vec<Option<IpAddr>>> {
        traceroute(&self.netns, to)
    }

    /// Sets the guest's own MTU.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.netns.ip(&format!("link set eth0 mtu {mtu}"))
    }
}
