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
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let bytes: [u8; 17] = text.as_bytes().try_into().ok()?;
    let mut octets = [0; 6];
    for (index, octet) in octets.iter_mut().enumerate() {
        let at = 3 * index;
        if index > 0 && bytes[at - 1] != b':' {
            return None;
        }
        *octet = digit(bytes[at])? << 4 | digit(bytes[at + 1])?;
    }
    Some(Mac::new(octets))
}

impl JsonSchema for PortMac {
    fn schema_name() -> Cow<'static, str> {
        "Mac".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"})
    }
}
