//! The way to the outside on a gateway node: its external interface, and the router beyond.

use crate::{
    attach::LinkName,
    control::report::Attachment,
    datapath::Datapath,
    machine::Machine,
    netlink::neighbours::{Neighbour, NeighbourKey, Permanence},
    reconcile::{Outcome, chain},
};
use std::collections::BTreeMap;
use vpc_common::{
    Mac,
    gateway::{Gateways, Outlet},
    limits,
    port::Port,
    vtep::Vtep,
};
use vpc_topology::compile::{Desired, DesiredOutlet};

/// How a gateway reaches the outside.
#[derive(Clone, Debug, Default)]
pub struct DescribedOutlet {
    /// The record.
    pub record: Outlet,
    /// The next hops that the kernel should ask for.
    pub unresolved: Vec<NeighbourKey>,
    /// The next hops that the kernel should confirm from time to time.
    pub learned: Vec<NeighbourKey>,
}

impl DescribedOutlet {
    /// The MAC of a next hop; all zero while it is not known.
    fn resolve(&mut self, key: NeighbourKey, machine: &Machine) -> Mac {
        match machine.neighbours.get(&key) {
            Some(Neighbour::Usable { mac, permanence }) => {
                self.learned.extend((*permanence == Permanence::Learned).then_some(key));
                *mac
            }
            _ => {
                self.unresolved.push(key);
                Mac::default()
            }
        }
    }
}

/// Makes the record of the node's outlet from what the kernel knows.
pub fn outlet(desired: &DesiredOutlet, machine: &Machine) -> DescribedOutlet {
    let mut described = DescribedOutlet::default();
    described.record.router = Port { gateway_v4: desired.address, gateway_v6: desired.address_v6, ..Port::default() };
    let Some(link) = machine.links.get(&desired.device) else { return described };
    let Some(own) = link.mac.filter(|_| link.running) else { return described };
    (described.record.ifindex, described.record.mtu, described.record.own) = (link.index, link.mtu, own);
    described.record.next_hop = described.resolve((link.index, desired.next_hop), machine);
    if let Some(next_hop) = desired.next_hop_v6 {
        described.record.next_hop_v6 = described.resolve((link.index, next_hop), machine);
    }
    described
}

/// The gateways that can be sent to: those whose VTEP has a next hop, and this node if it has a way out.
pub fn gateways(desired: &Desired, vteps: &BTreeMap<u32, Vtep>, outlet: &Outlet) -> Gateways {
    let usable = |id: &&u16| {
        if **id == desired.node.id {
            return outlet.next_hop != vpc_common::Mac::default();
        }
        vteps.get(&u32::from(**id)).is_some_and(|vtep| vtep.next_hop_count > 0)
    };
    let mut gateways = Gateways::default();
    for (place, id) in (0..limits::GATEWAYS).zip(desired.outside.gateways.iter().filter(usable)) {
        gateways.nodes[place] = *id;
        gateways.count = place as u32 + 1;
    }
    gateways
}

/// Attaches the program of the external interface.
pub fn attach(desired: &DesiredOutlet, machine: &Machine, datapath: &mut Datapath, outcome: &mut Outcome) {
    let mut row = Attachment {
        role: "external".to_owned(),
        name: desired.device.clone(),
        device: desired.device.clone(),
        mode: "absent".to_owned(),
        reason: format!("there is no interface {}", desired.device),
        ..Attachment::default()
    };
    let problem = match machine.links.get(&desired.device) {
        Some(link) => {
            (row.ifindex, row.mtu) = (link.index, link.mtu);
            match datapath.attach(&LinkName::External(desired.device.clone()), link.index) {
                Ok(()) => {
                    row.mode = datapath.way().mode().to_owned();
                    row.reason = datapath.way().explain("what comes from outside goes to its owner");
                    None
                }
                Err(error) => {
                    row.mode = "failed".to_owned();
                    row.reason = chain(&error);
                    Some(row.reason.clone())
                }
            }
        }
        None => Some(row.reason.clone()),
    };
    outcome.problems.extend(problem.map(|text| format!("external interface {}: {text}", desired.device)));
    outcome.attachments.push(row);
}
