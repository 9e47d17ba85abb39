//! The topology of a case file: compiled for its node, and what its names mean.

use crate::{
    case::{CaseFile, Mapping},
    machine::Machine,
    packet::{AddressFamily, Eth, Flow, Ipv4, Ipv6, Layer, Names, Port as UdpPort, Tunnel, Udp, Vxlan},
    state::{State, parse_mac},
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};
use vpc_common::{
    Be16, Be32, Mac,
    limits::VXLAN_PORT,
    nat::{ExternalPort, NatIn},
    session::V4,
};
use vpc_topology::{Limits, Slots, Topology, compile::Desired};

/// Indices of interfaces by name.
#[derive(Clone, Debug, Default)]
pub struct Devices(pub BTreeMap<String, u32>);

impl Devices {
    /// The index of an interface.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn index(&self, name: &str) -> Result<u32> {
        self.0.get(name).copied().with_context(|| format!("no interface {name}"))
    }
    /// The name of an index.
    pub fn name(&self, index: u32) -> String {
        let found = self.0.iter().find(|(_, other)| **other == index);
        found.map_or_else(|| format!("interface {index}"), |(name, _)| name.clone())
    }
}

/// A compiled topology with its machine.
#[derive(Clone, Debug)]
pub struct Fabric {
    topology: Topology,
    text: String,
    node: String,
    machine: Machine,
    /// What the topology says of this node.
    pub desired: Desired,
    epoch: u32,
}

impl Fabric {
    /// Compiles the file's topology for its node.
    ///
    /// # Errors
    /// The topology is not valid.
    pub fn new(file: &CaseFile) -> Result<Self> {
        let (topology, desired) = compile(&file.topology, &file.node, &Slots::new())?;
        let (node, machine) = (file.node.clone(), file.machine.clone());
        Ok(Self { topology, text: file.topology.clone(), node, machine, desired, epoch: 1 })
    }

    /// The same after a piece of the topology's text, which must be there once, was replaced. Epochs move.
    ///
    /// # Errors
    /// The text is not there, or the new topology is not valid.
    pub fn edited(&self, replace: &str, with: &str) -> Result<Self> {
        if self.text.matches(replace).count() != 1 {
            bail!("{replace:?} must stand in the topology exactly once");
        }
        let text = self.text.replace(replace, with);
        let slots = self.desired.ports.iter().map(|(slot, port)| (port.record.uid, *slot)).collect();
        let (topology, desired) = compile(&text, &self.node, &slots)?;
        Ok(Self { topology, text, desired, epoch: self.epoch + 1, ..self.clone() })
    }

    /// The same on a machine that has changed. Epochs move, unless only the offload device comes or goes.
    pub fn on(&self, machine: &Machine) -> Self {
        let other = Machine { no_offload: machine.no_offload, ..self.machine.clone() };
        let epoch = if other == *machine { self.epoch } else { self.epoch + 1 };
        Self { machine: machine.clone(), epoch, ..self.clone() }
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// A device is not there.
    pub fn state(&self, devices: &Devices) -> Result<State> {
        State::new(&self.desired, &self.machine, self.epoch, devices, self)
    }

    /// Names of all interfaces: uplinks, ports' devices, and those that belong to no port at first.
    pub fn device_names(&self) -> Vec<String> {
        let ports = self.desired.ports.values().filter_map(|port| port.device.clone());
        let external = self.external().map(str::to_owned);
        self.uplinks()
            .iter()
            .cloned()
            .chain(external)
            .chain(ports)
            .chain(self.machine.spare_devices.iter().cloned())
            .collect()
    }

    /// Made-up indices of all interfaces, for the host.
    pub fn made_up_devices(&self) -> Devices {
        Devices(self.device_names().into_iter().zip(101..).collect())
    }

    /// Names of the uplinks.
    pub fn uplinks(&self) -> &[String] {
        &self.desired.node.uplinks
    }

    /// Name of the external interface, if the node is a gateway.
    pub fn external(&self) -> Option<&str> {
        self.desired.outside.outlet.as_ref().map(|outlet| outlet.device.as_str())
    }

    /// The slot of a local port.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn slot(&self, port: &str) -> Result<u16> {
        let found = self.desired.ports.iter().find(|(_, desired)| desired.name == port);
        found.map(|(slot, _)| *slot).with_context(|| format!("no local port {port}"))
    }

    /// A NAT mapping.
    ///
    /// # Errors
    /// It is not written as an address, a space and a port, or no NAT gateway has the external address.
    pub fn mapping(&self, mapping: &Mapping) -> Result<(ExternalPort, NatIn)> {
        let end = |text: &str| -> Result<(V4, Be16)> {
            let (address, port) = text.split_once(' ').with_context(|| format!("{text}: no address and port"))?;
            let address: Ipv4Addr = address.parse()?;
            Ok(([Be32(address.octets()).raw()], Be16::new(port.parse()?)))
        };
        let ((private, port), (address, external_port)) = (end(&mapping.private)?, end(&mapping.external)?);
        let mut externals = self.desired.outside.externals.iter();
        let (_, external) = externals.find(|(key, _)| *key == address).context("no such external address")?;
        let key = ExternalPort { address, protocol: mapping.protocol, reserved: 0, port: external_port };
        let slot = self.slot(&mapping.port).unwrap_or_default();
        Ok((key, NatIn { gateway: external.gateway, private, slot, port, last_used: 0, kept: mapping.kept }))
    }

    /// The name of a slot; `underlay` for slot 0.
    pub fn slot_name(&self, slot: u16) -> String {
        match self.desired.ports.get(&slot) {
            Some(port) => port.name.clone(),
            None if slot == 0 => "underlay".to_owned(),
            None => format!("slot {slot}"),
        }
    }

