//! A cursor over the events of one document.

use super::{
    Record, ScalarText,
    plain::{Declined, Plain},
};
use crate::diagnostics::{Problem, Span};
use granit_parser::{Event, Options, Parser, ScalarStyle, StrInput};
use rustc_hash::FxHashMap;
use std::borrow::Cow;

/// Names of records that were dropped because of a problem inside: a reference to one of them is no second problem.
#[derive(Debug, Default)]
pub(crate) struct Broken(FxHashMap<&'static str, Vec<String>>);

impl Broken {
    pub(crate) fn contains(&self, noun: &'static str, name: &str) -> bool {
        self.0.get(noun).is_some_and(|names| names.iter().any(|n| n == name))
    }
}

/// Reads one document. Problems are collected; whatever has one is skipped.
pub(crate) struct Reader<'a> {
    text: &'a str,
    events: Events<'a>,
    peeked: Option<(Event<'a>, Span)>,
    problems: Vec<Problem>,
    syntax_error: bool,
    broken: Broken,
    /// Behind the last byte.
    end: Span,
    /// Where the last event that is written as anything ended.
    read_to: u32,
}

/// Where events come from.
enum Events<'a> {
    Yaml(Box<Parser<'a, StrInput<'a>>>),
    Plain(Plain<'a>),
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        // An alias of nothing is one more alias, which is refused, and no reason to stop.
        options.emit_unresolved_aliases = true;
        let parser = Parser::new_from_str_with_options(text, options);
        Self::over(text, Events::Yaml(Box::new(parser)))
    }

    fn over(text: &'a str, events: Events<'a>) -> Self {
        let end = Span { start: text.len() as u32, end: text.len() as u32 };
        Self {
            text,
            events,
            peeked: None,
            problems: Vec::new(),
            syntax_error: false,
            broken: Broken::default(),
            end,
            read_to: 0,
        }
    }

    /// Reads the one document of the text.
    pub(crate) fn document<T: super::Field>(mut self) -> (Option<T>, Vec<Problem>, Broken) {
        while matches!(self.peek(), (Event::StreamStart | Event::DocumentStart(..), _)) {
            self.next();
        }
        let span = self.peek().1;
        let value = if matches!(self.peek().0, Event::StreamEnd | Event::DocumentEnd) || self.null() {
            self.report(Problem::new(span, "the file is empty").help("a topology starts with `version: 1`"));
            None
        } else {
            T::read(&mut self)
        };
        while matches!(self.peek(), (Event::DocumentEnd, _)) {
            self.next();
        }
        if let (Event::DocumentStart(..), span) = self.peek() {
            self.report(Problem::new(span, "more than one document").help("a topology is one YAML document"));
        }
        // What was read before a syntax error may be wrong only because of it.
        if self.syntax_error {
            self.problems.drain(..self.problems.len() - 1);
            return (None, self.problems, self.broken);
        }
        (value, self.problems, self.broken)
    }

    /// Reads whole items of a block list, which begin at `offset` of the file. `None`: they are not written plainly, or
    /// there is something wrong with them, which [`Reader::new`] can tell.
    pub(crate) fn plain_items<T: super::Field>(text: &'a str, offset: u32) -> Option<Vec<T>> {
        let mut reader = Self::over(text, Events::Plain(Plain::new(text, offset)));
        let mut items = Vec::new();
        while !matches!(reader.peek().0, Event::StreamEnd) {
            items.push(T::read(&mut reader)?);
        }
        (!reader.syntax_error && reader.problems.is_empty()).then_some(items)
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        // A syntax error comes last: what is missing after it is no news.
        if !self.syntax_error {
            self.problems.push(problem);
        }
    }

    /// How many problems there are so far.
    pub(crate) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    pub(crate) fn peek(&mut self) -> (&Event<'a>, Span) {
        let peeked = match self.peeked.take() {
            Some(peeked) => peeked,
            None => self.pull(),
        };
        let (event, span) = self.peeked.insert(peeked);
        (event, *span)
    }

    pub(crate) fn next(&mut self) -> (Event<'a>, Span) {
        match self.peeked.take() {
            Some(peeked) => peeked,
            None => self.pull(),
        }
    }

    fn pull(&mut self) -> (Event<'a>, Span) {
        if self.syntax_error {
            return (Event::StreamEnd, self.end);
        }
        let events = match &mut self.events {
            Events::Yaml(events) => events,
            Events::Plain(events) => {
                return match events.next() {
                    Ok(event) => self.pulled(event),
                    Err(Declined) => {
                        self.syntax_error = true;
                        (Event::StreamEnd, self.end)
                    }
                };
            }
        };
        match events.next() {
            Some(Ok((event, span))) => {
                let bytes = span.byte_range().unwrap_or(0..0);
                self.pulled((event, Span { start: bytes.start as u32, end: bytes.end as u32 }))
            }
            Some(Err(error)) => {
                let at = error.marker().byte_offset().map_or(self.end.start, |at| at as u32);
                let width =
                    self.text.get(at as usize..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8) as u32;
                let message = format!("this is no YAML: {}", error.info().lines().next().unwrap_or_default());
                self.report(Problem::new(Span { start: at, end: at + width }, message));
                self.syntax_error = true;
                (Event::StreamEnd, self.end)
            }
            None => (Event::StreamEnd, self.end),
        }
    }

    fn pulled(&mut self, (event, span): (Event<'a>, Span)) -> (Event<'a>, Span) {
        if span.start < span.end {
            self.read_to = span.end;
        }
        (event, span)
    }

    /// Passes over one value, whatever it is.
    pub(crate) fn skip(&mut self) -> Span {
        let (event, start) = self.next();
        let mut depth = match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => 1,
            _ => 0,
        };
        let mut end = start;
        while depth > 0 {
            let (event, span) = self.next();
            match event {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                Event::StreamEnd => break,
                _ => {}
            }
            end = span;
        }
        Span { start: start.start, end: end.end.max(start.end) }
    }

    /// Passes over a value that does not fit, and says so.
    pub(crate) fn mismatch(&mut self, expected: &str) {
        let found = describe(self.peek().0);
        let span = self.skip();
        match found {
            Found::Alias => self.report(
                Problem::new(span, "aliases are not part of a topology").help("write the value out where it is used"),
            ),
            Found::Tag => {
                self.report(Problem::new(span, "tags are not part of a topology").help("leave the tag out"));
            }
            Found::Kind(found) => {
                self.report(
                    Problem::new(span, format!("expected {expected}, found {found}")).label(format!("not {expected}")),
                );
            }
        }
    }

    /// Whether the value that comes next is null; then passes over it.
    pub(crate) fn null(&mut self) -> bool {
        let null = match self.peek().0 {
            Event::Scalar(text, ScalarStyle::Plain, _, None) => ScalarText::is_null_text(text),
            _ => false,
        };
        if null {
            self.next();
        }
        null
    }

    /// The scalar that comes next, or a problem.
    pub(crate) fn scalar(&mut self, expected: &str) -> Option<ScalarText<'a>> {
        let Event::Scalar(_, _, _, None) = self.peek().0 else {
            self.mismatch(expected);
            return None;
        };
        match self.next() {
            (Event::Scalar(text, style, ..), span) => Some(ScalarText { text, style, span }),
            _ => None,
        }
    }

    /// Reads a list; `read` is called once for each item.
    pub(crate) fn sequence(&mut self, expected: &str, mut read: impl FnMut(&mut Self)) -> Option<Span> {
        let (Event::SequenceStart(_, _, None), start) = self.peek() else {
            self.mismatch(expected);
            return None;
        };
        self.next();
        loop {
            match self.peek() {
                (Event::SequenceEnd | Event::StreamEnd, end) => {
                    self.next();
                    return Some(Span { start: start.start, end: end.end });
                }
                _ => read(self),
            }
        }
    }

    /// Reads a mapping of keys that are not known beforehand; `read` reads one key and its value.
    pub(crate) fn pairs(&mut self, expected: &str, mut read: impl FnMut(&mut Self)) -> Option<()> {
        let (Event::MappingStart(_, _, None), _) = self.peek() else {
            self.mismatch(expected);
            return None;
        };
        self.next();
        while !matches!(self.peek().0, Event::MappingEnd | Event::StreamEnd) {
            read(self);
        }
        self.next();
        Some(())
    }

    /// Reads a mapping of the fields of `R`; `read` is called for each key and answers whether it knew and read it.
    pub(crate) fn mapping<R: Record>(&mut self, mut read: impl FnMut(&mut Self, &str, Span) -> bool) -> Mapping<'a> {
        let mut mapping = Mapping::default();
        let (Event::MappingStart(_, _, None), start) = self.peek() else {
            self.mismatch(&format!("{} {} with its fields", article(R::NOUN), R::NOUN));
            return mapping;
        };
        self.next();
        mapping.span = start;
        loop {
            if !matches!(self.peek().0, Event::Scalar(..) | Event::MappingEnd | Event::StreamEnd) {
                mapping.partial = true;
                let span = self.skip();
                self.report(Problem::new(span, format!("a field of {} {} must be a name", article(R::NOUN), R::NOUN)));
                self.skip();
                continue;
            }
            match self.next() {
                (Event::Scalar(key, ..), span) => {
                    if key == "name"
                        && let (Event::Scalar(name, ..), _) = self.peek()
                    {
                        mapping.name = Some(name.clone());
                    }
                    if !read(self, &key, span) {
                        self.unknown_field::<R>(&mut mapping, key, span);
                    }
                }
                (end, _) => {
                    // A block mapping ends with its last value: what follows is not part of it.
                    mapping.span = Span { start: start.start, end: self.read_to.max(start.end) };
                    mapping.complete = matches!(end, Event::MappingEnd) && !self.syntax_error;
                    return mapping;
                }
            }
        }
    }

    fn unknown_field<R: Record>(&mut self, mapping: &mut Mapping<'a>, key: Cow<'a, str>, span: Span) {
        if R::LATER.contains(&&*key) {
            let empty = match self.peek().0 {
                Event::SequenceStart(..) | Event::MappingStart(..) => {
                    self.next();
                    let empty = matches!(self.peek().0, Event::SequenceEnd | Event::MappingEnd);
                    self.finish_collection();
                    empty
                }
                _ => {
                    self.null() || {
                        self.skip();
                        false
                    }
                }
            };
            if !empty {
                mapping.partial = true;
                self.report(
                    Problem::new(span, format!("`{key}` of {} {} is not supported yet", article(R::NOUN), R::NOUN))
                        .label("not supported yet")
                        .help("leave the field out"),
                );
            }
            return;
        }
        self.skip();
        mapping.partial = true;
        let message = format!("unknown field `{key}` of {} {}", article(R::NOUN), R::NOUN);
        let nearest = crate::diagnostics::nearest(&key, R::FIELDS.iter().chain(R::LATER).copied());
        self.report(Problem::new(span, message).label("unknown field").help(match nearest {
            Some(name) => {
                mapping.misspelt.push(name);
                format!("did you mean `{name}`?")
            }
            None => format!("the fields are {}", list(R::FIELDS)),
        }));
    }

    /// Passes over the rest of a collection whose start was read.
    fn finish_collection(&mut self) {
        while !matches!(self.peek().0, Event::SequenceEnd | Event::MappingEnd | Event::StreamEnd) {
            self.skip();
        }
        self.next();
    }

    /// Remembers that a record was dropped.
    pub(crate) fn dropped(&mut self, noun: &'static str, mapping: Mapping<'a>) {
        if let Some(name) = mapping.name {
            self.broken.0.entry(noun).or_default().push(name.into_owned());
        }
    }
}

/// What [`Reader::mapping`] met.
#[derive(Debug, Default)]
pub(crate) struct Mapping<'a> {
    /// From the first key or the opening brace to the end.
    pub(crate) span: Span,
    /// Whether the end was reached.
    pub(crate) complete: bool,
    /// Whether a field was not understood.
    pub(crate) partial: bool,
    /// Fields that were probably meant by unknown ones.
    pub(crate) misspelt: Vec<&'static str>,
    name: Option<Cow<'a, str>>,
}

/// The indefinite article of a noun of the vocabulary.
pub(crate) fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

enum Found {
    Alias,
    Tag,
    Kind(&'static str),
}

fn describe(event: &Event<'_>) -> Found {
    Found::Kind(match event {
        Event::Alias(_) | Event::UnresolvedAlias(_) => return Found::Alias,
        _ if event.tag().is_some() => return Found::Tag,
        Event::Scalar(text, ScalarStyle::Plain, ..) if ScalarText::is_null_text(text) => "nothing",
        Event::Scalar(..) => "a single value",
        Event::SequenceStart(..) => "a list",
        Event::MappingStart(..) => "a mapping",
        _ => "nothing",
    })
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
