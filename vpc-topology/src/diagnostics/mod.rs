//! What is wrong with a topology file: every problem at once, each with its place, a snippet and a hint.

mod nearest;
mod render;

pub(crate) use nearest::nearest;
pub use render::Style;

use std::{fmt, num::NonZero, sync::Arc};

/// A range of bytes of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The span after text before it grew by so many bytes, or shrank.
    pub(crate) fn shift(&mut self, by: i64) {
        self.start = (i64::from(self.start) + by) as u32;
        self.end = (i64::from(self.end) + by) as u32;
    }
}

/// A value with its place in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    place: Place,
}

/// Where a value stands, and whether it is what the file says: start and end + 1 of that, and of what stands in for an
/// unusable value end + 1 and start + 1. So the first is less than the second of what the file says, and of nothing else.
///
/// There may be millions: it takes no more than the two numbers, and `Option` takes no more either.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
struct Place(u32, NonZero<u32>);

impl<T> Spanned<T> {
    /// What the file says there.
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, place: Place(span.start, behind(span.end)) }
    }

    /// What takes the place of something there that cannot be used, which was reported.
    pub(crate) fn stand_in(value: T, span: Span) -> Self {
        Self { value, place: Place(behind(span.end).get(), behind(span.start)) }
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        let Place(first, second) = self.place;
        let second = second.get() - 1;
        if self.is_given() { Span { start: first, end: second } } else { Span { start: second, end: first - 1 } }
    }

    /// The value, if the file gives one. In a valid topology all do.
    pub(crate) fn given(&self) -> Option<&T> {
        self.is_given().then_some(&self.value)
    }

    /// Moves its place by so many bytes.
    pub(crate) fn shift(&mut self, by: i64) {
        let move_by = |offset: u32| (i64::from(offset) + by) as u32;
        let Place(first, second) = &mut self.place;
        *first = move_by(*first);
        *second = behind(move_by(second.get() - 1));
    }

    fn is_given(&self) -> bool {
        self.place.0 < self.place.1.get()
    }
}

/// The number of a byte's successor.
fn behind(offset: u32) -> NonZero<u32> {
    NonZero::<u32>::MIN.saturating_add(offset)
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One problem of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What is said at that place; may be empty.
    pub label: String,
    /// Other places that belong to it.
    pub related: Vec<(Span, String)>,
    /// How to put it right.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, label: String::new(), related: Vec::new(), help: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Every problem of a file, in the order of their places. Never empty. `Display` renders them without colours.
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    text: Arc<str>,
    problems: Vec<Problem>,
}

impl Diagnostics {
    pub(crate) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span);
        Self { name: name.to_owned(), text: text.into(), problems }
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Line and column (in characters) of an offset, both counted from 1.
    pub fn line_column(&self, offset: u32) -> (usize, usize) {
        let before = &self.text.as_bytes()[..(offset as usize).min(self.text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
    }

    /// The problems as text for people, in the manner of rustc.
    pub fn render(&self, style: Style) -> String {
        render::render(&self.name, &self.text, &self.problems, style)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::{Span, Spanned};

    #[test]
    fn places_are_kept() {
        for (start, end) in [(0, 0), (0, 3), (7, 7), (7, 9), (4_000_000_000, 4_294_967_294)] {
            let span = Span { start, end };
            let (given, stand_in) = (Spanned::new('a', span), Spanned::stand_in('a', span));
            assert_eq!((given.span(), given.given()), (span, Some(&'a')));
            assert_eq!((stand_in.span(), stand_in.given()), (span, None));
        }
    }

    #[test]
    fn places_move() {
        for mut spanned in
            [Spanned::new((), Span { start: 5, end: 9 }), Spanned::stand_in((), Span { start: 5, end: 9 })]
        {
            let given = spanned.given().copied();
            spanned.shift(-5);
            assert_eq!((spanned.span(), spanned.given().copied()), (Span { start: 0, end: 4 }, given));
            spanned.shift(2);
            assert_eq!((spanned.span(), spanned.given().copied()), (Span { start: 2, end: 6 }, given));
        }
    }
}
