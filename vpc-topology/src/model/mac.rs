//! Ethernet addresses.

use crate::document::{Mismatch, Scalar, ScalarText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, ops::Deref};
use vpc_common::Mac;

/// An Ethernet address of a workload, written as six pairs of hexadecimal digits with colons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct PortMac(pub Mac);

impl Deref for PortMac {
    type Target = Mac;

    fn deref(&self) -> &Mac {
        &self.0
    }
}

impl Scalar for PortMac {
    const EXPECTED: &'static str = "a MAC address";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        let Some(mac) = parse(text) else {
            return Err(Mismatch::new(format!("`{text}` is no MAC address"))
                .help("a MAC address is written like \"02:00:00:00:01:10\""));
        };
        let refusal = match mac {
            mac if mac == Mac::default() => "the zero address belongs to no one",
            mac if mac == Mac::ROUTER => "this is the address of every VPC router",
            mac if mac.is_group() => "a group address (lowest bit of the first octet) cannot be a port's",
            mac => return Ok(Self(mac)),
        };
        Err(Mismatch::new(refusal).help("locally administered addresses start with 02"))
    }

    fn stand_in() -> Option<Self> {
        Some(Self(Mac::default()))
    }
}

fn parse(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut pairs = text.split(':');
    for octet in &mut octets {
        let pair = pairs.next()?;
        let digits = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        *octet = u8::from_str_radix(pair, 16).ok().filter(|_| digits)?;
    }
    pairs.next().is_none().then_some(Mac::new(octets))
}

impl JsonSchema for PortMac {
    fn schema_name() -> Cow<'static, str> {
        "Mac".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"})
    }
}
