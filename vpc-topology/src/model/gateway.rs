//! Gateways to the outside: of nodes, and of VPCs.

use super::{Address, Bfd, DeviceName, Name, OneOrMore};
use crate::{
    diagnostics::Spanned,
    document::{AtLeastOne, Mismatch, Scalar, ScalarText, record},
};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt};

record! {
    /// What makes a node a gateway: its way to the outside.
    pub struct NodeGateway, "gateway of a node" {
        /// The external interface. It is none of the uplinks.
        external: Spanned<DeviceName>,
        /// The node's own addresses there, with the lengths of their prefixes; in the name of the first one of each family
        /// it answers. One is of IPv4.
        addresses: AtLeastOne<Spanned<InterfaceAddress>>,
        /// The router to which everything is sent that goes outside; one of each family. That of IPv6 may be link-local.
        next_hop: OneOrMore<Spanned<Address>>,
        /// How soon other nodes take it for dead when it is silent. Default: after 3 questions, 100 ms apart.
        bfd: Option<Bfd>,
    }
    later []
}

record! {
    /// The way of a VPC to the outside: over IPv4 for ports that have an elastic IP, over IPv6 for those that have a global
    /// address. A VPC has at most one.
    pub struct InternetGateway, "internet gateway" {
        /// Name of the gateway.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// `true`: only replies get in. Over IPv6 only. Default: false.
        egress_only: Option<Spanned<bool>>,
    }
    later []
}

impl NodeGateway {
    /// The next hop of a family.
    pub fn next_hop(&self, v4: bool) -> Option<&Spanned<Address>> {
        self.next_hop.iter().find(|hop| hop.is_ipv4() == v4)
    }
}

impl InternetGateway {
    /// Whether only replies get in.
    pub fn is_egress_only(&self) -> bool {
        self.egress_only.is_some_and(|only| only.value)
    }
}

/// An address of an interface, with the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(pub IpNet);

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for InterfaceAddress {
    const EXPECTED: &'static str = "an address with the length of its prefix";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        let net: IpNet = text.parse().map_err(|_| {
            Mismatch::new(format!("`{text}` is no address with a prefix length"))
                .help("it is written like 203.0.113.2/24")
        })?;
        match super::cidr::not_unicast(net.addr()) {
            Some(what) => Err(Mismatch::new(format!("{} is {what}", net.addr()))),
            None => Ok(Self(net)),
        }
    }
}

impl JsonSchema for InterfaceAddress {
    fn schema_name() -> Cow<'static, str> {
        "InterfaceAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"})
    }
}
