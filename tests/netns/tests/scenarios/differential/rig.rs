//! A router between a guest and the outside, neither of which answers by itself: ours, or Linux's.

use super::script::{End, GUEST, NAT, SERVER};
use anyhow::{Context, Result};
use std::time::Duration;
use vpc_lab::{
    Fabric, Lab, Netns,
    frames::{FrameReceiver, FrameSender, Mac, ethernet},
};
use vpc_netns_tests::fabric;

const IPV4: u16 = 0x0800;
const ETHERNET: usize = 14;
const GUEST_MAC: Mac = [2, 0, 0, 0, 2, 0x10];

/// One guest on a node that is the gateway as well. What comes from the outside is let in by nobody.
pub const TOPOLOGY: &str = "\
version: 1
nodes:
  - {name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1, receive_mode: xdp, gateway: {external: eth2, addresses: [203.0.113.2/24], next_hop: 203.0.113.1}}
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16]}
subnets:
  - {name: private, vpc: red, cidr_blocks: [10.0.2.0/24], route_table: rt}
route_tables:
  - {name: rt, vpc: red, routes: [{destination: 0.0.0.0/0, nat_gateway: ngw}]}
elastic_ips:
  - {name: eip-nat, address: 203.0.113.10}
nat_gateways:
  - {name: ngw, vpc: red, elastic_ips: [eip-nat]}
ports:
  - {name: app, subnet: private, node: hv1, device: tap-app, mac: '02:00:00:00:02:10', private_ips: [10.0.2.10]}
";

/// The same for Linux. It picks up no connection in the middle, as we do not.
const RULES: &str = "\
table ip differential {
  chain input { type filter hook input priority 0; policy drop; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    iifname inside accept
  }
  chain postrouting { type nat hook postrouting priority 100; oifname outside masquerade; }
}
";

/// Where packets are put in and taken out.
struct Port {
    sender: FrameSender,
    receiver: FrameReceiver,
    own: Mac,
    router: Mac,
}

impl Port {
    fn new(netns: &Netns, device: &str, own: Mac, router: Mac) -> Result<Self> {
        let (sender, receiver) = (FrameSender::new(netns, device)?, FrameReceiver::new(netns, device)?);
        Ok(Self { sender, receiver, own, router })
    }
}

/// A router with its two ends.
pub struct Rig {
    guest: Port,
    outside: Port,
    _fabric: Option<Fabric>,
    _namespaces: Vec<Netns>,
    _lab: Option<Lab>,
}

impl Rig {
    fn port(&self, end: End) -> &Port {
        match end {
            End::Guest => &self.guest,
            End::Server => &self.outside,
        }
    }

    /// Sends an IP packet from an end.
    pub fn send(&self, from: End, packet: &[u8]) -> Result<()> {
        let port = self.port(from);
        port.sender.send(&ethernet(port.own, port.router, IPV4, packet), 1)
    }

    /// The next IP packet that an end receives.
    pub fn receive(&self, at: End, patience: Duration) -> Result<Option<Vec<u8>>> {
        let frame = self.port(at).receiver.receive(patience)?;
        Ok(frame.map(|frame| frame[ETHERNET..].to_vec()))
    }
}

/// Ours.
pub fn here() -> Result<Rig> {
    let fabric = fabric(TOPOLOGY)?;
    let (guest, outside) = (fabric.guest("app")?.netns(), fabric.outside()?.netns());
    // Kernels without the addresses say nothing to packets for them. The next hop's own stays: it answers ARP.
    guest.ip("addr flush dev eth0")?;
    outside.sysctl(&[("net/ipv4/ip_forward", "0")])?;
    outside.ip(&format!("addr del {SERVER}/32 dev lo"))?;
    let external = mac(fabric.node("hv1")?.netns(), "eth2")?;
    let router = [0x02, 0x76, 0x70, 0x63, 0, 1];
    Ok(Rig {
        guest: Port::new(guest, "eth0", GUEST_MAC, router)?,
        outside: Port::new(outside, "to-hv1", mac(outside, "br0")?, external)?,
        _fabric: Some(fabric),
        _namespaces: Vec::new(),
        _lab: None,
    })
}

/// Linux's.
pub fn linux() -> Result<Rig> {
    let lab = Lab::new()?;
    let [guest, router, outside] = ["guest", "router", "outside"].map(|name| Netns::new(&lab, name));
    let (guest, router, outside) = (guest?, router?, outside?);
    for (netns, device) in [(&guest, "inside"), (&outside, "outside")] {
        netns.ip(&format!("link add eth0 type veth peer name {device} netns {}", router.name()))?;
        netns.ip("link set eth0 up")?;
    }
    let peer = mac(&outside, "eth0")?;
    let text = |mac: Mac| mac.map(|octet| format!("{octet:02x}")).join(":");
    router.ip_batch(&[
        "addr add 10.0.2.1/24 dev inside".to_owned(),
        format!("addr add {NAT}/24 dev outside"),
        "link set inside up".to_owned(),
        "link set outside up".to_owned(),
        "route add default via 203.0.113.1".to_owned(),
        format!("neigh add {GUEST} lladdr {} dev inside nud permanent", text(GUEST_MAC)),
        format!("neigh add 203.0.113.1 lladdr {} dev outside nud permanent", text(peer)),
    ])?;
    let rules = lab.directory().join("rules.nft");
    std::fs::write(&rules, RULES)?;
    router.run(&format!("nft -f {}", rules.display())).context("nftables")?;
    router.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/netfilter/nf_conntrack_tcp_loose", "0")])?;
    let (inside, external) = (mac(&router, "inside")?, mac(&router, "outside")?);
    Ok(Rig {
        guest: Port::new(&guest, "eth0", GUEST_MAC, inside)?,
        outside: Port::new(&outside, "eth0", peer, external)?,
        _fabric: None,
        _namespaces: vec![guest, router, outside],
        _lab: Some(lab),
    })
}

/// The MAC of a device.
fn mac(netns: &Netns, device: &str) -> Result<Mac> {
    let octets = netns.mac(device)?;
    let mut mac = Mac::default();
    for (octet, word) in mac.iter_mut().zip(octets.split(':')) {
        *octet = u8::from_str_radix(word, 16)?;
    }
    Ok(mac)
}
