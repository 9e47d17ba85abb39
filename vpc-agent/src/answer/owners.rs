//! Whose state it is: the ports of slots by name, and which of them a filter means.

use crate::{control::SessionFilter, reconcile::Reconciler};
use std::{collections::BTreeMap, net::IpAddr};
use vpc_common::{Vni, port::Port};

/// The port of a slot.
pub(super) struct Owner {
    pub name: String,
    pub vpc: String,
    pub epoch: u32,
    pub record: Port,
}

/// The ports of this node by slot, and a filter.
#[derive(Default)]
pub(super) struct Owners {
    ports: BTreeMap<u16, Owner>,
    filter: SessionFilter,
}

impl Owners {
    /// Refuses a filter that names what is not on this node.
    pub(super) fn new(reconciler: &Reconciler, filter: &SessionFilter) -> Result<Self, String> {
        let desired = reconciler.desired();
        let name = |slot: &u16| desired.and_then(|desired| desired.ports.get(slot)).map(|port| port.name.clone());
        let vpc = |vni: &Vni| desired.and_then(|desired| desired.names.vpcs.get(vni)).cloned();
        let owner = |(slot, port): (&u16, &Port)| {
            let owner = Owner {
                name: name(slot).unwrap_or_else(|| format!("slot {slot}")),
                vpc: vpc(&port.vpc).unwrap_or_else(|| format!("VNI {}", port.vpc.0)),
                epoch: port.epoch,
                record: *port,
            };
            (*slot, owner)
        };
        let ports: BTreeMap<u16, Owner> = reconciler.actual().ports.iter().map(owner).collect();
        if let Some(name) = &filter.port
            && !ports.values().any(|port| port.name == *name)
        {
            return Err(format!("no port {name} on this node"));
        }
        if let Some(name) = &filter.vpc
            && !ports.values().any(|port| port.vpc == *name)
        {
            return Err(format!("no port of a VPC {name} on this node"));
        }
        Ok(Self { ports, filter: filter.clone() })
    }

    /// The port of a slot.
    pub(super) fn of(&self, slot: u16) -> Option<&Owner> {
        self.ports.get(&slot)
    }

    /// The same, if the filter means what that port has with one of these addresses.
    pub(super) fn chosen(&self, slot: u16, addresses: &[Option<IpAddr>]) -> Option<&Owner> {
        let (owner, filter) = (self.ports.get(&slot)?, &self.filter);
        let wanted = self.means(owner) && (filter.address.is_none() || addresses.contains(&filter.address));
        wanted.then_some(owner)
    }

    /// The ports that the filter means, whatever their addresses.
    pub(super) fn all(&self) -> impl Iterator<Item = &Owner> {
        self.ports.values().filter(|owner| self.means(owner))
    }

    fn means(&self, owner: &Owner) -> bool {
        let filter = &self.filter;
        filter.port.as_ref().is_none_or(|wanted| *wanted == owner.name)
            && filter.vpc.as_ref().is_none_or(|wanted| *wanted == owner.vpc)
    }
}
