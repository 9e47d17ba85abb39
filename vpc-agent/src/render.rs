//! From what is desired and what the machine is like to what the maps should hold.

use crate::{
    devices::Delivery,
    gateway::{self, Choice, DescribedOutlet, Heard},
    machine::Machine,
    maps::{
        Wanted,
        image::Shared,
        outside::{self, Outside},
    },
    underlay::{self, Described},
};
use std::collections::{BTreeMap, BTreeSet};
use vpc_common::{node::Node, port::flags, vtep::VtepId};
use vpc_topology::compile::Desired;

/// What the agent found out about a port's interface.
#[derive(Clone, Debug)]
pub struct PortDevice {
    /// Its index.
    pub ifindex: u32,
    /// MTU of the guest's end.
    pub mtu: u32,
    /// How frames are delivered.
    pub delivery: Delivery,
    /// Whether it is up and has a carrier.
    pub running: bool,
}

/// What the maps should hold, and the ways to other nodes for the operator.
#[derive(Debug)]
pub struct Rendered {
    /// Content of the maps.
    pub wanted: Wanted,
    /// The other nodes, in the order of [`Desired::vteps`].
    pub vteps: Vec<Described>,
    /// The node's own way to the outside, if it is a gateway.
    pub outlet: DescribedOutlet,
    /// Which gateways are used.
    pub choice: Choice,
}

/// Makes the content of the maps. `devices` are the interfaces that are there, by slot.
pub fn render(
    desired: &Desired,
    (shared, outside): (&Shared, &outside::Shared),
    devices: &BTreeMap<u16, PortDevice>,
    (machine, heard): (&Machine, &Heard),
) -> Rendered {
    let mut wanted = Wanted {
        node: Node {
            vtep: desired.node.vtep,
            flags: desired.node.flags,
            id: desired.node.id.into(),
            ..Node::default()
        },
        shared: shared.clone(),
        ..Wanted::default()
    };
    for (slot, port) in &desired.ports {
        let mut record = port.record;
        if let Some(device) = devices.get(slot) {
            record.ifindex = device.ifindex;
            record.mtu = device.mtu;
            record.flags |= device.delivery.flags;
            if !device.running && record.flags & flags::ROUTES_FOR_OTHERS != 0 {
                record.flags |= flags::NO_CARRIER;
            }
            wanted.devices.insert(*slot, device.ifindex);
        }
        wanted.ports.insert(*slot, record);
        wanted.reach.insert(*slot, BTreeSet::clone(&port.reach));
    }
    let mut vteps = Vec::new();
    let nowhere = crate::netlink::routes::Reach::default();
    for vtep in &desired.vteps {
        let reach = machine.reaches.get(&vtep.address).unwrap_or(&nowhere);
        let described = underlay::describe(&wanted.node, vtep.address, reach, &machine.links, &machine.neighbours);
        wanted.vteps.insert(vtep.id.into(), described.record);
        wanted.vtep_ids.insert(vtep.address, VtepId { node: vtep.id.into() });
        vteps.push(described);
    }
    let outlet = desired.outside.outlet.as_ref().map(|outlet| gateway::outlet(outlet, machine)).unwrap_or_default();
    let choice = gateway::choose(desired, &wanted.vteps, &outlet.record, heard);
    wanted.outside =
        Outside { shared: outside.clone(), gateways: choice.fabric, segment: choice.segment, outlet: outlet.record };
    Rendered { wanted, vteps, outlet, choice }
}
