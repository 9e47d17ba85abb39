//! Timers of BFD: how soon a silent node counts as gone.

use super::Stated;
use crate::{
    diagnostics::Spanned,
    document::{Mismatch, Scalar, ScalarText, record},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, time::Duration};

record! {
    /// How soon a silent node counts as gone: after `interval` times `multiplier`.
    pub struct Bfd, "set of BFD timers" {
        /// How often it is asked, 10 ms to 10 s, written like 100ms or 1s. Default: 100ms.
        interval: Stated<Spanned<BfdInterval>>,
        /// After how many questions without an answer it counts as gone, 2 to 50. Default: 3.
        multiplier: Stated<Spanned<BfdMultiplier>>,
    }
    later []
}

/// How often a node is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct BfdInterval(pub Duration);

/// After how many questions without an answer it counts as gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct BfdMultiplier(pub u8);

impl BfdInterval {
    /// Where nothing else is said.
    pub const DEFAULT: Self = Self(Duration::from_millis(100));
    const LEAST: Duration = Duration::from_micros(vpc_common::bfd::MIN_INTERVAL as u64);
    const MOST: Duration = Duration::from_secs(10);
}

impl BfdMultiplier {
    /// Where nothing else is said.
    pub const DEFAULT: Self = Self(3);
}

impl Bfd {
    /// The interval in force.
    pub fn interval(of: Option<&Self>) -> Duration {
        of.and_then(|bfd| bfd.interval.get()).map_or(BfdInterval::DEFAULT, |interval| interval.value).0
    }

    /// The multiplier in force.
    pub fn multiplier(of: Option<&Self>) -> u8 {
        of.and_then(|bfd| bfd.multiplier.get()).map_or(BfdMultiplier::DEFAULT, |multiplier| multiplier.value).0
    }
}

impl Scalar for BfdInterval {
    const EXPECTED: &'static str = "an interval";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = &*scalar.text;
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim_start() {
            "ms" => Some(Duration::from_millis(1)),
            "s" => Some(Duration::from_secs(1)),
            _ => None,
        };
        let number = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let interval = number.zip(unit).and_then(|(number, unit)| unit.checked_mul(number));
        match interval {
            Some(interval) if (Self::LEAST..=Self::MOST).contains(&interval) => Ok(Self(interval)),
            Some(_) => Err(Mismatch::new(format!("a BFD interval is 10ms to 10s, this one is {text}"))),
            None => {
                Err(Mismatch::new(format!("`{text}` is no interval")).help("an interval is written like 100ms or 1s"))
            }
        }
    }
}

impl Scalar for BfdMultiplier {
    const EXPECTED: &'static str = "a BFD multiplier";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        match scalar.number()? {
            number @ 2..=50 => Ok(Self(number as u8)),
            number => Err(Mismatch::new(format!("a BFD multiplier is 2 to 50, this one is {number}"))),
        }
    }
}

impl JsonSchema for BfdInterval {
    fn schema_name() -> Cow<'static, str> {
        "BfdInterval".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+ ?(ms|s)$"})
    }
}

impl JsonSchema for BfdMultiplier {
    fn schema_name() -> Cow<'static, str> {
        "BfdMultiplier".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 2, "maximum": 50})
    }
}
