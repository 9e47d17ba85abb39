//! Declares the nouns of the vocabulary: one list of fields makes the struct, its reader and its JSON schema.

/// A noun of the vocabulary.
pub(crate) trait Record {
    /// What it is called in messages.
    const NOUN: &'static str;
    /// Its fields.
    const FIELDS: &'static [&'static str];
    /// Fields of the vocabulary that are refused until their capability exists.
    const LATER: &'static [&'static str];

    /// Fields of which all or part is unusable.
    fn gaps(&self) -> Gaps;

    /// Whether all or part of a field is unusable, which was reported: nothing follows from what it does not say.
    fn lacks(&self, field: &'static str) -> bool {
        self.gaps().0 & Gaps::bit::<Self>(field) != 0
    }
}

/// A set of fields of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Gaps(u32);

impl Gaps {
    pub(crate) fn add<R: Record + ?Sized>(&mut self, field: &'static str) {
        self.0 |= Self::bit::<R>(field);
    }

    fn bit<R: Record + ?Sized>(field: &'static str) -> u32 {
        const { assert!(R::FIELDS.len() <= 32) };
        let index = R::FIELDS.iter().position(|known| *known == field);
        debug_assert!(index.is_some(), "{field} is no field of a {}", R::NOUN);
        index.map_or(0, |index| 1 << index)
    }
}

/// Declares a record. A field may have a second name, after `|`. Fields that `few` of very many records have are kept
/// together apart: they take a pointer of a record that has none of them.
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident, $noun:literal {
            $( $(#[doc = $field_doc:literal])+ $field:ident $(| $alias:ident)? : $Type:ty, )+
        }
        $( few $Few:ident {
            $( $(#[doc = $few_doc:literal])+ $few:ident : $FewType:ty, )+
        } )?
        later [ $($later:literal),* $(,)? ]
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $( $(#[doc = $field_doc])+ pub $field: $Type, )+
            $( few: Option<Box<$Few>>, )?
            /// Where it stands in the file.
            pub span: $crate::diagnostics::Span,
            /// Whether it has fields that were not understood, which was reported.
            pub(crate) partial: bool,
            /// Fields that were understood in part or not at all, which was reported.
            pub(crate) gaps: $crate::document::Gaps,
        }

        $(
            #[doc = concat!("What few of very many have: see [`", stringify!($Name), "`].")]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Few {
                $( $(#[doc = $few_doc])+ pub $few: $FewType, )+
            }

            impl $Name {
                /// Its further fields.
                pub fn few(&self) -> &$Few {
                    static NONE: std::sync::LazyLock<Option<$Few>> = std::sync::LazyLock::new(|| {
                        Some($Few { $( $few: $crate::document::Field::absent()?, )+ })
                    });
                    self.few.as_deref().or(NONE.as_ref()).expect("a field that few have can be absent")
                }
            }
        )?

        impl $crate::document::Record for $Name {
            const NOUN: &'static str = $noun;
            const FIELDS: &'static [&'static str] = &[$(stringify!($field),)+ $($(stringify!($few)),+)?];
            const LATER: &'static [&'static str] = &[$($later),*];

            fn gaps(&self) -> $crate::document::Gaps {
                self.gaps
            }
        }

        impl $crate::document::Field for $Name {
            const REQUIRED: bool = true;

            fn read(reader: &mut $crate::document::Reader<'_>) -> Option<Self> {
                $( let mut $field = $crate::document::Slot::<$Type>::new(); )+
                $($( let mut $few = $crate::document::Slot::<$FewType>::new(); )+)?
                let mapping = reader.mapping::<Self>(|reader, key, span| {
                    $(
                        if key == stringify!($field) $(|| key == stringify!($alias))? {
                            $field.read(reader, key, span);
                            return true;
                        }
                    )+
                    $($(
                        if key == stringify!($few) {
                            $few.read(reader, key, span);
                            return true;
                        }
                    )+)?
                    false
                });
                // Every field is finished before the first failure counts, so that each missing one is reported.
                let mut gaps = $crate::document::Gaps::default();
                $( let $field = $field.finish::<Self>(reader, stringify!($field), &mapping, &mut gaps); )+
                $(
                    let are_absent = $( $few.is_absent() )&&+;
                    $( let $few = $few.finish::<Self>(reader, stringify!($few), &mapping, &mut gaps); )+
                )?
                let (span, partial) = (mapping.span, mapping.partial);
                let record = (|| Some(Self {
                    $( $field: $field?, )+
                    $( few: if are_absent { None } else { Some(Box::new($Few { $( $few: $few?, )+ })) }, )?
                    span,
                    partial,
                    gaps,
                }))();
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
                $(
                    if let Some(few) = &mut self.few {
                        $( $crate::document::Field::shift(&mut few.$few, by); )+
                    }
                )?
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
                $($(
                    properties.field::<$FewType>(generator, stringify!($few), concat!($($few_doc, "\n"),+));
                )+)?
                properties.into_schema(concat!($($doc, "\n"),+))
            }
        }
    };
}

pub(crate) use record;
