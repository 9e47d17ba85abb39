//! Interfaces.

use super::{NetlinkError, error_number};
use futures::TryStreamExt;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};
use std::collections::BTreeMap;
use vpc_common::Mac;

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its driver's kind: "veth", "tun", "vxlan"; empty for hardware.
    pub kind: String,
    /// Its MTU.
    pub mtu: u32,
    /// The largest MTU that it takes; 0 where the driver does not say.
    pub max_mtu: u32,
    /// Whether it is up and has a carrier.
    pub running: bool,
    /// Whether it takes multicast of groups that nobody on the host has joined.
    pub all_multicast: bool,
    /// Its address, where it is an Ethernet.
    pub mac: Option<Mac>,
    /// The other end of a veth.
    pub peer: Option<Peer>,
    /// What the tunnel device needs to be told apart by.
    pub vxlan: Vec<netlink_packet_route::link::InfoVxlan>,
}

/// The other end of a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index, in its own network namespace.
    pub index: u32,
    /// Id of its network namespace; none where it is ours.
    pub namespace: Option<i32>,
}

/// All interfaces, by name.
pub type Links = BTreeMap<String, Link>;

/// Reads all interfaces.
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn all(handle: &Handle) -> Result<Links, NetlinkError> {
    let messages: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(NetlinkError::new("list", "interfaces"))?;
    Ok(messages.iter().map(link).map(|link| (link.name.clone(), link)).collect())
}

/// The interface of that name; none where there is none.
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn by_name(handle: &Handle, name: &str) -> Result<Option<Link>, NetlinkError> {
    match handle.link().get().match_name(name).execute().try_next().await {
        Ok(message) => Ok(message.as_ref().map(link)),
        Err(error) if error_number(&error) == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(NetlinkError::new("look for interface", name)(error)),
    }
}

/// The MTU of a veth's other end; none where it cannot be known.
pub async fn peer_mtu(handle: &Handle, peer: Peer) -> Option<u32> {
    let mut request = handle.link().get().match_index(peer.index);
    if let Some(namespace) = peer.namespace {
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
    }
    let message = request.execute().try_next().await.ok()??;
    Some(link(&message).mtu)
}

/// Sets an interface's MTU, or the largest that it takes below it. Returns what it has then.
///
/// # Errors
/// Where the kernel takes none of them.
pub async fn set_mtu(handle: &Handle, link: &Link, mtu: u32) -> Result<u32, NetlinkError> {
    let largest = if link.max_mtu == 0 { mtu } else { mtu.min(link.max_mtu) };
    if link.mtu == largest {
        return Ok(largest);
    }
    let message = LinkMessageBuilder::<LinkUnspec>::default().index(link.index).mtu(largest).build();
    handle.link().set(message).execute().await.map_err(NetlinkError::new("set the MTU of", &link.name))?;
    Ok(largest)
}

/// Has an interface take multicast of every group: a gateway is asked for its guests' addresses by groups that its host has
/// not joined (RFC 4861 §7.2.1).
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn hear_all_multicast(handle: &Handle, link: &Link) -> Result<(), NetlinkError> {
    if link.all_multicast {
        return Ok(());
    }
    let message = LinkMessageBuilder::<LinkUnspec>::default().index(link.index).allmulticast(true).build();
    handle.link().set(message).execute().await.map_err(NetlinkError::new("take all multicast of", &link.name))
}

/// Removes an interface. It is no error if it is gone.
///
/// # Errors
/// Where the kernel refuses the request.
pub async fn remove(handle: &Handle, link: &Link) -> Result<(), NetlinkError> {
    match handle.link().del(link.index).execute().await {
        Err(error) if error_number(&error) != Some(libc::ENODEV) => Err(NetlinkError::new("remove", &link.name)(error)),
        _ => Ok(()),
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        mtu: 0,
        max_mtu: 0,
        running: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        all_multicast: message.header.flags.contains(LinkFlags::Allmulti),
        mac: None,
        peer: None,
        vxlan: Vec::new(),
    };
    let (mut lower, mut namespace) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::MaxMtu(mtu) => link.max_mtu = *mtu,
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = bytes.as_slice().try_into().ok().map(Mac::new);
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
                        LinkInfo::Data(netlink_packet_route::link::InfoData::Vxlan(data)) => {
                            link.vxlan.clone_from(data);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if link.kind == InfoKind::Veth.to_string() {
        link.peer = lower.map(|index| Peer { index, namespace });
    }
    link
}
