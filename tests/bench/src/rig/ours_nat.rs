//! One node with a real agent, from a guest to the outside by a NAT gateway or an elastic IP, this node being the gateway.

use super::{CLIENT, GUEST_MTU, Generator, OUTSIDE, Path, Translation, UNDERLAY_MTU, rules::of_group};
use crate::flows::Macs;
use anyhow::{Context, Result};
use std::{fs, net::Ipv4Addr};
use vpc_common::Mac;
use vpc_lab::{Agent, Blueprint, Guest, Lab, Netns, Node, agent::vpcctl};

const MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x01, 0x10]);

/// The fields are dropped in their order: the agent first.
pub struct OursNat {
    agent: Agent,
    client: Guest,
    outside: Netns,
    node: Node,
    _lab: Lab,
}

impl OursNat {
    /// The agent converged, the guest wired, that many rules in force.
    ///
    /// # Errors
    /// The agent does not come up, or no ping arrives.
    pub fn new(rules: usize, translation: Translation) -> Result<Self> {
        let lab = Lab::new()?;
        let text = topology(rules, translation);
        let path = lab.directory().join("nat.yaml");
        fs::write(&path, &text)?;
        let blueprint = Blueprint::parse(&text)?;
        let (node, outside) = (Node::new(&lab, "hv1")?, Netns::new(&lab, "outside")?);
        outside.ip(&format!(
            "link add eth0 mtu {UNDERLAY_MTU} type veth peer name eth2 mtu {UNDERLAY_MTU} netns {}",
            node.netns().name()
        ))?;
        outside.ip_batch(&[
            "link set eth0 up".to_owned(),
            "addr add 203.0.113.1/24 dev eth0".to_owned(),
            format!("addr add {OUTSIDE}/32 dev lo"),
        ])?;
        // What XDP and TC of the node redirect to eth2 arrives only while the far end polls.
        outside.run("ethtool -K eth0 gro on")?;
        node.netns().ip_batch(&[
            "link add eth1 type veth peer name nowhere".to_owned(),
            "link set nowhere up".to_owned(),
            "link set eth1 up".to_owned(),
            "addr add 192.0.2.1/32 dev lo".to_owned(),
            "link set eth2 up".to_owned(),
            "addr add 203.0.113.2/24 dev eth2".to_owned(),
        ])?;
        let plan = blueprint.port("client").context("port client")?;
        let client = Guest::new(&lab, &node, plan, blueprint.subnet(&plan.subnet)?, GUEST_MTU)?;
        let mut agent = Agent::start(&node, &path)?;
        agent.wait_ready()?;
        client.netns().run(&format!("ping -c 2 -i 0.2 -W 2 {OUTSIDE}")).context("our way outside carries no ping")?;
        Ok(Self { agent, client, outside, node, _lab: lab })
    }
}

impl Path for OursNat {
    fn name(&self) -> &'static str {
        "ours"
    }
    fn client(&self) -> &Netns {
        self.client.netns()
    }
    fn server(&self) -> &Netns {
        &self.outside
    }
    fn server_address(&self) -> Ipv4Addr {
        OUTSIDE
    }
    fn macs(&self) -> Macs {
        Macs { destination: Mac::ROUTER, source: MAC }
    }
    fn generator(&self, state: Generator) -> Result<()> {
        state.keep(&self.agent)?;
        self.node.netns().run(&format!("ethtool -K tap-client gro {}", state.gro())).map(drop)
    }
    fn forget(&self) -> Result<()> {
        vpcctl(&self.node, "sessions flush").map(drop)
    }
}

fn topology(rules: usize, translation: Translation) -> String {
    let rules = of_group(rules);
    let (way, owner, nat) = match translation {
        Translation::Ports => (
            "nat_gateway: nat",
            "",
            "nat_gateways: [{name: nat, vpc: prod, elastic_ips: [address], ports_per_node: 60000}]\n",
        ),
        Translation::Address => ("internet_gateway: igw", ", port: client", ""),
    };
    format!(
        "version: 1\n\
         nodes:\n\
         \x20 - {{name: hv1, id: 1, vtep: 192.0.2.1, uplink: eth1, \
         gateway: {{external: eth2, addresses: [203.0.113.2/24], next_hop: 203.0.113.1}}}}\n\
         vpcs:\n\
         \x20 - {{name: prod, vni: 5001, cidr_blocks: [10.0.0.0/16]}}\n\
         subnets:\n\
         \x20 - {{name: left, vpc: prod, cidr_blocks: [10.0.1.0/24], route_table: out}}\n\
         route_tables:\n\
         \x20 - {{name: out, vpc: prod, routes: [{{destination: 0.0.0.0/0, {way}}}]}}\n\
         internet_gateways: [{{name: igw, vpc: prod}}]\n\
         elastic_ips: [{{name: address, address: 203.0.113.10{owner}}}]\n\
         {nat}\
         security_groups:\n\
         \x20 - {{name: all, vpc: prod, ingress: {rules}, egress: {rules}}}\n\
         ports:\n\
         \x20 - {{name: client, subnet: left, node: hv1, device: tap-client, mac: \"{MAC}\", private_ips: [{CLIENT}], \
         security_groups: [all]}}\n"
    )
}
