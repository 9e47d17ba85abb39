//! The tunnel device: a kernel VXLAN socket that merges TCP segments before our program sees them.

use super::{NetlinkError, links, links::Link};
use netlink_packet_route::link::InfoVxlan;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan};
use thiserror::Error;
use vpc_common::limits::VXLAN_PORT;

/// Its name.
pub const NAME: &str = "vpc-vxlan";
/// Merged frames are as large as an IP packet can be.
const MTU: u32 = 65_535;

/// The tunnel device could not be made or used.
#[derive(Debug, Error)]
pub enum TunnelError {
    /// The kernel refused a request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// There is an interface of that name that is not ours.
    #[error("interface {NAME} exists and is no VXLAN device in external mode on UDP port {VXLAN_PORT}: remove it")]
    Foreign,
    /// It vanished while it was set up.
    #[error("interface {NAME} vanished while it was set up")]
    Vanished,
}

/// Makes the device, or checks the one that is there, and brings it up. Returns it.
///
/// # Errors
/// Where the name is taken by another interface, UDP port 4789 is in use, or the kernel has no VXLAN.
pub async fn ensure(handle: &Handle) -> Result<Link, TunnelError> {
    let link = match links::by_name(handle, NAME).await? {
        Some(link) if is_ours(&link) => link,
        Some(_) => return Err(TunnelError::Foreign),
        None => {
            create(handle).await?;
            links::by_name(handle, NAME).await?.ok_or(TunnelError::Vanished)?
        }
    };
    links::set_mtu(handle, &link, MTU).await?;
    if !link.running {
        let message = LinkMessageBuilder::<LinkUnspec>::default().index(link.index).up().build();
        handle.link().set(message).execute().await.map_err(NetlinkError::new("bring up", NAME))?;
    }
    Ok(link)
}

async fn create(handle: &Handle) -> Result<(), NetlinkError> {
    let message = LinkMessageBuilder::<LinkVxlan>::new(NAME)
        .collect_metadata(true)
        .port(VXLAN_PORT)
        .learning(false)
        // RFC 6935: senders over IPv6 may leave the outer checksum out, as ours do.
        .udp_zero_csum6_rx(true)
        .build();
    handle.link().add(message).execute().await.map_err(NetlinkError::new("make", NAME))
}

/// Whether it is what [`ensure`] makes.
pub fn is_ours(link: &Link) -> bool {
    link.kind == "vxlan"
        && link.vxlan.contains(&InfoVxlan::CollectMetadata(true))
        && link.vxlan.contains(&InfoVxlan::Port(VXLAN_PORT))
}
