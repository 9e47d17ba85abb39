//! Neighbours: who has an address on a link.

use super::NetlinkError;
use futures::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState};
use rtnetlink::Handle;
use std::{collections::BTreeMap, net::IpAddr};
use vpc_common::Mac;

/// A neighbour's link and address.
pub type NeighbourKey = (u32, IpAddr);

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It answered, or was set by hand; the kernel would send to it.
    Usable {
        /// Its address.
        mac: Mac,
        /// Whether it needs no confirmation.
        permanence: Permanence,
    },
    /// The kernel is asking, or got no answer.
    Unresolved,
}

/// Whether the kernel confirms a neighbour from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permanence {
    /// Learned: it may go.
    Learned,
    /// Set by hand, or on a link without address resolution.
    Fixed,
}

/// All neighbours.
pub type Neighbours = BTreeMap<NeighbourKey, Neighbour>;

/// Reads the neighbours of both families.
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn all(handle: &Handle) -> Result<Neighbours, NetlinkError> {
    let messages: Vec<_> =
        handle.neighbours().get().execute().try_collect().await.map_err(NetlinkError::new("list", "neighbours"))?;
    let mut neighbours = Neighbours::new();
    for message in messages {
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac::new),
                _ => {}
            }
        }
        let Some(address) = address else { continue };
        let state = match (message.header.state, mac) {
            (NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => {
                Neighbour::Usable { mac, permanence: Permanence::Fixed }
            }
            (
                NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe,
                Some(mac),
            ) => Neighbour::Usable { mac, permanence: Permanence::Learned },
            _ => Neighbour::Unresolved,
        };
        neighbours.insert((message.header.ifindex, address), state);
    }
    Ok(neighbours)
}

/// Makes the kernel ask for a neighbour that it does not know, as a packet towards it would.
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn resolve(handle: &Handle, (index, address): NeighbourKey) -> Result<(), NetlinkError> {
    let request = handle.neighbours().add(index, address).state(NeighbourState::None).flags(NeighbourFlags::Use);
    request.replace().execute().await.map_err(NetlinkError::new("resolve neighbour", address.to_string()))
}

/// Makes the kernel confirm a neighbour that it knows: after three questions without an answer it is given up.
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn confirm(handle: &Handle, (index, address): NeighbourKey) -> Result<(), NetlinkError> {
    let request = handle.neighbours().add(index, address).state(NeighbourState::Probe);
    request.replace().execute().await.map_err(NetlinkError::new("confirm neighbour", address.to_string()))
}
