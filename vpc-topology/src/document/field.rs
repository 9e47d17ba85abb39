//! Fields of records: how each type reads itself and what its absence means.

use super::{Gaps, Mapping, Reader, Record, Scalar, article};
use crate::diagnostics::{Problem, Span, Spanned};
use granit_parser::Event;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, ops::Deref};

/// A type of field.
pub(crate) trait Field: JsonSchema + Sized {
    /// Whether a record without the field is wrong.
    const REQUIRED: bool;

    /// Reads the value that comes next. `None`: it is unusable, which was reported.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// The value where the field is absent.
    fn absent() -> Option<Self>;

    /// What takes the place of a value that is unusable, so that the rest of the record is checked. `None`: the record
    /// is dropped.
    fn stand_in(_: Span) -> Option<Self> {
        None
    }

    /// Moves every span inside by so many bytes.
    fn shift(&mut self, by: i64);
}

/// Holds a field while its record is read.
pub(crate) struct Slot<T> {
    key: Option<Span>,
    value: Option<T>,
    /// Where the value stands, if all or part of it is unusable.
    flaw: Option<Span>,
}

impl<T: Field> Slot<T> {
    pub(crate) fn new() -> Self {
        Self { key: None, value: None, flaw: None }
    }

    pub(crate) fn read(&mut self, reader: &mut Reader<'_>, name: &str, key: Span) {
        match self.key {
            Some(first) => {
                reader.skip();
                reader.report(
                    Problem::new(key, format!("the field `{name}` is there twice"))
                        .label("once more here")
                        .also(first, "first here"),
                );
            }
            None => {
                self.key = Some(key);
                let (at, before) = (reader.peek().1, reader.problem_count());
                self.value = T::read(reader);
                if reader.problem_count() > before {
                    self.flaw = Some(at);
                }
            }
        }
    }

    /// Whether the record has no such field.
    pub(crate) fn is_absent(&self) -> bool {
        self.key.is_none()
    }

    /// The field's value, after the record `R` was read. `None`: there is none, which was reported, and nothing can
    /// stand in for it.
    pub(crate) fn finish<R: Record>(
        self,
        reader: &mut Reader<'_>,
        name: &'static str,
        mapping: &Mapping<'_>,
        gaps: &mut Gaps,
    ) -> Option<T> {
        if let Some(flaw) = self.flaw {
            gaps.add::<R>(name);
            return self.value.or_else(|| T::stand_in(flaw).filter(|_| mapping.complete));
        }
        if self.key.is_some() {
            return self.value;
        }
        let misspelt = mapping.misspelt.contains(&name);
        if misspelt {
            gaps.add::<R>(name);
        }
        if !T::REQUIRED || !mapping.complete {
            return T::absent();
        }
        if !misspelt {
            let (noun, article) = (R::NOUN, article(R::NOUN));
            let problem = Problem::new(mapping.span, format!("{article} {noun} needs the field `{name}`"));
            reader.report(problem.label(format!("`{name}` is missing")));
            gaps.add::<R>(name);
        }
        T::absent().or_else(|| T::stand_in(mapping.span))
    }
}

impl<T: Scalar + JsonSchema> Field for Spanned<T> {
    const REQUIRED: bool = true;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let scalar = reader.scalar(T::EXPECTED)?;
        match T::parse(&scalar) {
            Ok(value) => Some(Self::new(value, scalar.span)),
            Err(mismatch) => {
                let problem = Problem::new(scalar.span, mismatch.message).label(format!("not {}", T::EXPECTED));
                reader.report(match mismatch.help {
                    Some(help) => problem.help(help),
                    None => problem,
                });
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        None
    }

    fn stand_in(span: Span) -> Option<Self> {
        T::stand_in().map(|value| Self::stand_in(value, span))
    }

    fn shift(&mut self, by: i64) {
        self.shift(by);
    }
}

impl<T: Field> Field for Option<T> {
    const REQUIRED: bool = false;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.null() { Some(None) } else { T::read(reader).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn stand_in(_: Span) -> Option<Self> {
        Some(None)
    }

    fn shift(&mut self, by: i64) {
        self.iter_mut().for_each(|value| value.shift(by));
    }
}

impl<T: Field> Field for Vec<T> {
    const REQUIRED: bool = false;

