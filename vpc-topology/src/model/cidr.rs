//! Addresses and blocks of them.

use crate::document::{Mismatch, Scalar, ScalarText};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
};
use vpc_common::Ip;

/// A unicast address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

/// A block of addresses without host bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// A block of addresses, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct AddressBlock(pub Cidr);

/// First and last address of a block, as numbers of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Whether the numbers are IPv6 addresses.
    pub v6: bool,
    /// First address.
    pub first: u128,
    /// Last address.
    pub last: u128,
}

impl Range {
    /// Whether two ranges share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.v6 == other.v6 && self.first <= other.last && other.first <= self.last
    }

    /// Whether `other` lies wholly inside.
    pub fn contains(self, other: Self) -> bool {
        self.v6 == other.v6 && self.first <= other.first && other.last <= self.last
    }
}

impl Cidr {
    /// Every IPv4 address.
    pub const ALL_IPV4: Self = Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));
    /// Every IPv6 address.
    pub const ALL_IPV6: Self = Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)));

    /// The block of one address.
    pub fn host(address: IpAddr) -> Self {
        Self(address.into())
    }

    /// A block, if it has no host bits.
    pub fn of(net: IpNet) -> Option<Self> {
        (net.trunc() == net).then_some(Self(net))
    }

    /// The block itself.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// First and last address.
    pub fn range(self) -> Range {
        match self.0 {
            IpNet::V4(net) => {
                Range { v6: false, first: net.network().to_bits().into(), last: net.broadcast().to_bits().into() }
            }
            IpNet::V6(net) => Range { v6: true, first: net.network().to_bits(), last: net.broadcast().to_bits() },
        }
    }

    /// Whether it contains an address.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether it is a block of IPv4.
    pub fn is_v4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Whether first and last address are the hosts' as well: a point-to-point block (RFC 3021, RFC 6164) or a host.
    pub fn is_point_to_point(self) -> bool {
        self.0.max_prefix_len() - self.0.prefix_len() < 2
    }

    /// Whether its addresses may be seen outside: a block of IPv6 that is neither unique local (RFC 4193) nor site-local.
    pub fn is_global(self) -> bool {
        let not = [(0xfc00_u16, 0xfe00_u16), (0xfe80, 0xff00)];
        match self.0 {
            IpNet::V4(_) => false,
            IpNet::V6(net) => not.iter().all(|(prefix, mask)| net.network().segments()[0] & mask != *prefix),
        }
    }

    /// The first address that a host may have.
    pub fn first_host(self) -> IpAddr {
        match self.0 {
            _ if self.is_point_to_point() => self.0.network(),
            IpNet::V4(net) => IpAddr::V4((net.network().to_bits() + 1).into()),
            IpNet::V6(net) => IpAddr::V6((net.network().to_bits() + 1).into()),
        }
    }

    /// The address in its 128-bit form and the length of the prefix there.
    pub fn mapped(self) -> (Ip, u32) {
        let bits = if self.is_v4() { Ip::MAPPED_BITS } else { 0 };
        (self.0.network().into(), bits + u32::from(self.0.prefix_len()))
    }

    /// Whether it is a block of IPv6 that contains the IPv4-mapped addresses, as which the tables hold IPv4.
    pub fn covers_mapped(self) -> bool {
        let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
        !self.is_v4() && u32::from(self.0.prefix_len()) <= Ip::MAPPED_BITS && self.0.contains(&IpAddr::V6(mapped))
    }
}

impl Deref for Address {
    type Target = IpAddr;

    fn deref(&self) -> &IpAddr {
        &self.0
    }
}

impl Deref for AddressBlock {
    type Target = Cidr;

    fn deref(&self) -> &Cidr {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for Address {
    const EXPECTED: &'static str = "an IP address";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        let address: IpAddr = text.parse().map_err(|_| {
            let mismatch = Mismatch::new(format!("`{text}` is no IP address"));
            match text.split_once('/') {
                Some((address, _)) => mismatch.help(format!("without a prefix length: {address}")),
                None => mismatch,
            }
        })?;
        match not_unicast(address) {
            Some(what) => Err(Mismatch::new(format!("{address} is {what}"))),
            None => Ok(Self(address)),
        }
    }

    fn stand_in() -> Option<Self> {
        Some(Self(Ipv4Addr::UNSPECIFIED.into()))
    }
}

impl Scalar for Cidr {
    const EXPECTED: &'static str = "a block of addresses";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        block(scalar.string()?)
    }

    fn stand_in() -> Option<Self> {
        Some(Self::host(Ipv4Addr::UNSPECIFIED.into()))
    }
}

impl Scalar for AddressBlock {
    const EXPECTED: &'static str = "an address or a block of addresses";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        if text.contains('/') {
            return block(text).map(Self);
        }
        Address::parse(scalar).map(|address| Self(Cidr::host(address.0)))
    }
}

fn block(text: &str) -> Result<Cidr, Mismatch> {
    let net: IpNet = text.parse().map_err(|_| {
        let mismatch = Mismatch::new(format!("`{text}` is no block of addresses"));
        match text.parse::<IpAddr>() {
            Ok(address) => mismatch.help(format!("with its prefix length: {}", IpNet::from(address))),
            Err(_) => mismatch.help("a block is written like 10.0.1.0/24 or \"fd00:1::/64\""),
        }
    })?;
    if net.trunc() != net {
        let message = format!("{net} has bits set behind its prefix");
        return Err(Mismatch::new(message).help(format!("the block is {}", net.trunc())));
    }
    if let IpNet::V6(v6) = net
        && v6.network().to_ipv4_mapped().is_some()
    {
        return Err(Mismatch::new(format!("{net} is IPv4 in disguise")).help("write the IPv4 block itself"));
    }
    Ok(Cidr(net))
}

/// What an address is, if it is not one that a single host can have.
pub(crate) fn not_unicast(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("no address at all"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of \"this network\" (RFC 1122)"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("a reserved address (RFC 1112)"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4 in disguise"),
        _ => None,
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"})
    }
}

impl JsonSchema for AddressBlock {
    fn schema_name() -> Cow<'static, str> {
        "AddressBlock".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"})
    }
}
