//! Numbers with bounds.

use crate::document::{Mismatch, Scalar, ScalarText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use vpc_common::{Vni, limits::VTEPS};

/// Largest node id: ids index the VTEP array, whose element 0 stays unused.
const NODE_ID_MAX: u64 = VTEPS as u64 - 1;

/// Version of the format: 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version;

/// Id of a node, 1 to 4,095: its index in the VTEP array.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

fn within(scalar: &ScalarText<'_>, what: &str, max: u64) -> Result<u64, Mismatch> {
    match scalar.number()? {
        number if (1..=max).contains(&number) => Ok(number),
        number => Err(Mismatch::new(format!("{what} is 1 to {max}, this one is {number}"))),
    }
}

impl Scalar for Version {
    const EXPECTED: &'static str = "version 1";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        match scalar.number()? {
            1 => Ok(Self),
            other => Err(Mismatch::new(format!("version {other} of the format is unknown")).help("write `version: 1`")),
        }
    }

    fn stand_in() -> Option<Self> {
        Some(Self)
    }
}

impl Scalar for NodeId {
    const EXPECTED: &'static str = "a node id";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        within(scalar, "a node id", NODE_ID_MAX).map(|id| Self(id as u16))
    }

    fn stand_in() -> Option<Self> {
        Some(Self(0))
    }
}

/// The identifier of a VXLAN network as it is written: 1 to 2^24 - 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct VniNumber(pub Vni);

impl Scalar for VniNumber {
    const EXPECTED: &'static str = "a VNI";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        within(scalar, "a VNI", Vni::MAX.into()).map(|vni| Self(Vni(vni as u32)))
    }

    fn stand_in() -> Option<Self> {
        Some(Self(Vni(0)))
    }
}

impl JsonSchema for Version {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"const": 1})
    }
}

impl JsonSchema for NodeId {
    fn schema_name() -> Cow<'static, str> {
        "NodeId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": NODE_ID_MAX})
    }
}

impl JsonSchema for VniNumber {
    fn schema_name() -> Cow<'static, str> {
        "Vni".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": Vni::MAX})
    }
}