    /// An item that is unusable is left out: the others are still looked at.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut items = Self::new();
        if !reader.null() {
            reader.sequence("a list", |reader| items.extend(T::read(reader)));
        }
        Some(items)
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn shift(&mut self, by: i64) {
        self.iter_mut().for_each(|item| item.shift(by));
    }
}

/// A list that takes a pointer of a record that there are very many of, and nothing more while it is empty.
#[derive(Clone, Debug, PartialEq)]
// A box of a slice is a pointer and a length.
#[expect(clippy::box_collection)]
pub struct ThinList<T>(Option<Box<Vec<T>>>);

impl<T> Deref for ThinList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl<'a, T> IntoIterator for &'a ThinList<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Field> Field for ThinList<T> {
    const REQUIRED: bool = false;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut items = Vec::read(reader)?;
        items.shrink_to_fit();
        Some(Self((!items.is_empty()).then(|| Box::new(items))))
    }

    fn absent() -> Option<Self> {
        Some(Self(None))
    }

    fn shift(&mut self, by: i64) {
        self.0.iter_mut().flat_map(|items| items.iter_mut()).for_each(|item| item.shift(by));
    }
}

impl<T: JsonSchema> JsonSchema for ThinList<T> {
    fn inline_schema() -> bool {
        Vec::<T>::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}

/// What few of very many records have.
impl<T: Field> Field for Box<T> {
    const REQUIRED: bool = T::REQUIRED;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        T::read(reader).map(Self::new)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Self::new)
    }

    fn stand_in(span: Span) -> Option<Self> {
        T::stand_in(span).map(Self::new)
    }

    fn shift(&mut self, by: i64) {
        (**self).shift(by);
    }
}

/// A list that has an item in every valid topology, and mostly no more: then it is in place.
#[derive(Clone, Debug, PartialEq)]
pub struct AtLeastOne<T>(Items<T>);

#[derive(Clone, Debug, PartialEq)]
enum Items<T> {
    One(T),
    /// Of what is unusable also none.
    Several(Box<[T]>),
}

impl<T> AtLeastOne<T> {
    fn new(mut items: Vec<T>) -> Self {
        match items.pop() {
            Some(item) if items.is_empty() => Self(Items::One(item)),
            last => {
                items.extend(last);
                Self(Items::Several(items.into_boxed_slice()))
            }
        }
    }
}

impl<T> Deref for AtLeastOne<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Items::One(item) => std::slice::from_ref(item),
            Items::Several(items) => items,
        }
    }
}

impl<'a, T> IntoIterator for &'a AtLeastOne<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Field> Field for AtLeastOne<T> {
    const REQUIRED: bool = true;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut items = Vec::new();
        let mut bad = 0;
        let span = reader.sequence("a list", |reader| match T::read(reader) {
            Some(item) => items.push(item),
            None => bad += 1,
        })?;
        if items.is_empty() {
            if bad == 0 {
                reader.report(Problem::new(span, "the list is empty").label("at least one item is needed"));
            }
            return None;
        }
        Some(Self::new(items))
    }

    fn absent() -> Option<Self> {
        None
    }

    fn stand_in(_: Span) -> Option<Self> {
        Some(Self::new(Vec::new()))
    }

    fn shift(&mut self, by: i64) {
        match &mut self.0 {
            Items::One(item) => item.shift(by),
            Items::Several(items) => items.iter_mut().for_each(|item| item.shift(by)),
        }
    }
}

impl<T: JsonSchema> JsonSchema for AtLeastOne<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("AtLeastOne_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>(), "minItems": 1})
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct OneOrMore<T>(Vec<T>);

impl<T> Deref for OneOrMore<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a OneOrMore<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Field> Field for OneOrMore<T> {
    const REQUIRED: bool = false;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(reader.peek().0, Event::SequenceStart(..)) {
            return Vec::read(reader).map(Self);
        }
        if reader.null() { Some(Self(Vec::new())) } else { T::read(reader).map(|item| Self(vec![item])) }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn stand_in(_: Span) -> Option<Self> {
        Self::absent()
    }

    fn shift(&mut self, by: i64) {
        self.0.shift(by);
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({"anyOf": [item, {"type": "array", "items": item}]})
    }
}

/// A field that may be left out, but not be left empty: `null` is none of its values, and what is meant by leaving it
/// out is never meant by an accident such as a list whose items are commented out.
#[derive(Clone, Debug, PartialEq)]
pub struct Stated<T>(Option<T>);

impl<T> Stated<T> {
    /// The value, if the field is there.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Field> Field for Stated<T> {
    const REQUIRED: bool = false;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        T::read(reader).map(|value| Self(Some(value)))
    }

    fn absent() -> Option<Self> {
        Some(Self(None))
    }

    fn stand_in(_: Span) -> Option<Self> {
        Self::absent()
    }

    fn shift(&mut self, by: i64) {
        self.0.iter_mut().for_each(|value| value.shift(by));
    }
}

impl<T: JsonSchema> JsonSchema for Stated<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
