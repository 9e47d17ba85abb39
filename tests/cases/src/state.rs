//! What the maps hold in a case: the compiled topology, filled with what an agent finds on its machine.

use crate::fabric::Devices;
use crate::machine::Machine;
use crate::packet::{self, Layer, Names, Tunnel};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use vpc_common::{
    Ip, Mac, bfd,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    gateway::{Gateways, Outlet},
    limits::{OVERHEAD_V4, OVERHEAD_V6, UNDERLAY_NEXT_HOPS},
    locate::{BUCKETS, LocateBucket, LocateEntry, LocateKey},
    nat::{ElasticKey, External, ExternalPort, Forward, NatSlice},
    node::{Node, flags as node_flags},
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, SourceKey, flags},
    route::{Route, RouteKey},
    session::V4,
    vtep::{NextHop, Vtep, VtepId},
};
use vpc_topology::compile::{Desired, DesiredVtep};

/// Index of the offload device.
pub const OFFLOAD: u32 = 99;

/// The content of all tables that an agent writes.
#[derive(Clone, Debug)]
pub struct State {
    /// `NODE`.
    pub node: Node,
    /// `LOCATE`, used buckets.
    pub locate: BTreeMap<u32, LocateBucket>,
    /// `PORTS`, used slots.
    pub ports: BTreeMap<u16, Port>,
    /// `PORT_DEVICES`.
    pub devices: BTreeMap<u16, u32>,
    /// `SOURCES`.
    pub sources: Vec<(SourceKey, u32)>,
    /// `ENDPOINTS`.
    pub endpoints: BTreeMap<EndpointKey, Endpoint>,
    /// `MACS`.
    pub macs: BTreeMap<MacKey, MacEntry>,
    /// `ROUTES`.
    pub routes: Vec<(RouteKey, Route)>,
    /// `HOSTS`.
    pub hosts: BTreeMap<HostKey, Subject>,
    /// `SUBJECTS`.
    pub subjects: Vec<(SubjectKey, Subject)>,
    /// `IDENTITIES`.
    pub identities: BTreeMap<IdentityKey, Subject>,
    /// `RULES`.
    pub rules: Vec<(RuleKey, RuleVerdict)>,
    /// `VTEPS`, used indices.
    pub vteps: BTreeMap<u16, Vtep>,
    /// `VTEP_IDS`.
    pub vtep_ids: BTreeMap<Ip, VtepId>,
    /// `FLOOD`.
    pub flood: BTreeMap<FloodKey, FloodMember>,
    /// `EXTERNALS`.
    pub externals: BTreeMap<V4, External>,
    /// `ELASTIC_IPS`.
    pub elastic_ips: BTreeMap<ElasticKey, V4>,
    /// `NAT_GATEWAYS`.
    pub slices: BTreeMap<u32, NatSlice>,
    /// `FORWARDS`.
    pub forwards: BTreeMap<ExternalPort, Forward>,
    /// `GATEWAYS`.
    pub gateways: Gateways,
    /// The same on this gateway's own segment outside.
    pub segment: Gateways,
    /// `OUTLET`.
    pub outlet: Outlet,
}

impl State {
    /// Fills in what the topology does not say.
    pub(crate) fn new(
        desired: &Desired,
        machine: &Machine,
        epoch: u32,
        devices: &Devices,
        names: &dyn Names,
    ) -> Result<Self> {
        let mut state = Self {
            node: Node {
                vtep: desired.node.vtep,
                flags: desired.node.flags,
                id: desired.node.id.into(),
                offload: if machine.no_offload { 0 } else { OFFLOAD },
                reserved: [0; 9],
            },
            locate: BTreeMap::new(),
            ports: BTreeMap::new(),
            devices: BTreeMap::new(),
            sources: desired.sources.clone(),
            endpoints: desired.endpoints.iter().copied().collect(),
            macs: desired.macs.iter().copied().collect(),
            routes: desired.routes.clone(),
            hosts: desired.hosts.iter().copied().collect(),
            subjects: desired.subjects.clone(),
            identities: desired.identities.iter().copied().collect(),
            rules: desired.rules.clone(),
            vteps: BTreeMap::new(),
            vtep_ids: BTreeMap::new(),
            flood: desired.flood.iter().copied().collect(),
            externals: desired.outside.externals.iter().copied().collect(),
            elastic_ips: desired.outside.elastic_ips.iter().copied().collect(),
            slices: desired.outside.slices.iter().copied().collect(),
            forwards: desired.outside.forwards.iter().copied().collect(),
            gateways: gateways(desired, machine, &desired.outside.gateways),
            segment: gateways(desired, machine, &desired.outside.segment),
            outlet: Outlet::default(),
        };
        if let Some(outlet) = &desired.outside.outlet {
            state.outlet = Outlet {
                router: Port { gateway_v4: outlet.address, gateway_v6: outlet.address_v6, ..Port::default() },
                ifindex: devices.index(&outlet.device)?,
                mtu: machine.external_mtu,
                next_hop: if machine.outside_lost { Mac::default() } else { names.mac("outside")? },
                next_hop_v6: match outlet.next_hop_v6 {
                    Some(_) if !machine.outside_lost => names.mac("outside")?,
                    _ => Mac::default(),
                },
                own: names.mac(&outlet.device)?,
                reserved: [0; 3],
            };
        }
        for (slot, port) in &desired.ports {
            let mut record = port.record;
            record.epoch = epoch;
            record.mtu = machine.port_mtu.get(&port.name).copied().unwrap_or(Machine::PORT_MTU);
            state.place(LocateKey::endpoint(record.l2_vni, record.mac), *slot)?;
            if record.flags & flags::ROUTES_FOR_OTHERS != 0 {
                state.place(LocateKey::discriminator(bfd::of_port(record.uid)), *slot)?;
            }
            if machine.no_carrier.contains(&port.name) {
                record.flags |= flags::NO_CARRIER;
            }
            let device = port.device.as_ref().filter(|_| !machine.down.contains(&port.name));
            if let Some(device) = device {
                record.ifindex = devices.index(device)?;
                state.place(LocateKey::interface(record.ifindex), *slot)?;
                if !machine.tc_delivery.contains(&port.name) {
                    record.flags |= flags::XDP_DELIVERY;
                    state.devices.insert(*slot, record.ifindex);
                }
            }
            state.ports.insert(*slot, record);
        }
        for vtep in &desired.vteps {
            state.vteps.insert(vtep.id, record_of(vtep, desired, machine, devices, names)?);
            state.vtep_ids.insert(vtep.address, VtepId { node: vtep.id.into() });
        }
        Ok(state)
    }

