//! Many endpoints and routes in the tables of a test node.

use crate::{
    flows::Family,
    node_tables::{PEERS, TestNode, peer},
};
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vpc_common::{
    Be32, Ip, Mac,
    endpoint::{Endpoint, EndpointKey},
    maps,
    route::{Route, RouteKey, kind},
};

/// Bits of a prefix of IPv4 in its 128-bit form.
const V4_BITS: u32 = 96;

/// Puts so many endpoints in the place of the guest's peers, all on the other node; returns their addresses.
///
/// # Errors
/// The kernel refuses.
pub fn endpoints(node: &TestNode, family: Family, count: usize) -> Result<Vec<Ip>> {
    let table = node.loaded.table::<EndpointKey, Endpoint>(maps::ENDPOINTS)?;
    let key = |address| EndpointKey { vpc: node.vpc, address };
    let template = table.get(&key(next_hop(family)?))?.context("a peer")?;
    let peers = (1..=PEERS).flat_map(peer).map(|text| Ok(key(parse(&text)?))).collect::<Result<Vec<_>>>()?;
    table.delete_all(&peers)?;
    let addresses: Vec<_> = (0..count as u32).map(|number| endpoint(family, number)).collect();
    let entry = |(number, address): (u32, &Ip)| {
        let [_, high, middle, low] = number.to_be_bytes();
        (key(*address), Endpoint { mac: Mac::new([0x02, 0, 1, high, middle, low]), ..template })
    };
    table.set_all(&(0..).zip(&addresses).map(entry).collect::<Vec<_>>())?;
    Ok(addresses)
}

/// Puts routes to so many blocks beside those of the guest's table, all by one of its peers; returns an address of each.
///
/// # Errors
/// The kernel refuses.
pub fn routes(node: &TestNode, family: Family, count: usize) -> Result<Vec<Ip>> {
    let route = Route { kind: kind::PORT, vpc: node.vpc, next_hop: next_hop(family)? };
    let (length, table) = (32 + block_length(family), Be32::new(node.route_table));
    let blocks: Vec<_> = (0..count as u32).map(|number| block(family, number)).collect();
    let entry = |destination: &Ip| (RouteKey { prefix_len: length, table, destination: *destination }, route);
    node.loaded.table(maps::ROUTES)?.set_all(&blocks.iter().map(entry).collect::<Vec<_>>())?;
    Ok(blocks.into_iter().map(inside).collect())
}

/// The guest's first peer.
fn next_hop(family: Family) -> Result<Ip> {
    let [v4, v6] = peer(1);
    parse(match family {
        Family::V4 => &v4,
        Family::V6 => &v6,
    })
}

fn parse(text: &str) -> Result<Ip> {
    Ok(text.parse::<IpAddr>().with_context(|| format!("address {text}"))?.into())
}

/// Of the VPC's own blocks, beyond its subnets.
fn endpoint(family: Family, number: u32) -> Ip {
    let [high, low] = [(number >> 16) as u16, number as u16];
    match family {
        Family::V4 => IpAddr::from(Ipv4Addr::from(0x0a10_0000 + number)),
        Family::V6 => IpAddr::from(Ipv6Addr::new(0xfd00, 1, 0, 3, 0, 0, high, low)),
    }
    .into()
}

/// A block of 16 addresses of IPv4, or of 64 bits of IPv6.
fn block(family: Family, number: u32) -> Ip {
    let [high, low] = [(number >> 16) as u16, number as u16];
    match family {
        Family::V4 => IpAddr::from(Ipv4Addr::from(0x1400_0000 + (number << 4))),
        Family::V6 => IpAddr::from(Ipv6Addr::new(0xfd00, 2, high, low, 0, 0, 0, 0)),
    }
    .into()
}

const fn block_length(family: Family) -> u32 {
    match family {
        Family::V4 => V4_BITS + 28,
        Family::V6 => 64,
    }
}

/// An address of a block.
fn inside(block: Ip) -> Ip {
    let [a, b, c, d] = block.0;
    Ip([a, b, c, Be32::new(u32::from_be(d) | 5).raw()])
}
