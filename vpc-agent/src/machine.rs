//! What the machine is like now: interfaces, what they can do, and the ways to other nodes.

use crate::netlink::{
    NetlinkError,
    links::{self, Link, Links},
    neighbours::{self, Neighbours},
    routes::{self, Reach},
};
use rtnetlink::Handle;
use std::{collections::BTreeMap, net::IpAddr};
use vpc_bpf::{FeatureQuery, XdpFeatures};
use vpc_common::Ip;

/// The host side of a port takes every frame that a guest can send, so that the router sees an oversized one and
/// answers it.
const PORT_MTU: u32 = 65_535;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Interfaces.
    pub links: Links,
    /// Neighbours.
    pub neighbours: Neighbours,
    /// The way to each VTEP.
    pub reaches: BTreeMap<Ip, Reach>,
}

/// Looks at the machine.
pub struct Observer {
    handle: Handle,
    features: Option<FeatureQuery>,
    links: Links,
    reaches: BTreeMap<Ip, Reach>,
}

/// How much is looked at again; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Neighbours.
    Neighbours,
    /// What a new topology needs: interfaces, and routes to VTEPs that are new.
    Topology,
    /// What the interfaces of ports can do, and the MTUs of guests' ends.
    Devices,
    /// The routes to all VTEPs.
    Routes,
}

impl Observer {
    /// An observer of this network namespace.
    pub fn new(handle: Handle) -> Self {
        let features = FeatureQuery::new()
            .inspect_err(|error| tracing::info!(%error, "the kernel does not tell what drivers can do with XDP"))
            .ok();
        Self { handle, features, links: Links::new(), reaches: BTreeMap::new() }
    }

    /// The netlink connection.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What a driver can do with XDP; none where the kernel does not tell.
    pub fn features(&self, ifindex: u32) -> Option<XdpFeatures> {
        self.features.as_ref()?.get(ifindex).ok()
    }

    /// The group that tells when what a driver can do changes; none where the kernel does not tell.
    pub fn feature_changes(&self) -> Option<u32> {
        self.features.as_ref()?.change_group()
    }

    /// Looks.
    ///
    /// # Errors
    /// Where the kernel refuses a request.
    pub async fn look(&mut self, vteps: impl Iterator<Item = Ip>, depth: Depth) -> Result<Machine, NetlinkError> {
        if depth > Depth::Neighbours {
            self.links = links::all(&self.handle).await?;
        }
        let mut reaches = BTreeMap::new();
        for vtep in vteps {
            let known = if depth < Depth::Routes { self.reaches.remove(&vtep) } else { None };
            let reach = match known {
                Some(reach) => reach,
                None => routes::reach(&self.handle, IpAddr::from(vtep)).await?,
            };
            reaches.insert(vtep, reach);
        }
        self.reaches.clone_from(&reaches);
        // After the routes: a lookup may be what made the kernel know a neighbour.
        let neighbours = neighbours::all(&self.handle).await?;
        Ok(Machine { links: self.links.clone(), neighbours, reaches })
    }

    /// Makes a port's host side large enough. Returns the MTU of the guest's end: the peer's of a veth, otherwise what
    /// the interface had before, which `before` tells if it was enlarged by an earlier call.
    ///
    /// # Errors
    /// Where the driver takes no larger MTU.
    pub async fn prepare_port(&self, link: &Link, before: Option<u32>) -> (u32, Result<(), NetlinkError>) {
        let guest = match link.peer {
            Some(peer) => links::peer_mtu(&self.handle, peer).await,
            None => None,
        };
        let largest = if link.max_mtu == 0 { PORT_MTU } else { PORT_MTU.min(link.max_mtu) };
        let own = if link.mtu == largest { before.unwrap_or(link.mtu) } else { link.mtu };
        let enlarged = links::set_mtu(&self.handle, link, PORT_MTU).await.map(drop);
        (guest.unwrap_or(own), enlarged)
    }
}