    /// Puts a key into the first of its buckets that has room.
    fn place(&mut self, key: LocateKey, slot: u16) -> Result<()> {
        for bucket in key.buckets() {
            let ways = &mut self.locate.entry(bucket).or_default().0;
            if let Some(free) = ways.iter_mut().find(|entry| entry.slot == 0) {
                *free = LocateEntry::new(key, slot);
                return Ok(());
            }
        }
        bail!("no room for {key:?} in the locate table: a case needs few ports")
    }

    /// All buckets, empty ones too.
    pub fn buckets(&self) -> impl Iterator<Item = (u32, LocateBucket)> + '_ {
        (0..BUCKETS).map(|index| (index, self.locate.get(&index).copied().unwrap_or_default()))
    }

    /// An IPv4 or IPv6 underlay.
    pub fn overhead(&self) -> u32 {
        if self.node.vtep.is_v4() { OVERHEAD_V4 } else { OVERHEAD_V6 }
    }
}

/// Those of some gateways that are alive, then the others.
fn gateways(desired: &Desired, machine: &Machine, ids: &[u16]) -> Gateways {
    let name = |id: u16| {
        let other = desired.vteps.iter().find(|vtep| vtep.id == id).map(|vtep| vtep.name.as_str());
        other.unwrap_or(&desired.node.name)
    };
    let (dead, alive): (Vec<u16>, Vec<u16>) = ids.iter().partition(|id| machine.dead_gateways.contains(name(**id)));
    Gateways::of(alive, dead)
}

/// The record of a VTEP, with the outer headers as the cases' own serialiser writes them.
fn record_of(
    vtep: &DesiredVtep,
    desired: &Desired,
    machine: &Machine,
    devices: &Devices,
    names: &dyn Names,
) -> Result<Vtep> {
    let overhead = if vtep.address.is_v4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let uplinks = match machine.next_hops.get(&vtep.name) {
        Some(uplinks) => uplinks.clone(),
        None => desired.node.uplinks.first().cloned().into_iter().collect(),
    };
    let mut next_hops = [NextHop::default(); UNDERLAY_NEXT_HOPS];
    for (place, uplink) in next_hops.iter_mut().zip(&uplinks) {
        *place = NextHop {
            ifindex: devices.index(uplink)?,
            destination: names.mac(&format!("next_hop/{}", vtep.name))?,
            source: names.mac(uplink)?,
        };
    }
    let uniform = desired.node.flags & node_flags::DSCP_UNIFORM != 0;
    Ok(Vtep {
        mtu: if uplinks.is_empty() { u16::MAX } else { machine.underlay_mtu - overhead as u16 },
        overhead: overhead as u16,
        next_hop_count: uplinks.len().min(UNDERLAY_NEXT_HOPS) as u16,
        tos_mask: if uniform { 0xff } else { 0x03 },
        header: header(vtep, names)?,
        next_hops,
        address: vtep.address,
        reserved2: [0; 12],
    })
}

/// Outer IP, UDP and VXLAN with what depends on the packet zero.
fn header(vtep: &DesiredVtep, names: &dyn Names) -> Result<[u8; 56]> {
    let tunnel = Tunnel { from: None, to: Some(vtep.name.clone()), vni: 0, tos: 0, source_port: Some(0), via: None };
    let mut layers = names.tunnel(&tunnel)?;
    for layer in &mut layers {
        match layer {
            Layer::Ipv4(ip) => ip.length = Some(0),
            Layer::Ipv6(ip) => ip.length = Some(0),
            Layer::Udp(udp) => udp.length = Some(0),
            _ => {}
        }
    }
    let bytes = packet::serialise(&layers, names)?.bytes;
    let behind_ethernet = bytes.get(14..).context("a tunnel starts with Ethernet")?;
    let mut header = [0; 56];
    header[..behind_ethernet.len()].copy_from_slice(behind_ethernet);
    Ok(header)
}

/// A MAC from its text.
pub(crate) fn parse_mac(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then(|| Mac::new(octets))
}
