//! The offload device: a veth without offloads of its own, so that the kernel cuts segments and finishes checksums before
//! it.

use super::{
    NetlinkError,
    links::{self, Link},
};
use crate::host_stack;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use std::io;
use thiserror::Error;
use vpc_bpf::{RECEIVE_OFFLOADS, TRANSMIT_OFFLOADS, switch_off};

/// The end that packets are sent into.
pub const NAME: &str = "vpc-offload0";
/// The end where they come out.
pub const FAR: &str = "vpc-offload1";
/// Whatever a guest may send, and no segment is larger than an IP packet can be.
const MTU: u32 = 65_535;

/// The offload device could not be made or used.
#[derive(Debug, Error)]
pub enum OffloadError {
    /// The kernel refused a request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// There are interfaces of those names that are not ours.
    #[error("interfaces {NAME} and {FAR} are not the two ends of one veth in this network namespace: remove them")]
    Foreign,
    /// It vanished while it was set up.
    #[error("interface {NAME} vanished while it was set up")]
    Vanished,
    /// An end could not be kept from the host's own stack, or from merging and leaving undone what it is there for.
    #[error("{operation} {name}")]
    SetUp {
        /// What was tried.
        operation: &'static str,
        /// The end.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The two ends.
#[derive(Clone, Debug)]
pub struct Ends {
    /// [`NAME`].
    pub near: Link,
    /// [`FAR`].
    pub far: Link,
}

/// Finds the device; none where there is none.
///
/// # Errors
/// The names are taken by other interfaces.
pub async fn find(handle: &Handle) -> Result<Option<Ends>, OffloadError> {
    match (links::by_name(handle, NAME).await?, links::by_name(handle, FAR).await?) {
        (None, None) => Ok(None),
        (Some(near), Some(far)) if is_ours(&near, &far) => Ok(Some(Ends { near, far })),
        _ => Err(OffloadError::Foreign),
    }
}

/// Makes the device, or checks the one that is there, and brings it up. Returns it.
///
/// # Errors
/// Where a name is taken by another interface, or the kernel refuses something.
pub async fn ensure(handle: &Handle) -> Result<Ends, OffloadError> {
    let ends = match find(handle).await? {
        Some(ends) => ends,
        None => {
            let message = LinkVeth::new(NAME, FAR).build();
            handle.link().add(message).execute().await.map_err(NetlinkError::new("make", NAME))?;
            find(handle).await?.ok_or(OffloadError::Vanished)?
        }
    };
    for (link, name, offloads) in [(&ends.far, FAR, RECEIVE_OFFLOADS), (&ends.near, NAME, TRANSMIT_OFFLOADS)] {
        let failed = |operation| move |source| OffloadError::SetUp { operation, name, source };
        // Nothing but our packets may come out of it.
        host_stack::silence(name).map_err(failed("switch the host's IPv6 off on"))?;
        switch_off(link.index, offloads).map_err(failed("switch offloads off on"))?;
        links::set_mtu(handle, link, MTU).await?;
        if !link.running {
            let message = LinkMessageBuilder::<LinkUnspec>::default().index(link.index).arp(false).up().build();
            handle.link().set(message).execute().await.map_err(NetlinkError::new("bring up", name))?;
        }
    }
    Ok(ends)
}

/// Whether they are the two ends of one veth, here.
fn is_ours(near: &Link, far: &Link) -> bool {
    let leads_to = |from: &Link, to: &Link| {
        from.kind == "veth" && from.peer.is_some_and(|peer| peer.index == to.index && peer.namespace.is_none())
    };
    leads_to(near, far) && leads_to(far, near)
}