    /// The device of a local port.
    ///
    /// # Errors
    /// There is no such port, or it has none.
    pub fn device_of(&self, port: &str) -> Result<&str> {
        let found = self.desired.ports.values().find(|desired| desired.name == port);
        found.and_then(|port| port.device.as_deref()).with_context(|| format!("no local port {port} with a device"))
    }

    /// The VTEP address of a node, and its number.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn vtep(&self, node: &str) -> Result<(IpAddr, u16)> {
        if let Some(address) = node.strip_prefix("address/") {
            return Ok((address.parse().with_context(|| format!("not an address: {node}"))?, 0xfff));
        }
        let node = self.topology.node(node).with_context(|| format!("no node {node}"))?;
        Ok((node.vtep.value.0, node.id.value.0))
    }

    fn uplink_mac(&self, name: &str) -> Option<Mac> {
        let place = self.uplinks().iter().position(|uplink| uplink == name)?;
        Some(Mac::new([0x02, 0xaa, 0, 0, 0, place as u8 + 1]))
    }
}

fn compile(text: &str, node: &str, slots: &Slots) -> Result<(Topology, Desired)> {
    let topology = vpc_topology::load(text, "topology").map_err(|problems| anyhow!("{problems}"))?;
    let desired = vpc_topology::compile(&topology, node, slots, &Limits::default())?;
    Ok((topology, desired))
}

impl Names for Fabric {
    fn mac(&self, name: &str) -> Result<Mac> {
        if let Some(mac) = parse_mac(name) {
            return Ok(mac);
        }
        if let Some(node) = name.strip_prefix("next_hop/") {
            let (_, id) = self.vtep(node)?;
            let [high, low] = id.to_be_bytes();
            return Ok(Mac::new([0x02, 0xbb, 0, 0, high, low]));
        }
        match name {
            "router" => return Ok(Mac::ROUTER),
            "broadcast" => return Ok(Mac::BROADCAST),
            "outside" => return Ok(Mac::new([0x02, 0xdd, 0, 0, 0, 1])),
            name if self.external() == Some(name) => return Ok(Mac::new([0x02, 0xcc, 0, 0, 0, 1])),
            _ => {}
        }
        if let Some(mac) = self.uplink_mac(name) {
            return Ok(mac);
        }
        let port = self.topology.file().ports.iter().find(|port| &*port.name.value == name);
        port.map(|port| port.mac.value.0).with_context(|| format!("no MAC, port or uplink {name}"))
    }

    fn address(&self, name: &str, family: AddressFamily) -> Result<IpAddr> {
        let address = match name.parse::<IpAddr>() {
            Ok(address) => Some(address),
            Err(_) => match self.topology.node(name) {
                Some(node) => Some(node.vtep.value.0),
                None => {
                    let (name, link_local) = match name.strip_prefix("link_local/") {
                        Some(name) => (name, true),
                        None => (name, false),
                    };
                    if link_local {
                        Some(self.mac(name)?.link_local().into())
                    } else {
                        let port = self.topology.file().ports.iter().find(|port| &*port.name.value == name);
                        let port = port.with_context(|| format!("no address, port or node {name}"))?;
                        let of_family = |address: &IpAddr| address.is_ipv4() == (family == AddressFamily::V4);
                        port.private_ips.iter().map(|address| address.value.0).find(of_family)
                    }
                }
            },
        };
        match (address, family) {
            (Some(address @ IpAddr::V4(_)), AddressFamily::V4) => Ok(address),
            (Some(address @ IpAddr::V6(_)), AddressFamily::V6) => Ok(address),
            _ => bail!("{name} has no {family:?} address"),
        }
    }

    fn tunnel(&self, tunnel: &Tunnel) -> Result<Vec<Layer>> {
        let own = self.node.as_str();
        let (from, to) = (tunnel.from.as_deref().unwrap_or(own), tunnel.to.as_deref().unwrap_or(own));
        let uplink = match &tunnel.via {
            Some(uplink) => uplink.clone(),
            None => self.uplinks().first().cloned().context("the node has no uplink")?,
        };
        let ((source, _), (destination, _)) = (self.vtep(from)?, self.vtep(to)?);
        let (src, dst) =
            if from == own { (uplink, format!("next_hop/{to}")) } else { (format!("next_hop/{from}"), uplink) };
        let ip = outer_ip(source, destination, tunnel.tos);
        let src_port = match tunnel.source_port {
            Some(port) => UdpPort::Number(port),
            None if from == own => UdpPort::Hashed(Flow::Flow),
            None => UdpPort::Number(50_000),
        };
        Ok(vec![
            Layer::Eth(Eth { src, dst, ether_type: None }),
            ip,
            Layer::Udp(Udp { src: src_port, dst: VXLAN_PORT, length: None, checksum: Some(0) }),
            Layer::Vxlan(Vxlan { vni: tunnel.vni, flags: 8, reserved: 0, reserved2: 0 }),
        ])
    }
}

/// The outer IP header as VTEPs here send it: don't fragment, TTL 64.
fn outer_ip(source: IpAddr, destination: IpAddr, tos: u8) -> Layer {
    let (src, dst) = (source.to_string(), destination.to_string());
    match source {
        IpAddr::V4(_) => Layer::Ipv4(Ipv4 {
            src,
            dst,
            ttl: 64,
            tos,
            id: 0,
            df: true,
            mf: false,
            offset: 0,
            protocol: None,
            length: None,
            checksum: None,
            version: None,
            ihl: None,
            options: None,
        }),
        IpAddr::V6(_) => {
            Layer::Ipv6(Ipv6 { src, dst, hop_limit: 64, tos, flow: 0, next_header: None, length: None, version: None })
        }
    }
}
