//! Names: of the topology's objects, and of network devices.
//!
//! A large topology has millions of them, most of which are short: up to 15 bytes lie in the value itself.

use crate::document::{Mismatch, Scalar, ScalarText};
use ecow::EcoString;
use rustc_hash::FxHashSet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt, ops::Deref, sync::Arc};

/// Longest name of an object, bytes.
const NAME_MAX: usize = 63;
/// Longest name of a device, bytes: `IFNAMSIZ` of Linux less the final zero.
const DEVICE_NAME_MAX: usize = 15;

/// Name of an object of the topology.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Name(EcoString);

/// Name of an object that very many others name: they may have it in common.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct SharedName(Arc<Name>);

/// Names that are in use, by those who name them.
#[derive(Default)]
pub(crate) struct Pool(FxHashSet<SharedName>);

impl Pool {
    /// Has a name in common with those who gave the same one before.
    pub(crate) fn share(&mut self, name: &mut SharedName) {
        match self.0.get(name) {
            Some(known) => *name = known.clone(),
            None => {
                self.0.insert(name.clone());
            }
        }
    }
}

/// Name of a network device of Linux.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct DeviceName(EcoString);

macro_rules! text {
    ($Name:ident) => {
        impl Deref for $Name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Name);
text!(SharedName);
text!(DeviceName);

impl Scalar for Name {
    const EXPECTED: &'static str = "a name";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > NAME_MAX {
            let message = format!("a name has 1 to {NAME_MAX} characters, this one has {}", text.chars().count());
            return Err(Mismatch::new(message));
        }
        if !text.bytes().all(good)
            && let Some(bad) = text.chars().find(|c| !c.is_ascii() || !good(*c as u8))
        {
            return Err(Mismatch::new(format!("the character {bad:?} cannot be part of a name"))
                .help("a name is made of letters, digits, `-`, `_` and `.`"));
        }
        if !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(Mismatch::new("a name starts with a letter or a digit"));
        }
        Ok(Self(text.into()))
    }

    fn stand_in() -> Option<Self> {
        Some(Self("?".into()))
    }
}

impl Scalar for SharedName {
    const EXPECTED: &'static str = Name::EXPECTED;

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        Name::parse(scalar).map(|name| Self(Arc::new(name)))
    }

    fn stand_in() -> Option<Self> {
        Name::stand_in().map(|name| Self(Arc::new(name)))
    }
}

impl Scalar for DeviceName {
    const EXPECTED: &'static str = "the name of a network device";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        if text.is_empty() || text.len() > DEVICE_NAME_MAX {
            let message =
                format!("a device name has 1 to {DEVICE_NAME_MAX} bytes in Linux, this one has {}", text.len());
            return Err(Mismatch::new(message));
        }
        let bad = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':');
        if matches!(text, "." | "..") || text.bytes().any(bad) {
            return Err(Mismatch::new(format!("{text:?} cannot be the name of a device in Linux")));
        }
        Ok(Self(text.into()))
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 1, "maxLength": NAME_MAX, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        })
    }
}

impl JsonSchema for SharedName {
    fn inline_schema() -> bool {
        Name::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Name::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        Name::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Name::json_schema(generator)
    }
}

impl JsonSchema for DeviceName {
    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": DEVICE_NAME_MAX, "pattern": "^[^/:\\s]+$"})
    }
}
