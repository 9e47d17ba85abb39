//! Declares the nouns of the vocabulary: one list of fields makes the struct, its reader and its JSON schema.

/// A noun of the vocabulary.
pub(crate) trait Record {
    /// What it is called in messages.
    const NOUN: &'static str;
    /// Its fields.
    const FIELDS: &'static [&'static str];
    /// Fields of the vocabulary that are refused until their capability exists.
    const LATER: &'static [&'static str];
}

/// Declares a record. A field may have a second name, after `|`.
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident, $noun:literal {
            $( $(#[doc = $field_doc:literal])+ $field:ident $(| $alias:ident)? : $Type:ty, )+
        }
        later [ $($later:literal),* $(,)? ]
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $( $(#[doc = $field_doc])+ pub $field: $Type, )+
            /// Where it stands in the file.
            pub span: $crate::diagnostics::Span,
            /// Whether it has fields that were not understood, which was reported.
            pub(crate) partial: bool,
        }

        impl $crate::document::Record for $Name {
            const NOUN: &'static str = $noun;
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),+];
            const LATER: &'static [&'static str] = &[$($later),*];
        }

        impl $crate::document::Field for $Name {
            const REQUIRED: bool = true;

            fn read(reader: &mut $crate::document::Reader<'_>) -> Option<Self> {
                $( let mut $field = $crate::document::Slot::<$Type>::new(); )+
                let mapping = reader.mapping::<Self>(|reader, key, span| {
                    $(
                        if key == stringify!($field) $(|| key == stringify!($alias))? {
                            $field.read(reader, key, span);
                            return true;
                        }
                    )+
                    false
                });
                // Every field is finished before the first failure counts, so that each missing one is reported.
                $( let $field = $field.finish(reader, stringify!($field), $noun, &mapping); )+
                let (span, partial) = (mapping.span, mapping.partial);
                let record = (|| Some(Self { $( $field: $field?, )+ span, partial }))();
                if record.is_none() {
                    reader.dropped($noun, mapping);
                }
                record
            }

            fn absent() -> Option<Self> {
                None
            }

            fn shift(&mut self, by: i64) {
                $( $crate::document::Field::shift(&mut self.$field, by); )+
                self.span.shift(by);
            }
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = $crate::schema::Properties::default();
                $(
                    properties.field::<$Type>(generator, stringify!($field), concat!($($field_doc, "\n"),+));
                    $( properties.alias(stringify!($field), stringify!($alias)); )?
                )+
                properties.into_schema(concat!($($doc, "\n"),+))
            }
        }
    };
}

pub(crate) use record;
