//! One node by the Linux kernel, from a guest to the outside: a bridge, IP forwarding, connection tracking with rules, and
//! NAT by nftables: of ports, or one to one.

use super::{
    CLIENT, GUEST_MTU, Generator, OUTSIDE, Path, Translation, UNDERLAY_MTU, conntrack,
    kernel::nft,
    rules::{Form, of_nftables},
};
use crate::flows::Macs;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use vpc_common::Mac;
use vpc_lab::{Lab, Netns};

const CLIENT_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x01, 0x10]);
const BRIDGE_MAC: Mac = Mac::new([0x02, 0xbb, 0, 0, 0, 1]);
const NODE_MAC: Mac = Mac::new([0x02, 0xee, 0, 0, 0, 1]);
const OUTSIDE_MAC: Mac = Mac::new([0x02, 0xee, 0, 0, 0, 2]);
/// Chains of nftables. The node answers for 203.0.113.2 itself, so that this is the elastic IP too.
const PORTS: &str =
    "chain out { type nat hook postrouting priority srcnat; oifname \"eth2\" snat ip to 203.0.113.2; }\n";

/// A guest, its node, and the outside.
pub struct KernelNat {
    client: Netns,
    outside: Netns,
    node: Netns,
}

impl KernelNat {
    /// Everything wired, neighbours permanent, that many rules in force.
    ///
    /// # Errors
    /// The kernel refuses something, or no ping arrives.
    pub fn new(lab: &Lab, rules: usize, translation: Translation) -> Result<Self> {
        let netns = |name: &str| Netns::new(lab, &format!("{}-{name}", translation.word()));
        let rig = Self { client: netns("client")?, outside: netns("outside")?, node: netns("hv1")? };
        let (client, outside, node) = (&rig.client, &rig.outside, &rig.node);
        node.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/rp_filter", "0")])?;
        client.ip(&format!(
            "link add eth0 address {CLIENT_MAC} mtu {GUEST_MTU} type veth peer name tap mtu {GUEST_MTU} netns {}",
            node.name()
        ))?;
        outside.ip(&format!(
            "link add eth0 address {OUTSIDE_MAC} mtu {UNDERLAY_MTU} type veth peer name eth2 address {NODE_MAC} mtu \
             {UNDERLAY_MTU} netns {}",
            node.name()
        ))?;
        node.ip_batch(&[
            format!("link add bridge0 address {BRIDGE_MAC} mtu {GUEST_MTU} type bridge"),
            "link set tap master bridge0 up".to_owned(),
            "link set bridge0 up".to_owned(),
            "addr add 10.0.1.1/24 dev bridge0".to_owned(),
            format!("neigh replace {CLIENT} lladdr {CLIENT_MAC} dev bridge0 nud permanent"),
            "link set eth2 up".to_owned(),
            "addr add 203.0.113.2/24 dev eth2".to_owned(),
            format!("neigh replace 203.0.113.1 lladdr {OUTSIDE_MAC} dev eth2 nud permanent"),
            "route add default via 203.0.113.1".to_owned(),
        ])?;
        client.ip_batch(&[
            "link set eth0 up".to_owned(),
            format!("addr add {CLIENT}/24 dev eth0"),
            format!("neigh replace 10.0.1.1 lladdr {BRIDGE_MAC} dev eth0 nud permanent"),
            "route add default via 10.0.1.1".to_owned(),
        ])?;
        outside.ip_batch(&[
            "link set eth0 up".to_owned(),
            "addr add 203.0.113.1/24 dev eth0".to_owned(),
            format!("addr add {OUTSIDE}/32 dev lo"),
            format!("neigh replace 203.0.113.2 lladdr {NODE_MAC} dev eth0 nud permanent"),
        ])?;
        let inwards = match translation {
            Translation::Ports => String::new(),
            Translation::Address => format!(
                "chain in {{ type nat hook prerouting priority dstnat; iifname \"eth2\" ip daddr 203.0.113.2 \
                 dnat ip to {CLIENT}; }}\n"
            ),
        };
        nft(node, lab.directory(), &of_nftables(rules, Form::List, &(PORTS.to_owned() + &inwards)))?;
        client.run(&format!("ping -c 2 -i 0.2 -W 2 {OUTSIDE}")).context("the kernel's NAT carries no ping")?;
        Ok(rig)
    }
}

impl Path for KernelNat {
    fn name(&self) -> &'static str {
        "kernel with nftables"
    }
    fn client(&self) -> &Netns {
        &self.client
    }
    fn server(&self) -> &Netns {
        &self.outside
    }
    fn server_address(&self) -> Ipv4Addr {
        OUTSIDE
    }
    fn macs(&self) -> Macs {
        Macs { destination: BRIDGE_MAC, source: CLIENT_MAC }
    }
    fn generator(&self, state: Generator) -> Result<()> {
        self.node.run(&format!("ethtool -K tap gro {}", state.gro())).map(drop)
    }
    fn forget(&self) -> Result<()> {
        conntrack::flush(&self.node)
    }
}
