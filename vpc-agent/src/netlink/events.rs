//! What tells that interfaces, routes or neighbours changed.

use crate::{attach::TcWay, machine::Depth};
use netlink_sys::{
    AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket,
    protocols::{NETLINK_GENERIC, NETLINK_ROUTE},
};
use std::io;

/// A subscription to the kernel's messages.
pub struct Events {
    socket: TokioSocket,
    /// Tells what drivers can do.
    features: Option<TokioSocket>,
}

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_TC: u32 = 4;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_NEXTHOP: u32 = 32;

impl Events {
    /// Subscribes. Messages of other network namespaces count as well: the MTU of a guest's interface is in one. Filters
    /// are followed where programs hang on them, since anyone can remove those.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn subscribe(feature_group: Option<u32>, way: &TcWay) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let inner = socket.socket_mut();
        inner.bind(&SocketAddr::new(0, 0))?;
        // Namespaces that we have no id for stay silent.
        inner.set_listen_all_namespaces(true)?;
        for group in [
            RTNLGRP_LINK,
            RTNLGRP_NEIGH,
            RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV6_IFADDR,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_NEXTHOP,
        ] {
            inner.add_membership(group)?;
        }
        if *way != TcWay::Tcx {
            inner.add_membership(RTNLGRP_TC)?;
        }
        let features = match feature_group {
            Some(group) => {
                let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
                socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
                socket.socket_mut().add_membership(group)?;
                Some(socket)
            }
            None => None,
        };
        Ok(Self { socket, features })
    }

    /// Waits for a message and says how much must be looked at again. Can be dropped while it waits.
    ///
    /// # Errors
    /// Where the socket fails for good; messages that were lost count as everything having changed.
    pub async fn next(&mut self) -> io::Result<Depth> {
        let received = tokio::select! {
            received = self.socket.recv_from_full() => received,
            received = feature_change(self.features.as_ref()) => return received,
        };
        match received {
            Ok((bytes, _)) => Ok(changed(&bytes)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Depth::Routes),
            Err(error) => Err(error),
        }
    }
}

async fn feature_change(socket: Option<&TokioSocket>) -> io::Result<Depth> {
    let Some(socket) = socket else { return std::future::pending().await };
    match socket.recv_from_full().await {
        Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => Err(error),
        _ => Ok(Depth::Devices),
    }
}

/// Walks over the messages of a datagram.
fn changed(mut bytes: &[u8]) -> Depth {
    let mut depth = Depth::Neighbours;
    while let Some(header) = bytes.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        match u16::from_ne_bytes([header[4], header[5]]) {
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {}
            libc::RTM_NEWQDISC | libc::RTM_DELQDISC | libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
                depth = depth.max(Depth::Topology);
            }
            _ => depth = Depth::Routes,
        }
        bytes = bytes.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
    }
    depth
}
