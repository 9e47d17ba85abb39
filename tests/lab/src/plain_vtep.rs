//! Nodes without an agent: tunnel ends made of what Linux and Open vSwitch bring along.

use crate::node::Node;
use anyhow::{Context, Result};
use std::net::IpAddr;

/// The VXLAN port (RFC 7348 §5).
const PORT: u16 = 4789;

/// An address that a plain tunnel end sends through the tunnel.
#[derive(Clone, Debug)]
pub struct RemoteMac {
    /// The endpoint's MAC.
    pub mac: String,
    /// Its node's tunnel address.
    pub vtep: IpAddr,
}

/// Turns a node into a stock Linux VTEP for one VNI: a bridge with the guests' devices and a `vxlan` device that knows
/// its peers by static entries. Broadcasts are replicated to `flood`.
///
/// # Errors
/// The kernel refuses something.
pub fn linux_vtep(
    node: &Node,
    vtep: IpAddr,
    vni: u32,
    devices: &[&str],
    remotes: &[RemoteMac],
    flood: &[IpAddr],
) -> Result<()> {
    let netns = node.netns();
    netns.ip_batch(&[
        "link add br0 type bridge forward_delay 0".to_owned(),
        format!("link add vxlan0 type vxlan id {vni} local {vtep} dstport {PORT} nolearning noudpcsum"),
        "link set vxlan0 master br0".to_owned(),
        "link set br0 up".to_owned(),
        "link set vxlan0 up".to_owned(),
    ])?;
    for device in devices {
        netns.ip(&format!("link set {device} master br0"))?;
    }
    for remote in remotes {
        netns.run(&format!("bridge fdb append {} dev vxlan0 dst {} self permanent", remote.mac, remote.vtep))?;
        netns.run(&format!("bridge fdb append {} dev vxlan0 master static", remote.mac))?;
    }
    for peer in flood {
        netns.run(&format!("bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst {peer} self permanent"))?;
    }
    Ok(())
}

/// An Open vSwitch with its userspace datapath on a node. Its processes end with the node's namespace.
pub struct OpenVswitch<'a> {
    node: &'a Node,
    socket: String,
}

impl<'a> OpenVswitch<'a> {
    /// Starts a database and a switch of its own, whatever of Open vSwitch the machine runs otherwise.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(node: &'a Node) -> Result<Self> {
        let directory = node.directory().join(format!("{}.ovs", node.name()));
        std::fs::create_dir_all(&directory)?;
        let at = directory.display();
        let switch = Self { node, socket: format!("unix:{at}/db.sock") };
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        node.run(&format!("ovsdb-tool create {at}/conf.db {schema}"))?;
        node.run(&format!(
            "ovsdb-server {at}/conf.db --remote=punix:{at}/db.sock --unixctl={at}/db.ctl --pidfile={at}/db.pid \
             --log-file={at}/db.log --detach"
        ))?;
        switch.vsctl("--no-wait init")?;
        node.run(&format!(
            "ovs-vswitchd unix:{at}/db.sock --unixctl={at}/switch.ctl --pidfile={at}/switch.pid \
             --log-file={at}/switch.log --detach"
        ))?;
        Ok(switch)
    }

    /// Makes the switch a VTEP for one VNI: a bridge for the underlay, which takes over the uplink and its addresses
    /// since only a bridge of the switch can end its userspace tunnels, and a bridge with the guests' devices and a
    /// tunnel port to each peer.
    ///
    /// # Errors
    /// The switch or the kernel refuses something.
    pub fn vtep(&self, uplink: &str, vtep: IpAddr, vni: u32, devices: &[&str], peers: &[IpAddr]) -> Result<()> {
        let netns = self.node.netns();
        let addresses = netns.run(&format!("ip -br -4 addr show dev {uplink}"))?;
        let link_address = addresses.split_whitespace().nth(2).context("the uplink has no address")?;
        let routes = netns.run("ip -4 route show default")?;
        let gateway = routes.split_whitespace().nth(2).context("no default route")?;
        let mac = self.node.run(&format!("cat /sys/class/net/{uplink}/address"))?;
        self.vsctl(&format!(
            "add-br underlay -- set bridge underlay datapath_type=netdev other_config:hwaddr={} -- \
             add-port underlay {uplink}",
            mac.trim()
        ))?;
        // The switch reads copies of the frames. The kernel's own are dropped as arriving by the wrong interface, or it
        // would answer them.
        netns.sysctl(&[(&format!("net/ipv4/conf/{uplink}/rp_filter"), "1")])?;
        self.vsctl("add-br overlay -- set bridge overlay datapath_type=netdev")?;
        netns.ip_batch(&[
            format!("addr flush dev {uplink}"),
            format!("addr del {vtep}/32 dev lo"),
            format!("addr add {link_address} dev underlay"),
            format!("addr add {vtep}/32 dev underlay"),
            "link set underlay up".to_owned(),
            format!("route replace default via {gateway} dev underlay src {vtep}"),
        ])?;
        for device in devices {
            self.vsctl(&format!("add-port overlay {device}"))?;
        }
        for (number, peer) in peers.iter().enumerate() {
            self.vsctl(&format!(
                "add-port overlay tunnel{number} -- set interface tunnel{number} type=vxlan \
                 options:remote_ip={peer} options:local_ip={vtep} options:key={vni} options:csum=false"
            ))?;
        }
        Ok(())
    }

    /// Runs `ovs-vsctl`.
    ///
    /// # Errors
    /// It fails.
    pub fn vsctl(&self, words: &str) -> Result<String> {
        self.node.run(&format!("ovs-vsctl --timeout=10 --db={} {words}", self.socket))
    }
}
