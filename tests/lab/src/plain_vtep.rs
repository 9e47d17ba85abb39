//! Nodes without an agent: tunnel ends made of what Linux and Open vSwitch bring along.

use crate::{node::Node, open_vswitch::OpenVswitch};
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

/// Turns a node with an Open vSwitch into a VTEP for one VNI: a bridge for the underlay, which takes over the uplink and
/// its addresses since only a bridge of the switch can end its userspace tunnels, and a bridge with the guests' devices and
/// a tunnel port to each peer.
///
/// # Errors
/// The switch or the kernel refuses something.
pub fn open_vswitch_vtep(
    switch: &OpenVswitch,
    node: &Node,
    uplink: &str,
    vtep: IpAddr,
    vni: u32,
    devices: &[&str],
    peers: &[IpAddr],
) -> Result<()> {
    let netns = node.netns();
    let addresses = netns.run(&format!("ip -br -4 addr show dev {uplink}"))?;
    let link_address = addresses.split_whitespace().nth(2).context("the uplink has no address")?;
    let routes = netns.run("ip -4 route show default")?;
    let gateway = routes.split_whitespace().nth(2).context("no default route")?;
    switch.vsctl(&format!(
        "add-br underlay -- set bridge underlay datapath_type=netdev other_config:hwaddr={} -- add-port underlay {uplink}",
        netns.mac(uplink)?
    ))?;
    // The switch reads copies of the frames. The kernel's own are dropped as arriving by the wrong interface, or it
    // would answer them.
    netns.sysctl(&[(&format!("net/ipv4/conf/{uplink}/rp_filter"), "1")])?;
    switch.vsctl("add-br overlay -- set bridge overlay datapath_type=netdev")?;
    netns.ip_batch(&[
        format!("addr flush dev {uplink}"),
        format!("addr del {vtep}/32 dev lo"),
        format!("addr add {link_address} dev underlay"),
        format!("addr add {vtep}/32 dev underlay"),
        "link set underlay up".to_owned(),
        format!("route replace default via {gateway} dev underlay src {vtep}"),
    ])?;
    for device in devices {
        switch.vsctl(&format!("add-port overlay {device}"))?;
    }
    for (number, peer) in peers.iter().enumerate() {
        switch.vsctl(&format!(
            "add-port overlay tunnel{number} -- set interface tunnel{number} type=vxlan \
             options:remote_ip={peer} options:local_ip={vtep} options:key={vni} options:csum=false"
        ))?;
    }
    Ok(())
}
