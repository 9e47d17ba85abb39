//! The same job by the Linux kernel: a bridge per subnet, a VXLAN device for routed traffic, IP forwarding on both nodes
//! (symmetric IRB); without a firewall, or with connection tracking and rules by nftables on both.

use super::{
    CLIENT, GUEST_MTU, Generator, Path, SERVER, UNDERLAY_MTU, Wire, conntrack,
    rules::{Form, of_nftables},
};
use crate::{flows::Macs, programs::Programs};
use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use std::{fs, path::PathBuf};
use vpc_bpf::{Hook, Link};
use vpc_common::Mac;
use vpc_lab::{Lab, Netns};

const CLIENT_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x01, 0x10]);
const SERVER_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x02, 0x10]);
const VNI: u32 = 1_000;

/// The fields are dropped in their order.
/// Two nodes.
pub struct Kernel {
    client: Netns,
    server: Netns,
    nodes: [Netns; 2],
    name: &'static str,
    links: Vec<Link>,
    directory: PathBuf,
}

/// How the nodes receive.
#[derive(Clone, Copy)]
pub enum Receive<'p> {
    /// As the kernel does by itself.
    Plain,
    /// Behind an XDP program that lets everything pass: on a veth, having one costs a copy of every frame that has
    /// fragments, for ours and for the kernel alike. No real wire has that.
    BehindXdp(&'p Programs),
}

/// One of the two nodes.
struct Side<'a> {
    node: &'a Netns,
    guest: &'a Netns,
    number: u8,
    address: std::net::Ipv4Addr,
    mac: Mac,
}

impl Kernel {
    /// Everything wired, neighbours permanent.
    ///
    /// # Errors
    /// The kernel refuses something, or no ping arrives.
    pub fn new(lab: &Lab, wire: Wire, receive: Receive<'_>) -> Result<Self> {
        let netns = |name: &str| Netns::new(lab, name);
        let mut rig = Self {
            client: netns("kernel-client")?,
            server: netns("kernel-server")?,
            nodes: [netns("kernel-hv1")?, netns("kernel-hv2")?],
            name: "kernel",
            links: Vec::new(),
            directory: lab.directory().to_owned(),
        };
        let [left, right] = &rig.nodes;
        let mtu = UNDERLAY_MTU;
        left.ip(&format!(
            "link add eth1 address {} mtu {mtu} type veth peer name eth1 address {} mtu {mtu} netns {}",
            underlay_mac(1),
            underlay_mac(2),
            right.name()
        ))?;
        side(&Side { node: left, guest: &rig.client, number: 1, address: CLIENT, mac: CLIENT_MAC }, wire)?;
        side(&Side { node: right, guest: &rig.server, number: 2, address: SERVER, mac: SERVER_MAC }, wire)?;
        if let Receive::BehindXdp(programs) = receive {
            let program = programs.fd("xdp_pass")?;
            rig.name = "kernel behind XDP_PASS";
            for node in &rig.nodes {
                let attach =
                    || Ok::<_, anyhow::Error>(Link::attach(program, if_nametoindex("eth1")?, Hook::XdpNative)?);
                rig.links.push(node.enter(attach)??);
            }
        }
        rig.client.run(&format!("ping -c 2 -i 0.2 -W 2 {SERVER}")).context("the kernel's path carries no ping")?;
        Ok(rig)
    }

    /// Tracks connections from now on, and judges new ones by that many rules, on both nodes.
    ///
    /// # Errors
    /// nftables refuses.
    pub fn judge_by(&mut self, count: usize, form: Form) -> Result<()> {
        self.name = match form {
            Form::List => "kernel with nftables",
            Form::Set => "kernel with an nftables set",
        };
        self.nodes.iter().try_for_each(|node| nft(node, &self.directory, &of_nftables(count, form, "")))
    }
}

/// Loads a ruleset.
pub(super) fn nft(netns: &Netns, directory: &std::path::Path, ruleset: &str) -> Result<()> {
    let file = directory.join(format!("{}.nft", netns.name()));
    fs::write(&file, ruleset).with_context(|| format!("write {}", file.display()))?;
    netns.run(&format!("nft -f {}", file.display())).map(drop)
}

impl Path for Kernel {
    fn name(&self) -> &'static str {
        self.name
    }
    fn client(&self) -> &Netns {
        &self.client
    }
    fn server(&self) -> &Netns {
        &self.server
    }
    fn machines(&self) -> [Vec<&Netns>; 2] {
        [vec![&self.client, &self.nodes[0]], vec![&self.server, &self.nodes[1]]]
    }
    fn macs(&self) -> Macs {
        Macs { destination: bridge_mac(1), source: CLIENT_MAC }
    }
    fn generator(&self, state: Generator) -> Result<()> {
        self.nodes[0].run(&format!("ethtool -K tap gro {}", state.gro())).map(drop)
    }
    fn forget(&self) -> Result<()> {
        self.nodes.iter().try_for_each(conntrack::flush)
    }
}

fn side(side: &Side<'_>, wire: Wire) -> Result<()> {
    let Side { node, guest, number: own, address, mac } = side;
    let other = 3 - own;
    let mtu = GUEST_MTU;
    guest.ip(&format!(
        "link add eth0 address {mac} mtu {mtu} type veth peer name tap mtu {mtu} netns {}",
        node.name()
    ))?;
    node.sysctl(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ])?;
    node.ip_batch(&[
        "link set eth1 up".to_owned(),
        format!("addr add 192.0.2.{own}/30 dev eth1"),
        format!("neigh replace 192.0.2.{other} lladdr {} dev eth1 nud permanent", underlay_mac(other)),
        format!("link add bridge0 address {} mtu {mtu} type bridge", bridge_mac(*own)),
        "link set tap master bridge0 up".to_owned(),
        format!("link add l2 mtu {mtu} type vxlan id {own} local 192.0.2.{own} dstport 4789 nolearning"),
        "link set l2 master bridge0 up".to_owned(),
        "link set bridge0 up".to_owned(),
        format!("addr add 10.0.{own}.1/24 dev bridge0"),
        format!("neigh replace {address} lladdr {mac} dev bridge0 nud permanent"),
        format!(
            "link add l3 address {} mtu {mtu} type vxlan id {VNI} local 192.0.2.{own} dstport 4789 nolearning",
            router_mac(*own)
        ),
        "link set l3 up".to_owned(),
        format!("neigh replace 10.255.0.{other} lladdr {} dev l3 nud permanent", router_mac(other)),
        format!("route add 10.0.{other}.0/24 via 10.255.0.{other} dev l3 onlink"),
    ])?;
    node.run(&format!("bridge fdb append {} dev l3 dst 192.0.2.{other} self permanent", router_mac(other)))?;
    node.run(&format!("ethtool -K eth1 {}", wire.features()))?;
    guest.ip_batch(&[
        "link set eth0 up".to_owned(),
        format!("addr add {address}/24 dev eth0"),
        format!("neigh replace 10.0.{own}.1 lladdr {} dev eth0 nud permanent", bridge_mac(*own)),
        format!("route add default via 10.0.{own}.1"),
    ])
}

const fn underlay_mac(number: u8) -> Mac {
    Mac::new([0x02, 0xaa, 0, 0, 0, number])
}

const fn bridge_mac(number: u8) -> Mac {
    Mac::new([0x02, 0xbb, 0, 0, 0, number])
}

const fn router_mac(number: u8) -> Mac {
    Mac::new([0x02, 0xcc, 0, 0, 0, number])
}
