//! The same job by Open vSwitch on both nodes: VXLAN, routing, connection tracking and the same rules by OpenFlow, in its
//! userspace datapath, which needs no module of the kernel.

use super::{CLIENT, GUEST_MTU, Generator, Path, SERVER, UNDERLAY_MTU, rules::of_open_flow};
use crate::flows::Macs;
use anyhow::{Context, Result, bail};
use std::{net::Ipv4Addr, time::Duration};
use vpc_common::Mac;
use vpc_lab::{Lab, Netns, OpenVswitch, wait::eventually};

const CLIENT_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x01, 0x10]);
const SERVER_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0x02, 0x10]);
const GATEWAY_MAC: Mac = Mac::new([0x02, 0xbb, 0, 0, 0, 0]);
const VNI: u32 = 1_000;
/// The datapath takes frames as they are on a wire: no segments and no unfinished checksums, at neither end of its ports.
const NO_OFFLOADS: &str = "tx off tso off gso off gro off";
/// How long the switches may take until they forward.
const START: Duration = Duration::from_secs(10);

/// Two nodes. What an established packet meets on the first one, all in the main thread of `ovs-vswitchd`: it is copied from
/// an AF_PACKET socket of the guest's port, finds its flow in the exact-match cache and its connection in the table of
/// those, and then a second flow, which writes TTL and MACs and pushes the outer headers; it leaves by an AF_PACKET socket of
/// the uplink, up to 32 packets by one call. On the second node there are three flows: the outer headers' own, which pops them,
/// and the two around the connection. Only what has no flow passes the OpenFlow tables. A thread that sleeps is woken by the
/// next packet.
pub struct Ovs {
    switches: [OpenVswitch; 2],
    client: Netns,
    server: Netns,
    nodes: [Netns; 2],
}

/// One of the two nodes.
struct Side<'a> {
    node: &'a Netns,
    guest: &'a Netns,
    number: u8,
    address: Ipv4Addr,
    mac: Mac,
    peer: (Ipv4Addr, Mac),
}

impl Ovs {
    /// Everything wired, neighbours permanent, connections judged by that many rules on both nodes.
    ///
    /// # Errors
    /// Open vSwitch is not there or refuses something, or no ping arrives.
    pub fn new(lab: &Lab, rules: usize) -> Result<Self> {
        let netns = |name: &str| Netns::new(lab, name);
        let (client, server) = (netns("ovs-client")?, netns("ovs-server")?);
        let nodes = [netns("ovs-hv1")?, netns("ovs-hv2")?];
        let [left, right] = &nodes;
        left.ip(&format!(
            "link add eth1 mtu {UNDERLAY_MTU} type veth peer name eth1 mtu {UNDERLAY_MTU} netns {}",
            right.name()
        ))?;
        let (one, other) = ((CLIENT, CLIENT_MAC), (SERVER, SERVER_MAC));
        let side = |node, guest, number, (address, mac), peer| {
            Side { node, guest, number, address, mac, peer }.start(lab, rules)
        };
        let switches = [side(left, &client, 1, one, other)?, side(right, &server, 2, other, one)?];
        eventually(START, || client.run(&format!("ping -c 1 -W 1 {SERVER}")))
            .context("Open vSwitch carries no ping")?;
        Ok(Self { switches, client, server, nodes })
    }
}

impl Path for Ovs {
    fn name(&self) -> &'static str {
        "Open vSwitch"
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
        Macs { destination: GATEWAY_MAC, source: CLIENT_MAC }
    }
    fn generator(&self, state: Generator) -> Result<()> {
        match state {
            Generator::On => {
                bail!("what the generator sends in softirq finds the sockets of a userspace datapath full")
            }
            Generator::Off => Ok(()),
        }
    }
    fn forget(&self) -> Result<()> {
        self.switches.iter().try_for_each(|switch| switch.appctl("dpctl/flush-conntrack").map(drop))
    }
}

impl Side<'_> {
    fn start(&self, lab: &Lab, rules: usize) -> Result<OpenVswitch> {
        let Self { node, guest, number: own, address, mac, .. } = self;
        let other = 3 - own;
        guest.ip(&format!(
            "link add eth0 address {mac} mtu {GUEST_MTU} type veth peer name tap mtu {GUEST_MTU} netns {}",
            node.name()
        ))?;
        guest.ip_batch(&[
            "link set eth0 up".to_owned(),
            format!("addr add {address}/24 dev eth0"),
            format!("neigh replace 10.0.{own}.1 lladdr {GATEWAY_MAC} dev eth0 nud permanent"),
            format!("route add default via 10.0.{own}.1"),
        ])?;
        node.ip_batch(&["link set eth1 up".to_owned(), "link set tap up".to_owned()])?;
        for (netns, device) in [(node, "eth1"), (node, "tap"), (guest, "eth0")] {
            netns.run(&format!("ethtool -K {device} {NO_OFFLOADS}"))?;
        }
        let switch = OpenVswitch::start(node, &lab.directory().join(format!("{}.ovs", node.name())))?;
        // The kernel gets the frames as well, of which the switch reads copies: not for the uplink's own MAC, so that it drops
        // them at once.
        switch.vsctl(&format!(
            "add-br underlay -- set bridge underlay datapath_type=netdev other_config:hwaddr={} -- \
             add-port underlay eth1",
            underlay_mac(*own)
        ))?;
        switch.vsctl(&format!(
            "add-br overlay -- set bridge overlay datapath_type=netdev fail_mode=secure -- add-port overlay tap -- \
             add-port overlay tunnel -- set interface tunnel type=vxlan options:local_ip=192.0.2.{own} \
             options:remote_ip=192.0.2.{other} options:key=flow options:csum=false"
        ))?;
        node.ip_batch(&[format!("addr add 192.0.2.{own}/30 dev underlay"), "link set underlay up".to_owned()])?;
        switch.appctl(&format!("tnl/neigh/set underlay 192.0.2.{other} {}", underlay_mac(other)))?;
        switch.replace_flows("overlay", &self.flows(rules))?;
        Ok(switch)
    }

    /// Table 0 takes what the guest and the tunnel may send, 1 asks whether its connection stands, 2 judges new ones, 3 routes.
    fn flows(&self, rules: usize) -> String {
        let Self { address, mac, peer: (peer, peer_mac), .. } = self;
        let routed = format!("dec_ttl,mod_dl_src:{GATEWAY_MAC}");
        let allow = of_open_flow(rules, 2, "ct(commit,zone=1,table=3)");
        format!(
            "table=0,in_port=tap,dl_src={mac},ip,nw_src={address},actions=ct(table=1,zone=1)\n\
             table=0,in_port=tunnel,tun_id={VNI},ip,actions=ct(table=1,zone=1)\n\
             table=1,ct_state=+trk+est,ip,actions=goto_table:3\n\
             table=1,ct_state=+trk+rel,ip,actions=goto_table:3\n\
             table=1,ct_state=+trk+new,ip,actions=goto_table:2\n\
             {allow}\
             table=3,ip,nw_dst={address},actions={routed},mod_dl_dst:{mac},output:tap\n\
             table=3,ip,nw_dst={peer},actions={routed},mod_dl_dst:{peer_mac},set_field:{VNI}->tun_id,output:tunnel\n"
        )
    }
}

const fn underlay_mac(number: u8) -> Mac {
    Mac::new([0x02, 0xaa, 0, 0, 0, number])
}
