//! Gateways to the outside: of nodes, and of VPCs.

use super::{Address, DeviceName, Name};
use crate::{
    diagnostics::Spanned,
    document::{AtLeastOne, Mismatch, Scalar, ScalarText, record},
};
use ipnet::Ipv4Net;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt};

record! {
    /// What makes a node a gateway: its way to the outside.
    pub struct NodeGateway, "gateway of a node" {
        /// The external interface. It is none of the uplinks.
        external: Spanned<DeviceName>,
        /// The node's own addresses there, with the lengths of their prefixes; in the first one's name it answers.
        addresses: AtLeastOne<Spanned<InterfaceAddress>>,
        /// The router to which everything is sent that goes outside.
        next_hop: Spanned<Address>,
    }
    later []
}

record! {
    /// The way of a VPC to the outside, for ports that have an elastic IP. A VPC has at most one.
    pub struct InternetGateway, "internet gateway" {
        /// Name of the gateway.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
    }
    later ["egress_only"]
}

/// An IPv4 address of an interface, with the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(pub Ipv4Net);

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for InterfaceAddress {
    const EXPECTED: &'static str = "an IPv4 address with the length of its prefix";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        let net: Ipv4Net = text.parse().map_err(|_| {
            Mismatch::new(format!("`{text}` is no IPv4 address with a prefix length"))
                .help("it is written like 203.0.113.2/24")
        })?;
        match super::cidr::not_unicast(net.addr().into()) {
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
        json_schema!({"type": "string", "pattern": "^[0-9.]+/[0-9]{1,2}$"})
    }
}
