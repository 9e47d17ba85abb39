//! NAT gateways.

use super::{
    AtLeastOne, Cidr, Name, Stated,
    service::{IcmpCode, IcmpType, PortRange, Protocol, Service},
};
use crate::{
    diagnostics::Spanned,
    document::{Mismatch, Scalar, ScalarText, record},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt, net::SocketAddrV4};
use vpc_common::limits::NAT_FIRST_PORT;

record! {
    /// The way of a VPC's ports to the outside by shared addresses. Each node has a slice of their ports.
    pub struct NatGateway, "NAT gateway" {
        /// Its name.
        name: Spanned<Name>,
        /// Its VPC.
        vpc: Spanned<Name>,
        /// Its addresses.
        elastic_ips: AtLeastOne<Spanned<Name>>,
        /// Ports of each node, for each protocol; also identifiers of ICMP queries. Default: 1024.
        ports_per_node: Option<Spanned<PortCount>>,
        /// Ports of its addresses that lead to ports of the VPC.
        port_forwards: Vec<PortForward>,
        /// What it lets out. Default: all; an empty list lets nothing out. Replies pass, also those of forwarded ports.
        egress_allow: Stated<Vec<EgressRule>>,
    }
    later []
}

record! {
    /// What a NAT gateway lets out: a service, and the blocks of IPv4 with which it is allowed.
    pub struct EgressRule, "egress rule" {
        /// The IP protocol.
        protocol: Spanned<Protocol>,
        /// Destination ports, for TCP and UDP. Default: all.
        ports: Stated<AtLeastOne<Spanned<PortRange>>>,
        /// Type of the message, for ICMP. Default: all.
        icmp_type: Stated<Spanned<IcmpType>>,
        /// Code of the message, where a type is given. Default: all.
        icmp_code: Stated<Spanned<IcmpCode>>,
        /// Where to.
        cidr_blocks: AtLeastOne<Spanned<Cidr>>,
    }
    later []
}

impl EgressRule {
    /// What it says of services.
    pub fn service(&self) -> Service<'_> {
        Service::new(self.protocol, &self.ports, &self.icmp_type, &self.icmp_code)
    }
}

record! {
    /// What comes from outside to an external address and port goes to a port of the VPC.
    pub struct PortForward, "port forward" {
        /// TCP or UDP.
        protocol: Spanned<Protocol>,
        /// An address of the gateway, and the port: `"203.0.113.10:2222"`.
        external: Spanned<ExternalSocket>,
        /// The port of the VPC, by its first IPv4 address.
        port: Spanned<Name>,
        /// Its TCP or UDP port.
        to: Spanned<L4Port>,
    }
    later []
}

/// So many ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct PortCount(pub u16);

/// A port of TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct L4Port(pub u16);

/// An external address and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct ExternalSocket(pub SocketAddrV4);

/// All ports that NAT may use of an address.
const PORTS: u32 = u16::MAX as u32 + 1 - NAT_FIRST_PORT as u32;

impl NatGateway {
    /// Ports of each node.
    pub fn ports_per_node(&self) -> u16 {
        self.ports_per_node.map_or(1_024, |count| count.value.0)
    }

    /// The nodes that each address has ports for.
    pub fn slices(&self) -> u32 {
        PORTS / u32::from(self.ports_per_node())
    }
}

impl fmt::Display for ExternalSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for PortCount {
    const EXPECTED: &'static str = "a number of ports";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        match scalar.number()? {
            number if (1..=u64::from(PORTS)).contains(&number) => Ok(Self(number as u16)),
            number => Err(Mismatch::new(format!("an address has 1 to {PORTS} ports for NAT, not {number}"))),
        }
    }
}

impl Scalar for L4Port {
    const EXPECTED: &'static str = "a port of TCP or UDP";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        match scalar.number()? {
            number if (1..=u64::from(u16::MAX)).contains(&number) => Ok(Self(number as u16)),
            number => Err(Mismatch::new(format!("a port is 1 to 65535, this one is {number}"))),
        }
    }
}

impl Scalar for ExternalSocket {
    const EXPECTED: &'static str = "an IPv4 address and a port";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        match text.parse::<SocketAddrV4>() {
            Ok(socket) if socket.port() != 0 => Ok(Self(socket)),
            _ => Err(Mismatch::new(format!("`{text}` is no IPv4 address and port"))
                .help("it is written like \"203.0.113.10:2222\"")),
        }
    }
}

impl JsonSchema for PortCount {
    fn schema_name() -> Cow<'static, str> {
        "PortCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": PORTS})
    }
}

impl JsonSchema for L4Port {
    fn schema_name() -> Cow<'static, str> {
        "L4Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 65_535})
    }
}

impl JsonSchema for ExternalSocket {
    fn schema_name() -> Cow<'static, str> {
        "ExternalSocket".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9.]+:[0-9]{1,5}$"})
    }
}
