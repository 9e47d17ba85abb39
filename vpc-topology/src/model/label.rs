//! Labels of ports.

use crate::{
    diagnostics::{Problem, Spanned},
    document::{Field, Mismatch, Reader, Scalar, ScalarText},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt, ops::Deref};

/// Longest name or value of a label, bytes.
const LABEL_MAX: usize = 63;

/// The name or the value of a label.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct LabelText(Box<str>);

/// Labels with their values, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels(Box<[(Spanned<LabelText>, Spanned<LabelText>)]>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(label, _)| &*label.value == name).map(|(_, value)| &*value.value)
    }

    /// Whether every label of another set is here with the same value.
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(label, value)| self.get(label) == Some(&**value))
    }
}

impl Deref for Labels {
    type Target = [(Spanned<LabelText>, Spanned<LabelText>)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Deref for LabelText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for LabelText {
    const EXPECTED: &'static str = "the name or the value of a label";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        let text = scalar.string()?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        if text.is_empty() || text.len() > LABEL_MAX {
            let count = text.chars().count();
            return Err(Mismatch::new(format!("a label has 1 to {LABEL_MAX} characters, this one has {count}")));
        }
        match text.chars().find(|c| !c.is_ascii() || !good(*c as u8)) {
            Some(bad) => Err(Mismatch::new(format!("the character {bad:?} cannot be part of a label"))
                .help("a label is made of letters, digits, `-`, `_`, `.` and `/`")),
            None => Ok(Self(text.into())),
        }
    }
}

impl Field for Labels {
    const REQUIRED: bool = true;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut labels: Vec<(Spanned<LabelText>, Spanned<LabelText>)> = Vec::new();
        reader.pairs("labels with their values", |reader| {
            let (name, value) = (Spanned::<LabelText>::read(reader), Spanned::<LabelText>::read(reader));
            let (Some(name), Some(value)) = (name, value) else { return };
            match labels.iter().find(|(other, _)| other.value == name.value) {
                Some((first, _)) => {
                    let problem = Problem::new(name.span(), format!("the label `{}` is there twice", name.value));
                    reader.report(problem.label("once more here").also(first.span(), "first here"));
                }
                None => labels.push((name, value)),
            }
        })?;
        Some(Self(labels.into()))
    }

    fn absent() -> Option<Self> {
        None
    }

    fn stand_in(_: crate::diagnostics::Span) -> Option<Self> {
        Some(Self(Box::default()))
    }

    fn shift(&mut self, by: i64) {
        for (name, value) in &mut self.0 {
            name.shift(by);
            value.shift(by);
        }
    }
}

impl JsonSchema for Labels {
    fn schema_name() -> Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({
            "type": "string", "minLength": 1, "maxLength": LABEL_MAX, "pattern": "^[A-Za-z0-9._/-]+$",
        });
        json_schema!({"type": "object", "additionalProperties": text, "propertyNames": text})
    }
}

impl JsonSchema for LabelText {
    fn schema_name() -> Cow<'static, str> {
        "LabelText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}
