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

/// Place of a rule of a network ACL in its order: 1 to 32,766.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct RuleNumber(pub u16);

/// The largest number that AWS gives to rules.
const RULE_NUMBER_MAX: u64 = 32_766;

impl Scalar for RuleNumber {
    const EXPECTED: &'static str = "the number of a rule";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        within(scalar, "the number of a rule", RULE_NUMBER_MAX).map(|number| Self(number as u16))
    }

    fn stand_in() -> Option<Self> {
        Some(Self(0))
    }
}

/// A number of sessions, 1 to 2^28.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct SessionCount(pub u32);

/// The largest session table that an agent makes.
const SESSIONS_MAX: u64 = 1 << 28;

impl Scalar for SessionCount {
    const EXPECTED: &'static str = "a number of sessions";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        within(scalar, "a number of sessions", SESSIONS_MAX).map(|count| Self(count as u32))
    }
}

/// How long a session lives without a packet, 5 s to 18 h.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct SessionTimeout {
    /// Seconds.
    pub seconds: u32,
}

const TIMEOUT_MIN: u64 = 5;
const TIMEOUT_MAX: u64 = 18 * 3_600;

impl Scalar for SessionTimeout {
    const EXPECTED: &'static str = "a duration";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = &*scalar.text;
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim_start() {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3_600),
            _ => None,
        };
        let number = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let seconds = match (number, unit) {
            (Some(number), Some(unit)) => u64::from(number) * unit,
            _ => {
                return Err(
                    Mismatch::new(format!("`{text}` is no duration")).help("a duration is written like 30s, 5m or 2h")
                );
            }
        };
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&seconds) {
            return Err(Mismatch::new(format!("a session timeout is 5s to 18h, this one is {text}")));
        }
        Ok(Self { seconds: seconds as u32 })
    }
}

impl JsonSchema for RuleNumber {
    fn schema_name() -> Cow<'static, str> {
        "RuleNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": RULE_NUMBER_MAX})
    }
}

impl JsonSchema for SessionCount {
    fn schema_name() -> Cow<'static, str> {
        "SessionCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": SESSIONS_MAX})
    }
}

impl JsonSchema for SessionTimeout {
    fn schema_name() -> Cow<'static, str> {
        "SessionTimeout".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+ *[smh]$"})
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
