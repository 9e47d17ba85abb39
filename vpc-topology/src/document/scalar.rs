//! Single values: what YAML's core schema makes of them, and what a field makes of that.

use crate::diagnostics::Span;
use granit_parser::ScalarStyle;
use std::borrow::Cow;

/// A scalar as it stands in the file.
pub(crate) struct ScalarText<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) style: ScalarStyle,
    pub(crate) span: Span,
}

/// Why a scalar does not fit a field.
pub(crate) struct Mismatch {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Mismatch {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A type that is written as one value.
pub(crate) trait Scalar: Sized {
    /// What is expected, with its article.
    const EXPECTED: &'static str;

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch>;

    /// What takes the place of a value that cannot be used, so that the rest of its record is checked nevertheless.
    /// `None`: the record is dropped, and what is wrong with the rest of it shows only after it was put right.
    fn stand_in() -> Option<Self> {
        None
    }
}

impl ScalarText<'_> {
    /// The text, if YAML takes it for a string. `name: 123` is a number and `name: yes` a string (YAML 1.2 §10.3).
    pub(crate) fn string(&self) -> Result<&str, Mismatch> {
        // What begins with another letter than null, true and false, and with no sign or digit, is nothing but a string.
        if self.text.as_bytes().first().is_some_and(|byte| byte.is_ascii_alphabetic() && !b"nNtTfF".contains(byte)) {
            return Ok(&self.text);
        }
        let found = match &*self.text {
            _ if self.style != ScalarStyle::Plain => return Ok(&self.text),
            text if Self::is_null_text(text) => "nothing",
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "a boolean",
            text if is_number(text) => "a number",
            text => return Ok(text),
        };
        let mismatch = Mismatch::new(format!("expected a string, found {found}"));
        Err(if found == "nothing" { mismatch } else { mismatch.help(format!("quote it: \"{}\"", self.text)) })
    }

    /// The text, if it is not quoted.
    pub(crate) fn plain(&self, expected: &str) -> Result<&str, Mismatch> {
        if self.style == ScalarStyle::Plain {
            Ok(&self.text)
        } else {
            Err(Mismatch::new(format!("expected {expected}, found a string")).help("leave the quotes out"))
        }
    }

    /// A decimal number without sign.
    pub(crate) fn number(&self) -> Result<u64, Mismatch> {
        let text = self.plain("a number")?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits && text.len() > 1 && text.starts_with('0') {
            // YAML 1.1 reads 010 as eight, YAML 1.2 as ten.
            return Err(Mismatch::new("expected a number without leading zeros"));
        }
        match text.parse() {
            Ok(number) if digits => Ok(number),
            _ => Err(Mismatch::new(format!("expected a decimal number, found `{text}`"))),
        }
    }

    pub(crate) fn is_null_text(text: &str) -> bool {
        matches!(text, "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(scalar: &ScalarText<'_>) -> Result<Self, Mismatch> {
        match scalar.plain(Self::EXPECTED)? {
            "true" => Ok(true),
            "false" => Ok(false),
            text => Err(Mismatch::new(format!("expected true or false, found `{text}`"))),
        }
    }
}

/// Whether YAML's core schema takes a plain text for a number.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix).is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    let starts_as_number = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || unsigned.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    radix("0x", 16)
        || radix("0o", 8)
        || matches!(unsigned, ".inf" | ".Inf" | ".INF")
        || matches!(text, ".nan" | ".NaN" | ".NAN")
        || (starts_as_number && unsigned.parse::<f64>().is_ok())
}

/// Declares an enum whose values are written as words; the first one is the default.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $Name:ident, $expected:literal {
            $(#[doc = $first_doc:literal])+ $First:ident = $first_word:literal,
            $( $(#[doc = $doc:literal])+ $Variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        $vis enum $Name {
            $(#[doc = $first_doc])+
            #[default]
            $First,
            $( $(#[doc = $doc])+ $Variant, )+
        }

        impl $crate::document::Scalar for $Name {
            const EXPECTED: &'static str = $expected;

            fn parse(scalar: &$crate::document::ScalarText<'_>) -> Result<Self, $crate::document::Mismatch> {
                match scalar.string()? {
                    $first_word => Ok(Self::$First),
                    $( $word => Ok(Self::$Variant), )+
                    text => {
                        let words = [$first_word, $($word),+];
                        let help = match $crate::diagnostics::nearest(text, words) {
                            Some(word) => format!("did you mean `{word}`?"),
                            None => format!("one of {}", words.map(|word| format!("`{word}`")).join(", ")),
                        };
                        Err($crate::document::Mismatch::new(format!("expected {}, found `{text}`", $expected)).help(help))
                    }
                }
            }
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"oneOf": [
                    {"const": $first_word, "description": concat!($($first_doc),+).trim()},
                    $( {"const": $word, "description": concat!($($doc),+).trim()} ),+
                ]})
            }
        }
    };
}

pub(crate) use choice;
