//! What rules are about: protocols, ports, types and codes of ICMP.

use super::{AtLeastOne, Stated};
use crate::{
    diagnostics::{Spanned, nearest},
    document::{Mismatch, Scalar, ScalarText},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt};

/// An IP protocol, or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Every protocol.
    All,
    /// The protocol of that number (IANA).
    Number(u8),
}

/// A range of destination ports, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// A type of ICMP or ICMPv6: its number, or a name whose number depends on the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum IcmpType {
    /// By number.
    Number(u8),
    /// By name.
    Named(&'static IcmpName),
}

/// A code of ICMP or ICMPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct IcmpCode(pub u8);

/// The name of a type.
#[derive(PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct IcmpName {
    /// As it is written.
    pub name: &'static str,
    /// Number in ICMP (RFC 792), if the type exists there.
    pub v4: Option<u8>,
    /// Number in ICMPv6 (RFC 4443, RFC 4861), if the type exists there.
    pub v6: Option<u8>,
}

/// What a rule of whatever kind says of services. No ports, no type and no code stand for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Service<'r> {
    /// The IP protocol.
    pub protocol: Spanned<Protocol>,
    /// Destination ports.
    pub ports: &'r [Spanned<PortRange>],
    /// Type of ICMP messages.
    pub icmp_type: Option<&'r Spanned<IcmpType>>,
    /// Code of ICMP messages.
    pub icmp_code: Option<&'r Spanned<IcmpCode>>,
}

impl<'r> Service<'r> {
    /// From a rule's fields.
    pub(super) fn new(
        protocol: Spanned<Protocol>,
        ports: &'r Stated<AtLeastOne<Spanned<PortRange>>>,
        icmp_type: &'r Stated<Spanned<IcmpType>>,
        icmp_code: &'r Stated<Spanned<IcmpCode>>,
    ) -> Self {
        let ports = ports.get().map(|ports| &**ports).unwrap_or_default();
        Self { protocol, ports, icmp_type: icmp_type.get(), icmp_code: icmp_code.get() }
    }
}

impl fmt::Display for Service<'_> {
    /// `tcp 80, 8000-8080`, `icmp echo_request`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol.value)?;
        for (number, range) in self.ports.iter().enumerate() {
            write!(f, "{} {}", if number > 0 { "," } else { "" }, range.value)?;
        }
        if let Some(icmp_type) = self.icmp_type {
            write!(f, " {}", icmp_type.value)?;
        }
        if let Some(code) = self.icmp_code {
            write!(f, " code {}", code.value.0)?;
        }
        Ok(())
    }
}

impl Protocol {
    /// ICMP.
    pub const ICMP: Self = Self::Number(1);
    /// TCP.
    pub const TCP: Self = Self::Number(6);
    /// UDP.
    pub const UDP: Self = Self::Number(17);
    /// ICMPv6.
    pub const ICMPV6: Self = Self::Number(58);
    /// SCTP.
    pub const SCTP: Self = Self::Number(132);

    const NAMES: [(&'static str, Self); 6] = [
        ("all", Self::All),
        ("icmp", Self::ICMP),
        ("tcp", Self::TCP),
        ("udp", Self::UDP),
        ("icmpv6", Self::ICMPV6),
        ("sctp", Self::SCTP),
    ];

    /// Whether its packets have ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }
}

const fn icmp(name: &'static str, v4: Option<u8>, v6: Option<u8>) -> IcmpName {
    IcmpName { name, v4, v6 }
}

static ICMP_NAMES: [IcmpName; 17] = [
    icmp("echo_reply", Some(0), Some(129)),
    icmp("destination_unreachable", Some(3), Some(1)),
    icmp("redirect", Some(5), Some(137)),
    icmp("echo_request", Some(8), Some(128)),
    icmp("router_advertisement", Some(9), Some(134)),
    icmp("router_solicitation", Some(10), Some(133)),
    icmp("time_exceeded", Some(11), Some(3)),
    icmp("parameter_problem", Some(12), Some(4)),
    icmp("timestamp_request", Some(13), None),
    icmp("timestamp_reply", Some(14), None),
    icmp("packet_too_big", None, Some(2)),
    icmp("multicast_listener_query", None, Some(130)),
    icmp("multicast_listener_report", None, Some(131)),
    icmp("multicast_listener_done", None, Some(132)),
    icmp("neighbor_solicitation", None, Some(135)),
    icmp("neighbor_advertisement", None, Some(136)),
    icmp("multicast_listener_report_v2", None, Some(143)),
];

impl IcmpType {
    /// Its number in a protocol, if it exists there.
    pub fn number(self, protocol: Protocol) -> Option<u8> {
        match (self, protocol) {
            (Self::Number(number), _) => Some(number),
            (Self::Named(name), Protocol::ICMP) => name.v4,
            (Self::Named(name), Protocol::ICMPV6) => name.v6,
            (Self::Named(_), _) => None,
        }
    }
}

/// Whether a scalar is meant as a number.
fn is_numeric(scalar: &ScalarText<'_>) -> bool {
    scalar.text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
}

fn byte(scalar: &ScalarText<'_>, what: &str) -> Result<u8, Mismatch> {
    let number = scalar.number()?;
    u8::try_from(number).map_err(|_| Mismatch::new(format!("{what} is 0 to 255, this one is {number}")))
}

fn unknown<'n>(what: &str, text: &str, names: impl Iterator<Item = &'n str> + Clone) -> Mismatch {
    let mismatch = Mismatch::new(format!("`{text}` is no {what}"));
    match nearest(text, names.clone()) {
        Some(name) => mismatch.help(format!("did you mean `{name}`?")),
        None => {
            let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
            mismatch.help(format!("one of {}, or a number from 0 to 255", names.join(", ")))
        }
    }
}

