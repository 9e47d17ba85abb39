//! Which way the kernel would send to an address.

use super::{NetlinkError, error_number};
use futures::TryStreamExt;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One way towards an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Index of the interface.
    pub ifindex: u32,
    /// Whom to send to: a router, or the address itself where it is on the link.
    pub neighbour: IpAddr,
    /// How many flows it is to take in proportion to the other ways: at least 1.
    pub weight: u32,
}

/// What the routing table says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The ways of its route whose links are alive, as the table lists them.
    pub ways: Vec<Way>,
    /// MTU of the route, where it states one.
    pub mtu: Option<u32>,
    /// Whether the address is this machine's own.
    pub local: bool,
}

/// Looks up an address. No route gives no ways.
///
/// # Errors
/// Where the kernel refuses the request for another reason.
pub async fn reach(handle: &Handle, address: IpAddr) -> Result<Reach, NetlinkError> {
    let mut message = match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build(),
    };
    // The whole entry of the table, with all its ways, instead of the one that the kernel's hash would take.
    message.header.flags |= RouteFlags::FibMatch;
    let answer = handle.route().get(message).execute().try_next().await;
    match answer {
        Ok(Some(message)) => Ok(parse(&message, address)),
        Ok(None) => Ok(Reach::default()),
        Err(error) if is_unreachable(&error) => Ok(Reach::default()),
        Err(error) => Err(NetlinkError::new("look up the route to", address.to_string())(error)),
    }
}

fn is_unreachable(error: &rtnetlink::Error) -> bool {
    matches!(
        error_number(error),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES | libc::EAGAIN)
    )
}

fn parse(message: &RouteMessage, address: IpAddr) -> Reach {
    let mut reach = Reach { local: message.header.kind == RouteType::Local, ..Reach::default() };
    if message.header.kind != RouteType::Unicast {
        return reach;
    }
    let dead = RouteFlags::Dead | RouteFlags::Linkdown;
    if !message.header.flags.intersects(dead) {
        reach.ways.extend(way(&message.attributes, None, address, 1));
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => {
                let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                for hop in hops.iter().filter(|hop| !hop.flags.intersects(dead)) {
                    // `rtnh_hops` is the weight less one.
                    let weight = u32::from(hop.hops) + 1;
                    reach.ways.extend(way(&hop.attributes, Some(hop.interface_index), address, weight));
                }
            }
            RouteAttribute::Metrics(metrics) => {
                reach.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    // The kernel repeats the first way of an IPv6 route outside its list, without its weight.
    let mut ways: Vec<Way> = Vec::new();
    for way in reach.ways {
        match ways.iter_mut().find(|known| (known.ifindex, known.neighbour) == (way.ifindex, way.neighbour)) {
            Some(known) => known.weight = known.weight.max(way.weight),
            None => ways.push(way),
        }
    }
    Reach { ways, ..reach }
}

fn way(attributes: &[RouteAttribute], ifindex: Option<u32>, on_link: IpAddr, weight: u32) -> Option<Way> {
    let (mut ifindex, mut neighbour) = (ifindex, on_link);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                neighbour = IpAddr::V4(*v4);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                neighbour = IpAddr::V6(*v6);
            }
            _ => {}
        }
    }
    Some(Way { ifindex: ifindex?, neighbour, weight })
}
