//! One node by the Linux kernel, from a guest to another in another subnet: two bridges, IP forwarding, connection tracking
//! with rules.

use super::{
    CLIENT, GUEST_MTU, Generator, Path, SERVER, conntrack,
    kernel::nft,
    rules::{Form, of_nftables},
};
use crate::flows::Macs;
use anyhow::{Context, Result};
use vpc_common::Mac;
use vpc_lab::{Lab, Netns};

const GUEST_MACS: [Mac; 2] = [Mac::new([0x02, 0, 0, 0, 0x01, 0x10]), Mac::new([0x02, 0, 0, 0, 0x02, 0x10])];
const BRIDGE_MACS: [Mac; 2] = [Mac::new([0x02, 0xbb, 0, 0, 0, 1]), Mac::new([0x02, 0xbb, 0, 0, 0, 2])];

/// Two guests and their node.
pub struct KernelNear {
    guests: [Netns; 2],
    node: Netns,
}

impl KernelNear {
    /// Everything wired, neighbours permanent, that many rules in force.
    ///
    /// # Errors
    /// The kernel refuses something, or no ping arrives.
    pub fn new(lab: &Lab, rules: usize) -> Result<Self> {
        let netns = |name: &str| Netns::new(lab, name);
        let rig = Self { guests: [netns("near-client")?, netns("near-server")?], node: netns("near-hv1")? };
        rig.node.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/rp_filter", "0")])?;
        for (index, (guest, address)) in rig.guests.iter().zip([CLIENT, SERVER]).enumerate() {
            let (number, mac, bridge, mtu) = (index + 1, GUEST_MACS[index], BRIDGE_MACS[index], GUEST_MTU);
            guest.ip(&format!(
                "link add eth0 address {mac} mtu {mtu} type veth peer name tap{number} mtu {mtu} netns {}",
                rig.node.name()
            ))?;
            rig.node.ip_batch(&[
                format!("link add bridge{number} address {bridge} mtu {mtu} type bridge"),
                format!("link set tap{number} master bridge{number} up"),
                format!("link set bridge{number} up"),
                format!("addr add 10.0.{number}.1/24 dev bridge{number}"),
                format!("neigh replace {address} lladdr {mac} dev bridge{number} nud permanent"),
            ])?;
            guest.ip_batch(&[
                "link set eth0 up".to_owned(),
                format!("addr add {address}/24 dev eth0"),
                format!("neigh replace 10.0.{number}.1 lladdr {bridge} dev eth0 nud permanent"),
                format!("route add default via 10.0.{number}.1"),
            ])?;
        }
        nft(&rig.node, lab.directory(), &of_nftables(rules, Form::List, ""))?;
        rig.guests[0].run(&format!("ping -c 2 -i 0.2 -W 2 {SERVER}")).context("the kernel carries no ping")?;
        Ok(rig)
    }
}

impl Path for KernelNear {
    fn name(&self) -> &'static str {
        "kernel with nftables"
    }
    fn client(&self) -> &Netns {
        &self.guests[0]
    }
    fn server(&self) -> &Netns {
        &self.guests[1]
    }
    fn macs(&self) -> Macs {
        Macs { destination: BRIDGE_MACS[0], source: GUEST_MACS[0] }
    }
    fn generator(&self, state: Generator) -> Result<()> {
        self.node.run(&format!("ethtool -K tap1 gro {}", state.gro())).map(drop)
    }
    fn forget(&self) -> Result<()> {
        conntrack::flush(&self.node)
    }
}