impl Scalar for Protocol {
    const EXPECTED: &'static str = "a protocol";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        if scalar.text == "-1" {
            return Err(Mismatch::new("`-1` is no protocol").help("every protocol is written `all`"));
        }
        if is_numeric(scalar) {
            return byte(scalar, "a protocol number").map(Self::Number);
        }
        let text = scalar.string()?;
        let found = Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, protocol)| *protocol);
        found.ok_or_else(|| unknown("protocol", text, Self::NAMES.iter().map(|(name, _)| *name)))
    }

    fn stand_in() -> Option<Self> {
        Some(Self::All)
    }
}

impl Scalar for PortRange {
    const EXPECTED: &'static str = "a port or a range of ports";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = &*scalar.text;
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let leading_zero = text.len() > 1 && text.starts_with('0');
            let number = text.parse::<u64>().ok().filter(|_| digits && !leading_zero);
            let number = number.ok_or_else(|| {
                Mismatch::new(format!("`{text}` is no port"))
                    .help("a port is written like 80, a range like \"8000-8080\"")
            })?;
            u16::try_from(number).map_err(|_| Mismatch::new(format!("a port is 0 to 65535, this one is {number}")))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first.trim_end())?, port(last.trim_start())?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(Mismatch::new(format!("the range {first}-{last} ends before it starts"))
                .help(format!("write \"{last}-{first}\"")));
        }
        Ok(Self { first, last })
    }
}

impl Scalar for IcmpType {
    const EXPECTED: &'static str = "a type of ICMP";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        if is_numeric(scalar) {
            return byte(scalar, "a type of ICMP").map(Self::Number);
        }
        let text = scalar.string()?;
        let found = ICMP_NAMES.iter().find(|name| name.name == text).map(Self::Named);
        found.ok_or_else(|| unknown("type of ICMP", text, ICMP_NAMES.iter().map(|name| name.name)))
    }
}

impl Scalar for IcmpCode {
    const EXPECTED: &'static str = "a code of ICMP";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        byte(scalar, "a code of ICMP").map(Self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, Self::NAMES.iter().find(|(_, protocol)| protocol == self)) {
            (_, Some((name, _))) => f.write_str(name),
            (Self::Number(number), None) => write!(f, "protocol {number}"),
            (Self::All, None) => Ok(()),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "type {number}"),
            Self::Named(name) => f.write_str(name.name),
        }
    }
}

impl JsonSchema for Protocol {
    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Self::NAMES.map(|(name, _)| name);
        json_schema!({"anyOf": [{"enum": names}, {"type": "integer", "minimum": 0, "maximum": 255}]})
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 65535},
            {"type": "string", "pattern": "^[0-9]{1,5}( *- *[0-9]{1,5})?$"},
        ]})
    }
}

impl JsonSchema for IcmpType {
    fn schema_name() -> Cow<'static, str> {
        "IcmpType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = ICMP_NAMES.iter().map(|name| name.name).collect();
        json_schema!({"anyOf": [{"enum": names}, {"type": "integer", "minimum": 0, "maximum": 255}]})
    }
}

impl JsonSchema for IcmpCode {
    fn schema_name() -> Cow<'static, str> {
        "IcmpCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0, "maximum": 255})
    }
}
